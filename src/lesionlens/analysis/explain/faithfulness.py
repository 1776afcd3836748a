"""Faithfulness checks of attention maps.

Pointing and mass check whether the map agrees with the segmented region: its peak, and nearly all
of its attention, also for the other regions of the same layer; of a coarse map, nearly all that a
perfect map as coarse would have there. Insertion checks whether the attended voxels suffice: shown
alone, they must keep much more of the region's probability than as many random voxels, and more
than a ball around the brain's centre, a likely position of tumours. A map that fails is labelled
and not shown by default.

Deletion, the opposite, is measured but not judged: a hidden core is inferred from what surrounds
it, so the outline itself fails as often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.explain import perturbations
from lesionlens.analysis.explain.perturbation_runner import PerturbationRunner
from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.prediction import InputPerturbation

MIN_INSERTION_LEAD = 0.5
"""Minimum lead of a faithful map over random voxels, as a share of the region's probability."""
MIN_NEAR = 0.8
"""Minimum share of the attention in voxels that hold any of the flagged region, for the map and for
the others of its layer: queries without meaning may point to a tumour because it stands out, but
not each to its own region."""
MIN_MASS_INSIDE = 0.5
"""Minimum share on the native grid, for an engine without perturbed predictions."""
TOO_COARSE = (
    "too coarse to judge its position: at this resolution, no more of a perfect map would lie "
    "inside"
)
PURPOSE = "the checks of the attention maps"
_BLOCK_VOX = 4
_COARSENESS_TOLERANCE = 1e-3
"""Tolerance for rounding of `TestedMap.coarseness_vox`."""
_SEED = 20


class MapFault(StrEnum):
    """Reasons why a map is not reliable."""

    NOT_SEEN = "the pass that it belongs to barely detects the flagged region"
    PEAK_OUTSIDE = "its peak lies outside the flagged region"
    PARTLY_OUTSIDE = "too much of its attention lies outside the flagged region"
    OTHERS_OUTSIDE = "another region's map of the same layer lies outside that region"
    TOO_LITTLE = "the voxels that it highlights are not enough for the network to find the region"
    CENTRE_AS_MUCH = "the centre of the brain alone is as informative to the network"


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
        Of the position alone; all None if nothing is flagged or attended.
    """
    total = float(attention.sum(dtype=np.float64))
    if total <= 0 or not inside.any():
        return MapChecks(None, None, None, verdict="not checked: nothing of this region is flagged")
    peak = bool(attention.max(where=inside, initial=0.0) >= attention.max())
    mass = float(attention.sum(where=inside, dtype=np.float64)) / total
    flagged_fraction = float(np.count_nonzero(inside) / max(1.0, brain_voxels))
    return _with_verdict(MapChecks(peak, mass, flagged_fraction))


def _with_verdict(checks: MapChecks) -> MapChecks:
    if checks.peak_inside is None:
        return checks
    faults = faults_of(checks)
    if not faults and too_coarse(checks):
        return replace(checks, reliable=None, verdict=TOO_COARSE)
    verdict = f"not reliable here: {'; '.join(faults)}" if faults else "passed its checks"
    return replace(checks, reliable=not faults, verdict=verdict)


def too_coarse(checks: MapChecks) -> bool:
    """Return whether a map is so coarse that not even a perfect one would keep to `MIN_NEAR`."""
    return checks.near is not None and checks.near < MIN_NEAR and checks.attainable < 1


def faults_of(checks: MapChecks) -> tuple[MapFault, ...]:
    """Return which of the completed checks a map failed."""
    faults = []
    if not checks.seen:
        faults.append(MapFault.NOT_SEEN)
    if checks.peak_inside is False:
        faults.append(MapFault.PEAK_OUTSIDE)
    inside_fraction, minimum = checks.near, MIN_NEAR * checks.attainable
    if inside_fraction is None:
        inside_fraction, minimum = checks.mass_inside, MIN_MASS_INSIDE
    if inside_fraction is not None and inside_fraction < minimum:
        faults.append(MapFault.PARTLY_OUTSIDE)
    if checks.others_near is not None and checks.others_near < MIN_NEAR:
        faults.append(MapFault.OTHERS_OUTSIDE)
    if (
        checks.kept is not None
        and checks.kept_random is not None
        and checks.kept_centre is not None
    ):
        if checks.kept < checks.kept_random + MIN_INSERTION_LEAD:
            faults.append(MapFault.TOO_LITTLE)
        elif checks.kept <= checks.kept_centre:
            faults.append(MapFault.CENTRE_AS_MUCH)
    return tuple(faults)


@dataclass(frozen=True, slots=True, eq=False)
class TestedMap:
    """A region's map and its flagged voxels, on the grid of the perturbed predictions."""

    attention: Floats
    """(I, J, K) float32."""
    flagged: NDArray[np.intp]
    """(n,) int: flat indices of the region's flagged voxels."""
    coarseness_vox: float = 0.0
    """Distance between the values that the map was interpolated from; up to 1 for a fine one."""


class _MeanProbabilities(NamedTuple):
    """Mean probability of a region's flagged voxels in five predictions; None if not predicted."""

    unperturbed: float
    random_alone: float | None
    """Only random voxels of the brain are shown, as many as are flagged."""
    without_attended: float | None
    """The most attended voxels are hidden."""
    centre_alone: float | None
    """Only the centre of the brain is shown."""
    attended_alone: float | None
    """Only the most attended voxels are shown."""


def insertion_test(
    checks: Mapping[Region, MapChecks],
    runner: PerturbationRunner,
    trials: Mapping[Region, TestedMap],
    brain: Mask,
) -> dict[Region, MapChecks]:
    """Add the insertion and deletion test to the pointing checks of each region's map.

    Parameters
    ----------
    checks : mapping of Region to MapChecks
        From `pointing_by_region`.
    trials : mapping of Region to TestedMap
        Maps to test; must include the whole tumour.
    brain : (I, J, K) bool
        Same grid.

    Returns
    -------
    dict
        Without insertion for a region that is not predicted by perturbed passes, and if time
        ran out; deletion for the whole tumour alone.

    Notes
    -----
    Petsiuk, Das and Saenko 2018, arXiv:1806.07421, section 3: insertion and deletion, in one step
    of as many voxels as are flagged, the others set to the brain's mean. Only the pass whose
    attention the map shows is repeated, not the other members of an ensemble. Random voxels are
    tested once, with the volume of the whole tumour, which exceeds that of an inner region; they
    are shown in blocks of 4, so that a lesion remains visible.
    """
    trials = {r: trials[r] for r in Region if r in trials and trials[r].flagged.size}
    if Region.WT not in trials:
        return dict(checks)
    tested = _with_location(checks, trials, brain)
    hidden = {region: _hidden_for_insertion(trial, brain) for region, trial in trials.items()}
    all_but_centre, all_but_attended = hidden.pop(Region.WT)
    blocks, size = _random_blocks(brain.shape), trials[Region.WT].flagged.size
    all_but_random = brain & ~_top_voxels(blocks, brain, size)
    # in the order of `_MeanProbabilities`
    masks = [None, all_but_random, brain & ~all_but_attended, all_but_centre, all_but_attended]
    first = runner.predict(PURPOSE, _with_hidden(masks))
    if first is None:
        return tested
    inner_masks = [mask for pair in hidden.values() for mask in pair]
    needs_second = bool(inner_masks) and first.inner is not None
    second = runner.predict(PURPOSE, _with_hidden(inner_masks)) if needs_second else None
    for number, (region, trial) in enumerate(trials.items()):
        probabilities = first.of(region)
        inner_probabilities = None if second is None else second.of(region)
        if region not in tested or probabilities is None:
            continue
        means = _MeanProbabilities(*_mean_probabilities(probabilities, trial))
        if region is not Region.WT:
            if inner_probabilities is None:
                continue
            inner_means = _mean_probabilities(inner_probabilities, trial)
            centre_alone, attended_alone = inner_means[2 * (number - 1) : 2 * number]
            means = means._replace(
                without_attended=None, centre_alone=centre_alone, attended_alone=attended_alone
            )
        tested[region] = _with_probabilities(tested[region], means)
    return {region: _with_verdict(region_checks) for region, region_checks in tested.items()}


def _with_location(
    checks: Mapping[Region, MapChecks], trials: Mapping[Region, TestedMap], brain: Mask
) -> dict[Region, MapChecks]:
    """Add the share of each map's attention near its region, and the lowest of the others."""
    fractions = {r: _fraction_inside(trial, brain) for r, trial in trials.items() if r in checks}
    attainable = {r: _attainable(trials[r], brain) for r in fractions}
    relative = {r: min(fractions[r] / most, 1.0) for r, most in attainable.items() if most > 0}
    located = dict(checks)
    for region, fraction in fractions.items():
        others = [other for r, other in relative.items() if r is not region]
        updated = replace(checks[region], near=fraction, attainable=attainable[region])
        located[region] = _with_verdict(replace(updated, others_near=min(others, default=None)))
    return located


def _attainable(trial: TestedMap, brain: Mask) -> float:
    """Return the share inside of the outline itself, averaged over cubes and interpolated back."""
    factor = math.ceil(trial.coarseness_vox - _COARSENESS_TOLERANCE)
    if factor <= 1:
        return 1.0
    inside = np.zeros(brain.shape, np.float32)
    inside.ravel()[trial.flagged] = 1
    return _fraction_inside(replace(trial, attention=as_coarse(inside, factor)), brain)


def as_coarse(inside: Floats, factor: int) -> Floats:
    """Return an (I, J, K) outline as a map of one value a cube of `factor` voxels."""
    padded = np.pad(inside, [(0, -int(n) % factor) for n in inside.shape])
    i, j, k = (int(n) // factor for n in padded.shape)
    cubes = padded.reshape(i, factor, j, factor, k, factor).mean((1, 3, 5))
    fine = ndimage.zoom(cubes, factor, order=1, grid_mode=True, mode="nearest")
    i, j, k = inside.shape
    return np.asarray(fine[:i, :j, :k], np.float32)


def _fraction_inside(trial: TestedMap, brain: Mask) -> float:
    weights = np.where(brain, trial.attention, 0).astype(np.float64).ravel()
    return float(weights[trial.flagged].sum() / max(float(weights.sum()), 1e-12))


def _hidden_for_insertion(trial: TestedMap, brain: Mask) -> list[Mask]:
    """Return two masks: all voxels but the brain's centre, and all but the most attended."""
    priorities = (-_squared_distance_from_centre(brain), trial.attention.astype(np.float64))
    return [brain & ~_top_voxels(priority, brain, trial.flagged.size) for priority in priorities]


def _with_hidden(hidden: Sequence[Mask | None]) -> list[InputPerturbation]:
    return [InputPerturbation(hidden=mask, alone=True) for mask in hidden]


def _mean_probabilities(probability: Floats, trial: TestedMap) -> list[float]:
    """Return the mean probability of the flagged voxels in each prediction."""
    flagged = probability.reshape(len(probability), -1)[:, trial.flagged]
    return [float(mean) for mean in flagged.mean(axis=1, dtype=np.float64)]


def _with_probabilities(checks: MapChecks, means: _MeanProbabilities) -> MapChecks:
    """Add the remaining shares of a region's probability, at most 1."""
    if means.unperturbed < perturbations.MIN_DETECTED:
        return replace(checks, seen=False)

    def remaining(mean: float | None) -> float | None:
        return None if mean is None else min(mean / means.unperturbed, 1.0)

    return replace(
        checks,
        kept=remaining(means.attended_alone),
        kept_random=remaining(means.random_alone),
        kept_centre=remaining(means.centre_alone),
        deletion=remaining(means.without_attended),
    )


def _top_voxels(priority: NDArray[np.float64], brain: Mask, count: float) -> Mask:
    """Return the brain's voxels with the highest values."""
    order = np.argsort(-np.where(brain, priority, -np.inf), axis=None, kind="stable")
    top = np.zeros(brain.size, bool)
    top[order[: round(count)]] = True
    return top.reshape(brain.shape) & brain


def _random_blocks(shape: tuple[int, ...]) -> NDArray[np.float64]:
    coarse = np.random.default_rng(_SEED).random([-(-n // _BLOCK_VOX) for n in shape])
    for axis in range(3):
        coarse = np.repeat(coarse, _BLOCK_VOX, axis)
    return coarse[tuple(slice(n) for n in shape)]


def _squared_distance_from_centre(brain: Mask) -> NDArray[np.float64]:
    centre = np.argwhere(brain).mean(axis=0)
    axes = np.ogrid[tuple(slice(n) for n in brain.shape)]
    return np.asarray(sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)))


def pointing_by_region(
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
        region: pointing(attention, np.isin(labels, region.labels), brain_voxels)
        for region, attention in maps.items()
    }


def resampled(values: Floats, source: Grid, target: Grid) -> Floats:
    """Resample a map to another axis-aligned grid by nearest neighbour."""
    index_map = np.linalg.inv(source.affine) @ target.affine
    indices = [
        np.clip(np.rint(index_map[a, a] * np.arange(n) + index_map[a, 3]), 0, source.shape[a] - 1)
        for a, n in enumerate(target.shape)
    ]
    return values[np.ix_(*(index.astype(np.intp) for index in indices))]
