"""Match lesions of a prior examination with current ones by overlap after registration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from lesionlens.base.geometry import Affine, apply
from lesionlens.base.grid import Grid

Points = NDArray[np.float64]
NEAR_MM = 5.0
"""Lesions that do not overlap are matched if their nearest voxels are this close: the displacement
of small lesions plus the registration error.
"""
_SAMPLES = 4000
_TOUCH = 0.05  # share of the smaller lesion at which a further overlap is reported
_NEXT_TO_NOTHING_ML = 1e-6


@dataclass(frozen=True, slots=True)
class Matches:
    """Matched candidates, by their ids."""

    pairs: tuple[tuple[int, int], ...]
    """Tuple of (prior, now). Each id at most once on each side."""
    further: tuple[tuple[int, int], ...]
    """Tuple of (prior, now). Further overlapping pairs, of which one was matched with another:
    split or merged.
    """


def match(
    prior: NDArray[np.int32], prior_grid: Grid, now: NDArray[np.int32], grid: Grid, moved: Affine
) -> Matches:
    """Match the candidates of two examinations.

    Parameters
    ----------
    prior, now : (I, J, K) int32
        Candidate id of each voxel, 0 elsewhere.
    prior_grid, grid : Grid
        Their grids, each in its own examination's RAS+ mm.
    moved : (4, 4) float64
        RAS+ mm of this examination to those of the prior one.

    Returns
    -------
    Matches
        The assignment with the largest total overlap, ml; separate lesions are matched up to
        `NEAR_MM`, after all overlapping ones.
    """
    before = dict(_lesions(prior, prior_grid))
    after = {number: lesion.moved(moved) for number, lesion in _lesions(now, grid)}
    if not before or not after:
        return Matches((), ())
    rows, columns = sorted(before), sorted(after)
    shares, shared_ml = np.zeros((2, len(rows), len(columns)))
    for i, one in enumerate(rows):
        for j, other in enumerate(columns):
            shares[i, j], shared_ml[i, j] = _overlap(before[one], after[other])
    taken = [
        (rows[i], columns[j])
        for i, j in zip(*linear_sum_assignment(-shared_ml), strict=True)
        if shared_ml[i, j] > 0
    ]
    further = [
        (rows[i], columns[j])
        for i, j in np.argwhere(shares >= _TOUCH).tolist()
        if (rows[i], columns[j]) not in taken
    ]
    return Matches(tuple(taken), tuple(further))


@dataclass(frozen=True, slots=True, eq=False)
class _Lesion:
    """Voxel positions of a lesion, (N, 3), subsampled to `reach_mm`; and its ml."""

    points: Points
    ml: float
    reach_mm: float

    def moved(self, how: Affine) -> _Lesion:
        return _Lesion(apply(how, self.points), self.ml, self.reach_mm)


def _lesions(components: NDArray[np.int32], grid: Grid) -> Iterator[tuple[int, _Lesion]]:
    """Yield each id and lesion, in the grid's RAS mm."""
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        if box is None:
            continue
        voxels = np.argwhere(components[box] == number) + [side.start for side in box]
        step = max(1, -(-len(voxels) // _SAMPLES))
        reach = float(np.linalg.norm(grid.spacing_mm)) / 2 * step ** (1 / 3)
        # not every step-th one: of a column of so many voxels it would always be the same slice
        drawn = np.random.default_rng(0).permutation(len(voxels))[: -(-len(voxels) // step)]
        points = grid.to_mm(voxels[drawn].astype(np.float64))
        yield number, _Lesion(points, len(voxels) * grid.voxel_ml, reach)


def _overlap(before: _Lesion, after: _Lesion) -> tuple[float, float]:
    """Return the overlap as a share of the smaller lesion and in ml.

    For separate but near lesions no share and a minimal volume, so that they are matched last.
    """
    reach = max(before.reach_mm, after.reach_mm)
    small, large = (before, after) if before.ml < after.ml else (after, before)
    away, _ = cKDTree(large.points).query(small.points, distance_upper_bound=NEAR_MM + reach)
    nearest = float(away.min())
    if nearest <= reach:
        share = float((away <= reach).mean())
        return share, share * small.ml
    near = max(0.0, 1.0 - nearest / (NEAR_MM + reach)) if np.isfinite(nearest) else 0.0
    return 0.0, near * _NEXT_TO_NOTHING_ML
