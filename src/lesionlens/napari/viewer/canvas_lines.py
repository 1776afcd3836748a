"""Outlines, box and isolines on napari's own canvas: thin smooth lines of one width at any zoom.

A labels layer can draw its contour in whole voxels only, which covers the margin of a lesion. So
the lines are those of the linked views, drawn by the graphics card over all layers. napari finds
the drawing of an overlay in a table that is not public: this module alone reaches for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari._vispy.overlays.base import VispySceneOverlay
from napari._vispy.utils.visual import overlay_to_visual
from napari.components.overlays import SceneOverlay
from napari.layers.base._base_constants import Blending
from napari.utils.colormaps.standardize_color import transform_color
from numpy.typing import NDArray
from vispy.scene.visuals import Line as LineVisual

from lesionlens.napari.model.geometry.contours import Line, rectangle
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import Frame
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.drawing import Artist, Drawing
from lesionlens.napari.viewer.colours import BOX_COLOUR, map_colours

if TYPE_CHECKING:
    from napari.components import ViewerModel

NAME = "lesionlens_lines"
WIDTH_PX = 1.6
_SPACE = 3
_DASH = 6  # pieces of a line that are drawn, and then left out, where it is preliminary
_PLANES = (Plane.SAGITTAL, Plane.CORONAL, Plane.AXIAL)  # by the axis that is sliced


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """Lines as they lie in the canvas."""

    points: NDArray[np.float32]
    """(N, 2) float32: millimetres along the horizontal and the vertical axis that napari shows."""
    colours: NDArray[np.float32]
    """(N, 4) float32: 0 to 1."""
    pieces: NDArray[np.uint32]
    """(M, 2) uint32: which points are joined."""


class LinesOverlay(SceneOverlay):
    """Reported to napari: something lies over the layers."""

    blending: Blending = Blending.TRANSLUCENT_NO_DEPTH
    strokes: Any = None
    """Strokes, or None; pydantic knows no arrays."""


class _LinesVisual(VispySceneOverlay):
    """Draws the strokes of a `LinesOverlay`."""

    overlay: LinesOverlay

    def __init__(self, **kwargs: Any) -> None:
        node = LineVisual(pos=np.zeros((2, 2), np.float32), width=WIDTH_PX, antialias=True)
        super().__init__(node=node, **kwargs)
        self.overlay.events.strokes.connect(self._draw)
        self.reset()
        self._draw()

    def _draw(self) -> None:
        strokes: Strokes | None = self.overlay.strokes
        if strokes is not None:
            self.node.set_data(pos=strokes.points, color=strokes.colours, connect=strokes.pieces)
        if self.node.visible is not (strokes is not None):
            self.node.visible = strokes is not None

    def close(self) -> None:
        """Hear no more of the overlay."""
        self.overlay.events.strokes.disconnect(self._draw)
        super().close()


overlay_to_visual[LinesOverlay] = _LinesVisual


class CanvasLines:
    """The lines of one viewer's canvas.

    Parameters
    ----------
    viewer : ViewerModel
        napari's.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._artist = Artist({})
        self._overlay = LinesOverlay()

    @property
    def strokes(self) -> Strokes | None:
        """What is drawn now."""
        found: Strokes | None = self._overlay.strokes
        return found

    def show(self, board: Board | None, place: Viewpoint) -> None:
        """Draw what a board says of the slice that napari shows; nothing in three dimensions."""
        strokes = None if board is None else self._strokes(board, place)
        if strokes is None and self.strokes is None:
            return
        overlays = self._viewer.scene.overlays
        if NAME not in overlays:
            overlays[NAME] = self._overlay
        if not self._overlay.visible:
            self._overlay.visible = True
        self._overlay.strokes = strokes

    def forget(self) -> None:
        """Let go of the volumes of a study that was closed."""
        self.show(None, Viewpoint())
        self._artist = Artist({})

    def release(self) -> None:
        """Take the lines off the canvas."""
        self.forget()
        if NAME in self._viewer.scene.overlays:
            del self._viewer.scene.overlays[NAME]

    def _strokes(self, board: Board, place: Viewpoint) -> Strokes | None:
        dims = self._viewer.dims
        more = dims.ndim - _SPACE
        sequence = board.scene.sequence
        if more < 0 or dims.ndisplay != 2 or sequence is None:
            return None
        through, down, right = (axis - more for axis in dims.order[-_SPACE:])
        if min(through, down, right) < 0:
            return None
        board = replace(board, frame=Frame.patient())  # layers lie along the patient's axes
        tile = Tile(sequence, _PLANES[through])
        drawing = self._artist.draw(board, tile, place)
        depth = float(place.point_mm[through])

        def onto(line: Line) -> NDArray[np.float32]:
            points = board.frame.in_patient(tile.plane, line, depth)
            return points[:, [right, down]].astype(np.float32)

        return strokes_of(drawing, onto)


def strokes_of(drawing: Drawing, onto: Callable[[Line], NDArray[np.float32]]) -> Strokes | None:
    """Return the lines of a drawing as pieces; None where there are none.

    Parameters
    ----------
    drawing : Drawing
        Its outlines, box and isolines are taken.
    onto : callable
        (N, 2) millimetres on the screen to (N, 2) on the canvas.
    """
    lines: list[tuple[Line, Any, bool]] = []
    if drawing.map is not None:
        table = map_colours(drawing.map.role)
        for share, found in drawing.map.lines:
            colour = table[min(int(share * len(table)), len(table) - 1)].copy()
            colour[3] = 1.0
            lines += [(line, colour, True) for line in found]
    for name, found in drawing.outlines:
        colour = transform_color(name)[0]
        lines += [(line, colour, drawing.preliminary) for line in found]
    if drawing.box is not None:
        lines.append((rectangle(drawing.box), transform_color(BOX_COLOUR)[0], False))
    if not lines:
        return None
    points, colours, pieces, start = [], [], [], 0
    for line, colour, dashed in lines:
        points.append(onto(line))
        colours.append(np.broadcast_to(np.asarray(colour, np.float32), (len(line), 4)))
        first = np.arange(len(line) - 1)
        if dashed:
            first = first[(first // _DASH) % 2 == 0]
        pieces.append(start + np.stack([first, first + 1], axis=1))
        start += len(line)
    return Strokes(
        np.concatenate(points), np.concatenate(colours), np.concatenate(pieces).astype(np.uint32)
    )
