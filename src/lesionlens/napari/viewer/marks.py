"""The reader's marks on napari's own canvas; linked views paint theirs themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points

from lesionlens.base.records.findings import Point
from lesionlens.napari.loading import KEY

if TYPE_CHECKING:
    from napari.components import ViewerModel

_SIZE_MM = 8.0
_STEP_MM = 100.0
"""Of the layer's own grid: so wide that napari's sliders go by the steps of the images."""
_COLOUR = "#FF78DC"


class Marks:
    """One layer of points that follows the marks of now; it is not edited by hand."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Any = None

    def show(self, marks: tuple[Point, ...], study: Any) -> None:
        """Show these (RAS+ mm)."""
        there = self._layer is not None and self._layer in self._viewer.layers
        if not marks:
            if there:
                self._viewer.layers.remove(self._layer)
            self._layer = None
            return
        if not there:
            active = self._viewer.layers.selection.active
            self._layer = Points(
                np.zeros((0, 3)),
                name="Your marks",
                scale=(_STEP_MM,) * 3,
                units=("mm",) * 3,
                size=_SIZE_MM / _STEP_MM,
                face_color="transparent",
                border_color=_COLOUR,
                border_width=0.15,
                metadata={KEY: {"role": "marks", "study": study}},
            )
            self._layer.editable = False
            self._viewer.layers.append(self._layer)
            if active is not None:
                self._viewer.layers.selection.active = active
        self._layer.data = np.asarray(marks, float) / _STEP_MM
