"""What the network outlines from some of the sequences: overlap, uncertainty, Shapley values.

`leave_one_out` runs with every analysis, `by_sequence` on request. Both ask the engine for quick
predictions (`Engine.predict_subsets`), which are coarser than the prediction. Where these do not
find again what is flagged, they tell nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.explain.shapley import evidence_maps, shapley_values, subsets_of
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.attention import SequenceEvidence
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.engines.engine import predict_subsets

FOUND, DETECTED = 0.7, 0.1
"""Minimum share of a candidate's voxels that the quick passes outline with all sequences, and mean
probability of core and enhancing tumour in what is flagged as such."""
BySequence = Mapping[str, float | None]


class LeftOut(NamedTuple):
    """Quick predictions that lack one sequence each, compared with that of all sequences."""

    found: Sequence[bool]
    """Whether the quick passes find each component."""
    dice_without: Sequence[BySequence | None]
    """Overlap of each component without each sequence, each outlined at its own threshold; None if
    it was not found."""
    agreement: Sequence[BySequence | None]
    """The same at the study's threshold, as in the fit of the scores; None if the quick passes
    outline nothing there."""
    uncertainty: Floats
    """(I, J, K) float32 on `grid`."""
    grid: Grid


def leave_one_out(
    engine: Any,
    prepared: PreparedStudy,
    everything: PerturbedPrediction,
    components: Sequence[ComponentVoxels],
    threshold: float,
    inner: Sequence[Mask] = (),
    *,
    context: RunContext,
) -> LeftOut:
    """Predict without each sequence, and mirrored.

    Parameters
    ----------
    everything : PerturbedPrediction
        The quick prediction from all sequences.
    components : sequence of ComponentVoxels
        What is flagged, on its grid.
    threshold : float
        Probability of whole tumour from which the study's voxels are outlined.
    inner : sequence of (I, J, K) bool
        What is flagged as core and as enhancing tumour, on the same grid.
    """
    present = prepared.sequences
    without = {s: frozenset(present) - {s} for s in present}
    inputs = [InputPerturbation(mirrored=True), *map(InputPerturbation.showing, without.values())]
    answer = predict_subsets(engine, prepared, inputs, context=context)
    views = 1 + len(without) if len(without) > 1 else 1  # nothing is no view of a single sequence
    every = np.concatenate([everything.probability, answer.probability[:views]])
    full = everything.probability[0] >= threshold
    nearest = _nearest_component(components, full.shape)
    thresholds = answer.thresholds or (threshold,) * len(inputs)
    own, equal = (
        {
            s.value: subset_overlap(probability >= least, full, nearest, len(components))
            for s, probability, least in zip(without, answer.probability[1:], chosen, strict=True)
        }
        for chosen in (thresholds[1:], (threshold,) * len(without))
    )
    found = [_is_found(everything, full, inner, c.voxels) for c in components]
    outlined = np.bincount(nearest[full], minlength=len(components))

    def table(
        dice: Mapping[str, NDArray[np.float64]], known: Sequence[bool]
    ) -> list[BySequence | None]:
        return [
            {s.value: float(dice[s.value][n]) if s.value in dice else None for s in MrSequence}
            if known[n]
            else None
            for n in range(len(components))
        ]

    return LeftOut(
        found,
        table(own, found),
        table(equal, (outlined > 0).tolist()),
        undecided(every),
        everything.grid,
    )


def _is_found(
    everything: PerturbedPrediction, full: Mask, inner: Sequence[Mask], voxels: NDArray[np.intp]
) -> bool:
    """Return whether the quick prediction shows a component, and each region flagged in it."""
    found = bool(full.ravel()[voxels].mean() >= FOUND)
    if everything.inner is not None:
        for probability, mask in zip(everything.inner[0], inner, strict=False):
            flagged = voxels[mask.ravel()[voxels]]
            if flagged.size and probability.ravel()[flagged].mean() < DETECTED:
                return False
    return found


def by_sequence(
    engine: Any,
    prepared: PreparedStudy,
    flagged: ComponentMask,
    threshold: float,
    *,
    context: RunContext,
) -> tuple[list[BySequence], SequenceEvidence]:
    """Predict every subset of the sequences, for exact Shapley values; `flagged` is native.

    Returns
    -------
    list, SequenceEvidence
        Shapley values of each component's overlap with what all sequences outline, and of the
        probability at each voxel.
    """
    present = prepared.sequences
    subsets = subsets_of(present)
    inputs = [InputPerturbation.showing(subset) for subset in subsets]
    answer = predict_subsets(engine, prepared, inputs, context=context)
    maps = dict(zip(subsets, answer.probability, strict=True))
    components = flagged.voxels_on(answer.grid)
    full = maps[subsets[-1]] >= threshold
    nearest = _nearest_component(components, full.shape)
    table = {
        subset: subset_overlap(maps[subset] >= least, full, nearest, len(components))
        for subset, least in zip(
            subsets, answer.thresholds or (threshold,) * len(subsets), strict=True
        )
    }
    values: list[BySequence] = [
        shapley_values(present, {subset: float(row[n]) for subset, row in table.items()})
        for n in range(len(components))
    ]
    return values, evidence_maps(present, maps, answer.grid)


def undecided(probability: Floats) -> Floats:
    """Return how close the mean of several predictions is to one half, 0 to 1.

    Parameters
    ----------
    probability : (V, I, J, K) float32
        Of the whole tumour: unperturbed, mirrored, and without single sequences.

    Returns
    -------
    (I, J, K) float32
        1 - |2 mean - 1|: 0 if all agree with certainty, 1 if half are positive and half negative. A
        region present in five of six predictions has one third.

    Examples
    --------
    >>> undecided(np.array([1.0, 0.0], np.float32).reshape(2, 1, 1, 1)).item()
    1.0
    """
    mean = probability.mean(axis=0, dtype=np.float32)
    return np.asarray(1.0 - np.abs(2.0 * mean - 1.0), dtype=np.float32)


def subset_overlap(
    by_subset: Mask, by_all: Mask, nearest: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Return the Dice of each component between a subset's and the full prediction.

    Both are of quick passes: the final outline is finer, which would mask their differences.

    Parameters
    ----------
    by_subset, by_all : (I, J, K) bool
    nearest : (I, J, K) int
        Index of the component nearest to each voxel, which counts it.

    Returns
    -------
    (count,) float64
        0 if both are empty.

    Examples
    --------
    >>> by_subset, by_all = np.zeros((4, 1, 1), bool), np.zeros((4, 1, 1), bool)
    >>> by_subset[1:3], by_all[:3] = True, True
    >>> subset_overlap(by_subset, by_all, np.zeros((4, 1, 1), np.intp), 1).tolist()
    [0.8]
    """
    both, one, other = (
        np.bincount(nearest[mask], minlength=count)[:count].astype(np.float64)
        for mask in (by_subset & by_all, by_subset, by_all)
    )
    return np.asarray(2 * both / np.maximum(one + other, 1.0))


def _nearest_component(
    components: Sequence[ComponentVoxels], shape: tuple[int, ...]
) -> NDArray[np.intp]:
    """Return the index of the component nearest to each voxel."""
    numbers = np.zeros(shape, np.intp)
    for number, component in enumerate(components, 1):
        numbers.ravel()[component.voxels] = number
    if len(components) < 2:
        return np.zeros(shape, np.intp)
    index = ndimage.distance_transform_edt(
        numbers == 0, return_distances=False, return_indices=True
    )
    return np.asarray(numbers[tuple(index)] - 1)
