"""Voxels of a stroke on a slice, independent of the grid of the slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import clipped_box
from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import Point

_TIE = 1e-6  # mm


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """The painted slice."""

    normal: NDArray[np.float64]
    """(3,) float64: unit normal, RAS+."""
    depth_mm: float
    """Depth of its middle along the normal."""
    thickness_mm: float
    """Distance between slices."""


def stroked_voxels(
    grid: Grid, path_mm: tuple[Point, Point], radius_mm: float, slab: Slab | None
) -> tuple[NDArray[np.intp], ...]:
    """Return the voxels of a straight stroke.

    A voxel belongs to it if its centre lies within the thickness of the slice, and within the
    brush's radius of the stroke, measured in the slice. Slices share no voxels.

    Parameters
    ----------
    path_mm : two points
        Start and end of the stroke, RAS+ mm.
    slab : Slab or None
        Slice; None for a ball.

    Returns
    -------
    tuple of (N,) int arrays
        Indices along the grid's axes; empty outside the grid.

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
    """Return the voxels in a box around a stroke, and their positions."""
    room = radius_mm + (0.0 if slab is None else slab.thickness_mm) + float(grid.spacing_mm.max())
    sides = 2 * np.array(list(np.ndindex(2, 2, 2))) - 1
    corners = (ends[:, None] + room * sides).reshape(-1, 3)
    at = grid.to_voxel(corners)
    box = clipped_box(at.min(axis=0), at.max(axis=0), grid.shape)
    voxels = np.moveaxis(np.mgrid[box], 0, -1).reshape(-1, 3)
    return voxels, np.asarray(grid.to_mm(voxels), np.float64).reshape(-1, 3)
