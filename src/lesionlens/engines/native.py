"""From the working grid back to the native grid of the reference, on which results lie."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import Box, apply
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.resampling import crop_grid, resample

Floats = NDArray[np.float32]
_STEPS = 4096
"""Values a unit: float32's last bits are noise here, and make files up to seven times as large."""


def bring(values: Floats, prepared: PreparedStudy, source: Grid | None = None) -> Floats:
    """Bring one map of shares to the native grid.

    Parameters
    ----------
    values : (I, J, K) float32
        0 to 1 on the working grid, zero outside the brain.
    prepared : PreparedStudy
        Names both grids and the brain.
    source : Grid or None
        The map's grid in the native frame, where it is not the working grid.

    Returns
    -------
    (I', J', K') float32
        0 to 1 in steps of 1/4096 on the native grid, C order, zero away from the brain. A plain
        copy where voxels coincide, else linear interpolation.
    """
    if source is None:
        source = Grid(prepared.working.shape, prepared.native.affine @ prepared.to_native)
    out = np.zeros(prepared.native.shape, np.float32)
    box = _reached(prepared)
    low = (box[0].start, box[1].start, box[2].start)
    high = (box[0].stop, box[1].stop, box[2].stop)
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return out
    part = resample(values, source, crop_grid(prepared.native, low, high))
    inside = out[box]
    np.clip(part, 0.0, 1.0, out=inside)
    np.multiply(inside, _STEPS, out=inside)
    np.rint(inside, out=inside)
    np.divide(inside, _STEPS, out=inside)
    return out


def _reached(prepared: PreparedStudy) -> Box:
    """Return the box of the native grid in which the brain lies, by the corners of its box."""
    box = prepared.brain_box
    if box is None:
        return slice(0), slice(0), slice(0)
    reach = np.array([[side.start - 1.5 for side in box], [side.stop + 0.5 for side in box]])
    corners = np.array(list(product(*reach.T)))
    moved = apply(prepared.to_native, corners)
    low = np.clip(np.floor(moved.min(axis=0)), 0, prepared.native.shape).astype(int)
    high = np.clip(np.ceil(moved.max(axis=0)) + 1, 0, prepared.native.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def bring_regions(
    maps: Mapping[Region, Floats], prepared: PreparedStudy, *, nested: bool
) -> dict[Region, Floats]:
    """Bring a map of each region to the native grid.

    Parameters
    ----------
    maps : mapping of Region to (I, J, K) float32
        On the working grid.
    prepared : PreparedStudy
        Both grids and the way between them.
    nested : bool
        Keep each region's probability at or below that of the region round it.
    """
    out: dict[Region, Floats] = {}
    for region in Region:
        if region not in maps:
            continue
        found = bring(maps[region], prepared)
        if nested and out:
            np.minimum(found, out[next(reversed(out))], out=found)
        out[region] = found
    return out


def to_working(voxel: tuple[int, int, int], prepared: PreparedStudy) -> tuple[int, int, int]:
    """Return the working voxel nearest to a native one; it may lie outside of the working grid."""
    place = apply(np.asarray(np.linalg.inv(prepared.to_native)), voxel)
    i, j, k = np.rint(place).astype(int).tolist()
    return i, j, k
