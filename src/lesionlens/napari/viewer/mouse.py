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
from lesionlens.napari.viewer.napari_callbacks import ReplacedCallbacks
from lesionlens.napari.viewer.wheel import WheelSteps

_NAPARI_SCROLL = "dims_scroll"
_RIGHT_BUTTON = 2


class CanvasMouse:
    """Handles the mouse on napari's canvas.

    Parameters
    ----------
    scroll : callable
        Scrolls by a number of slices.
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
        self._wheel: ReplacedCallbacks | None = None
        self._wheel_steps = WheelSteps()

    def listen(self) -> None:
        """Connect, and disable napari's own scrolling."""
        if self._wheel is not None:
            return
        self._wheel = ReplacedCallbacks(
            self._viewer.mouse_wheel_callbacks, _NAPARI_SCROLL, self._on_wheel
        )
        self._viewer.mouse_drag_callbacks.append(self._on_drag)

    def release(self) -> None:
        """Disconnect, and restore napari's scrolling."""
        if self._wheel is None:
            return
        self._wheel.restore()
        self._wheel = None
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
            self._scroll(self._wheel_steps.add(steps))
        else:
            self._zoom(ZOOM_STEP**steps, event.position)

    def _zoom(self, factor: float, position: tuple[float, ...]) -> None:
        camera, dims = self._viewer.scene.camera, self._viewer.dims
        displayed = list(dims.displayed)
        pointer = np.asarray(position)[displayed]
        centre = np.asarray(camera.center[-2:])
        camera.zoom *= factor
        camera.center = tuple(float(v) for v in pointer + (centre - pointer) / factor)

    def _on_drag(self, _: Any, event: Any) -> Iterator[None]:
        if event.button != _RIGHT_BUTTON or self._viewer.dims.ndisplay != 2 or event.modifiers:
            return
        camera = self._viewer.scene.camera
        mouse_pan, camera.mouse_pan = camera.mouse_pan, False
        event.handled = True
        last_position = np.asarray(event.pos, float)
        try:
            yield
            while event.type == "mouse_move":
                position = np.asarray(event.pos, float)
                self._window(
                    float(position[0] - last_position[0]), float(position[1] - last_position[1])
                )
                last_position = position
                yield
        finally:
            camera.mouse_pan = mouse_pan


def send_pointer_move(pictures: tuple[QWidget, ...]) -> bool:
    """Send a mouse move to the image under the pointer, even if the pointer has not moved.

    Returns
    -------
    bool
        Whether the pointer is on one of these images.
    """
    global_position = QCursor.pos()
    widget = QApplication.widgetAt(global_position)
    if widget is None or widget not in pictures:
        return False
    event = QMouseEvent(
        QEvent.Type.MouseMove,
        QPointF(widget.mapFromGlobal(global_position)),
        QPointF(global_position),
        Qt.MouseButton.NoButton,
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(widget, event)
    return True
