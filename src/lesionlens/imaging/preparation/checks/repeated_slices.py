"""Detect slices that are stored more than once, as where copies fill a gap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import QualityCheck
from lesionlens.imaging.preparation.lost_slices import TISSUE_MM2, lit_areas_mm2

_STRIDE = 4
_REGULAR_FROM = 4
"""Number of evenly spaced runs of copies from which the scan was interpolated by repetition."""


def check(volumes: Mapping[MrSequence, tuple[NDArray[np.float32], Grid]]) -> QualityCheck | None:
    """Check for slices that equal the slice before.

    Parameters
    ----------
    volumes : mapping of MrSequence to (voxels, Grid)
        As acquired, (I, J, K) float32.

    Returns
    -------
    QualityCheck or None
        None if there are none.
    """
    counts = {s: repeated(values, grid) for s, (values, grid) in volumes.items()}
    listed = ", ".join(f"{s.display_name} {count}" for s, count in counts.items() if count)
    if not listed:
        return None
    return QualityCheck(
        "slices",
        False,
        f"Slices that equal the slice before: {listed}. Copies may stand where slices were lost: "
        "lesions there are not seen, and sizes across slices are wrong.",
    )


def repeated(values: NDArray[np.float32], grid: Grid) -> int:
    """Return the number of slices with tissue that equal the slice before, along any one axis.

    0 if they are evenly spaced, as after interpolation by nearest neighbour.

    Parameters
    ----------
    values : (I, J, K) float32
        As acquired.
    grid : Grid
        Of `values`.
    """
    return max(_along(values, grid, axis) for axis in range(3))


def _along(values: NDArray[np.float32], grid: Grid, axis: int) -> int:
    lines = np.moveaxis(values, axis, 0)
    some = lines[:, ::_STRIDE, ::_STRIDE]
    alike = np.flatnonzero((some[1:] == some[:-1]).all(axis=(1, 2)) & some[1:].any(axis=(1, 2)))
    if not alike.size:
        return 0
    lit = lit_areas_mm2(values, grid, axis) >= TISSUE_MM2
    copies = [int(k) for k in alike if lit[k] and np.array_equal(lines[k], lines[k + 1])]
    starts = [k for k in copies if k - 1 not in copies]
    apart = np.diff(starts)
    if len(starts) >= _REGULAR_FROM and np.ptp(apart) <= 2:
        return 0
    return len(copies)
