"""Detect slices that are stored more than once, as where copies fill a gap."""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.records.study import Acquired, QualityCheck, failed_check
from lesionlens.imaging.preparation.lost_slices import TISSUE_MM2, tissue_areas_mm2

_STRIDE = 4
_MIN_REGULAR_RUNS = 4
"""Number of evenly spaced runs of copies from which the scan was interpolated by repetition."""


def check(volumes: Acquired) -> QualityCheck | None:
    """Check for slices that equal the slice before; None if there are none."""
    counts = {s: repeated(values, grid) for s, (values, grid) in volumes.items()}
    listed = ", ".join(f"{s.display_name} {count}" for s, count in counts.items() if count)
    if not listed:
        return None
    return failed_check(
        "slices",
        f"Slices identical to the previous one: {listed}. Copies may replace lost slices: lesions "
        "there are missed, and through-plane sizes are wrong.",
    )


def repeated(values: Floats, grid: Grid) -> int:
    """Return the number of slices with tissue that equal the slice before, along any one axis.

    0 if they are evenly spaced, as after interpolation by nearest neighbour.
    """
    return max(_repeated_along(values, grid, axis) for axis in range(3))


def _repeated_along(values: Floats, grid: Grid, axis: int) -> int:
    lines = np.moveaxis(values, axis, 0)
    sampled = lines[:, ::_STRIDE, ::_STRIDE]
    equal = np.flatnonzero(
        (sampled[1:] == sampled[:-1]).all(axis=(1, 2)) & sampled[1:].any(axis=(1, 2))
    )
    if not equal.size:
        return 0
    has_tissue = tissue_areas_mm2(values, grid, axis) >= TISSUE_MM2
    copies = [int(k) for k in equal if has_tissue[k] and np.array_equal(lines[k], lines[k + 1])]
    starts = [k for k in copies if k - 1 not in copies]
    distances = np.diff(starts)
    if len(starts) >= _MIN_REGULAR_RUNS and np.ptp(distances) <= 2:
        return 0
    return len(copies)
