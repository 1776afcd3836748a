"""Identify a scan by its voxels, independently of file name and compression."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid


def scan_digest(values: NDArray[np.float32], grid: Grid) -> str:
    """Return the SHA-256 of a scan's shape, affine and every second voxel along each axis.

    Parameters
    ----------
    values : (I, J, K) float32
        As read, before any processing.
    grid : Grid
        Their grid; the affine is rounded to a thousandth.

    Examples
    --------
    >>> values, grid = np.ones((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4))
    >>> scan_digest(values, grid) == scan_digest(values.astype(np.int16), grid)
    True
    """
    digest = hashlib.sha256(np.array(values.shape, "<i8").tobytes())
    digest.update((np.round(grid.affine, 3) + 0.0).astype("<f8").tobytes())
    some = np.nan_to_num(values[::2, ::2, ::2].astype("<f4"))
    digest.update(np.ascontiguousarray(some).tobytes())
    return digest.hexdigest()
