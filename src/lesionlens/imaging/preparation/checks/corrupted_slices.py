"""Detect single slices that do not fit between their neighbours, as after motion or a spike."""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.records.study import Acquired, QualityCheck, failed_check
from lesionlens.imaging.preparation.lost_slices import TISSUE_MM2, tissue_areas_mm2

EXCESS = 0.25
"""Correlation of the neighbours with each other, minus the higher one with the slice between them.

Measured along all three axes of 71 scans of nineteen people: at most .06, .10 in slices of 6.5 mm;
.28 and more in slices of 1 mm after noise, strong motion, turning or shifting.
"""
MAX_EDGE_MM = 7.0
"""Thicker slices hardly resemble each other: .36 in a scan of 9 mm without faults."""
_STRIDE = 3
_TISSUE_FRACTION = 0.2
_MIN_VOXELS = 250
"""Compared voxels of a slice, so that noise alone does not reach `EXCESS`."""


def check(volumes: Acquired) -> QualityCheck | None:
    """Check for single slices that resemble neither neighbour; None if there are none."""
    counts = {s: corrupted(values, grid) for s, (values, grid) in volumes.items()}
    listed = ", ".join(f"{s.display_name} {count}" for s, count in counts.items() if count)
    if not listed:
        return None
    return failed_check(
        "slices",
        f"Slices that resemble neither neighbour, although these resemble each other: {listed}. "
        f"They may be corrupted: check candidates there by eye, and look for lesions yourself.",
    )


def corrupted(values: Floats, grid: Grid) -> int:
    """Return the number of slices that fit neither neighbour, along the axis with most of them.

    Intensities may differ by a factor between slices.
    """
    axes = np.flatnonzero(grid.spacing_mm <= MAX_EDGE_MM).tolist()
    counts = (int((excess_correlation(values, grid, axis) > EXCESS).sum()) for axis in axes)
    return max(counts, default=0)


def excess_correlation(values: Floats, grid: Grid, axis: int) -> Floats:
    """Return the figure that `EXCESS` bounds for every slice along an axis; -1 if not measured."""
    lines = np.moveaxis(values, axis, 0)[:, ::_STRIDE, ::_STRIDE]
    has_tissue = tissue_areas_mm2(values, grid, axis) >= TISSUE_MM2
    dark = _TISSUE_FRACTION * float(np.quantile(values[::4, ::4, ::4], 0.995))
    result = np.full(len(lines), -1.0, dtype=np.float32)
    for index in range(1, len(lines) - 1):
        before, here, after = lines[index - 1 : index + 2]
        if not (has_tissue[index - 1] and has_tissue[index + 1]):
            continue
        compared = (before > dark) & (after > dark)
        if int(compared.sum()) >= _MIN_VOXELS:
            compared_values = np.stack([before, here, after])[:, compared].astype(np.float64)
            correlations = np.asarray(np.corrcoef(compared_values))
            result[index] = correlations[0, 2] - max(correlations[0, 1], correlations[1, 2])
    return result
