"""Score components on the first pass's grid, for unperturbed and perturbed inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.numerics import logit
from lesionlens.base.records.prediction import PerturbedPrediction, Scoring
from lesionlens.engines.component_score import component_score

_LOGIT_EPSILON = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class ComponentVoxels:
    """The voxels of a component on the grid of a first pass."""

    voxels: NDArray[np.intp]
    """(n,) int: flat indices on that grid, from `Grid.flat_voxels`."""
    volume_ml: float


def score_components(
    passes: PerturbedPrediction, components: Sequence[ComponentVoxels], scoring: Scoring
) -> NDArray[np.float64]:
    """Score each component for each perturbed input, no less than a small lesion in it.

    Returns
    -------
    (V, N) float64
        0 to 1.
    """
    flat = passes.probability.reshape(len(passes.probability), -1)
    if not components:
        return np.zeros((len(flat), 0))
    columns = [component_score(flat[:, c.voxels], c.volume_ml, scoring) for c in components]
    scores = np.stack(columns, axis=1)
    if passes.lesion_scores is None:
        return scores
    lesions = passes.lesion_scores.reshape(flat.shape)
    lesion_minimum = np.stack([lesions[:, c.voxels].max(axis=1) for c in components], axis=1)
    return np.asarray(np.maximum(scores, lesion_minimum), np.float64)


def score_by_all_views(
    scores: Sequence[float], left_out: Sequence[Mapping[str, float | None]] | None, scoring: Scoring
) -> list[float]:
    """Return candidates' scores from the first pass and the agreement between views.

    Parameters
    ----------
    scores : sequence of float
        Scores of the first pass.
    left_out : sequence of mappings or None
        For each, by omitted sequence: Dice between the outlines without it and with all, None for
        an absent one. None if there are no perturbed predictions.

    Returns
    -------
    list of float
        Not below the floor, because all of them are flagged, nor above the maximum of the fit.

    Examples
    --------
    >>> from lesionlens.base.records.prediction import ViewAgreement
    >>> fitted = Scoring(floor=0.4, agreement=ViewAgreement(-3, 1, 18, 0.94))
    >>> left_out = [{"t1c": 0.9, "t2": 0.8}, {"t1c": 0.0, "t2": 0.2}]
    >>> [round(s, 2) for s in score_by_all_views([0.99, 0.9], left_out, fitted)]
    [0.94, 0.69]
    """
    fitted = scoring.agreement
    if fitted is None:
        return list(scores)
    values = np.asarray(scores, np.float64)
    if left_out is not None:
        overlap = [np.mean([v for v in dice.values() if v is not None]) for dice in left_out]
        total = fitted.intercept + fitted.log_odds * logit(values, _LOGIT_EPSILON)
        values = fitted.most / (1 + np.exp(-(total + fitted.overlap * np.array(overlap))))
    return [float(value) for value in np.clip(values, scoring.floor, fitted.most)]
