"""Radiological mouse on napari's canvas: wheel scrolls, Ctrl+wheel zooms, right drag windows.

napari zooms with the wheel and the right button, and scrolls with Ctrl+wheel. While a study is
shown in two dimensions this is reversed, unless a preference keeps napari's behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QCursor, QMouseEvent
from qtpy.QtWidgets import QApplication, QWidget

from lesionlens.napari.viewer.board_view import ZOOM_STEP

_THEIRS = "dims_scroll"
_RIGHT = 2


class CanvasMouse:
    """Handles the mouse on napari's canvas.

    Parameters
    ----------
    scroll : callable
        Goes forward or back by a number of slices.
    window : callable
        Changes the window by pixels to the right and down.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        scroll: Callable[[int], object],
        window: Callable[[float, float], None],
    ) -> None:
        self._viewer, self._scroll, self._window = viewer, scroll, window
        self.wheel_zooms = False
        self._theirs: list[Any] = []
        self._listening = False
        self._turns = 0.0

    def listen(self) -> None:
        """Connect, and disable napari's own scrolling."""
        if self._listening:
            return
        self._listening = True
        callbacks = self._viewer.mouse_wheel_callbacks
        self._theirs = [one for one in callbacks if getattr(one, "__name__", "") == _THEIRS]
        for one in self._theirs:
            callbacks.remove(one)
        callbacks.append(self._on_wheel)
        self._viewer.mouse_drag_callbacks.append(self._on_drag)

    def release(self) -> None:
        """Disconnect, and restore napari's scrolling."""
        if not self._listening:
            return
        self._listening = False
        callbacks = self._viewer.mouse_wheel_callbacks
        if self._on_wheel in callbacks:
            callbacks.remove(self._on_wheel)
        callbacks.extend(self._theirs)
        if self._on_drag in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_drag)

    def _on_wheel(self, _: Any, event: Any) -> None:
        if self._viewer.dims.ndisplay != 2 or {"Shift", "Alt"} & set(event.modifiers):
            return
        steps = float(event.delta[1]) or float(event.delta[0])
        if not steps:
            return
        event.handled = True
        if ("Control" in event.modifiers) is self.wheel_zooms:
            self._turns += steps  # touchpads send fractions of a notch
            by = int(self._turns)
            self._turns -= by
            self._scroll(by)
        else:
            self._zoom(ZOOM_STEP**steps, event.position)

    def _zoom(self, by: float, at: tuple[float, ...]) -> None:
        camera, dims = self._viewer.scene.camera, self._viewer.dims
        shown = list(dims.displayed)
        pointer = np.asarray(at)[shown]
        centre = np.asarray(camera.center[-2:])
        camera.zoom *= by
        camera.center = tuple(float(v) for v in pointer + (centre - pointer) / by)

    def _on_drag(self, _: Any, event: Any) -> Iterator[None]:
        if event.button != _RIGHT or self._viewer.dims.ndisplay != 2 or event.modifiers:
            return
        camera = self._viewer.scene.camera
        panned, camera.mouse_pan = camera.mouse_pan, False
        event.handled = True
        before = np.asarray(event.pos, float)
        try:
            yield
            while event.type == "mouse_move":
                now = np.asarray(event.pos, float)
                self._window(float(now[0] - before[0]), float(now[1] - before[1]))
                before = now
                yield
        finally:
            camera.mouse_pan = panned


def move_at_pointer(pictures: tuple[QWidget, ...]) -> bool:
    """Send a mouse move to the image under the pointer, even if the pointer has not moved.

    Returns
    -------
    bool
        Whether the pointer is on one of these images.
    """
    at = QCursor.pos()
    below = QApplication.widgetAt(at)
    if below is None or below not in pictures:
        return False
    where, no = QPointF(below.mapFromGlobal(at)), Qt.MouseButton.NoButton
    kind, held = QEvent.Type.MouseMove, Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(below, QMouseEvent(kind, where, QPointF(at), no, no, held))
    return True
