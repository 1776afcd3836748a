"""Match lesions of a prior examination with current ones by overlap after registration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from lesionlens.analysis.findings.components import boxes_of
from lesionlens.base.geometry import Affine, apply
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.followup import VanishedLesion, ball_mm

Points = NDArray[np.float64]
NEAR_MM = 5.0
"""Lesions that do not overlap are matched if their nearest voxels are this close: the displacement
of small lesions plus the registration error."""
_MAX_POINTS = 4000
_MIN_TOUCHING_FRACTION = 0.05  # share of the smaller lesion at which a further overlap is reported
_MIN_OVERLAP_ML = 1e-6


@dataclass(frozen=True, slots=True)
class Matches:
    """Matched candidates, by their ids."""

    pairs: tuple[tuple[int, int], ...]
    """Tuple of (prior, now). Each id at most once on each side."""
    further: tuple[tuple[int, int], ...]
    """Tuple of (prior, now). Further overlapping pairs, of which one was matched with another:
    split or merged."""


def match(prior: Volume, now: Volume, current_to_prior: Affine) -> Matches:
    """Match the candidates of two examinations.

    Parameters
    ----------
    prior, now : Volume of int32
        Candidate id of each voxel, 0 elsewhere; each in its own examination's RAS+ mm.
    current_to_prior : (4, 4) float64
        RAS+ mm of this examination to those of the prior one.

    Returns
    -------
    Matches
        The assignment with the largest total overlap, ml; separate lesions are matched up to
        `NEAR_MM`, after all overlapping ones.
    """
    prior_lesions = dict(_lesions(prior))
    current_lesions = {n: lesion.moved(current_to_prior) for n, lesion in _lesions(now)}
    rows, columns = sorted(prior_lesions), sorted(current_lesions)
    fractions, overlap_ml = np.zeros((2, len(rows), len(columns)))
    for i, prior_id in enumerate(rows):
        for j, current_id in enumerate(columns):
            fractions[i, j], overlap_ml[i, j] = _overlap(
                prior_lesions[prior_id], current_lesions[current_id]
            )
    pairs = [
        (rows[i], columns[j])
        for i, j in zip(*linear_sum_assignment(-overlap_ml), strict=True)
        if overlap_ml[i, j] > 0
    ]
    further = [
        (rows[i], columns[j])
        for i, j in np.argwhere(fractions >= _MIN_TOUCHING_FRACTION).tolist()
        if (rows[i], columns[j]) not in pairs
    ]
    return Matches(tuple(pairs), tuple(further))


def returned(vanished: Sequence[VanishedLesion], now: Volume, matches: Matches) -> dict[int, str]:
    """Match current candidates with lesions of earlier examinations that the prior did not show.

    Parameters
    ----------
    vanished : sequence of VanishedLesion
        In the RAS+ mm of `now`.
    now, matches
        As in `match`, and its result.

    Returns
    -------
    dict of int to str
        Tracking UID by candidate, each at most once, the nearest first: a candidate without a match
        that reaches into the ball of a lesion, or within `NEAR_MM` of its centre.
    """
    matched = {number for _, number in (*matches.pairs, *matches.further)}
    pairs = []
    for number, lesion in _lesions(now):
        for vanished_lesion in vanished if number not in matched else ():
            distance_mm = float(np.linalg.norm(lesion.points - vanished_lesion.at_mm, axis=1).min())
            if distance_mm <= max(vanished_lesion.radius_mm, NEAR_MM) + lesion.reach_mm:
                pairs.append((distance_mm, number, vanished_lesion.tracking_uid))
    uid_by_id: dict[int, str] = {}
    for _, number, uid in sorted(pairs):
        if number not in uid_by_id and uid not in uid_by_id.values():
            uid_by_id[number] = uid
    return uid_by_id


def gone_lesions(
    candidates: Sequence[Candidate], prior: Volume, matches: Matches
) -> tuple[VanishedLesion, ...]:
    """Return the candidates of the prior, on its own grid, that are not flagged now."""
    matched = {number for number, _ in (*matches.pairs, *matches.further)}
    lesions = dict(_lesions(prior))
    return tuple(
        VanishedLesion(c.tracking_uid, c.centroid_mm, ball_mm(lesions[c.id].ml) / 2)
        for c in candidates
        if c.id in lesions and c.id not in matched
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Lesion:
    """Voxel positions of a lesion, (N, 3), subsampled to `reach_mm`; and its ml."""

    points: Points
    ml: float
    reach_mm: float

    def moved(self, transform: Affine) -> _Lesion:
        return _Lesion(apply(transform, self.points), self.ml, self.reach_mm)


def _lesions(components: Volume) -> Iterator[tuple[int, _Lesion]]:
    """Yield each id and lesion, in RAS mm."""
    grid = components.grid
    for number, box in boxes_of(components.data).items():
        voxels = np.argwhere(components.data[box] == number) + [side.start for side in box]
        step = -(-len(voxels) // _MAX_POINTS)
        reach = float(np.linalg.norm(grid.spacing_mm)) / 2 * step ** (1 / 3)
        # random, because every n-th voxel may always be of the same slice
        sample = np.random.default_rng(0).permutation(len(voxels))[: -(-len(voxels) // step)]
        points = grid.to_mm(voxels[sample].astype(np.float64))
        yield number, _Lesion(points, len(voxels) * grid.voxel_ml, reach)


def _overlap(first: _Lesion, second: _Lesion) -> tuple[float, float]:
    """Return the overlap as a share of the smaller lesion and in ml.

    For separate but near lesions no share and a minimal volume, so that they are matched last.
    """
    reach = max(first.reach_mm, second.reach_mm)
    small, large = (first, second) if first.ml < second.ml else (second, first)
    distances_mm, _ = cKDTree(large.points).query(
        small.points, distance_upper_bound=NEAR_MM + reach
    )
    nearest = float(distances_mm.min())
    if nearest <= reach:
        fraction = float((distances_mm <= reach).mean())
        return fraction, fraction * small.ml
    proximity = max(0.0, 1.0 - nearest / (NEAR_MM + reach)) if np.isfinite(nearest) else 0.0
    return 0.0, proximity * _MIN_OVERLAP_ML
