"""Pint's units, loaded in the background: napari's first layer needs them, which takes a second.

Pint loads units on first use, which is not thread-safe. So a thread loads them into a separate
registry, which the main thread then installs.
"""

from __future__ import annotations

from typing import Any


def read_units() -> Any:
    """Load all units into a new registry; callable from any thread."""
    from pint import UnitRegistry

    return UnitRegistry(on_redefinition="raise")


def install_units(units: Any) -> None:
    """Install loaded units for napari unless it has loaded its own; main thread only."""
    from pint import application_registry
    from pint.registry import LazyRegistry

    registry: Any = application_registry
    if type(registry.get()) is LazyRegistry:  # no units of another registry are in use
        registry.set(units)
