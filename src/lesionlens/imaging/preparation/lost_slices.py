"""Find slices within a head that are blank, as when they were lost, and interpolate a few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid

MAX_GAP_SLICES = 3
MAX_LOST_SHARE = 0.1
"""Limits of what is interpolated, as for slices that are missing from a DICOM series."""
TISSUE_MM2 = 1000.0
"""Area of tissue on either side of a blank slice within a head."""
_LIT = 0.2


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive blank slices between tissue."""

    axis: int
    start: int
    stop: int

    @property
    def where(self) -> tuple[slice, ...]:
        """Index of these slices."""
        sides = [slice(None)] * 3
        sides[self.axis] = slice(self.start, self.stop)
        return tuple(sides)


def lit_areas_mm2(values: NDArray[np.float32], grid: Grid, axis: int) -> NDArray[np.float64]:
    """Return the area of tissue in each slice along an axis, mm2, from every second voxel."""
    lines = np.moveaxis(values, axis, 0)[:, ::2, ::2]
    top = float(np.quantile(lines[::2], 0.995))
    cell = 4 * grid.voxel_ml * 1000 / float(grid.spacing_mm[axis])
    return np.asarray((lines > _LIT * top).sum(axis=(1, 2)) * cell, np.float64)


def gaps(values: NDArray[np.float32], grid: Grid) -> list[Gap]:
    """Return the blank slices within a head.

    Parameters
    ----------
    values : (I, J, K) float32
        Background zero.
    grid : Grid
        Of `values`.
    """
    found = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        shown = np.flatnonzero(values.any(axis=others))
        steps = np.flatnonzero(np.diff(shown) > 1)
        if not steps.size:
            continue
        areas = lit_areas_mm2(values, grid, axis)
        for before, after in zip(shown[steps], shown[steps + 1], strict=True):
            if min(areas[before], areas[after]) >= TISSUE_MM2:
                found.append(Gap(axis, int(before) + 1, int(after)))
    return found


def filled(
    values: NDArray[np.float32], grid: Grid, where: str
) -> tuple[NDArray[np.float32], str | None]:
    """Return a scan whose few blank slices are interpolated linearly, with a notice.

    Parameters
    ----------
    values : (I, J, K) float32
        Background zero.
    grid : Grid
        Of `values`.
    where : str
        Names file and sequence in the notice.
    """
    lost = gaps(values, grid)
    share = sum((gap.stop - gap.start) / values.shape[gap.axis] for gap in lost)
    short = [gap for gap in lost if gap.stop - gap.start <= MAX_GAP_SLICES]
    if not short or share > MAX_LOST_SHARE:
        return values, None
    whole = values.copy()
    for gap in short:
        lines = np.moveaxis(whole, gap.axis, 0)
        first, last, length = lines[gap.start - 1], lines[gap.stop], gap.stop - gap.start + 1
        for index in range(gap.start, gap.stop):
            part = np.float32((index - gap.start + 1) / length)
            lines[index] = (1 - part) * first + part * last
    count = sum(gap.stop - gap.start for gap in short)
    return whole, (
        f"{where}: {count} blank slice(s) within the head were interpolated; nothing was seen "
        "there."
    )
