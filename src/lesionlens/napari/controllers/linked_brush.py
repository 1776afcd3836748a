"""The brush in linked views: strokes on acquired slices change the outline."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.editor import OutlineEditor
from lesionlens.napari.model.geometry.strokes import Slab
from lesionlens.napari.model.screen.drawn_outline import DrawnOutline

_ELSEWHERE = (
    "Linked views have the brush and the eraser; show one view (the button 1) for napari's others."
)


class LinkedBrush:
    """Handles the pointer over linked views while an outline is drawn.

    Parameters
    ----------
    point : callable
        Takes a split point, RAS+ mm.
    decline : callable
        Shows why the pointer does nothing.
    """

    def __init__(
        self,
        editor: OutlineEditor,
        point: Callable[[Point], object],
        decline: Callable[[str], object],
    ) -> None:
        self._editor, self._point, self._decline = editor, point, decline
        self._last: Point | None = None
        self._held = False
        self._stroke = ExitStack()

    @property
    def radius_mm(self) -> float | None:
        """Radius of the brush; None if the pointer does not draw."""
        return self._editor.brush_mm

    @property
    def outline(self) -> DrawnOutline | None:
        """The outline being drawn, or None."""
        return self._editor.outline

    def press(self, at: Point, slab: Slab) -> bool:
        """Begin or continue a stroke at a point (RAS+ mm), or set a split point."""
        editor = self._editor
        began, self._held = not self._held, True
        if editor.brush_mm is None:
            if began and editor.pointing:
                self._point(at)
            elif began and editor.other_tool:
                self._decline(_ELSEWHERE)
            return editor.pointing
        if self._last is None:
            self._stroke.enter_context(editor.one_stroke())
        editor.stroke((self._last or at, at), slab)
        self._last = at
        return True

    def lift(self) -> None:
        """End the stroke, which is one undo step."""
        self._held = False
        if self._last is not None:
            self._last = None
            self._stroke.close()
