"""Strokes over all layers of napari's canvas.

napari 0.9 registers the visuals of overlays in a private table, which only this module uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari._vispy.overlays.base import VispySceneOverlay
from napari._vispy.utils.visual import overlay_to_visual
from napari.components import ViewerModel
from napari.components.overlays import SceneOverlay
from napari.layers.base._base_constants import Blending
from numpy.typing import NDArray
from vispy.scene.visuals import Line as LineVisual

NAME = "lesionlens_lines"
WIDTH_PX = 1.6


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """Lines in canvas coordinates."""

    points: NDArray[np.float32]
    """(N, 2) float32: millimetres along napari's horizontal and vertical axes."""
    colours: NDArray[np.float32]
    """(N, 4) float32: 0 to 1."""
    pieces: NDArray[np.uint32]
    """(M, 2) uint32: indices of connected points."""


class LinesOverlay(SceneOverlay):
    """napari overlay with strokes."""

    blending: Blending = Blending.TRANSLUCENT_NO_DEPTH
    strokes: Any = None
    """Strokes, or None; untyped, as pydantic does not support arrays."""


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
            self.node.set_data(pos=strokes.points, color=strokes.colours, connect=strokes.pieces)
        if self.node.visible is not (strokes is not None):
            self.node.visible = strokes is not None

    def close(self) -> None:
        """Stop listening to the overlay."""
        self.overlay.events.strokes.disconnect(self._draw)
        super().close()


overlay_to_visual[LinesOverlay] = LinesVisual


class CanvasStrokes:
    """Smooth lines of constant width at any zoom, as an overlay of a viewer under a name."""

    def __init__(self, viewer: ViewerModel, name: str = NAME) -> None:
        self._viewer, self._overlay, self._name = viewer, LinesOverlay(), name

    @property
    def strokes(self) -> Strokes | None:
        """Current strokes."""
        strokes: Strokes | None = self._overlay.strokes
        return strokes

    def draw(self, strokes: Strokes | None) -> None:
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
