"""Annotations of a slice: texts, the box in focus, marks, measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import corners
from lesionlens.base.records.findings import Point
from lesionlens.napari.model.geometry.contours import Line, box_on_screen
from lesionlens.napari.model.geometry.slices import OrientedVolume, Slice, plane_of_acquisition
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.screen.board import Board, Tile

MARK_MM = 3.0
"""Maximum distance of a mark that is shown on a slice; on its own slice it always is."""
OUTSIDE = "outside this series"


class View(NamedTuple):
    """A tile of a board at a viewpoint."""

    board: Board
    tile: Tile
    viewpoint: Viewpoint

    @property
    def depth_mm(self) -> float:
        """Depth of the slice in the frame of the board."""
        return float(self.board.frame.depth(self.tile.plane, self.viewpoint.point_mm))

    def is_near(self, points_mm: Sequence[Point], reach_mm: float) -> bool:
        """Whether points (RAS+ mm) lie within a distance of the slice, or in it if it is thick."""
        depths = np.array([*self.board.frame.depth(self.tile.plane, points_mm), self.depth_mm])
        if np.abs(depths - self.depth_mm).max() <= reach_mm:
            return True
        slices = self.board.slices(self.tile.plane)
        if slices is None:
            return False
        return bool(np.ptp(np.floor((depths - slices.first_mm) / slices.step_mm + 0.5)) == 0)


def box_of(view: View) -> tuple[float, float, float, float] | None:
    """Return the box of the candidate in focus on the screen, if the slice cuts it."""
    board, plane = view.board, view.tile.plane
    focus, outline = board.scene.focus, board.scene.outline
    if focus is None or outline.boxed is None or not outline.visible:
        return None
    box_corners = corners(*focus.bounding_box_mm)
    depths = board.frame.depth(plane, box_corners)
    if not depths.min() <= view.depth_mm <= depths.max():
        return None
    return box_on_screen(board.frame.on_screen(plane, box_corners))


def marks_of(view: View) -> tuple[tuple[int, tuple[float, float]], ...]:
    """Return the number and position of each mark near the slice."""
    frame, plane, marks = view.board.frame, view.tile.plane, []
    for number, mark_mm in enumerate(view.board.marks, 1):
        if view.is_near((mark_mm,), MARK_MM):
            x, y = frame.on_screen(plane, mark_mm)
            marks.append((number, (float(x), float(y))))
    return tuple(marks)


def annotations_of(
    board: Board, tile: Tile, picture: OrientedVolume | None, image: Slice | None
) -> tuple[str, ...]:
    """Return the texts in the corner of a view: sequence, slice, resampling."""
    first = f"{tile.sequence.display_name} · {tile.plane.value}"
    if picture is None or image is None:
        return (first,)
    if image.number == 0:
        return first, OUTSIDE
    overlays, analysis = board.overlays, board.analysis
    moved = overlays is not None and analysis is not None and tile.sequence in overlays.registered
    grid = analysis.study.series[tile.sequence].grid if analysis and moved else picture.grid
    acquired, resampling = plane_of_acquisition(grid), ""
    slices = f"from {grid.spacing_mm.max():.3g} mm slices"
    if (moved or image.interpolated) and acquired is not None:
        resampling = f"interpolated {slices}"
    elif moved or image.interpolated:
        resampling = "interpolated (registered)" if moved else "interpolated"
    elif acquired not in (None, tile.plane):
        resampling = f"reformatted {slices}"
    if board.scene.outline.preliminary and board.scene.outline.visible:
        first += " · preliminary outlines"
    second = f"slice {image.number} of {image.count} · {image.step_mm:.3g} mm"
    return (first, second, resampling) if resampling else (first, second)


@dataclass(frozen=True, slots=True, eq=False)
class DrawnMeasure:
    """A measurement on a slice, in millimetres on the screen."""

    index: int
    points: NDArray[np.float64]
    """(2, 2) float64: ends that can be dragged."""
    lines: tuple[str, ...]
    text_at: tuple[float, float]
    """(2,): the text is to the right of this point."""

    @classmethod
    def ruler(cls, index: int, ends: Line, text: str) -> DrawnMeasure:
        """Return a line with its length beside its right end."""
        x, y = ends[ends[:, 0].argmax()].tolist()
        return cls(index, ends, (text,) if text else (), (x, y))


def measures_on(
    board: Board, tile: Tile, image: Slice, picture: OrientedVolume | None
) -> tuple[DrawnMeasure, ...]:
    """Return the measurements on the slice of a tile."""
    if picture is None or not image.number:
        return ()
    drawn = []
    for index, measure in enumerate(board.views.measures):
        depths = board.frame.depth(tile.plane, measure.points)
        numbers = {picture.number_at(board.frame, tile.plane, float(d)) + 1 for d in depths}
        if numbers == {image.number}:
            points = board.frame.on_screen(tile.plane, measure.points)
            drawn.append(DrawnMeasure.ruler(index, points, measure.text))
    return tuple(drawn)
