"""The brush in linked views: strokes on acquired slices change the outline."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.geometry.strokes import Slab

_BRUSH_ONLY = (
    "Linked views have the brush and the eraser; show one view (the button 1) for napari's others."
)
_SEQUENCES_ONLY = "Outlines can be drawn only on the sequences of the study: draw in another view."


class LinkedBrush:
    """Handles the pointer over linked views while an outline is drawn."""

    def __init__(self, acts: Actions) -> None:
        self._acts, self._editor = acts, acts.editor
        self._last: tuple[Point, Slab] | None = None
        """Where the stroke has come to, RAS+ mm, and on which slice."""
        self._pressed = self._ended = False
        """Whether the button is held, and whether its drag paints no more."""
        self._stroke = ExitStack()

    @property
    def takes_pointer(self) -> bool:
        """Whether a press draws, or sets a split point."""
        return self._editor.brush_mm is not None or self._editor.sets_split_points

    def press(self, point_mm: Point, slab: Slab | None) -> bool:
        """Begin or continue a stroke at a point (RAS+ mm), or set a split point.

        A stroke that was interrupted, as its layer was hidden or kept, leaves the pointer idle.
        """
        editor = self._editor
        is_first, self._pressed = not self._pressed, True
        if editor.brush_mm is None:
            if is_first and editor.sets_split_points:
                self._acts.adder.add_split_point(point_mm)
            elif is_first and editor.has_canvas_tool:
                self._acts.session.decline(_BRUSH_ONLY)
            self.interrupt()
            return editor.sets_split_points or self._last is not None
        if slab is None:
            if is_first:
                self._acts.session.decline(_SEQUENCES_ONLY)
            self.interrupt()
        if slab is None or self._ended:
            return True
        start_mm = point_mm
        if self._last is None:
            self._stroke.enter_context(editor.one_stroke())
        elif np.allclose(self._last[1].normal, slab.normal):  # else the view was turned meanwhile
            start_mm = self._last[0]
        editor.stroke((start_mm, point_mm), slab)
        self._last = point_mm, slab
        return True

    def interrupt(self) -> None:
        """Paint no more until the button is released: a line would lead from where it stopped."""
        self._pressed = self._ended = True

    def lift(self) -> None:
        """End the stroke, which is one undo step."""
        self._pressed = self._ended = False
        if self._last is not None:
            self._last = None
            self._stroke.close()
