"""HTML pages from Jinja templates: autoescaped, self-contained, usable offline."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from lesionlens.base.labels import RESEARCH_USE_NOTICE

_PACKAGE = "lesionlens.results.export"
_OVERRIDES = re.compile("[\u202a-\u202e]")


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number, or a dash if there is none."""
    return "–" if value is None else format(value, form)


def _remove_overrides(value: object) -> object:
    """Remove direction overrides from text: an unclosed one reverses the text after it."""
    return _OVERRIDES.sub("", value) if type(value) is str else value


def environment(
    package: str = _PACKAGE, filters: Mapping[str, Callable[..., object]] | None = None
) -> Environment:
    """Return a Jinja environment with the templates of a package and the shared ones.

    Parameters
    ----------
    package : str
        Package with a folder `templates`, which may extend `plain.html.j2`.
    filters : mapping of str to callable, optional
        Additional filters besides `number`.
    """
    env = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_PACKAGE)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_remove_overrides,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals["research_use_notice"] = RESEARCH_USE_NOTICE
    env.filters |= {"number": number, **(filters or {})}
    return env
