"""Ask the engine again: without each sequence, and mirrored; one pass answers two questions.

The answers give each candidate's Shapley values (what did each sequence contribute?) and the map
of uncertainty (where does the answer change when the input is perturbed?).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.explain import shapley
from lesionlens.analysis.explain.questions import Questions
from lesionlens.analysis.findings.component_scores import ComponentVoxels, score_components
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.evidence import SequenceEvidence
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction, Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.uncertainty import undecided

UNCERTAINTY, RELEVANCE = "the uncertainty", "which sequence mattered"
_MIRRORED = InputPerturbation(mirrored=True, alone=True)


@dataclass(frozen=True, slots=True, eq=False)
class PerturbedScores:
    """The engine's scores for perturbed inputs."""

    scores: NDArray[np.float64]
    """(N,) float64: of each component, with all sequences."""
    relevance: list[dict[str, float | None]] | None
    """Of each component: signed Shapley values that sum to its score. None where there is no
    component, or no time."""
    alone: list[dict[str, float | None]] | None
    left_out: list[dict[str, float | None]] | None
    """Of each component: its score with each sequence alone, and with all but that one."""
    uncertainty: NDArray[np.float32] | None
    """(I, J, K) float32 or None: 0 to 1, on `grid`; None where there was no time."""
    grid: Grid
    """Of the perturbed predictions."""
    by_voxel: SequenceEvidence | None
    """What each sequence adds at every voxel; None where `relevance` is."""


def present_in(prepared: PreparedStudy) -> tuple[MrSequence, ...]:
    """Return the sequences of a study, in channel order."""
    return tuple(s for s, there in zip(MrSequence, prepared.present, strict=True) if there)


def ask(
    questions: Questions, prediction: Prediction, spots: Sequence[ComponentVoxels]
) -> PerturbedScores:
    """Ask about every subset of the sequences, and mirrored.

    What uncertainty needs is asked first; the other subsets, for the Shapley values, only where
    there is a component.

    Parameters
    ----------
    questions : Questions
        To the engine, about the study.
    prediction : Prediction
        Of the whole study; with `unperturbed`.
    spots : sequence of ComponentVoxels
        Each component on the grid of `unperturbed`.

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
        uncertainty = undecided(np.stack([*seen.probability[:1], *answers.probability]))
    rest = [s for s in shapley.subsets_of(present) if s not in by_subset] if spots else []
    more = questions.ask(RELEVANCE, [*map(InputPerturbation.showing, rest)]) if rest else None
    if more is not None:
        by_subset.update(zip(rest, more.probability, strict=True))
    table = {
        subset: score_components(
            PerturbedPrediction(answer[None], seen.grid), spots, prediction.scoring
        )[0]
        for subset, answer in by_subset.items()
    }
    complete = more is not None
    alone = {s: frozenset({s}) for s in present}
    left_out = {s: everything - {s} for s in present}
    return PerturbedScores(
        scores=table[everything],
        relevance=shapley.of_components(present, table) if complete else None,
        alone=shapley.picked(table, alone) if complete else None,
        left_out=shapley.picked(table, left_out) if complete else None,
        uncertainty=uncertainty,
        grid=seen.grid,
        by_voxel=shapley.evidence_maps(present, by_subset, seen.grid) if complete else None,
    )
