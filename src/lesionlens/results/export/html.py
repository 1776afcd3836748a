"""HTML pages from Jinja templates: autoescaped, self-contained, usable offline."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from types import CodeType

from jinja2 import BytecodeCache, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from typing_extensions import override

from lesionlens.base.labels import RESEARCH_USE_NOTICE

_HERE = "lesionlens.results.export"
_OVERRIDES = re.compile("[\u202a-\u202e]")


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number, or a dash if there is none."""
    return "–" if value is None else format(value, form)


def _kept_direction(value: object) -> object:
    """Remove direction overrides from text: one that is not ended reverses what follows it."""
    return _OVERRIDES.sub("", value) if type(value) is str else value


class _CompiledOnce(BytecodeCache):
    """Compiled templates in memory: compiling takes longer than rendering."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    @override
    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    @override
    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._codes[bucket.key, bucket.checksum] = bucket.code


@cache
def _compiled(language: Hashable) -> _CompiledOnce:
    """Return the templates compiled for a language; a filter may be applied when compiling."""
    del language
    return _CompiledOnce()


def environment(
    package: str = _HERE,
    filters: Mapping[str, Callable[..., object]] | None = None,
    language: Hashable = None,
) -> Environment:
    """Return a Jinja environment with the templates of a package and the shared ones.

    Parameters
    ----------
    package : str
        Package with a folder `templates`, which may extend `plain.html.j2`.
    filters : mapping of str to callable, optional
        Additional filters besides `number`.
    language : hashable, optional
        What the filters depend on.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_HERE)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_kept_direction,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_compiled(language),
    )
    made.globals["research_use_notice"] = RESEARCH_USE_NOTICE
    made.filters |= {"number": number, **(filters or {})}
    return made
