"""Score components on the first pass's grid, for unperturbed and perturbed inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.numerics import logit
from lesionlens.base.records.prediction import PerturbedPrediction, Scoring

_LOGIT_EPSILON = 1e-9
TOP_SHARE = 0.3
"""Share of a component's most certain voxels that determine its score."""
_EDGE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class ComponentVoxels:
    """The voxels of a component on the grid of a first pass."""

    voxels: NDArray[np.intp]
    """(n,) int: flat indices on that grid, from `Grid.flat_voxels`."""
    volume_ml: float


def component_score(
    probability: NDArray[np.floating], volume_ml: float, scoring: Scoring | None = None
) -> NDArray[np.float64]:
    """Score a component by its most certain voxels and its volume.

    The mean over all voxels would be lowered by a faint edge; the maximum would be raised by one
    bright voxel of a vessel. The mean logit of the most certain 30% is a compromise. Small
    components are more often false positives, so the volume is a second feature.

    Parameters
    ----------
    probability : (..., N) float
        Whole-tumour probabilities of the component's N >= 1 voxels; leading axes are inputs.
    scoring : Scoring or None
        The fitted model; None uses the mean logit directly.

    Returns
    -------
    (...) float64
        0 to 1.

    Examples
    --------
    >>> round(float(component_score(np.full(9, 0.8), 1.0)), 6)
    0.8
    """
    model = scoring or Scoring()
    count = max(1, int(np.ceil(TOP_SHARE * probability.shape[-1])))
    highest = np.partition(probability.astype(np.float64), -count, axis=-1)[..., -count:]
    highest = np.clip(highest, _EDGE, 1 - _EDGE)
    logit = np.log(highest / (1 - highest)).mean(axis=-1)
    size = np.log(max(volume_ml, 1e-3))
    total = model.intercept + model.logit * logit + model.log_ml * size
    return np.asarray(1 / (1 + np.exp(-total)))


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
    scores: Sequence[float],
    left_out: Sequence[Mapping[str, float | None] | None] | None,
    scoring: Scoring,
) -> list[float]:
    """Return candidates' scores from the first pass and the agreement between views.

    Parameters
    ----------
    scores : sequence of float
        Scores of the first pass.
    left_out : sequence of mappings or None
        For each, by omitted sequence: Dice between the outlines without it and with all, None for
        an absent one. None for a candidate, or for all, that the quick passes do not show.

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
    values = np.array(scores, np.float64)
    for number, dice in enumerate(left_out or ()):
        shares = [share for share in (dice or {}).values() if share is not None]
        if shares:
            total = fitted.intercept + fitted.log_odds * logit(values[number], _LOGIT_EPSILON)
            total += fitted.overlap * np.mean(shares)
            values[number] = fitted.most / (1 + np.exp(-total))
    return [float(value) for value in np.clip(values, scoring.floor, fitted.most)]
