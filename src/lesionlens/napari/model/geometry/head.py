"""Head mask of an image, for rejecting marks outside the head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.records.findings import Point
from lesionlens.imaging.preparation.brain import largest
from lesionlens.imaging.preparation.registration import bright_quantile

Pictures = Mapping[MrSequence, tuple[NDArray[Any], Grid]]
_STEP_MM, _MARGIN_MM = 3.0, 6.0


@dataclass(frozen=True, slots=True, eq=False)
class HeadMask:
    """Filled head mask with a margin, on a coarse grid."""

    mask: NDArray[np.bool_]
    grid: Grid
    steps: tuple[int, int, int]
    """Image voxels per mask voxel."""

    @classmethod
    def of(cls, data: NDArray[Any], grid: Grid) -> HeadMask:
        """Compute the mask of an image; for a skull-stripped one it is the brain.

        Examples
        --------
        >>> data = np.zeros((40, 40, 40))
        >>> data[10:30, 10:30, 10:30] = 1
        >>> data[18:22, 18:22, 18:22] = 0
        >>> head = HeadMask.of(data, Grid((40, 40, 40), np.diag([3.0, 3.0, 3.0, 1.0])))
        >>> head.contains((60, 60, 60)), head.contains((6, 6, 6))
        (True, False)
        """
        i, j, k = (max(1, round(_STEP_MM / float(edge))) for edge in grid.spacing_mm)
        coarse = np.nan_to_num(np.asarray(data[::i, ::j, ::k], np.float32))
        bright = ndimage.uniform_filter(coarse, 3) > 0.15 * bright_quantile(coarse, 0.95)
        head = largest(np.asarray(bright))
        filled = head.copy()
        for axis in range(3):  # sinuses are open to the air on some slices, not on all
            slices = [ndimage.binary_fill_holes(part) for part in np.moveaxis(head, axis, 0)]
            filled |= np.stack(slices, axis=axis)
        spacing = np.asarray(grid.spacing_mm) * (i, j, k)
        if filled.any():
            distance = ndimage.distance_transform_edt(~filled, sampling=spacing)
            filled = np.asarray(distance <= _MARGIN_MM)
        return cls(filled, grid, (i, j, k))

    def contains(self, point_mm: Point) -> bool:
        """Whether a point (RAS+ mm) lies in the head; always true if none was found."""
        if not self.mask.any():
            return True
        image_voxel = self.grid.nearest_voxel(point_mm)
        if not self.grid.contains(image_voxel):
            return False
        nearest = np.rint(image_voxel / np.asarray(self.steps)).astype(int)
        voxel = np.minimum(nearest, np.asarray(self.mask.shape) - 1)
        return bool(self.mask[tuple(voxel)])


class HeadOfStudy:
    """Head mask of the loaded images; `pictures` returns voxels and grid of each sequence."""

    def __init__(self, pictures: Callable[[], Pictures]) -> None:
        self._pictures = pictures
        self._cached: dict[MrSequence, tuple[Any, HeadMask]] = {}

    def contains_point(self, point_mm: Point) -> bool:
        """Whether a point (RAS+ mm) lies in the head of any image; always true without one.

        A slab does not show all of the head that another sequence shows.
        """
        pictures = self._pictures()
        self._cached = {s: known for s, known in self._cached.items() if s in pictures}
        sequences = [sequence for sequence in REFERENCE_ORDER if sequence in pictures]
        masks = (self._mask(sequence, *pictures[sequence]) for sequence in sequences)
        return not sequences or any(mask.contains(point_mm) for mask in masks)

    def _mask(self, sequence: MrSequence, data: NDArray[Any], grid: Grid) -> HeadMask:
        known = self._cached.get(sequence)
        if known is None or known[0] is not data:
            known = self._cached[sequence] = (data, HeadMask.of(data, grid))
        return known[1]
