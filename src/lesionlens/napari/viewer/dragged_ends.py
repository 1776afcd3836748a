"""Dragging of ruler ends and measurement points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lesionlens.base.records.findings import Point
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.choices.gestures import STILL_PX
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.rulers import Ruler
from lesionlens.napari.model.screen.board import Board
from lesionlens.napari.model.screen.drawing import Drawing

REACH_PX = 8.0
"""Maximum distance for grabbing an end."""


class _DraggedEnd(NamedTuple):
    """An end of a ruler, or a point of a measurement."""

    is_measure: bool
    line_index: int
    """Number of the ruler or measurement, from 0."""
    point_index: int


class EndDragger:
    """The dragged end, whose movement is an act on rulers or measurements."""

    def __init__(self, board: Callable[[], Board], acts: Actions) -> None:
        self._board, self._acts = board, acts
        self._pressing = False
        self._dragged_end: _DraggedEnd | None = None
        self._candidate: int | None = None
        """The candidate whose ruler was grabbed."""
        self._grab_position: tuple[float, float] | None = None
        """Where an end of a ruler was grabbed, mm on the screen; None once it was dragged."""

    def forget(self) -> None:
        """Release without an act."""
        self._dragged_end = None

    def drag(
        self,
        drawing: Drawing,
        rulers: Sequence[Ruler],
        position: tuple[float, float],
        point: Point,
        *,
        pixels_per_mm: float,
    ) -> bool:
        """Move the dragged end, grab a near one, or begin a measurement.

        Parameters
        ----------
        position : (2,) float
            Pointer, mm on the screen.
        point : (3,) float
            Pointer, RAS+ mm.

        Returns
        -------
        bool
            Whether an end is dragged.
        """
        if self._dragged_end is None and not self._pressing:
            end = _find_end(drawing, position, REACH_PX / pixels_per_mm)
            self._dragged_end = end or self._begin_measure(drawing, point)
            self._grab_position, self._candidate = position, self._board().scene.outline.boxed
        self._pressing = True
        if self._dragged_end is None:
            return False
        is_measure, index, point_index = self._dragged_end
        if (
            self._grab_position is not None
            and math.dist(self._grab_position, position) * pixels_per_mm > STILL_PX
        ):
            self._grab_position = None
        if not self._is_drawn(drawing, self._dragged_end):
            return True
        if is_measure:
            self._acts.move_measure(index, point_index, point)
        elif self._grab_position is None:  # a click alone places nothing
            through = self._board().frame.normal(Plane.AXIAL)
            moved_rulers = list(rulers)
            moved_rulers[index] = moved_rulers[index].with_end(point_index, point, through)
            self._acts.drag_rulers(tuple(moved_rulers))
        return True

    def _is_drawn(self, drawing: Drawing, end: _DraggedEnd) -> bool:
        """Whether its line is drawn: a key or the wheel may have gone elsewhere meanwhile."""
        if end.is_measure:
            return any(measure.index == end.line_index for measure in drawing.measures)
        is_same = self._board().scene.outline.boxed == self._candidate
        return is_same and any(ruler.index == end.line_index for ruler in drawing.rulers)

    def _begin_measure(self, drawing: Drawing, point: Point) -> _DraggedEnd | None:
        """Begin a measurement if a tool is selected; return its point."""
        views = self._board().views
        if not views.measuring:
            return None
        last_index = len(views.measures) - 1
        last_visible = any(measure.index == last_index for measure in drawing.measures)
        self._acts.begin_measure(point, last_visible=last_visible)
        measures = self._board().views.measures  # with the new one
        index, point_index = len(measures) - 1, 1
        return _DraggedEnd(is_measure=True, line_index=index, point_index=point_index)

    def release(self) -> None:
        """End the drag."""
        if self._dragged_end is not None:
            is_measure = self._dragged_end.is_measure
            (self._acts.end_measure if is_measure else self._acts.keep_rulers)()
        self._dragged_end, self._pressing = None, False


def _find_end(
    drawing: Drawing, position: tuple[float, float], reach_mm: float
) -> _DraggedEnd | None:
    """Return an end within reach; the last one if there are several."""
    lines = [(False, ruler.index, ruler.points) for ruler in drawing.rulers]
    lines += [(True, measure.index, measure.points) for measure in drawing.measures]
    matches = [
        _DraggedEnd(is_measure, index, point_index)
        for is_measure, index, points in lines
        for point_index, point in enumerate(points)
        if np.linalg.norm(point - np.asarray(position)) <= reach_mm
    ]
    return matches[-1] if matches else None
