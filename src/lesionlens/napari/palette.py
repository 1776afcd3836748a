"""The commands of the window in napari's own palette (Ctrl+Shift+P): one function each, by name."""

from __future__ import annotations

from collections.abc import Callable

import napari

from lesionlens.napari.commands.table import COMMANDS
from lesionlens.napari.dock import open_panel

PALETTE_COMMANDS = tuple(command for command in COMMANDS if not command.hold)
"""Commands that do not need a held key."""


def __getattr__(name: str) -> Callable[[], None]:
    if name not in {command.name for command in PALETTE_COMMANDS}:
        raise AttributeError(name)

    def run() -> None:
        viewer = napari.current_viewer()
        if viewer is not None:
            open_panel(viewer).commands.run(name)

    return run
