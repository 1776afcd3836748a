"""Prompts by the mouse on napari's own canvas, while their key is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.choices.gestures import STILL_PX, Gesture, gesture_of

if TYPE_CHECKING:
    from napari.components import ViewerModel


class PromptMouse:
    """Listens to the left button on napari's canvas.

    Parameters
    ----------
    viewer : ViewerModel
        Whose canvas.
    held : callable
        Whether the pointer is for prompts now.
    take : callable
        Takes the gesture.
    """

    def __init__(
        self, viewer: ViewerModel, held: Callable[[], bool], take: Callable[[Gesture], None]
    ) -> None:
        self._viewer, self._held, self._take = viewer, held, take
        viewer.mouse_drag_callbacks.insert(0, self._on_drag)

    def release(self) -> None:
        """Listen no more."""
        if self._on_drag in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_drag)

    def _on_drag(self, _: Any, event: Any) -> Iterator[None]:
        flat = self._viewer.dims.ndisplay == 2 and len(event.position) == 3
        if event.button != 1 or not flat or not self._held():
            return
        camera = self._viewer.scene.camera
        panned, camera.mouse_pan = camera.mouse_pan, False
        event.handled = True
        begun, far = np.asarray(event.pos, float), 0.0
        path, modifiers = [_point(event)], {str(one) for one in event.modifiers}
        try:
            yield
            while event.type == "mouse_move":
                far = max(far, float(np.abs(np.asarray(event.pos, float) - begun).max()))
                path.append(_point(event))
                event.handled = True
                yield
        finally:
            camera.mouse_pan = panned
        self._take(gesture_of(path, far > STILL_PX, modifiers))


def _point(event: Any) -> Point:
    x, y, z = (float(v) for v in event.position[-3:])
    return x, y, z
