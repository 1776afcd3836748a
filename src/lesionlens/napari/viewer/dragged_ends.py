"""Dragging of ruler ends and measurement points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from qtpy.QtCore import QObject, Signal

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.choices.gestures import STILL_PX
from lesionlens.napari.model.geometry.rulers import Ruler
from lesionlens.napari.model.screen.board import Board
from lesionlens.napari.model.screen.drawing import Drawing

REACH_PX = 8.0
"""Maximum distance for grabbing an end."""


class DraggedEnds(QObject):
    """The dragged end, with signals for its movement."""

    ruler_dragged = Signal(object)
    ruler_let_go = Signal()
    """An end of a ruler was moved: the candidate's current rulers."""
    measure_begun = Signal(object, bool)
    """A measurement begins at a point: RAS+ mm; whether the last one is visible here."""
    measure_moved = Signal(int, int, object)
    """A measurement point was moved: measurement, point, RAS+ mm."""
    measure_ended = Signal()

    def __init__(self, board: Callable[[], Board], parent: QObject) -> None:
        super().__init__(parent)
        self._board = board
        self._pressing = False
        self._held: tuple[bool, int, int] | None = None
        self._grabbed: tuple[float, float] | None = None
        """Where an end of a ruler was grabbed, mm on the screen; None once it was dragged."""

    def forget(self) -> None:
        """Release without a signal."""
        self._held = None

    def drag(
        self,
        drawing: Drawing,
        rulers: Sequence[Ruler],
        at: tuple[float, float],
        point: Point,
        *,
        pixels_per_mm: float,
    ) -> bool:
        """Move the dragged end, grab a near one, or begin a measurement.

        Parameters
        ----------
        rulers : sequence of Ruler
            Rulers of the candidate in focus.
        at : (2,) float
            Pointer, mm on the screen.
        point : (3,) float
            Pointer, RAS+ mm.

        Returns
        -------
        bool
            Whether an end is dragged.
        """
        if self._held is None and not self._pressing:
            self._held = _end_near(drawing, at, REACH_PX / pixels_per_mm) or self._begun(
                drawing, point
            )
            self._grabbed = at
        self._pressing = True
        if self._held is None:
            return False
        by_hand, index, which = self._held
        if self._grabbed is not None and math.dist(self._grabbed, at) * pixels_per_mm > STILL_PX:
            self._grabbed = None
        if by_hand:
            self.measure_moved.emit(index, which, point)
        elif self._grabbed is None:  # a click alone places nothing
            moved = list(rulers)
            moved[index] = moved[index].with_end(which, point)
            self.ruler_dragged.emit(tuple(moved))
        return True

    def _begun(self, drawing: Drawing, point: Point) -> tuple[bool, int, int] | None:
        """Begin a measurement if a tool is selected; return its point."""
        views = self._board().views
        if views.measuring is None:
            return None
        last = len(views.measures) - 1
        self.measure_begun.emit(point, any(one.index == last for one in drawing.measures))
        measures = self._board().views.measures  # with the new one
        return True, len(measures) - 1, len(measures[-1].points) - 1

    def let_go(self) -> None:
        """End the drag."""
        if self._held is not None:
            (self.measure_ended if self._held[0] else self.ruler_let_go).emit()
        self._held, self._pressing = None, False


def _end_near(
    drawing: Drawing, at: tuple[float, float], reach_mm: float
) -> tuple[bool, int, int] | None:
    """Return a near end: whether of a measurement, its index, and its point."""
    drawn = [(False, index, line) for index, line, _ in drawing.rulers]
    drawn += [(True, one.index, one.points) for one in drawing.measures]
    near = [
        (by_hand, index, which)
        for by_hand, index, points in drawn
        for which, point in enumerate(points)
        if np.linalg.norm(point - np.asarray(at)) <= reach_mm
    ]
    return near[-1] if near else None
