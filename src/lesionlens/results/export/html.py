"""HTML pages from Jinja templates: autoescaped, self-contained, usable offline."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from lesionlens.base.labels import RESEARCH_USE_NOTICE

_HERE = "lesionlens.results.export"
_OVERRIDES = re.compile("[\u202a-\u202e]")


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number, or a dash if there is none."""
    return "–" if value is None else format(value, form)


def _kept_direction(value: object) -> object:
    """Remove direction overrides from text: one that is not ended reverses what follows it."""
    return _OVERRIDES.sub("", value) if type(value) is str else value


def environment(
    package: str = _HERE,
    filters: Mapping[str, Callable[..., object]] | None = None,
) -> Environment:
    """Return a Jinja environment with the templates of a package and the shared ones.

    Parameters
    ----------
    package : str
        Package with a folder `templates`, which may extend `plain.html.j2`.
    filters : mapping of str to callable, optional
        Additional filters besides `number`.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_HERE)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_kept_direction,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["research_use_notice"] = RESEARCH_USE_NOTICE
    made.filters |= {"number": number, **(filters or {})}
    return made
