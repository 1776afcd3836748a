"""Exports of a package that load their module when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(face: str, names_of: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module that exports names of other modules.

    Parameters
    ----------
    face : str
        The exporting module's `__name__`.
    names_of : mapping of str to str
        Names of each module, separated by spaces; `inner:outer` where one is exported as another.
    """
    sources: dict[str, tuple[str, str]] = {}
    for module, names in names_of.items():
        for name in names.split():
            inner, _, outer = name.partition(":")
            sources[outer or inner] = module, inner

    def load(name: str) -> Any:
        if name not in sources:
            raise AttributeError(f"module {face!r} has no attribute {name!r}")
        module, inner = sources[name]
        return getattr(import_module(module), inner)

    return load
