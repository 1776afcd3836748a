"""Which voxels a stroke over a slice takes, whatever grid the slice was acquired on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import Point

_TIE = 1e-6  # mm


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """The slice that is painted on."""

    normal: NDArray[np.float64]
    """(3,) float64: unit vector through it, RAS+."""
    depth_mm: float
    """Of its middle, along the normal."""
    thickness_mm: float
    """From one slice to the next."""


def stroked_voxels(
    grid: Grid, path_mm: tuple[Point, Point], radius_mm: float, slab: Slab | None
) -> tuple[NDArray[np.intp], ...]:
    """Return the voxels that a straight stroke takes.

    A voxel is taken where its centre lies within the thickness of the slice, and as far from the
    stroke, measured in the slice, as the brush reaches. Every slice takes its own voxels.

    Parameters
    ----------
    grid : Grid
        What is painted in.
    path_mm : two points
        Where the stroke begins and ends, RAS+ mm.
    radius_mm : float
        Of the brush.
    slab : Slab or None
        The slice; None if the brush is a ball.

    Returns
    -------
    tuple of (N,) int arrays
        Indices along the axes of the grid; empty outside of it.

    Examples
    --------
    >>> flat = Slab(np.array([0.0, 0.0, 1.0]), 2.0, 3.0)
    >>> taken = stroked_voxels(Grid((5, 5, 5), np.eye(4)), ((2, 2, 2), (2, 2, 2)), 0.5, flat)
    >>> [axis.tolist() for axis in taken]
    [[2, 2, 2], [2, 2, 2], [1, 2, 3]]
    """
    ends = np.asarray(path_mm, np.float64)
    box, places = _near(grid, ends, radius_mm, slab)
    start, way = ends[0], ends[1] - ends[0]
    away = places - start
    if slab is not None:
        depth = places @ slab.normal - slab.depth_mm
        thick = max(slab.thickness_mm, float(grid.spacing_mm.min()))
        inside = (depth >= -thick / 2 - _TIE) & (depth < thick / 2 - _TIE)
        away = away - (away @ slab.normal)[:, None] * slab.normal
        way = way - (way @ slab.normal) * slab.normal
    else:
        inside = np.ones(len(places), bool)
    length = float(way @ way)
    share = np.clip(away @ way / length, 0.0, 1.0) if length > 0 else np.zeros(len(places))
    reach = np.linalg.norm(away - share[:, None] * way, axis=1) <= max(radius_mm, _TIE)
    return tuple(box[inside & reach].T)


def _near(
    grid: Grid, ends: NDArray[np.float64], radius_mm: float, slab: Slab | None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the voxels in a box around a stroke, and where they lie."""
    room = radius_mm + (0.0 if slab is None else slab.thickness_mm) + float(grid.spacing_mm.max())
    sides = 2 * np.array(list(np.ndindex(2, 2, 2))) - 1
    corners = (ends[:, None] + room * sides).reshape(-1, 3)
    at = grid.to_voxel(corners)
    low = np.clip(np.floor(at.min(axis=0)), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(at.max(axis=0)) + 1, low, grid.shape).astype(int)
    box = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 3)
    return box, np.asarray(grid.to_mm(box), np.float64).reshape(-1, 3)
