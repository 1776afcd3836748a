"""Identify a scan by its voxels, independently of file name and compression."""

from __future__ import annotations

import hashlib

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid


def scan_digest(values: Floats, grid: Grid) -> str:
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
    sampled = np.nan_to_num(values[::2, ::2, ::2].astype("<f4"))
    digest.update(np.ascontiguousarray(sampled).tobytes())
    return digest.hexdigest()


def intensity_digest(values: Floats) -> str:
    """Return a digest of a scan's intensities that does not depend on their order.

    A copy that was reoriented or mirrored, or has another header or empty border, has the same
    digest; a resampled or rescaled copy does not.

    Parameters
    ----------
    values : (I, J, K) float32
        As read, before any processing; 0 and non-finite values are ignored.

    Examples
    --------
    >>> values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    >>> intensity_digest(values) == intensity_digest(np.pad(values[::-1].transpose(2, 0, 1), 4))
    True
    """
    count, sums = 0, np.zeros(3, np.uint64)
    for plane in values if values.flags.c_contiguous else values.T:  # as it lies in memory
        nonzero = plane[np.isfinite(plane) & (plane != 0)]
        bits = nonzero.astype("<f4", copy=False).view("<u4").astype(np.uint64)
        squares = bits * bits
        sums += np.array([bits.sum(), squares.sum(), (squares * bits).sum()], np.uint64)
        count += bits.size
    summary = np.array([count, *sums], "<u8").tobytes()
    return f"{INTENSITIES}{hashlib.sha256(summary).hexdigest()}"


INTENSITIES = "intensities:"
"""Prefix of `intensity_digest`: weights hold digests of both kinds."""
