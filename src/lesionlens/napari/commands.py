"""The acts of the review as commands of napari's palette (Ctrl+Shift+P)."""

from __future__ import annotations

import napari

from lesionlens.napari.dock import LesionLens, open_panel


def _panel() -> LesionLens | None:
    viewer = napari.current_viewer()
    return None if viewer is None else open_panel(viewer)


def _act(name: str) -> None:
    panel = _panel()
    if panel is not None:
        getattr(panel.actions_, name)()


def analyse() -> None:
    """Analyse the open study."""
    _act("analyse")


def next_candidate() -> None:
    """Go to the next candidate."""
    _act("next_candidate")


def accept() -> None:
    """Accept the candidate in focus."""
    _act("accept")


def reject() -> None:
    """Reject it."""
    _act("reject")


def toggle_overlay() -> None:
    """Overlay on or off."""
    _act("toggle_overlay")


def add_layers() -> None:
    """Add the result as plain layers."""
    _act("add_layers")


def export() -> None:
    """Ask for a folder and export into it."""
    panel = _panel()
    if panel is not None:
        panel.ask_export()
