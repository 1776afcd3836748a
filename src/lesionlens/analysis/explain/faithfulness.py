"""Checks that a map must pass before a reader is asked to believe it.

Pointing and mass ask whether the map lies where the network drew the region. Deletion and
insertion ask whether the network needed what the map shows: hide the most attended voxels, and
the score should fall faster than when as many voxels are hidden at random, or in a ball about the
brain's centre, where tumours like to be; show nothing else, and it should come back. A map that
fails is labelled and not shown by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.explain.questions import Questions
from lesionlens.analysis.findings.component_scores import ComponentVoxels, score_components
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.prediction import InputPerturbation, Scoring

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

UNTOUCHED = 0.99
"""Share of the probability from which on hiding as much as was flagged changed nothing."""
SHOWN_TIMES = 2.0
"""Volume that is shown, in multiples of what was flagged."""
FAITHFUL = 0.5
"""A faithful map's deletion leaves at most this share of what a random one leaves."""
DELETION = "the deletion check"
_PASSES = 8  # that deletion and insertion need in all: five, and three for the half
_BLOCK_VOX = 4
_SEED = 20


class MapFault(StrEnum):
    """Why a map is not to be relied on."""

    PEAK_OUTSIDE = "its peak lies outside what is flagged"
    HIDING_CHANGES_LITTLE = "hiding what it shows changes the probability too little"
    CENTRE_AS_MUCH = "hiding the brain's centre changes the probability as much"


def pointing(attention: Floats, inside: Mask, brain_voxels: float) -> MapChecks:
    """Check where a map lies.

    Parameters
    ----------
    attention : (I, J, K) float32
        Non-negative.
    inside : (I, J, K) bool
        Flagged voxels of the map's region, same grid.
    brain_voxels : float
        Volume of the brain, in voxels of that grid.

    Returns
    -------
    MapChecks
        Without deletion and insertion; all None where nothing is flagged or attended.
    """
    total = float(attention.sum(dtype=np.float64))
    if total <= 0 or not inside.any():
        return MapChecks(None, None, None, words="not checked: nothing of this region is flagged")
    peak = bool(attention.max(where=inside, initial=0.0) >= attention.max())
    mass = float(attention.sum(where=inside, dtype=np.float64)) / total
    share = float(np.count_nonzero(inside) / max(1.0, brain_voxels))
    return _judged(MapChecks(peak, mass, share))


def _judged(found: MapChecks) -> MapChecks:
    """Fill in the verdict."""
    if found.peak_inside is None:
        return found
    faults = faults_of(found)
    words = f"not reliable here: {'; '.join(faults)}" if faults else "passed its checks"
    return replace(found, reliable=not faults, words=words)


def faults_of(found: MapChecks) -> tuple[MapFault, ...]:
    """Return which of the checks that were made a map failed."""
    faults = []
    if found.peak_inside is False:
        faults.append(MapFault.PEAK_OUTSIDE)
    if found.deletion is not None and found.deletion_random is not None:
        if found.deletion > FAITHFUL * found.deletion_random:
            faults.append(MapFault.HIDING_CHANGES_LITTLE)
        elif found.deletion_centre is not None and found.deletion >= found.deletion_centre:
            faults.append(MapFault.CENTRE_AS_MUCH)
    return tuple(faults)


def deletion_test(
    found: MapChecks,
    questions: Questions,
    attention: Floats,
    brain: Mask,
    components: Sequence[ComponentVoxels],
) -> MapChecks:
    """Add deletion and insertion to a map's checks.

    Parameters
    ----------
    found : MapChecks
        From `pointing`.
    questions : Questions
        To the engine, about the study.
    attention : (I, J, K) float32
        The map, on the grid of the perturbed predictions.
    brain : (I, J, K) bool
        Same grid.
    components : sequence of ComponentVoxels
        What was flagged, on that grid.

    Returns
    -------
    MapChecks
        Unchanged where nothing is flagged, or where there was no time.

    Notes
    -----
    Petsiuk, Das and Saenko 2018, arXiv:1806.07421, section 3: deletion and insertion, here with
    two steps, half the flagged volume and all of it, hidden voxels set to the brain's mean, and the
    area taken as the mean over the steps. Where hiding all of it changes nothing, the half, which
    is part of it, is left out. Asked is the one pass whose attention the map is; how others of an
    ensemble would vote is no property of this map. Random voxels are hidden in blocks of 4, so that
    they are not simply interpolated away.
    """
    if not components:
        return found
    flagged = len(np.unique(np.concatenate([c.voxels for c in components])))

    def left(trials: Mapping[str, Mask], passes: int | None = None) -> dict[str, float]:
        if not trials:
            return {}
        perturbations = [
            InputPerturbation(alone=True),
            *(InputPerturbation(hidden=h, alone=True) for h in trials.values()),
        ]
        answers = questions.ask(DELETION, perturbations, passes)
        if answers is None:
            return {}
        # by the network's own probability: the fitted score also counts the size
        full, *rest = score_components(answers, components, Scoring()).mean(axis=1)
        return {k: min(float(r / full), 1.0) for k, r in zip(trials, rest, strict=True)}

    ranks = _ranks(attention, brain)
    whole = left({**_hidden(ranks, brain, flagged), **_shown(ranks, brain, flagged)}, _PASSES)
    touched = {k: rank for k, rank in ranks.items() if whole.get(k, UNTOUCHED) < UNTOUCHED}
    half = left(_hidden(touched, brain, flagged / 2), len(touched))
    if not whole or half.keys() != touched.keys():  # no time
        return found
    area = {kind: (whole[kind] + half.get(kind, whole[kind])) / 2 for kind in ranks}
    return _judged(
        replace(
            found,
            deletion=area["deletion"],
            deletion_random=area["deletion_random"],
            deletion_centre=area["deletion_centre"],
            insertion=whole["insertion"],
            insertion_random=whole["insertion_random"],
        )
    )


def _ranks(attention: Floats, brain: Mask) -> dict[str, NDArray[np.intp]]:
    """Return in which order each check hides the brain's voxels."""
    blocks = _blocks(np.random.default_rng(_SEED), brain.shape)
    return {
        "deletion": _rank(attention.astype(np.float64), brain),
        "deletion_random": _rank(blocks, brain),
        "deletion_centre": _rank(-_from_centre(brain), brain),
    }


def _hidden(ranks: Mapping[str, NDArray[np.intp]], brain: Mask, voxels: float) -> dict[str, Mask]:
    size = int(np.count_nonzero(brain))
    return {kind: (rank < min(round(voxels), size)) & brain for kind, rank in ranks.items()}


def _shown(ranks: Mapping[str, NDArray[np.intp]], brain: Mask, flagged: int) -> dict[str, Mask]:
    """Return what is hidden where only so much is shown."""
    shown = min(round(SHOWN_TIMES * flagged), int(np.count_nonzero(brain)))
    sources = {"insertion": "deletion", "insertion_random": "deletion_random"}
    return {kind: (ranks[source] >= shown) & brain for kind, source in sources.items()}


def _rank(value: NDArray[np.float64], brain: Mask) -> NDArray[np.intp]:
    """Return each brain voxel's place, 0 for the highest value."""
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
    """Check where each region's map lies; see `pointing`.

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
    """Sample a map at the nearest voxel of another axis-aligned grid."""
    index = np.linalg.inv(source.affine) @ target.affine
    places = [
        np.clip(np.rint(index[a, a] * np.arange(n) + index[a, 3]), 0, source.shape[a] - 1)
        for a, n in enumerate(target.shape)
    ]
    return values[np.ix_(*(place.astype(np.intp) for place in places))]
