"""Sample a brain within its ends, to compare its shape with the template's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask

POINTS = 40
"""Samples along each axis."""
_ENDS = (0.2, 99.8)
"""Percentiles at which the brain ends: single voxels beyond do not count."""
Points = NDArray[np.float64]
"""(3, N) voxels."""


def ends_of(brain: Mask) -> Points:
    """Return where a brain begins and ends along each axis, (3, 2) voxels."""
    counts = (brain.sum((1, 2)), brain.sum((0, 2)), brain.sum((0, 1)))  # voxels in each
    return np.array([np.percentile(np.repeat(np.arange(len(n)), n), _ENDS) for n in counts])


def sampled(values: NDArray[np.generic], points: Points) -> Floats:
    """Interpolate an array linearly at `POINTS` cubed points; returns that cube."""
    samples = ndimage.map_coordinates(values.astype(np.float32), points, order=1)
    return np.asarray(samples.reshape((POINTS,) * 3), dtype=np.float32)
