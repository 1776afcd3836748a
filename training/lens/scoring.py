"""Calibrated scores of candidates: the fit, its test on other patients, operating points."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.metrics import BINS, reliability
from lesionlens.base.errors import UnusableInputError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
RIDGE = 0.2
"""Penalty on the square of a slope per standard deviation: a normal prior of deviation 2.2, wider
than any slope that was ever fitted, so that a few candidates cannot give an extreme fit."""
MAX_FALSE = 0.1
"""False candidates per scan at the default operating point."""
MIN_SLOPES = (0.1, 0.0)
"""Of the mean logit and of the logarithm of the volume: the score must depend on the network's
probability, or no omitted sequence and no occlusion could change it. Half of the slope fitted on
100 synthetic patients (.19)."""
LEVELS = (0.02, *(round(0.05 * n, 2) for n in range(1, 20)), 0.98)
_NEWTON_STEPS = 50
_MIN_OF_EACH = 5  # fewest correct and fewest false candidates for a fit


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """The features of one candidate, and whether it is correct."""

    logit: float
    """Mean logit of its most certain voxels in the first pass."""
    log_ml: float
    """Logarithm of its volume in ml."""
    correct: bool
    """Whether enough of it is tumour."""
    patient: int
    """Number of the patient."""
    lesions: frozenset[int]
    """The true lesions that it overlaps."""


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Performance of fits on half of the patients, each on the other half."""

    score: tuple[Floats, Floats]
    """Pair of (3,) float. Fitted on either half of the patients."""
    error: float
    brier: float
    """Expected calibration error and Brier score of the candidates, each scored by the fit
    on the other half."""
    bins: tuple[Mapping[str, float], ...]
    """Tuple of dict. Reliability by score: ``from``, ``to``, ``count``, ``predicted``, ``true``."""


def _features(found: Sequence[ScoredCandidate]) -> Floats:
    return np.array([[f.logit, f.log_ml] for f in found], np.float64).reshape(-1, 2)


def _correct(found: Sequence[ScoredCandidate]) -> Flags:
    return np.array([f.correct for f in found], dtype=bool)


def scores_of(found: Sequence[ScoredCandidate], score: Floats) -> Floats:
    """Return the (N,) scores of candidates by (3,) intercept and slopes."""
    return np.asarray(1 / (1 + np.exp(-(score[0] + _features(found) @ score[1:]))))


def _newton(x: Floats, correct: Flags, ridge: float, offset: Floats) -> tuple[float, Floats]:
    """Minimise the penalised cross-entropy with an offset of the logits; return cost, weights."""
    columns = np.column_stack([np.ones(len(x)), x])
    penalty = np.diag([1e-3, *[ridge] * x.shape[1]])
    weights = np.zeros(columns.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(offset + columns @ weights)))
        slope = columns.T @ (p - correct) + penalty @ weights
        curve = (columns * (p * (1 - p))[:, None]).T @ columns + penalty
        weights = weights - np.linalg.solve(curve, slope)
    sign = np.where(correct, -1.0, 1.0)
    cost = (
        np.logaddexp(0, sign * (offset + columns @ weights)).sum() + weights @ penalty @ weights / 2
    )
    return float(cost), weights


def fit_logistic(
    features: Floats,
    correct: Flags,
    ridge: float = RIDGE,
    lower_bounds: Sequence[float] | None = None,
) -> Floats:
    """Fit a logistic model whose slopes have lower bounds.

    Parameters
    ----------
    features : (N, F) float64
    correct : (N,) bool
    ridge : float
        Penalty on the slopes of the standardised features, not on the intercept.
    lower_bounds : (F,) float or None
        Bounds of the slopes of the features as given; None for zero.

    Returns
    -------
    (1 + F,) float64
        Intercept and slopes of the features as given.

    Notes
    -----
    The problem is convex, so its solution under the bounds is the free one over some of the
    features with the others at their bounds; with few features all choices are tried.
    """
    mean, scale = features.mean(0), np.maximum(features.std(0), 1e-6)
    x, width = (features - mean) / scale, features.shape[1]
    bound = scale * (
        np.zeros(width) if lower_bounds is None else np.asarray(lower_bounds, np.float64)
    )
    best, slopes, intercept = np.inf, bound, 0.0
    for used in itertools.product((True, False), repeat=width):
        free = np.array(used, dtype=bool)
        cost, weights = _newton(x[:, free], correct, ridge, x[:, ~free] @ bound[~free])
        cost += ridge * float((bound[~free] ** 2).sum()) / 2
        if cost < best and (weights[1:] >= bound[free]).all():
            best, intercept = cost, float(weights[0])
            slopes = bound.copy()
            slopes[free] = weights[1:]
    slopes = slopes / scale
    return np.array([intercept - slopes @ mean, *slopes])


def fit_score(found: Sequence[ScoredCandidate]) -> Floats:
    """Fit intercept, slope of the logit and slope of the logarithm of the volume.

    Raises
    ------
    UnusableInputError
        There are too few candidates, or they are all correct or all false.
    """
    correct = _correct(found)
    if min(correct.sum(), (~correct).sum()) < _MIN_OF_EACH:
        raise UnusableInputError(
            found=f"{int(correct.sum())} correct and {int((~correct).sum())} false candidates",
            expected=f"at least {_MIN_OF_EACH} of each, to fit a score on",
            next_step="Examine more patients; a network that was hardly trained finds too few",
        )
    return fit_logistic(_features(found), correct, lower_bounds=MIN_SLOPES)


def cross_validate_halves(found: Sequence[ScoredCandidate]) -> CrossValidation:
    """Fit on every other pair of patients and score the rest, and vice versa."""
    halves = [[f for f in found if f.patient // 2 % 2 == side] for side in (0, 1)]
    even, odd = (fit_score(half) for half in halves)
    predicted = np.concatenate([scores_of(halves[0], odd), scores_of(halves[1], even)])
    true = np.concatenate([_correct(half) for half in halves])
    bins = reliability(predicted, true)
    rows = tuple(
        {
            "from": n / BINS,
            "to": (n + 1) / BINS,
            "count": int(count),
            "predicted": round(confidence / count, 3),
            "true": round(positive / count, 3),
        }
        for n, (count, confidence, positive) in enumerate(
            zip(bins.count, bins.confidence, bins.positive, strict=True)
        )
        if count
    )
    brier = float(((predicted - true) ** 2).mean())
    return CrossValidation((even, odd), round(bins.error, 4), round(brier, 4), rows)


def operating_points(
    found: Sequence[ScoredCandidate], scores: Floats, lesions: int, patients: int
) -> tuple[Mapping[str, float], ...]:
    """Return sensitivity and false candidates per scan at each of `LEVELS`, in ascending order."""
    points = []
    for level in LEVELS:
        flagged = [f for f, s in zip(found, scores, strict=True) if s >= level]
        found_lesions = {(f.patient, n) for f in flagged for n in f.lesions}
        false = sum(not f.correct for f in flagged)
        points.append({
            "threshold": level,
            "sensitivity": round(len(found_lesions) / max(1, lesions), 4),
            "false_per_scan": round(false / max(1, patients), 4),
        })  # fmt: skip
    return tuple(points)


def floor_of(points: Sequence[Mapping[str, float]], max_false: float = MAX_FALSE) -> float:
    """Return the threshold of highest sensitivity with at most `max_false` false candidates.

    Of equal ones that with fewest false candidates; if there is none, the highest threshold.
    """
    rare = [point for point in points if point["false_per_scan"] <= max_false]
    best = min(
        rare or points[-1:],
        key=lambda point: (-point["sensitivity"], point["false_per_scan"], point["threshold"]),
    )
    return best["threshold"]
