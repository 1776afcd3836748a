"""Resample results from the working grid to the native grid of the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lesionlens.base.geometry import Box, Floats, mapped_box, nearest, overlap
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.resampling import cut_grid, resample_probability, spread_vox

_FINE_STEPS = 2**20
"""Quantisation steps per unit: few enough to remove the noise of float32's last bits."""
_REACH_VOX = 1.5
"""Working voxels around the brain that a native voxel may be interpolated from."""


def source_grid(prepared: PreparedStudy) -> Grid:
    """Return the working grid in the frame of the native one."""
    return Grid(prepared.working.shape, prepared.native.affine @ prepared.to_native)


def resample_part(values: Floats, prepared: PreparedStudy, part: Box) -> tuple[Box, Floats]:
    """Resample probabilities on a part of the working grid to the native grid.

    Values are those of `resample_map`, in finer steps: coarse ones would round some of a mask's
    voxels up to its threshold.

    Parameters
    ----------
    values : (i, j, k) float32
        0 to 1 on the box `part` of the working grid.
    part : (3,) slices
        Of the working grid.

    Returns
    -------
    Box, (i', j', k') float32
        Box of the native grid, and probabilities 0 to 1 there.
    """
    margin = spread_vox(source_grid(prepared), prepared.native)
    expanded = tuple(slice(side.start - margin, side.stop + margin) for side in part)
    reached = mapped_box(part, prepared.to_native, prepared.native.shape, margin)
    box = overlap(reached, _native_brain_box(prepared))
    target = cut_grid(prepared.native, box)
    source = cut_grid(source_grid(prepared), (expanded[0], expanded[1], expanded[2]))
    if not all(target.shape):
        return box, np.zeros(target.shape, np.float32)
    return box, resample_probability(np.pad(values, margin), source, target, _FINE_STEPS)


def resample_map(values: Floats, prepared: PreparedStudy, source: Grid | None = None) -> Floats:
    """Resample one probability map to the native grid.

    Parameters
    ----------
    values : (I, J, K) float32
        0 to 1 on the working grid, zero outside the brain.
    source : Grid or None
        The map's grid in the native frame, if it is not the working grid.

    Returns
    -------
    (I', J', K') float32
        0 to 1 in steps of 1/4096 on the native grid, C order, zero away from the brain. A plain
        copy where voxels coincide, else linear interpolation.
    """
    if source is None:
        source = source_grid(prepared)
    out: Floats = np.zeros(prepared.native.shape, np.float32)
    box = _native_brain_box(prepared)
    if any(side.start >= side.stop for side in box):
        return out
    out[box] = resample_probability(values, source, cut_grid(prepared.native, box))
    return out


def _native_brain_box(prepared: PreparedStudy) -> Box:
    """Return the box of the native grid that contains the brain."""
    box = prepared.brain_box
    if box is None:
        return slice(0), slice(0), slice(0)
    return mapped_box(box, prepared.to_native, prepared.native.shape, _REACH_VOX)


def resample_regions(
    maps: Mapping[Region, Floats], prepared: PreparedStudy, *, nested: bool
) -> dict[Region, Floats]:
    """Resample a map of each region to the native grid.

    Parameters
    ----------
    maps : mapping of Region to (I, J, K) float32
        On the working grid.
    nested : bool
        Limit each region's probability to that of its enclosing region.
    """
    out: dict[Region, Floats] = {}
    box = _native_brain_box(prepared)
    for region in Region:
        if region not in maps:
            continue
        resampled = resample_map(maps[region], prepared)
        if nested and out:
            np.minimum(resampled[box], out[next(reversed(out))][box], out=resampled[box])
        out[region] = resampled
    return out


def to_working(voxel: tuple[int, int, int], prepared: PreparedStudy) -> tuple[int, int, int]:
    """Return the working voxel nearest to a native voxel; may be outside the working grid."""
    i, j, k = working_voxels(voxel, prepared).tolist()
    return i, j, k


def working_voxels(voxels: ArrayLike, prepared: PreparedStudy) -> NDArray[np.int64]:
    """Return the (..., 3) working voxels nearest to native ones; see `to_working`."""
    return nearest(np.asarray(np.linalg.inv(prepared.to_native)), voxels)
