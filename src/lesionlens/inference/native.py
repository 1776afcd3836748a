"""From the working grid back to the native grid of the reference, on which results lie."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import apply
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.records.study import PreparedStudy
from lesionlens.study.resample import resample

Floats = NDArray[np.float32]


def bring(values: Floats, prepared: PreparedStudy) -> Floats:
    """Bring one map of shares to the native grid.

    Parameters
    ----------
    values : (I, J, K) float32
        0 to 1 on the working grid.
    prepared : PreparedStudy
        Names both grids.

    Returns
    -------
    (I', J', K') float32
        0 to 1 on the native grid, C order, zero beyond the working grid. A plain copy where
        voxels coincide, else linear interpolation.
    """
    working = Grid(prepared.working.shape, prepared.native.affine @ prepared.to_native)
    out = resample(values, working, prepared.native)
    return np.clip(np.ascontiguousarray(out, dtype=np.float32), 0.0, 1.0)


def bring_regions(
    maps: Mapping[Region, Floats], prepared: PreparedStudy, *, nested: bool
) -> dict[Region, Floats]:
    """Bring a map of each region to the native grid.

    Parameters
    ----------
    maps : mapping of Region to (I, J, K) float32
        On the working grid.
    nested : bool
        Keep each region's probability at or below that of the region round it.
    """
    out: dict[Region, Floats] = {}
    for region in Region:
        if region not in maps:
            continue
        found = bring(maps[region], prepared)
        if nested and out:
            found = np.minimum(found, out[next(reversed(out))])
        out[region] = found
    return out


def to_working(voxel: tuple[int, int, int], prepared: PreparedStudy) -> tuple[int, int, int]:
    """Return the working voxel nearest to a native one; it may lie outside of the working grid."""
    place = apply(np.asarray(np.linalg.inv(prepared.to_native)), voxel)
    i, j, k = np.rint(place).astype(int).tolist()
    return i, j, k
