"""Sample the lines of voxels along an axis of a scan, for checks that compare its slices."""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid

_SAMPLING_MM = 3.0
"""Distance of the lines."""


def bright_end(values: Floats) -> float:
    """Return the 99.5th percentile of the intensities, from every fourth voxel of each axis."""
    return float(np.quantile(values[::4, ::4, ::4], 0.995))


def lines_along(axis: int, values: Floats, grid: Grid) -> Floats:
    """Return all voxels along an axis, first, of lines about 3 mm apart; a view."""
    strides = np.maximum(np.rint(_SAMPLING_MM / grid.spacing_mm), 1).astype(int)
    sampling = [slice(None, None, int(stride)) for stride in strides]
    sampling[axis] = slice(None)
    return np.moveaxis(values[tuple(sampling)], axis, 0)
