"""Strokes over all layers of napari's canvas.

napari registers the visuals of overlays in a private table, which only this module uses. If napari
has no such table, a plain vectors layer shows the strokes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.components.overlays import SceneOverlay
from napari.layers import Vectors
from napari.layers.base._base_constants import Blending
from numpy.typing import NDArray
from vispy.scene.visuals import Line as LineVisual

from lesionlens.napari.loading import KEY

logger = logging.getLogger(__name__)
NAME = "lesionlens_lines"
WIDTH_PX = 1.6
_LAYER_WIDTH_MM = 0.6
_LAYER_NAME = "LesionLens lines"


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """Lines in canvas coordinates."""

    points: NDArray[np.float32]
    """(N, 2) float32: millimetres along napari's horizontal and vertical axes."""
    colours: NDArray[np.float32]
    """(N, 4) float32: 0 to 1."""
    pieces: NDArray[np.uint32]
    """(M, 2) uint32: indices of connected points."""


@dataclass(frozen=True, slots=True)
class ShownPlane:
    """Plane of strokes in napari's world coordinates."""

    axes: tuple[int, int, int]
    """Sliced, vertical and horizontal axis."""
    depth_mm: float
    """Depth along the sliced axis."""


class LinesOverlay(SceneOverlay):
    """napari overlay with strokes."""

    blending: Blending = Blending.TRANSLUCENT_NO_DEPTH
    strokes: Any = None
    """Strokes, or None; untyped, as pydantic does not support arrays."""


def _register() -> bool:
    """Register the visual of `LinesOverlay`; False if this napari does not support that."""
    try:
        from napari._vispy.overlays.base import VispySceneOverlay  # noqa: PLC0415
        from napari._vispy.utils.visual import overlay_to_visual  # noqa: PLC0415
    except ImportError as error:
        logger.warning(
            "Outlines are drawn as a layer: this napari does not accept custom overlays (%s)", error
        )
        return False

    class LinesVisual(VispySceneOverlay):
        """Visual of a `LinesOverlay`."""

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
                self.node.set_data(
                    pos=strokes.points, color=strokes.colours, connect=strokes.pieces
                )
            if self.node.visible is not (strokes is not None):
                self.node.visible = strokes is not None

        def close(self) -> None:
            """Stop listening to the overlay."""
            self.overlay.events.strokes.disconnect(self._draw)
            super().close()

    overlay_to_visual[LinesOverlay] = LinesVisual
    return True


_HAS_OVERLAYS = _register()


def create_strokes(viewer: ViewerModel, name: str = NAME) -> OverlayStrokes | LayerStrokes:
    """Return the strokes of a viewer under a name."""
    return OverlayStrokes(viewer, name) if _HAS_OVERLAYS else LayerStrokes(viewer)


class OverlayStrokes:
    """Smooth lines of constant width at any zoom, as an overlay."""

    def __init__(self, viewer: ViewerModel, name: str = NAME) -> None:
        self._viewer, self._overlay, self._name = viewer, LinesOverlay(), name

    @property
    def strokes(self) -> Strokes | None:
        """Current strokes."""
        strokes: Strokes | None = self._overlay.strokes
        return strokes

    def draw(self, strokes: Strokes | None, plane: ShownPlane | None) -> None:  # noqa: ARG002
        """Replace the strokes."""
        overlays = self._viewer.scene.overlays
        if self._name not in overlays:
            overlays[self._name] = self._overlay
        if not self._overlay.visible:
            self._overlay.visible = True
        self._overlay.strokes = strokes

    def release(self) -> None:
        """Remove everything from the viewer."""
        if self._name in self._viewer.scene.overlays:
            del self._viewer.scene.overlays[self._name]


class LayerStrokes:
    """The same lines as a vectors layer, using napari's public interface only."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Any = None
        self.strokes: Strokes | None = None

    def draw(self, strokes: Strokes | None, plane: ShownPlane | None) -> None:
        """Replace the strokes."""
        self.strokes = strokes
        self.release()
        if strokes is None or plane is None:
            return
        points = np.full((len(strokes.points), 3), plane.depth_mm)
        _, down, right = plane.axes
        points[:, right], points[:, down] = strokes.points.T
        start, end = points[strokes.pieces[:, 0]], points[strokes.pieces[:, 1]]
        active = self._viewer.layers.selection.active
        self._layer = Vectors(
            np.stack([start, end - start], axis=1),
            name=_LAYER_NAME,
            units=("mm",) * 3,
            vector_style="line",
            edge_width=_LAYER_WIDTH_MM,
            edge_color=strokes.colours[strokes.pieces[:, 0]],
            metadata={KEY: {"role": "lines", "study": None}},
        )
        self._viewer.layers.append(self._layer)
        self._viewer.layers.selection.active = active

    def release(self) -> None:
        """Remove everything from the viewer."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None
