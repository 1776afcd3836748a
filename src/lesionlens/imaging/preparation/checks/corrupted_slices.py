"""Detect single slices that do not fit between their neighbours, as after motion or a spike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.records.study import Acquired, QualityCheck, failed_check
from lesionlens.imaging.preparation.checks.tissue_lines import bright_end, lines_along
from lesionlens.imaging.preparation.lost_slices import TISSUE_FRACTION

EXCESS = 0.25
"""Correlation of the neighbours with each other, minus the higher one with the slice between them.

Measured along all three axes of 71 scans of nineteen people: at most .06, .12 in slices of 6.5 mm;
.28 and more in slices of 1 mm after noise, strong motion, turning or shifting.
"""
MAX_EDGE_MM = 7.0
"""Thicker slices hardly resemble each other: .48 in a scan of 9 mm without faults."""
_MIN_VOXELS = 300
"""Compared voxels of a slice, so that noise alone does not reach `EXCESS`."""
_MIN_SHARE = 0.25
"""The same, relative to the slice with most of them: where the head ends, thick slices differ."""


def check(volumes: Acquired) -> QualityCheck | None:
    """Check for single slices that resemble neither neighbour; None if there are none."""
    counts = {s: corrupted(values, grid) for s, (values, grid) in volumes.items()}
    listed = ", ".join(f"{s.display_name} {count}" for s, count in counts.items() if count)
    if not listed:
        return None
    return failed_check(
        "slices",
        "Slices that resemble neither neighbour, although the neighbours resemble each other: "
        f"{listed}. They may be corrupted: check candidates there by eye, and look for lesions "
        "yourself.",
    )


def corrupted(values: Floats, grid: Grid) -> int:
    """Return the number of slices that fit neither neighbour, along the axis with most of them.

    Intensities may differ by a factor between slices.
    """
    axes = np.flatnonzero(grid.spacing_mm <= MAX_EDGE_MM).tolist()
    excesses = excess_correlations(values, grid, axes)
    return max((int((excess > EXCESS).sum()) for excess in excesses), default=0)


def excess_correlations(values: Floats, grid: Grid, axes: list[int]) -> list[Floats]:
    """Return the figure that `EXCESS` bounds for every slice along axes; -1 if not measured."""
    bright = bright_end(values)
    if not bright > 0:
        return []
    result = []
    for axis in axes:
        lines = lines_along(axis, values, grid).reshape(values.shape[axis], -1)
        result.append(_excess(np.asarray(lines / np.float32(bright), np.float32)))
    return result


def _excess(lines: NDArray[np.float32]) -> Floats:
    """Compare each row of (slices, voxels), relative to the bright end, with its neighbours."""
    result = np.full(len(lines), -1.0, dtype=np.float32)
    tissue = lines > TISSUE_FRACTION
    compared = tissue[:-2] & tissue[2:]
    counts = compared.sum(axis=1)
    measured = np.flatnonzero(counts >= max(_MIN_VOXELS, _MIN_SHARE * counts.max(initial=0)))
    voxels = compared.any(axis=0)
    inside, lines = compared[measured][:, voxels].astype(np.float32), lines[:, voxels]
    count = inside.sum(axis=1)
    deviations = []
    for offset in range(3):
        rows = lines[measured + offset] * inside
        deviations.append(rows - (rows.sum(axis=1) / count)[:, None] * inside)
    before, here, after = deviations

    def correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> Floats:
        squares = (np.einsum("sv,sv->s", a, a) for a in (first, second))
        norm = np.sqrt(np.prod(list(squares), axis=0))
        product = np.einsum("sv,sv->s", first, second)
        return np.asarray(np.divide(product, norm, out=np.zeros_like(product), where=norm > 0))

    nearest = np.maximum(correlation(before, here), correlation(here, after))
    result[measured + 1] = correlation(before, after) - nearest
    return result
