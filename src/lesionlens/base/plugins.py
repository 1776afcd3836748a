"""Look up what is plugged in by entry points, and name what there is when it is missing."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any

from lesionlens.base.errors import MissingPluginError

READERS = "lesionlens.readers"
ENGINES = "lesionlens.engines"
EXPORTERS = "lesionlens.exporters"
VIEWERS = "lesionlens.viewers"


@cache
def _points_on(path: tuple[str, ...], group: str) -> EntryPoints:  # noqa: ARG001 (the cache's key)
    return entry_points(group=group)


def _points(group: str) -> EntryPoints:
    """Return a group's entry points, looked up once for each `sys.path`, for that takes .05 s."""
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
    """
    for point in _points(group):
        if point.name == name:
            return point.load()
    kind = group.removeprefix("lesionlens.").removesuffix("s")
    raise MissingPluginError(
        found=f"no {kind} named {name!r}; installed: {', '.join(names(group)) or 'none'}",
        expected=f"an entry point in the group {group}",
        next_step="Install the package that provides it; `lesionlens doctor` lists what is there",
        in_window="Install the package that provides it",
    )


def load_all(group: str) -> tuple[Any, ...]:
    """Return every object installed in a group, by name."""
    return tuple(load(group, name) for name in names(group))
