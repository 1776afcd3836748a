"""Which lesion of a prior examination is which of this one: by overlap, once both are aligned."""

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
"""Lesions that do not overlap are the same where their nearest voxels are this close: what small
ones move by between two examinations, and what an alignment errs by."""
_SAMPLES = 4000
_TOUCH = 0.05
"""Share of the smaller lesion from which another that it overlaps is worth a word."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Which candidate is which, by their ids.

    Parameters
    ----------
    pairs : tuple of (prior, now)
        Each id at most once on each side.
    beside : tuple of (prior, now)
        Pairs that overlap too, though one of them was matched with another: split or merged.
    """

    pairs: tuple[tuple[int, int], ...]
    beside: tuple[tuple[int, int], ...]


def match(
    prior: NDArray[np.int32], prior_grid: Grid, now: NDArray[np.int32], grid: Grid, moved: Affine
) -> Matches:
    """Match the candidates of two examinations.

    Parameters
    ----------
    prior, now : (I, J, K) int32
        Candidate id of each voxel, 0 elsewhere.
    prior_grid, grid : Grid
        Where they lie, each in its own examination's RAS+ mm.
    moved : (4, 4) float64
        RAS+ mm of this examination to those of the prior one.

    Returns
    -------
    Matches
        The pairs with the largest summed overlap (share of the smaller one); lesions apart are
        matched up to `NEAR_MM`, after all that overlap.
    """
    before = dict(_lesions(prior, prior_grid))
    after = {number: apply(moved, points) for number, points in _lesions(now, grid)}
    if not before or not after:
        return Matches((), ())
    rows, columns = sorted(before), sorted(after)
    score = np.zeros((len(rows), len(columns)))
    for i, one in enumerate(rows):
        for j, other in enumerate(columns):
            score[i, j] = _likeness(before[one], after[other], prior_grid, grid)
    taken = [
        (rows[i], columns[j])
        for i, j in zip(*linear_sum_assignment(-score), strict=True)
        if score[i, j] > 0
    ]
    beside = [
        (rows[i], columns[j])
        for i, j in np.argwhere(score >= 1 + _TOUCH).tolist()
        if (rows[i], columns[j]) not in taken
    ]
    return Matches(tuple(taken), tuple(beside))


def _lesions(components: NDArray[np.int32], grid: Grid) -> Iterator[tuple[int, Points]]:
    """Yield each id with the (N, 3) RAS mm of its voxels, thinned evenly."""
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        if box is None:
            continue
        voxels = np.argwhere(components[box] == number) + [side.start for side in box]
        step = max(1, -(-len(voxels) // _SAMPLES))
        yield number, grid.to_mm(voxels[::step].astype(np.float64))


def _likeness(before: Points, after: Points, prior_grid: Grid, grid: Grid) -> float:
    """Return 1 and the overlap, as a share of the smaller; below 1 what is apart but near; 0 else.

    Thinned voxels overlap where they are nearer than half the way between them.
    """
    reach = max(
        float(np.linalg.norm(g.spacing_mm)) * max(1.0, (len(p) / _SAMPLES)) ** (1 / 3) / 2
        for g, p in ((prior_grid, before), (grid, after))
    )
    small, large = (before, after) if len(before) < len(after) else (after, before)
    away, _ = cKDTree(large).query(small, distance_upper_bound=NEAR_MM + reach)
    nearest = float(away.min())
    if nearest <= reach:
        return 1.0 + float((away <= reach).mean())
    return max(0.0, 1.0 - nearest / (NEAR_MM + reach)) if np.isfinite(nearest) else 0.0
