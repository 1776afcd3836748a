"""Hides napari's layer docks where they would leave too little space for the image."""

from __future__ import annotations

from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

CANVAS_FRACTION = 0.6
"""Minimum fraction of the window's width for the image."""
_CONTROLS = "layer controls"
_MANAGED_DOCKS = (_CONTROLS, "layer list")


def hide_docks(window: QMainWindow, panel: QWidget) -> bool:
    """Hide napari's layer docks, if the panel beside them leaves the image too narrow.

    Return whether they were hidden.
    """
    docks = [dock for dock in _managed_docks(window) if dock.isVisible()]
    docks_width = max((dock.width() for dock in docks), default=0)
    free_width = window.width() - panel.minimumWidth() - docks_width
    is_narrow = bool(docks) and free_width < CANVAS_FRACTION * window.width()
    for dock in docks if is_narrow else ():
        dock.hide()
    return is_narrow


def show_docks(window: QMainWindow) -> None:
    """Show napari's layer docks again."""
    for dock in _managed_docks(window):
        dock.show()


def show_controls(window: QMainWindow, *, visible: bool) -> None:
    """Show or hide napari's layer controls, which hold the eraser and the size of the brush."""
    for dock in _managed_docks(window):
        if dock.windowTitle() == _CONTROLS:
            dock.setVisible(visible)


def _managed_docks(window: QMainWindow) -> list[QDockWidget]:
    return [
        dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() in _MANAGED_DOCKS
    ]
