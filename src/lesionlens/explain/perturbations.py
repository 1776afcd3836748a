"""Ask the engine again: without each sequence, and mirrored; one pass answers two questions.

The answers give each candidate's Shapley values (what did each sequence contribute?) and the map
of uncertainty (where does the answer change when the study is seen otherwise?).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.stages import Cancel, Progress
from lesionlens.explain import shapley
from lesionlens.explain.shapley import ComponentVoxels
from lesionlens.inference.engine import SupportsPerturbation
from lesionlens.inference.uncertainty import undecided
from lesionlens.records.prediction import InputPerturbation, PerturbedPrediction, Prediction
from lesionlens.records.study import PreparedStudy

_MIRRORED = InputPerturbation(mirrored=True, alone=True)


@dataclass(frozen=True, slots=True, eq=False)
class PerturbedScores:
    """What the engine said to variants of a study.

    Parameters
    ----------
    scores : (N,) float64
        Of each component, with all sequences.
    relevance : list of dict
        Of each component: signed Shapley values that sum to its score.
    alone, left_out : list of dict
        Of each component: its score with each sequence alone, and with all but that one.
    uncertainty : (I, J, K) float32
        0 to 1, on `grid`.
    grid : Grid
        The glance's.
    """

    scores: NDArray[np.float64]
    relevance: list[dict[str, float | None]]
    alone: list[dict[str, float | None]]
    left_out: list[dict[str, float | None]]
    uncertainty: NDArray[np.float32]
    grid: Grid


def present_in(prepared: PreparedStudy) -> tuple[MrSequence, ...]:
    """Return the sequences of a study, in channel order."""
    return tuple(s for s, there in zip(MrSequence, prepared.present, strict=True) if there)


def ask(
    engine: SupportsPerturbation,
    prepared: PreparedStudy,
    prediction: Prediction,
    spots: Sequence[ComponentVoxels],
    *,
    progress: Progress,
    cancel: Cancel,
) -> PerturbedScores:
    """Ask about every subset of the sequences, and mirrored.

    Without a component only what uncertainty needs is asked.

    Parameters
    ----------
    engine : SupportsPerturbation
        With `Capability.VARY`.
    prepared : PreparedStudy
        The study.
    prediction : Prediction
        What the engine said to the whole study; with a glance.
    spots : sequence of ComponentVoxels
        Each component on the glance's grid.

    Raises
    ------
    CancelledError
        The user asked to stop.
    """
    seen = prediction.unperturbed
    if seen is None:
        raise UnusableInputError(
            found="a prediction without a glance",
            expected="one from an engine with the capability `vary`",
            next_step="Report this to the engine's authors",
        )
    present = present_in(prepared)
    everything = frozenset(present)
    single_out = [s for s in shapley.subsets_of(present) if len(s) == len(present) - 1 and s]
    wanted = shapley.subsets_of(present)[:-1] if spots else single_out
    variants = [_MIRRORED, *(InputPerturbation.showing(subset) for subset in wanted)]
    said = engine.predict_perturbed(prepared, variants, progress=progress, cancel=cancel)
    by_subset = dict(zip(wanted, said.probability[1:], strict=True))
    by_subset[everything] = seen.probability[0]
    table = {
        subset: shapley.scores(
            PerturbedPrediction(answer[None], seen.grid), spots, prediction.scoring
        )[0]
        for subset, answer in by_subset.items()
    }
    voices = [seen.probability[0], said.probability[0], *(by_subset[s] for s in single_out)]
    return PerturbedScores(
        scores=table[everything],
        relevance=shapley.of_components(present, table) if spots else [],
        alone=shapley.picked(table, {s: frozenset({s}) for s in present}) if spots else [],
        left_out=shapley.picked(table, {s: everything - {s} for s in present}) if spots else [],
        uncertainty=undecided(np.stack(voices)),
        grid=seen.grid,
    )
