"""Resample maps from the working grid to the native grid of the reference, where results live.

`to_native` brings one map, `regions_to_native` nested probabilities, `part_to_native` a small part.
"""

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
"""Steps per unit of a part: coarse ones would round some voxels of a mask up to its threshold."""
_REACH_VOX = 1.5
"""Working voxels around the brain that a native voxel may be interpolated from."""


def working_in_native_frame(prepared: PreparedStudy) -> Grid:
    """Return the working grid in the frame of the native one."""
    return Grid(prepared.working.shape, prepared.native.affine @ prepared.to_native)


def to_native(values: Floats, prepared: PreparedStudy, source: Grid | None = None) -> Floats:
    """Resample one map of 0 to 1 to the native grid.

    Parameters
    ----------
    values : (I, J, K) float32
        On the working grid, zero outside the brain.
    source : Grid or None
        The map's grid in the native frame, if it is not the working grid.

    Returns
    -------
    (I', J', K') float32
        0 to 1 in steps of 1/4096, zero away from the brain. A plain copy where voxels coincide,
        else linear interpolation.
    """
    out: Floats = np.zeros(prepared.native.shape, np.float32)
    box = _native_brain_box(prepared)
    if all(side.start < side.stop for side in box):
        source = source or working_in_native_frame(prepared)
        out[box] = resample_probability(values, source, cut_grid(prepared.native, box))
    return out


def regions_to_native(
    maps: Mapping[Region, Floats], prepared: PreparedStudy, *, nested: bool
) -> dict[Region, Floats]:
    """Resample a map of each region to the native grid.

    Parameters
    ----------
    maps : mapping of Region to (I, J, K) float32
        On the working grid.
    nested : bool
        Limit each region to the one that encloses it.
    """
    out: dict[Region, Floats] = {}
    box = _native_brain_box(prepared)
    for region in (r for r in Region if r in maps):
        resampled = to_native(maps[region], prepared)
        if nested and out:
            np.minimum(resampled[box], out[next(reversed(out))][box], out=resampled[box])
        out[region] = resampled
    return out


def part_to_native(values: Floats, prepared: PreparedStudy, part: Box) -> tuple[Box, Floats]:
    """Resample probabilities on the box `part` of the working grid to the native grid.

    Returns
    -------
    Box, (i', j', k') float32
        Box of the native grid, and the values of `to_native` there in finer steps.
    """
    margin = spread_vox(working_in_native_frame(prepared), prepared.native)
    i, j, k = (slice(side.start - margin, side.stop + margin) for side in part)
    reached = mapped_box(part, prepared.to_native, prepared.native.shape, margin)
    box = overlap(reached, _native_brain_box(prepared))
    target = cut_grid(prepared.native, box)
    source = cut_grid(working_in_native_frame(prepared), (i, j, k))
    if not all(target.shape):
        return box, np.zeros(target.shape, np.float32)
    return box, resample_probability(np.pad(values, margin), source, target, _FINE_STEPS)


def nearest_working_voxels(voxels: ArrayLike, prepared: PreparedStudy) -> NDArray[np.int64]:
    """Return the (..., 3) working voxels nearest to native ones; may be outside the grid."""
    return nearest(np.asarray(np.linalg.inv(prepared.to_native)), voxels)


def _native_brain_box(prepared: PreparedStudy) -> Box:
    if prepared.brain_box is None:
        return slice(0), slice(0), slice(0)
    return mapped_box(prepared.brain_box, prepared.to_native, prepared.native.shape, _REACH_VOX)
