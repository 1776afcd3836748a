"""Outlines and box on napari's canvas: smooth lines of constant width at any zoom.

A labels layer draws contours in whole voxels, which covers the margin of a lesion. So the lines of
the linked views are drawn over all layers by `viewer.canvas_strokes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.utils.colormaps.standardize_color import transform_color
from numpy.typing import NDArray

from lesionlens.napari.colours import BOX_COLOUR, MARK_COLOUR
from lesionlens.napari.model.geometry.contours import Line, rectangle, ring
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import Frame
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.drawing import Drawing, TilePainter
from lesionlens.napari.viewer.canvas_strokes import CanvasStrokes, Strokes
from lesionlens.napari.viewer.single import SPACE, patient_axes

RING_MM = 4.0
"""Radius of the ring around a reader's mark."""
_DASH_SEGMENTS = 6  # segments of a dash and of a gap in preliminary outlines
_PLANES = (Plane.SAGITTAL, Plane.CORONAL, Plane.AXIAL)  # by the axis that is sliced


class CanvasLines:
    """Lines on the canvas of a viewer."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._artist = TilePainter({})
        self._canvas = CanvasStrokes(viewer)

    @property
    def strokes(self) -> Strokes | None:
        """Current strokes."""
        return self._canvas.strokes

    def show(self, board: Board, viewpoint: Viewpoint) -> None:
        """Draw a board's lines for napari's slice; nothing in three dimensions."""
        strokes = self._strokes(board, viewpoint)
        if strokes is not None or self.strokes is not None:
            self._canvas.draw(strokes)

    def forget(self) -> None:
        """Release the volumes of a closed study."""
        self.show(Board(), Viewpoint())
        self._artist = TilePainter({})

    def release(self) -> None:
        """Remove the lines from the canvas."""
        self.forget()
        self._canvas.release()

    def _strokes(self, board: Board, viewpoint: Viewpoint) -> Strokes | None:
        dims = self._viewer.dims
        sequence = board.scene.sequence
        if dims.ndim < SPACE or dims.ndisplay != 2 or sequence is None:
            return None
        sliced, down, right = patient_axes(dims)
        if min(sliced, down, right) < 0:
            return None
        board = replace(board, frame=Frame.patient())  # layers follow the patient's axes
        tile = Tile(sequence, _PLANES[sliced])
        drawing = self._artist.draw(board, tile, viewpoint)
        comparison = board.scene.compared
        if comparison is not None:  # outlines of this study do not belong on its image
            outlines = self._artist.flagged(board, tile, viewpoint, comparison.components)
            marks = drawing.marks if comparison.other_image else ()
            drawing = replace(drawing, outlines=outlines, box=None, marks=marks)
        depth = float(viewpoint.point_mm[sliced])

        def to_canvas(line: Line) -> NDArray[np.float32]:
            points = board.frame.in_patient(tile.plane, line, depth)
            return points[:, [right, down]].astype(np.float32)

        return strokes_of(drawing, to_canvas)


def strokes_of(
    drawing: Drawing, to_canvas: Callable[[Line], NDArray[np.float32]]
) -> Strokes | None:
    """Return the lines of a drawing as pieces; None if there are none.

    Parameters
    ----------
    to_canvas : callable
        Maps (N, 2) millimetres on the screen to (N, 2) on the canvas.
    """
    lines: list[tuple[Line, Any, bool]] = []
    for name, contours in drawing.outlines:
        colour = transform_color(name)[0]
        lines += [(line, colour, drawing.preliminary) for line in contours]
    if drawing.box is not None:
        lines.append((rectangle(drawing.box), transform_color(BOX_COLOUR)[0], False))
    mark = transform_color(MARK_COLOUR)[0]
    lines += [(ring(position, RING_MM), mark, False) for _, position in drawing.marks]
    if not lines:
        return None
    points, colours, segments, start = [], [], [], 0
    for line, colour, dashed in lines:
        points.append(to_canvas(line))
        colours.append(np.broadcast_to(np.asarray(colour, np.float32), (len(line), 4)))
        segment_starts = np.arange(len(line) - 1)
        if dashed:
            segment_starts = segment_starts[(segment_starts // _DASH_SEGMENTS) % 2 == 0]
        segments.append(start + np.stack([segment_starts, segment_starts + 1], axis=1))
        start += len(line)
    return Strokes(
        np.concatenate(points), np.concatenate(colours), np.concatenate(segments).astype(np.uint32)
    )
