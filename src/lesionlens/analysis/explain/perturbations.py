"""Perturbed predictions (subsets of sequences, mirrored) for relevance and uncertainty.

They give each candidate's Shapley values (contribution of each sequence) and the uncertainty map
(variation of the prediction under perturbation). Quick passes are coarser than the prediction.
Where they miss a flagged region (`detects_flagged_regions`), they do not predict what an analysis
of a subset of the sequences would flag; sequences are then compared at the prediction's own voxel
size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.explain import shapley
from lesionlens.analysis.explain.questions import Questions
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.analysis.findings.components import ComponentMask, component_voxels
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.evidence import SequenceScores
from lesionlens.base.records.prediction import (
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
)
from lesionlens.engines import perturbation_order
from lesionlens.engines.perturbation_order import Subset

UNCERTAINTY, RELEVANCE = "the uncertainty", "which sequence mattered"
SEEN = 0.1
"""Minimum mean probability, in a pass, of a region's flagged voxels for the pass to see it."""
Floats = NDArray[np.float32]


def undecided(probability: Floats) -> Floats:
    """Return how close the mean of several predictions is to one half, 0 to 1.

    Contradicting predictions move the mean towards one half, and so does a single prediction near
    one half. A region present in five of six predictions has an uncertainty of one third.

    Parameters
    ----------
    probability : (V, I, J, K) float32
        Whole-tumour probabilities: unperturbed, mirrored, and with single sequences omitted.

    Returns
    -------
    (I, J, K) float32
        1 - |2 mean - 1|: 0 if all agree with certainty, 1 if half are positive and half negative.

    Examples
    --------
    >>> undecided(np.array([1.0, 0.0], np.float32).reshape(2, 1, 1, 1)).item()
    1.0
    """
    mean = probability.mean(axis=0, dtype=np.float32)
    return np.asarray(1.0 - np.abs(2.0 * mean - 1.0), dtype=np.float32)


def detects_flagged_regions(questions: Questions, marked: ComponentMask) -> bool:
    """Return whether the quick pass, whose attention is shown, detects each flagged region.

    Returns
    -------
    bool
        True where nothing is flagged, where the pass does not predict a region, and where there
        was no time to ask.
    """
    answer = questions.ask(RELEVANCE, [InputPerturbation(alone=True)]) if marked.count else None
    if answer is None:
        return True
    for region in Region:
        seen = answer.of(region)
        flagged = flagged_on(marked, region, answer.grid)
        if seen is not None and flagged.size and seen[0].ravel()[flagged].mean() < SEEN:
            return False
    return True


def flagged_on(marked: ComponentMask, region: Region, grid: Grid) -> NDArray[np.intp]:
    """Return the (n,) flat indices of a region's flagged voxels on another grid."""
    voxels = np.argwhere(np.isin(marked.labels, region.labels))
    return grid.flat_voxels(marked.grid.to_mm(voxels))


class PerturbationResults(NamedTuple):
    """What the perturbed predictions show."""

    by_sequence: SequenceScores | None
    """What each subset shows of each component (`shown_of`), as shares of the sequences. None
    where there is no component, or no time."""
    uncertainty: Volume | None
    """0 to 1, on the grid of `unperturbed`; None where there was no time."""
    views: Sequence[Mapping[str, float | None]] | None
    """What all but one sequence show of each component in quick passes, at the study's own
    threshold: as scores were fitted."""


def predict_subsets(
    questions: Questions,
    prediction: Prediction,
    spots: Sequence[ComponentVoxels],
    finely: ComponentMask | None = None,
) -> PerturbationResults:
    """Predict every subset of the sequences, and mirrored inputs.

    Predictions for the uncertainty come first; other subsets, for the Shapley values, are predicted
    only if there is a component.

    Parameters
    ----------
    prediction : Prediction
        Prediction of the study, with `unperturbed`.
    spots : sequence of ComponentVoxels
        Each component on the grid of `unperturbed`.
    finely : ComponentMask or None
        The same components, to compare the sequences at the prediction's own voxel size.

    Raises
    ------
    CancelledError
        The user asked to stop.
    """
    seen = prediction.unperturbed
    if seen is None:
        raise UnusableInputError(
            found="a prediction without `unperturbed`",
            expected="one from an engine with the capability `perturb`",
            next_step="Report this to the engine's authors",
        )
    present = questions.prepared.sequences
    everything = frozenset(present)
    single_out = perturbation_order.all_but_one(present)
    answers = questions.ask(UNCERTAINTY, perturbation_order.for_uncertainty(present))
    threshold = prediction.thresholds[Region.WT]
    quick = _SubsetMaps(
        seen.grid, spots, {everything: seen.probability[0]}, {everything: threshold}
    )
    uncertainty = None
    if answers is not None:
        quick.add([None, *single_out], answers, threshold)
        predictions = np.stack([*seen.probability[:1], *answers.probability])
        uncertainty = Volume(undecided(predictions), seen.grid)
    by_sequence, views = _compared(questions, quick, threshold, finely) if spots else (None, None)
    return PerturbationResults(by_sequence, uncertainty, views)


def _compared(
    questions: Questions, quick: _SubsetMaps, threshold: float, finely: ComponentMask | None
) -> tuple[SequenceScores | None, Sequence[Mapping[str, float | None]] | None]:
    """Return each sequence's scores and the views; None where there was no time."""
    present = questions.prepared.sequences
    subsets = perturbation_order.subsets_of(present)
    without = {s: frozenset(present) - {s} for s in present}
    wanted = subsets if finely is None else without.values()
    rest = [s for s in wanted if s not in quick.by_subset]
    more = questions.ask(RELEVANCE, [*map(InputPerturbation.showing, rest)]) if rest else None
    if more is not None:
        quick.add(rest, more, threshold)
    elif rest:
        return None, None
    views = shapley.picked(quick.table(threshold), without)
    shown = quick
    if finely is not None:
        fine = [InputPerturbation.showing(one, fine=True) for one in subsets]
        if (answer := questions.ask(RELEVANCE, fine)) is None:
            return None, views
        shown = _SubsetMaps(answer.grid, component_voxels(finely, answer.grid), {}, {})
        shown.add(subsets, answer, threshold)
    table = shown.table()
    by_sequence = SequenceScores(
        relevance=shapley.of_components(present, table),
        alone=shapley.picked(table, {s: frozenset({s}) for s in present}),
        left_out=shapley.picked(table, without),
        by_voxel=shapley.evidence_maps(present, shown.by_subset, shown.grid),
    )
    return by_sequence, views


class _SubsetMaps(NamedTuple):
    """The probability that each subset of the sequences gives, and the components there."""

    grid: Grid
    spots: Sequence[ComponentVoxels]
    by_subset: dict[Subset, NDArray[np.float32]]
    thresholds: dict[Subset, float]
    """Above which an analysis of the subset would outline a voxel."""

    def add(
        self,
        subsets: Sequence[Subset | None],
        answers: PerturbedPrediction,
        usual: float,
    ) -> None:
        """Add the answers to subsets, in their order; None marks one to some other question."""
        cut_at = answers.thresholds or [usual] * len(subsets)
        for subset, probability, threshold in zip(
            subsets, answers.probability, cut_at, strict=True
        ):
            if subset is not None:
                self.by_subset[subset], self.thresholds[subset] = probability, threshold

    def table(self, threshold: float | None = None) -> dict[Subset, NDArray[np.float64]]:
        """Return `shown_of` by subset, each at its own threshold unless one is given."""
        nearest = _nearest(self.spots, self.grid.shape)
        drawn = {
            subset: answer >= (self.thresholds[subset] if threshold is None else threshold)
            for subset, answer in self.by_subset.items()
        }
        by_all = drawn[max(drawn, key=len)]
        return {s: shown_of(mask, by_all, nearest, len(self.spots)) for s, mask in drawn.items()}


def shown_of(
    drawn: NDArray[np.bool_], by_all: NDArray[np.bool_], nearest: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Return the Dice of each component between a subset's and the full prediction.

    The score is not suitable: it includes the size of the final outline, for which a sequence that
    shows nothing would be credited. Nor is the final outline: it is finer than these passes, which
    would mask the differences between them.

    Parameters
    ----------
    drawn, by_all : (I, J, K) bool
        Mask predicted from a subset, and from all sequences in the same kind of pass.
    nearest : (I, J, K) int
        Index of the nearest component for each voxel.

    Returns
    -------
    (count,) float64
        Dice of the two among the voxels nearest to each component; 0 if both are empty.

    Examples
    --------
    >>> drawn, by_all = np.zeros((4, 1, 1), bool), np.zeros((4, 1, 1), bool)
    >>> drawn[1:3], by_all[:3] = True, True
    >>> shown_of(drawn, by_all, np.zeros((4, 1, 1), np.intp), 1).tolist()
    [0.8]
    """

    def sizes(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(nearest[mask], minlength=count)[:count].astype(np.float64)

    return np.asarray(2 * sizes(drawn & by_all) / np.maximum(sizes(drawn) + sizes(by_all), 1.0))


def _nearest(components: Sequence[ComponentVoxels], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the index of the nearest component for each voxel."""
    owner = np.zeros(shape, np.intp)
    if len(components) < 2:
        return owner
    free = np.ones(shape, bool)
    for number, one in enumerate(components):
        owner.ravel()[one.voxels], free.ravel()[one.voxels] = number, False
    at = ndimage.distance_transform_edt(free, return_distances=False, return_indices=True)
    return np.asarray(owner[tuple(at)])
