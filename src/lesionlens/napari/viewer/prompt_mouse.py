"""Prompts by the mouse on napari's own canvas, while their key is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lesionlens.base.labels import PromptKind
from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.prompting import Gesture

if TYPE_CHECKING:
    from napari.components import ViewerModel

STILL_PX = 4.0
"""A hand trembles so far."""
_LEAST_CORNERS = 3


def gesture_of(path: list[Point], moved: bool, modifiers: set[str]) -> Gesture:
    """Return what a press, a way and a release mean.

    Parameters
    ----------
    path : list of (3,)
        RAS+ mm, at least one.
    moved : bool
        Whether the pointer went further than a hand trembles.
    modifiers : set of str
        "Alt" denies, "Shift" makes a box of a drag, "Control" a lasso.

    Examples
    --------
    >>> gesture_of([(0, 0, 0)], False, {"Alt"}).belongs
    False
    """
    belongs = "Alt" not in modifiers
    if not moved:
        return Gesture(PromptKind.POINT, belongs, path[:1])
    if "Shift" in modifiers:
        return Gesture(PromptKind.BOX, True, [path[0], path[-1]])
    if "Control" in modifiers and len(path) >= _LEAST_CORNERS:
        return Gesture(PromptKind.LASSO, True, path)
    return Gesture(PromptKind.SCRIBBLE, belongs, path)


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
