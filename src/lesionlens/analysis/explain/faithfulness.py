"""Faithfulness checks of attention maps.

Pointing and mass check whether the map agrees with the segmented region: its peak, and most of its
attention. Deletion checks whether the prediction depends on the attended voxels: when the most
attended voxels are occluded, the region's probability must fall, at each step, more than for as
many random voxels, or a ball around the brain's centre, a likely position of tumours. A map that
fails is labelled and not shown by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.explain import perturbations
from lesionlens.analysis.explain.questions import Questions
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.prediction import InputPerturbation

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

FAITHFUL = {0.5: 0.9, 1.0: 0.5}
"""Maximum remaining probability for a faithful map relative to random occlusion, by the occluded
share of the flagged volume.
"""
MOSTLY = 0.5
"""Minimum share of the attention of a faithful map that lies in the flagged region."""
DELETION = "the deletion check"
_BLOCK_VOX = 4
_SEED = 20


class Baseline(StrEnum):
    """The baselines of the deletion test."""

    RANDOM = "random"
    CENTRE = "centre"


class MapFault(StrEnum):
    """Reasons why a map is not reliable."""

    NOT_SEEN = "the pass that it shows hardly sees what is flagged"
    PEAK_OUTSIDE = "its peak lies outside what is flagged"
    MOSTLY_OUTSIDE = "most of its attention lies outside what is flagged"
    HIDING_CHANGES_LITTLE = "hiding what it shows changes the probability too little"
    CENTRE_AS_MUCH = "hiding the brain's centre changes the probability as much"


def pointing(attention: Floats, inside: Mask, brain_voxels: float) -> MapChecks:
    """Check where a map's attention is.

    Parameters
    ----------
    attention : (I, J, K) float32
        Non-negative.
    inside : (I, J, K) bool
        Flagged voxels of the map's region, on the same grid.
    brain_voxels : float
        Volume of the brain, in voxels of that grid.

    Returns
    -------
    MapChecks
        Without the deletion test; all None if nothing is flagged or attended.
    """
    total = float(attention.sum(dtype=np.float64))
    if total <= 0 or not inside.any():
        return MapChecks(None, None, None, words="not checked: nothing of this region is flagged")
    peak = bool(attention.max(where=inside, initial=0.0) >= attention.max())
    mass = float(attention.sum(where=inside, dtype=np.float64)) / total
    share = float(np.count_nonzero(inside) / max(1.0, brain_voxels))
    return _judged(MapChecks(peak, mass, share))


def _judged(found: MapChecks) -> MapChecks:
    """Add the verdict."""
    if found.peak_inside is None:
        return found
    faults = faults_of(found)
    words = f"not reliable here: {'; '.join(faults)}" if faults else "passed its checks"
    return replace(found, reliable=not faults, words=words)


def faults_of(found: MapChecks) -> tuple[MapFault, ...]:
    """Return which of the completed checks a map failed."""
    faults = []
    if not found.seen:
        faults.append(MapFault.NOT_SEEN)
    if found.peak_inside is False:
        faults.append(MapFault.PEAK_OUTSIDE)
    if found.mass_inside is not None and found.mass_inside < MOSTLY:
        faults.append(MapFault.MOSTLY_OUTSIDE)
    for step, left in ((0.5, found.deletion_half), (1.0, found.deletion)):
        if left is None or found.deletion_random is None:
            continue
        random, centre = (
            None if one is None else 1 - step * (1 - one)
            for one in (found.deletion_random, found.deletion_centre)
        )
        if random is not None and left > FAITHFUL[step] * random:
            faults.append(MapFault.HIDING_CHANGES_LITTLE)
        elif centre is not None and left >= centre:
            faults.append(MapFault.CENTRE_AS_MUCH)
    return tuple(dict.fromkeys(faults))


@dataclass(frozen=True, slots=True, eq=False)
class TestedMap:
    """A region's map and its flagged voxels, on the grid of the perturbed predictions."""

    attention: Floats
    """(I, J, K) float32."""
    flagged: NDArray[np.intp]
    """(n,) int: flat indices of the region's flagged voxels."""


def deletion_test(
    found: Mapping[Region, MapChecks],
    questions: Questions,
    trials: Mapping[Region, TestedMap],
    brain: Mask,
) -> dict[Region, MapChecks]:
    """Add the deletion test to the checks of each region's map.

    Parameters
    ----------
    found : mapping of Region to MapChecks
        From `all_pointing`.
    questions : Questions
        Perturbed predictions of the study.
    trials : mapping of Region to TestedMap
        Maps to test; must include the whole tumour.
    brain : (I, J, K) bool
        Same grid.

    Returns
    -------
    dict
        Unchanged for a region that is not tested or not predicted by perturbed passes, and if the
        time was up.

    Notes
    -----
    Petsiuk, Das and Saenko 2018, arXiv:1806.07421, section 3: deletion, here in two steps, half the
    flagged volume and all of it, hidden voxels set to the brain's mean. Each step is judged by
    itself: the mean probability of what was flagged must fall below the share that `FAITHFUL`
    allows of what is left when as many voxels are hidden at random, and below what is left when
    they are hidden about the centre. Those two are asked once, for the whole tumour's volume, and
    taken as falling evenly up to it. Asked is the one pass whose attention the map is; how others
    of an ensemble would vote is no property of this map. Random voxels are hidden in blocks of 4,
    so that they are not simply interpolated away.
    """
    trials = {r: trials[r] for r in Region if r in trials and trials[r].flagged.size}
    if Region.WT not in trials:
        return dict(found)
    whole = trials[Region.WT].flagged.size
    baselines = [_first(_baseline(kind, brain), brain, whole) for kind in Baseline]
    hidden = {region: _steps(trial, brain) for region, trial in trials.items()}
    first = questions.ask(DELETION, _showing([None, *baselines, *hidden.pop(Region.WT)]))
    if first is None:
        return dict(found)
    rest = [mask for masks in hidden.values() for mask in masks]
    asks = bool(rest) and first.inner is not None
    second = questions.ask(DELETION, _showing(rest)) if asks else None
    out = dict(found)
    for number, (region, trial) in enumerate(trials.items()):
        known, more = first.of(region), None if second is None else second.of(region)
        if region not in found or known is None or (region is not Region.WT and more is None):
            continue
        means = known.reshape(len(known), -1)[:, trial.flagged].mean(axis=1, dtype=np.float64)
        left = means.tolist()
        if more is not None and region is not Region.WT:
            own = (number - 1) * len(FAITHFUL)
            steps = more[own : own + len(FAITHFUL)].reshape(len(FAITHFUL), -1)[:, trial.flagged]
            left[1 + len(Baseline) :] = steps.mean(axis=1, dtype=np.float64).tolist()
        out[region] = _judged(_left(found[region], left, trial.flagged.size / whole))
    return out


def _steps(trial: TestedMap, brain: Mask) -> list[Mask]:
    """Return the occlusion mask of each step for a region's map."""
    value = trial.attention.astype(np.float64)
    return [_first(value, brain, share * trial.flagged.size) for share in FAITHFUL]


def _showing(hidden: Sequence[Mask | None]) -> list[InputPerturbation]:
    return [InputPerturbation(hidden=mask, alone=True) for mask in hidden]


def _left(found: MapChecks, means: Sequence[float], share: float) -> MapChecks:
    """Add the remaining probability of a region.

    `means` are for the unperturbed study, the baselines and the map's steps; the region has `share`
    of the voxels that the baselines occlude.
    """
    if means[0] < perturbations.SEEN:
        return replace(found, seen=False)
    random, centre, half, whole = (min(float(mean / means[0]), 1.0) for mean in means[1:])
    return replace(
        found,
        deletion=whole,
        deletion_random=1 - share * (1 - random),
        deletion_centre=1 - share * (1 - centre),
        deletion_half=half,
    )


def _baseline(kind: Baseline, brain: Mask) -> NDArray[np.float64]:
    """Return a baseline's occlusion order of the brain's voxels, highest first."""
    if kind is Baseline.CENTRE:
        return -_from_centre(brain)
    return _blocks(np.random.default_rng(_SEED), brain.shape)


def _first(value: NDArray[np.float64], brain: Mask, voxels: float) -> Mask:
    """Return the brain's voxels with the highest values."""
    size = int(np.count_nonzero(brain))
    return (_rank(value, brain) < min(round(voxels), size)) & brain


def _rank(value: NDArray[np.float64], brain: Mask) -> NDArray[np.intp]:
    """Return each brain voxel's rank, 0 for the highest value."""
    flat = np.where(brain, value, -np.inf).ravel()
    order = np.argsort(-flat, kind="stable")
    rank = np.empty(order.size, dtype=np.intp)
    rank[order] = np.arange(order.size)
    return rank.reshape(brain.shape)


def _blocks(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    coarse = rng.random([-(-n // _BLOCK_VOX) for n in shape])
    for axis in range(3):
        coarse = np.repeat(coarse, _BLOCK_VOX, axis)
    return coarse[tuple(slice(n) for n in shape)]


def _from_centre(brain: Mask) -> NDArray[np.float64]:
    centre = np.argwhere(brain).mean(axis=0)
    axes = np.ogrid[tuple(slice(n) for n in brain.shape)]
    return np.asarray(sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)))


def all_pointing(
    maps: Mapping[Region, Floats], labels: NDArray[np.uint8], brain_voxels: float
) -> dict[Region, MapChecks]:
    """Check where each region's attention is; see `pointing`.

    Parameters
    ----------
    maps : mapping of Region to (I, J, K) float32
        Attention.
    labels : (I, J, K) uint8
        Flagged voxels, `base.labels.Label`, same grid.
    brain_voxels : float
        Volume of the brain, in voxels of that grid.
    """
    return {
        region: pointing(found, np.isin(labels, region.labels), brain_voxels)
        for region, found in maps.items()
    }


def onto(values: Floats, source: Grid, target: Grid) -> Floats:
    """Resample a map to another axis-aligned grid by nearest neighbour."""
    index = np.linalg.inv(source.affine) @ target.affine
    places = [
        np.clip(np.rint(index[a, a] * np.arange(n) + index[a, 3]), 0, source.shape[a] - 1)
        for a, n in enumerate(target.shape)
    ]
    return values[np.ix_(*(place.astype(np.intp) for place in places))]
