"""Detect scans without fine detail, as after smoothing or export at a low resolution."""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.records.study import Acquired, QualityCheck, failed_check
from lesionlens.base.text import joined_with_and
from lesionlens.imaging.preparation.checks.tissue_lines import bright_end, lines_along
from lesionlens.imaging.preparation.lost_slices import TISSUE_FRACTION

SMOOTH = 0.1
"""Second differences over about 1 mm, relative to those over twice that (mean squares).

Measured in 78 scans: .117 and more, .114 averaged to 5 mm; after smoothing (full width at half
maximum) by 3 mm at most .110, below .1 in 32 of 34, by 4 mm at most .092.
"""
_STEP_MM = 1.0
_MAX_EDGE_MM = 1.5
_MIN_VOXELS = 500


def check(volumes: Acquired) -> QualityCheck | None:
    """Check for sequences without fine detail along any axis; None if there are none."""
    finest = {s: detail(values, grid) for s, (values, grid) in volumes.items()}
    bad = [s.display_name for s, share in finest.items() if share is not None and share < SMOOTH]
    if not bad:
        return None
    return failed_check(
        "sharpness",
        f"Detail finer than about 3 mm is missing in {joined_with_and(bad)}, as after smoothing: "
        "small lesions and thin enhancing rims may be missed. Use the scan as it was acquired.",
    )


def detail(values: Floats, grid: Grid) -> float | None:
    """Return the figure that `SMOOTH` bounds, of the axis with the finest detail; None if unknown.

    1/16 for the smoothest images, 1 for noise. Slices thicker than 1.5 mm are not compared with
    each other.
    """
    dark = TISSUE_FRACTION * bright_end(values)
    middle = _middle_half(values, dark)
    if middle is None:
        return None
    axes = np.flatnonzero(grid.spacing_mm <= _MAX_EDGE_MM)
    result = []
    for axis in axes.tolist():
        step = max(round(_STEP_MM / float(grid.spacing_mm[axis])), 1)
        share = _share_of_detail(lines_along(axis, middle, grid), step, dark)
        if share is not None:
            result.append(share)
    return max(result, default=None)


def _middle_half(values: Floats, dark: float) -> Floats | None:
    """Return the middle half, along each axis, of what is brighter; None if nothing is."""
    coarse = np.argwhere(values[::4, ::4, ::4] > dark) * 4
    if not coarse.size:
        return None
    low, high = coarse.min(axis=0), coarse.max(axis=0) + 1
    quarter = (high - low) // 4
    bounds = zip(low + quarter, high - quarter, strict=True)
    return values[tuple(slice(int(start), int(stop)) for start, stop in bounds)]


def _share_of_detail(lines: Floats, step: int, dark: float) -> float | None:
    """Compare second differences of (N, ...) lines over `step` voxels and twice as many."""
    if len(lines) <= 4 * step:
        return None
    here, near = lines[2 * step : -2 * step], (lines[step : -3 * step], lines[3 * step : -step])
    far = lines[: -4 * step], lines[4 * step :]
    inside = np.logical_and.reduce([part > dark for part in (here, *near, *far)])
    if int(inside.sum()) < _MIN_VOXELS:
        return None
    twice = 2 * here[inside]
    fine, coarse = (a[inside] + b[inside] - twice for a, b in (near, far))
    energy = float(np.mean(coarse**2, dtype=np.float64))
    return float(np.mean(fine**2, dtype=np.float64)) / energy if energy > 0 else None
