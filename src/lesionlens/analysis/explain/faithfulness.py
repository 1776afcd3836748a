"""Faithfulness checks of attention maps.

Pointing and mass check whether the map agrees with the segmented region: its peak, and nearly all
of its attention, also for the other regions of the same layer; of a coarse map, nearly all that a
perfect map as coarse would have there. Insertion checks whether the
attended voxels suffice: shown alone, they must keep much more of the region's probability than as
many random voxels, and more than a ball around the brain's centre, a likely position of tumours.
A map that fails is labelled and not shown by default.

Deletion, the opposite, is measured but not judged: a hidden core is inferred from what surrounds
it, so the outline itself fails as often (docs/explanation/explanations_measured.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.explain import perturbations
from lesionlens.analysis.explain.questions import Questions
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.prediction import InputPerturbation

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

SUFFICIENT = 0.5
"""Minimum lead of a faithful map over random voxels, as a share of the region's probability."""
NEAR = 0.8
"""Minimum share of the attention in voxels that hold any of the flagged region, for the map and for
the others of its layer: queries without meaning may point to a tumour because it stands out, but
not each to its own region."""
MOSTLY = 0.5
"""Minimum share on the native grid, for an engine without perturbed predictions."""
TOO_COARSE = (
    "too coarse to be judged by where it lies: of a perfect map whose values are as far apart, no "
    "more would lie inside"
)
CHECKED = "the checks of the attention maps"
_BLOCK_VOX = 4
_EXACT = 1e-3
"""Tolerance for rounding of `TestedMap.coarseness_vox`."""
_SEED = 20


class MapFault(StrEnum):
    """Reasons why a map is not reliable."""

    NOT_SEEN = "the pass that it shows hardly sees what is flagged"
    PEAK_OUTSIDE = "its peak lies outside what is flagged"
    PARTLY_OUTSIDE = "too much of its attention lies outside what is flagged"
    OTHERS_OUTSIDE = "another region's map of the same layer lies outside that region"
    TOO_LITTLE = "what it shows is not enough for the network to find the region"
    CENTRE_AS_MUCH = "the brain's centre shows the network as much"


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
    share = float(np.count_nonzero(inside) / max(1.0, brain_voxels))
    return _with_verdict(MapChecks(peak, mass, share))


def _with_verdict(found: MapChecks) -> MapChecks:
    if found.peak_inside is None:
        return found
    faults = faults_of(found)
    if not faults and too_coarse(found):
        return replace(found, reliable=None, verdict=TOO_COARSE)
    words = f"not reliable here: {'; '.join(faults)}" if faults else "passed its checks"
    return replace(found, reliable=not faults, verdict=words)


def too_coarse(found: MapChecks) -> bool:
    """Return whether a map is so coarse that not even a perfect one would keep to `NEAR`."""
    return found.near is not None and found.near < NEAR and found.attainable < 1


def faults_of(found: MapChecks) -> tuple[MapFault, ...]:
    """Return which of the completed checks a map failed."""
    faults = []
    if not found.seen:
        faults.append(MapFault.NOT_SEEN)
    if found.peak_inside is False:
        faults.append(MapFault.PEAK_OUTSIDE)
    where, least = found.near, NEAR * found.attainable
    if where is None:
        where, least = found.mass_inside, MOSTLY
    if where is not None and where < least:
        faults.append(MapFault.PARTLY_OUTSIDE)
    if found.others_near is not None and found.others_near < NEAR:
        faults.append(MapFault.OTHERS_OUTSIDE)
    if found.kept is not None and found.kept_random is not None and found.kept_centre is not None:
        if found.kept < found.kept_random + SUFFICIENT:
            faults.append(MapFault.TOO_LITTLE)
        elif found.kept <= found.kept_centre:
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


def insertion_test(
    found: Mapping[Region, MapChecks],
    questions: Questions,
    trials: Mapping[Region, TestedMap],
    brain: Mask,
) -> dict[Region, MapChecks]:
    """Add the insertion and deletion test to the pointing checks of each region's map.

    Parameters
    ----------
    found : mapping of Region to MapChecks
        From `all_pointing`.
    trials : mapping of Region to TestedMap
        Maps to test; must include the whole tumour.
    brain : (I, J, K) bool
        Same grid.

    Returns
    -------
    dict
        Without insertion for a region that is not predicted by perturbed passes, and if the time
        was up; deletion for the whole tumour alone.

    Notes
    -----
    Petsiuk, Das and Saenko 2018, arXiv:1806.07421, section 3: insertion and deletion, in one step
    of as many voxels as are flagged, the others set to the brain's mean. Asked is the one pass
    whose attention the map is; how others of an ensemble would vote is no property of this map.
    Random voxels are asked once, with the whole tumour's volume: more than an inner region's. They
    are shown in blocks of 4, so that a lesion can be seen.
    """
    trials = {r: trials[r] for r in Region if r in trials and trials[r].flagged.size}
    if Region.WT not in trials:
        return dict(found)
    out = _with_location(found, trials, brain)
    alone = {region: _shown_alone(trial, brain) for region, trial in trials.items()}
    centre, attended = alone.pop(Region.WT)
    random = brain & ~_top_voxels(_blocks(brain.shape), brain, trials[Region.WT].flagged.size)
    first = questions.ask(CHECKED, _showing([None, random, brain & ~attended, centre, attended]))
    if first is None:
        return out
    rest = [mask for masks in alone.values() for mask in masks]
    asks = bool(rest) and first.inner is not None
    second = questions.ask(CHECKED, _showing(rest)) if asks else None
    for number, (region, trial) in enumerate(trials.items()):
        known, more = first.of(region), None if second is None else second.of(region)
        if region not in out or known is None:
            continue
        means: list[float | None] = [*_means(known, trial)]
        if region is not Region.WT:
            if more is None:
                continue
            means = [*means[:2], None, *_means(more, trial)[2 * (number - 1) : 2 * number]]
        out[region] = _with_probabilities(out[region], means)
    return {region: _with_verdict(one) for region, one in out.items()}


def _with_location(
    found: Mapping[Region, MapChecks], trials: Mapping[Region, TestedMap], brain: Mask
) -> dict[Region, MapChecks]:
    """Add the share of each map's attention near its region, and the lowest of the others."""
    near = {r: _share_inside(trial, brain) for r, trial in trials.items() if r in found}
    best = {r: _attainable(trials[r], brain) for r in near}
    out = dict(found)
    for region, share in near.items():
        others = [min(other / best[r], 1.0) for r, other in near.items() if r is not region]
        located = replace(found[region], near=share, attainable=best[region])
        out[region] = _with_verdict(replace(located, others_near=min(others, default=None)))
    return out


def _attainable(trial: TestedMap, brain: Mask) -> float:
    """Return the share inside of the outline itself, averaged over cubes and interpolated back."""
    factor = math.ceil(trial.coarseness_vox - _EXACT)
    if factor <= 1:
        return 1.0
    inside = np.zeros(brain.shape, np.float32)
    inside.ravel()[trial.flagged] = 1
    return _share_inside(replace(trial, attention=as_coarse(inside, factor)), brain)


def as_coarse(inside: Floats, factor: int) -> Floats:
    """Return an (I, J, K) outline as a map of one value a cube of `factor` voxels."""
    whole = np.pad(inside, [(0, -int(n) % factor) for n in inside.shape])
    i, j, k = (int(n) // factor for n in whole.shape)
    cubes = whole.reshape(i, factor, j, factor, k, factor).mean((1, 3, 5))
    fine = ndimage.zoom(cubes, factor, order=1, grid_mode=True, mode="nearest")
    i, j, k = inside.shape
    return np.asarray(fine[:i, :j, :k], np.float32)


def _share_inside(trial: TestedMap, brain: Mask) -> float:
    weights = np.where(brain, trial.attention, 0).astype(np.float64).ravel()
    return float(weights[trial.flagged].sum() / max(float(weights.sum()), 1e-12))


def _shown_alone(trial: TestedMap, brain: Mask) -> list[Mask]:
    """Return what is hidden where the brain's centre, and the most attended voxels, are shown."""
    orders = (-_from_centre(brain), trial.attention.astype(np.float64))
    return [brain & ~_top_voxels(order, brain, trial.flagged.size) for order in orders]


def _showing(hidden: Sequence[Mask | None]) -> list[InputPerturbation]:
    return [InputPerturbation(hidden=mask, alone=True) for mask in hidden]


def _means(seen: Floats, trial: TestedMap) -> list[float]:
    """Return the mean probability of the flagged voxels in each prediction."""
    flagged = seen.reshape(len(seen), -1)[:, trial.flagged]
    return [float(one) for one in flagged.mean(axis=1, dtype=np.float64)]


def _with_probabilities(found: MapChecks, means: Sequence[float | None]) -> MapChecks:
    """Add what remains of a region's probability.

    `means` are for the unperturbed study, random voxels alone, and without the most attended; then
    for the centre and the most attended alone.
    """
    plain, *others = means
    if plain is None or plain < perturbations.SEEN:
        return replace(found, seen=False)
    random, deletion, centre, kept = (
        None if one is None else min(one / plain, 1.0) for one in others
    )
    return replace(found, kept=kept, kept_random=random, kept_centre=centre, deletion=deletion)


def _top_voxels(value: NDArray[np.float64], brain: Mask, voxels: float) -> Mask:
    """Return the brain's voxels with the highest values."""
    order = np.argsort(-np.where(brain, value, -np.inf), axis=None, kind="stable")
    top = np.zeros(brain.size, bool)
    top[order[: round(voxels)]] = True
    return top.reshape(brain.shape) & brain


def _blocks(shape: tuple[int, ...]) -> NDArray[np.float64]:
    coarse = np.random.default_rng(_SEED).random([-(-n // _BLOCK_VOX) for n in shape])
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


def resampled(values: Floats, source: Grid, target: Grid) -> Floats:
    """Resample a map to another axis-aligned grid by nearest neighbour."""
    index = np.linalg.inv(source.affine) @ target.affine
    places = [
        np.clip(np.rint(index[a, a] * np.arange(n) + index[a, 3]), 0, source.shape[a] - 1)
        for a, n in enumerate(target.shape)
    ]
    return values[np.ix_(*(place.astype(np.intp) for place in places))]
