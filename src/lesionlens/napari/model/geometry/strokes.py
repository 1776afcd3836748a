"""Voxels of a stroke on a slice, independent of the grid of the slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import clipped_box
from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import Point

_TOLERANCE_MM = 1e-6


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
    >>> voxels = stroked_voxels(Grid((5, 5, 5), np.eye(4)), ((2, 2, 2), (2, 2, 2)), 0.5, flat)
    >>> [axis.tolist() for axis in voxels]
    [[2, 2, 2], [2, 2, 2], [1, 2, 3]]
    """
    ends = np.asarray(path_mm, np.float64)
    voxels, positions = _voxels_around(grid, ends, radius_mm, slab)
    start, direction = ends[0], ends[1] - ends[0]
    offset = positions - start
    if slab is not None:
        depth = positions @ slab.normal - slab.depth_mm
        thickness = max(slab.thickness_mm, float(grid.spacing_mm.min()))
        inside = (depth >= -thickness / 2 - _TOLERANCE_MM) & (depth < thickness / 2 - _TOLERANCE_MM)
        offset = offset - (offset @ slab.normal)[:, None] * slab.normal
        direction = direction - (direction @ slab.normal) * slab.normal
    else:
        inside = np.ones(len(positions), bool)
    length = float(direction @ direction) or 1.0  # without a direction the fraction is 0
    fraction = np.clip(offset @ direction / length, 0.0, 1.0)
    distance = np.linalg.norm(offset - fraction[:, None] * direction, axis=1)
    in_radius = distance <= max(radius_mm, _TOLERANCE_MM)
    return tuple(voxels[inside & in_radius].T)


def _voxels_around(
    grid: Grid, ends: NDArray[np.float64], radius_mm: float, slab: Slab | None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the voxels in a box around a stroke, and their positions."""
    margin = radius_mm + (0.0 if slab is None else slab.thickness_mm) + float(grid.spacing_mm.max())
    signs = 2 * np.array(list(np.ndindex(2, 2, 2))) - 1
    corners = (ends[:, None] + margin * signs).reshape(-1, 3)
    corner_voxels = grid.to_voxel(corners)
    box = clipped_box(corner_voxels.min(axis=0), corner_voxels.max(axis=0), grid.shape)
    voxels = np.moveaxis(np.mgrid[box], 0, -1).reshape(-1, 3)
    return voxels, np.asarray(grid.to_mm(voxels), np.float64).reshape(-1, 3)
