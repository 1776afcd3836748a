"""Interpolate between thick slices so that the mean over each slice is preserved.

A slice shows the mean over its thickness. Linear interpolation treats it as the value at the
slice's centre, and blurs structures thinner than two slices, such as an enhancing rim. Here the
intensity profile is the smoothest one with the measured mean over each slice (the histospline of
Boneva, Kendall and Stefanov 1971, J R Stat Soc B 33:1).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid

THICK_FROM_MM, _MIN_ANISOTROPY, _MIN_SLICES = 3.0, 1.5, 4
_SMOOTHNESS = 1e-4
"""Weight of the curvature relative to the measured means, with the slice thickness as unit of
length: enough for a unique solution, too little to smooth."""


def slice_axis(grid: Grid) -> int | None:
    """Return the axis perpendicular to thick slices, None if there is none.

    Examples
    --------
    >>> slice_axis(Grid((9, 9, 9), np.diag([1.0, 1.0, 5.0, 1.0])))
    2
    >>> slice_axis(Grid((9, 9, 9), np.eye(4))) is None
    True
    """
    edges = grid.nominal_spacing_mm
    axis = int(np.argmax(edges))
    is_thick = edges[axis] >= max(THICK_FROM_MM, _MIN_ANISOTROPY * edges.min())
    return axis if is_thick and grid.shape[axis] >= _MIN_SLICES else None


def divide_slices(values: Floats, grid: Grid, edge_mm: float) -> tuple[Floats, Grid]:
    """Divide thick slices into thinner ones, of about `edge_mm`, with the same mean.

    Returns
    -------
    (I', J', K') float32 array, Grid
        Nowhere below the minimum of `values`; the inputs if there are no thick slices.
    """
    axis = slice_axis(grid)
    if axis is None:
        return values, grid
    parts = max(int(np.rint(grid.nominal_spacing_mm[axis] / edge_mm)), 1)
    matrix = _matrix(grid.shape[axis], parts)
    thin = np.moveaxis(np.moveaxis(values, axis, -1) @ matrix.T, -1, axis)
    np.maximum(thin, values.min(), out=thin)
    i, j, k = thin.shape
    factors = np.where(np.arange(3) == axis, 1 / parts, 1.0)
    return thin, grid.scaled(factors, (i, j, k))


@lru_cache(maxsize=8)
def _matrix(slices: int, parts: int) -> Floats:
    """Return the (slices * parts, slices) matrix from slice means to sub-slices."""
    mean = np.kron(np.eye(slices), np.full(parts, 1 / parts))
    curvature = np.diff(np.eye(slices * parts), 2, axis=0)
    system = mean.T @ mean + _SMOOTHNESS * parts**3 * curvature.T @ curvature
    return np.asarray(np.linalg.solve(system, mean.T), dtype=np.float32)
