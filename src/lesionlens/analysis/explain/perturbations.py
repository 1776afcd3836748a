"""Perturbed predictions (subsets of sequences, mirrored) for relevance and uncertainty.

They give each candidate's Shapley values (contribution of each sequence) and the uncertainty map
(variation of the prediction under perturbation).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.explain import shapley
from lesionlens.analysis.explain.questions import Questions
from lesionlens.analysis.findings.component_scores import ComponentVoxels
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.evidence import SequenceScores
from lesionlens.base.records.prediction import InputPerturbation, Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.uncertainty import undecided

UNCERTAINTY, RELEVANCE = "the uncertainty", "which sequence mattered"
_MIRRORED = InputPerturbation(mirrored=True, alone=True)


def present_in(prepared: PreparedStudy) -> tuple[MrSequence, ...]:
    """Return the available sequences of a study, in channel order."""
    return tuple(s for s, there in zip(MrSequence, prepared.present, strict=True) if there)


def ask(
    questions: Questions, prediction: Prediction, spots: Sequence[ComponentVoxels]
) -> tuple[SequenceScores | None, Volume | None]:
    """Predict every subset of the sequences, and mirrored inputs.

    Predictions for the uncertainty come first; other subsets, for the Shapley values, are predicted
    only if there is a component.

    Parameters
    ----------
    questions : Questions
        Perturbed predictions of the study.
    prediction : Prediction
        Prediction of the study, with `unperturbed`.
    spots : sequence of ComponentVoxels
        Each component on the grid of `unperturbed`.

    Returns
    -------
    SequenceScores or None
        Shapley values of `shown_of` for each component. None if there is no component, or no time.
    Volume or None
        The uncertainty, 0 to 1, on the grid of `unperturbed`; None if there was no time.

    Raises
    ------
    CancelledError
        The user asked to stop.
    """
    seen = prediction.unperturbed
    if seen is None:
        raise UnusableInputError(
            found="a prediction without its answer to the unperturbed study",
            expected="one from an engine with the capability `perturb`",
            next_step="Report this to the engine's authors",
        )
    present = present_in(questions.prepared)
    everything = frozenset(present)
    single_out = [s for s in shapley.subsets_of(present) if len(s) == len(present) - 1 and s]
    answers = questions.ask(UNCERTAINTY, [_MIRRORED, *map(InputPerturbation.showing, single_out)])
    by_subset = {everything: seen.probability[0]}
    uncertainty = None
    if answers is not None:
        by_subset.update(zip(single_out, answers.probability[1:], strict=True))
        voices = np.stack([*seen.probability[:1], *answers.probability])
        uncertainty = Volume(undecided(voices), seen.grid)
    rest = [s for s in shapley.subsets_of(present) if s not in by_subset] if spots else []
    more = questions.ask(RELEVANCE, [*map(InputPerturbation.showing, rest)]) if rest else None
    if more is not None:
        by_subset.update(zip(rest, more.probability, strict=True))
    nearest, threshold = _nearest(spots, seen.grid.shape), prediction.thresholds[Region.WT]
    drawn = {subset: answer >= threshold for subset, answer in by_subset.items()}
    table = {
        subset: shown_of(mask, drawn[everything], nearest, len(spots))
        for subset, mask in drawn.items()
    }
    by_sequence = None
    if more is not None:
        by_sequence = SequenceScores(
            relevance=shapley.of_components(present, table),
            alone=shapley.picked(table, {s: frozenset({s}) for s in present}),
            left_out=shapley.picked(table, {s: everything - {s} for s in present}),
            by_voxel=shapley.evidence_maps(present, by_subset, seen.grid),
        )
    return by_sequence, uncertainty


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
    count : int
        Number of components.

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
