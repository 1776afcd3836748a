"""Distances from prompts: the Euclidean distance transform, faster for a few points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Shape3

_MAX_DIRECT_POINTS = 24
"""Up to this many points, one pass for each is faster than the transform."""


def distances_to(points: NDArray[np.integer], shape: Shape3) -> NDArray[np.float64]:
    """Return the distance of every voxel to the nearest of (N, 3) voxels inside, in voxels."""
    if not 0 < len(points) <= _MAX_DIRECT_POINTS:
        is_other = np.ones(shape, bool)
        is_other[tuple(points.T)] = False
        return np.asarray(ndimage.distance_transform_edt(is_other))
    squares = np.full(shape, np.iinfo(np.int32).max, np.int32)
    i, j, k = (np.arange(n, dtype=np.int32) for n in shape)
    for a, b, c in points.astype(np.int32):
        plane = ((i - a) ** 2)[:, None] + (j - b) ** 2
        np.minimum(squares, plane[:, :, None] + (k - c) ** 2, out=squares)
    return np.sqrt(squares, dtype=np.float64)
