"""Find slices within a head that are blank, as when they were lost, and interpolate a few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid

MAX_GAP_SLICES = 3
MAX_LOST_FRACTION = 0.1
"""Limits of what is interpolated, as for slices that are missing from a DICOM series."""
TISSUE_MM2 = 1000.0
"""Area of tissue on either side of a blank slice within a head."""
TISSUE_FRACTION = 0.2
"""Of a scan's bright end: darker voxels are no tissue."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive blank slices between tissue."""

    axis: int
    start: int
    stop: int

    @property
    def index(self) -> tuple[slice, ...]:
        """Index of these slices."""
        sides = [slice(None)] * 3
        sides[self.axis] = slice(self.start, self.stop)
        return tuple(sides)


def tissue_areas_mm2(values: Floats, grid: Grid, axis: int) -> NDArray[np.float64]:
    """Return the area of tissue in each slice along an axis, mm2, from every second voxel."""
    lines = np.moveaxis(values, axis, 0)[:, ::2, ::2]
    bright = float(np.quantile(lines[::2], 0.995))
    pixel_mm2 = 4 * grid.voxel_ml * 1000 / float(grid.spacing_mm[axis])
    return np.asarray((lines > TISSUE_FRACTION * bright).sum(axis=(1, 2)) * pixel_mm2, np.float64)


def find_gaps(values: Floats, grid: Grid) -> list[Gap]:
    """Return the blank slices within a head, whose background is zero."""
    result = []
    for axis in range(3):
        other_axes = tuple(a for a in range(3) if a != axis)
        occupied = np.flatnonzero(values.any(axis=other_axes))
        steps = np.flatnonzero(np.diff(occupied) > 1)
        if not steps.size:
            continue
        areas = tissue_areas_mm2(values, grid, axis)
        for before, after in zip(occupied[steps], occupied[steps + 1], strict=True):
            if min(areas[before], areas[after]) >= TISSUE_MM2:
                result.append(Gap(axis, int(before) + 1, int(after)))
    return result


def interpolate_gaps(values: Floats, grid: Grid, label: str) -> tuple[Floats, str | None]:
    """Return a scan whose few blank slices are interpolated linearly, with a notice.

    Parameters
    ----------
    label : str
        Names file and sequence in the notice.
    """
    gaps = find_gaps(values, grid)
    fraction = sum((gap.stop - gap.start) / values.shape[gap.axis] for gap in gaps)
    short_gaps = [gap for gap in gaps if gap.stop - gap.start <= MAX_GAP_SLICES]
    if not short_gaps or fraction > MAX_LOST_FRACTION:
        return values, None
    result = values.copy()
    for gap in short_gaps:
        lines = np.moveaxis(result, gap.axis, 0)
        first, last, length = lines[gap.start - 1], lines[gap.stop], gap.stop - gap.start + 1
        for position in range(gap.start, gap.stop):
            weight = np.float32((position - gap.start + 1) / length)
            lines[position] = (1 - weight) * first + weight * last
    count = sum(gap.stop - gap.start for gap in short_gaps)
    return result, (
        f"{label}: {count} blank slice(s) within the head were interpolated; nothing was imaged "
        f"there."
    )
