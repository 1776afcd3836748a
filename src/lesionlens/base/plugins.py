"""Look up what is plugged in by entry points, and name what there is when it is missing.

Packages of others plug in too. Where their code fails, the error names the package, not this
program, and what they have no part in goes on without them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lesionlens.base.errors import (
    LesionLensError,
    MissingPluginError,
    PluginError,
    is_full_disk,
    is_lack_of_memory,
)

READERS = "lesionlens.readers"
ENGINES = "lesionlens.engines"
EXPORTERS = "lesionlens.exporters"
VIEWERS = "lesionlens.viewers"
_OURS = __name__.partition(".")[0]


@cache
def _points_on(path: tuple[str, ...], group: str) -> tuple[EntryPoint, ...]:  # noqa: ARG001 (key)
    return tuple(sorted(entry_points(group=group), key=lambda point: not _from_here(point.module)))


def _points(group: str) -> tuple[EntryPoint, ...]:
    """Return a group's entry points, our own first, so that no other takes the name of one.

    Looked up once for each `sys.path`, for that takes .05 s.
    """
    return _points_on(tuple(sys.path), group)


def names(group: str) -> tuple[str, ...]:
    """Return the names installed in a group, sorted."""
    return tuple(sorted({point.name for point in _points(group)}))


def load(group: str, name: str) -> Any:
    """Return the object that an entry point names.

    Raises
    ------
    MissingPluginError
        Nothing of that name is installed; the message lists what is.
    PluginError
        It is of another package, and cannot be imported.
    """
    for point in _points(group):
        if point.name == name:
            with blamed(point.module, f"{_kind(group)} {name!r}", "when it was loaded"):
                return point.load()
    raise MissingPluginError(
        found=f"no {_kind(group)} named {name!r}; installed: {', '.join(names(group)) or 'none'}",
        expected=f"an entry point in the group {group}",
        next_step="Install the package that provides it; `lesionlens doctor` lists what is there",
        in_window="Install the package that provides it",
    )


def make_all(group: str) -> tuple[dict[str, Any], dict[str, PluginError]]:
    """Make one of every class installed in a group.

    Returns
    -------
    made, failed : dict of str to Any, dict of str to PluginError
        By name, sorted: what could be made, and why plug-ins of other packages could not.
    """
    made: dict[str, Any] = {}
    failed: dict[str, PluginError] = {}
    for name in names(group):
        try:
            made[name] = make(group, name)
        except PluginError as error:
            failed[name] = error
    return made, failed


def make(group: str, name: str, **given: Any) -> Any:
    """Return what a plug-in's class or function makes of these arguments.

    Raises
    ------
    MissingPluginError, PluginError
        As `load`; and where making it fails in another package.
    """
    factory = load(group, name)
    with blamed(factory, f"{_kind(group)} {name!r}", "when it was made"):
        return factory(**given)


def failing(group: str) -> dict[str, str]:
    """Return why plug-ins of other packages in a group cannot be loaded, by name."""
    reasons: dict[str, str] = {}
    for point in _points(group):
        if not _from_here(point.module) and point.name not in reasons:
            try:
                load(group, point.name)
            except PluginError as error:
                reasons[point.name] = error.found
    return reasons


def is_ours(plugin: object) -> bool:
    """Whether a plug-in, or the module of this name, is part of this package."""
    return _from_here(_module(plugin))


@contextmanager
def blamed(plugin: object, what: str, when: str) -> Iterator[None]:
    """Turn an error in the code of another package into one that names that package.

    Parameters
    ----------
    plugin : object
        What is called: an instance, a class, a function, or a module's name.
    what, when : str
        In words: "engine 'mine'", "when it was made".

    Raises
    ------
    PluginError
        In place of any error but our own kinds, which say what they have to say, and of too little
        memory or disk, which is nobody's fault.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        known = isinstance(error, LesionLensError)
        if known or is_lack_of_memory(error) or is_full_disk(error) or is_ours(plugin):
            raise
        words = next(iter(str(error).strip().splitlines()), "")
        why = f"failed {when} ({type(error).__name__})"
        raise PluginError(
            who=name_of(plugin, what), why=why, message=words[:300], expected="one that works"
        ) from error


def name_of(plugin: object, what: str) -> str:
    """Return what to call a plug-in of another package: what it is, and which package's."""
    return f"the {what} of {_package(plugin)}"


def _kind(group: str) -> str:
    return group.removeprefix("lesionlens.").removesuffix("s")


def _module(plugin: object) -> str:
    if isinstance(plugin, str):
        return plugin
    named = getattr(plugin, "__module__", None) or type(plugin).__module__
    return str(named)


def _from_here(module: str) -> bool:
    return module.partition(".")[0] == _OURS


def _package(plugin: object) -> str:
    """Return the distribution that a plug-in came with, else its module."""
    top = _module(plugin).partition(".")[0]
    for group in (READERS, ENGINES, EXPORTERS, VIEWERS):
        for point in _points(group):
            if point.dist is not None and point.module.partition(".")[0] == top:
                return f"{point.dist.name} {point.dist.version}"
    return f"the module {top}"
