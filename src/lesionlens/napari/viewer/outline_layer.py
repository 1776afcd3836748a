"""napari's Labels layer, whose brush, fill and polygon paint only where they may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

Gate = Callable[[tuple[slice, ...]], NDArray[np.bool_]]
"""Takes a box of the layer and says where in it may be painted."""


class OutlineLayer(Labels):
    """Labels with a gate; erasing goes everywhere.

    napari 0.9 leads brush, fill and polygon through `_paint_region_with_mask`, which is its own:
    a test paints with each of them.
    """

    gate: Gate | None = None

    @property
    def _type_string(self) -> str:
        return "labels"

    def paint_polygon(self, points: Any, new_label: int) -> None:
        """Paint a polygon; one event follows once it is painted, as for a stroke."""
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
            others = tuple(axis for axis in range(self.ndim) if axis not in dims_to_paint)
            mask = mask & np.squeeze(self.gate(slice_key), axis=others)
        super()._paint_region_with_mask(
            slice_key, mask, new_label, dims_to_paint, refresh, region_data
        )
