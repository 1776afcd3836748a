"""Measurements drawn on one slice: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.napari.model.geometry.contours import Line
from lesionlens.napari.model.geometry.measures import MeasureKind, ellipse, statistics_of
from lesionlens.napari.model.geometry.slices import Picture, Slice
from lesionlens.napari.model.screen.board import Board, Tile


@dataclass(frozen=True, slots=True, eq=False)
class DrawnMeasure:
    """A measurement on a slice, in millimetres on the screen."""

    index: int
    points: NDArray[np.float64]
    """(N, 2) float64: points that can be dragged."""
    line: Line
    lines: tuple[str, ...]
    text_at: tuple[float, float]
    """(2,): the text is to the right of this point."""


def measures_on(
    board: Board, tile: Tile, image: Slice, picture: Picture | None, name: str
) -> tuple[DrawnMeasure, ...]:
    """Return the measurements on the slice of a tile, and intensities of the image `name`."""
    found = []
    for index, measure in enumerate(board.views.measures):
        depths = np.atleast_1d(board.frame.depth(tile.plane, measure.points))
        if (
            picture is None
            or not image.number
            or any(
                picture.number_at(board.frame, tile.plane, float(depth)) + 1 != image.number
                for depth in depths
            )
        ):
            continue
        points = board.frame.on_screen(tile.plane, measure.points)
        if measure.kind is MeasureKind.REGION and not measure.empty:
            words = (name, *statistics_of(image, points).lines)
            text_at = (float(points[:, 0].max()), float(points[:, 1].min()))
            found.append(DrawnMeasure(index, points, ellipse(points), words, text_at))
        else:
            words = (measure.text,) if measure.text else ()
            ruler = measure.kind is MeasureKind.RULER
            x, y = points[points[:, 0].argmax() if ruler else 1].tolist()
            found.append(DrawnMeasure(index, points, points, words, (x, y)))
    return tuple(found)
