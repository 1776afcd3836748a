"""Pint's units, loaded in the background: napari's first layer needs them, which takes a second.

Pint reads them where they are first requested, and two threads that ask at once are both answered
wrongly. So a thread reads them apart, and the main thread, which asks too, takes them.
"""

from __future__ import annotations

from typing import Any


def read_units() -> Any:
    """Read all units into a registry of its own; for any thread."""
    from pint import UnitRegistry  # noqa: PLC0415

    return UnitRegistry(on_redefinition="raise")


def take_units(read: Any) -> None:
    """Let napari use units that were read, unless it has read them itself; main thread only."""
    from pint import application_registry  # noqa: PLC0415
    from pint.registry import LazyRegistry  # noqa: PLC0415

    known: Any = application_registry
    if type(known.get()) is LazyRegistry:  # nobody holds a unit of another registry yet
        known.set(read)
