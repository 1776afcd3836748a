"""napari's Labels layer with a mask for brush, fill and polygon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

Gate = Callable[[tuple[slice, ...]], NDArray[np.bool_]]
"""Takes a box of the layer and returns the mask of paintable voxels."""


class OutlineLayer(Labels):
    """Labels with a gate for painting; erasing is unrestricted.

    napari 0.9 implements brush, fill and polygon by the private `_paint_region_with_mask`; a test
    paints with each of them.
    """

    gate: Gate | None = None
    undo_requested: Callable[[], object]
    redo_requested: Callable[[], object]
    """Called by napari's own keys for undo and redo instead of changing the labels."""

    @property
    def _type_string(self) -> str:
        return "labels"

    def undo(self) -> None:
        """Undo the last stroke by the session, as the LesionLens key does, and its prompt."""
        self.undo_requested()

    def redo(self) -> None:
        """Redo the stroke by the session."""
        self.redo_requested()

    def undo_stroke(self) -> None:
        """Undo the last stroke."""
        super().undo()

    def redo_stroke(self) -> None:
        """Redo the stroke."""
        super().redo()

    def paint_polygon(self, points: Any, new_label: int) -> None:
        """Paint a polygon, with one event at the end, as for a stroke."""
        with self.block_history():
            super().paint_polygon(points, new_label)

    def _paint_region_with_mask(
        self,
        slice_key: tuple[slice, ...],
        mask: Any,
        new_label: int,
        dims_to_paint: list[int],
        refresh: bool = True,
        region_data: Any = None,
    ) -> None:
        if new_label and self.gate is not None:
            other_axes = tuple(axis for axis in range(self.ndim) if axis not in dims_to_paint)
            mask = mask & np.squeeze(self.gate(slice_key), axis=other_axes)
        super()._paint_region_with_mask(
            slice_key, mask, new_label, dims_to_paint, refresh, region_data
        )
