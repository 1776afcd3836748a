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
than any slope that was ever fitted, so that few candidates cannot run away."""
MAX_FALSE = 0.1
"""False candidates a scan at the default operating point."""
MIN_SLOPES = (0.1, 0.0)
"""Of the mean logit and of the logarithm of the volume: a score always depends on what the network
found there, or no sequence and no hidden place could ever change it. Half of the slope that
was fitted on 100 synthetic patients (.19)."""
LEVELS = (0.02, *(round(0.05 * n, 2) for n in range(1, 20)), 0.98)
_NEWTON_STEPS = 50
_LEAST = 5  # candidates of each kind, right and wrong, without which nothing is fitted


@dataclass(frozen=True, slots=True)
class Found:
    """One candidate on a synthetic patient."""

    logit: float
    """Mean logit of its surest voxels in the first pass."""
    log_ml: float
    """Logarithm of its volume in ml."""
    right: bool
    """Enough of it is tumour."""
    patient: int
    """Whose it is."""
    lesions: frozenset[int]
    """The true lesions that it touches."""


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """How a fit on half of the patients does on the other half, both ways round."""

    score: tuple[Floats, Floats]
    """Pair of (3,) float. Fitted on either half of the patients."""
    error: float
    brier: float
    """Expected calibration error and Brier score of the candidates, each judged by the fit that has
    not seen its patient."""
    bins: tuple[Mapping[str, float], ...]
    """Tuple of dict. Reliability by score: ``from``, ``to``, ``count``, ``predicted``, ``true``."""


def _features(found: Sequence[Found]) -> Floats:
    return np.array([[f.logit, f.log_ml] for f in found], np.float64).reshape(-1, 2)


def _right(found: Sequence[Found]) -> Flags:
    return np.array([f.right for f in found], dtype=bool)


def scores_of(found: Sequence[Found], score: Floats) -> Floats:
    """Return the (N,) scores of candidates by (3,) intercept and slopes."""
    return np.asarray(1 / (1 + np.exp(-(score[0] + _features(found) @ score[1:]))))


def _newton(x: Floats, right: Flags, ridge: float, given: Floats) -> tuple[float, Floats]:
    """Minimise cross-entropy plus the penalty, with logits `given`; cost and weights."""
    columns = np.column_stack([np.ones(len(x)), x])
    penalty = np.diag([1e-3, *[ridge] * x.shape[1]])
    weights = np.zeros(columns.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(given + columns @ weights)))
        slope = columns.T @ (p - right) + penalty @ weights
        curve = (columns * (p * (1 - p))[:, None]).T @ columns + penalty
        weights = weights - np.linalg.solve(curve, slope)
    sign = np.where(right, -1.0, 1.0)
    cost = (
        np.logaddexp(0, sign * (given + columns @ weights)).sum() + weights @ penalty @ weights / 2
    )
    return float(cost), weights


def fit_logistic(
    features: Floats, right: Flags, ridge: float = RIDGE, least: Sequence[float] | None = None
) -> Floats:
    """Fit a logistic model whose slopes are bounded below: surer and larger never means worse.

    Parameters
    ----------
    features : (N, F) float64
    right : (N,) bool
    ridge : float
        Penalty on the slopes of the standardised features, not on the intercept.
    least : (F,) float or None
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
    middle, scale = features.mean(0), np.maximum(features.std(0), 1e-6)
    x, width = (features - middle) / scale, features.shape[1]
    bound = scale * (np.zeros(width) if least is None else np.asarray(least, np.float64))
    best, slopes, intercept = np.inf, bound, 0.0
    for used in itertools.product((True, False), repeat=width):
        free = np.array(used, dtype=bool)
        cost, weights = _newton(x[:, free], right, ridge, x[:, ~free] @ bound[~free])
        cost += ridge * float((bound[~free] ** 2).sum()) / 2
        if cost < best and (weights[1:] >= bound[free]).all():
            best, intercept = cost, float(weights[0])
            slopes = bound.copy()
            slopes[free] = weights[1:]
    slopes = slopes / scale
    return np.array([intercept - slopes @ middle, *slopes])


def fit_score(found: Sequence[Found]) -> Floats:
    """Fit intercept, slope of the logit and slope of the logarithm of the volume.

    Raises
    ------
    UnusableInputError
        There are too few candidates, or they are all right or all wrong.
    """
    right = _right(found)
    if min(right.sum(), (~right).sum()) < _LEAST:
        raise UnusableInputError(
            found=f"{int(right.sum())} right and {int((~right).sum())} wrong candidates",
            expected=f"at least {_LEAST} of each, to fit a score on",
            next_step="Draw more patients; a network that was hardly trained finds too few",
        )
    return fit_logistic(_features(found), right, least=MIN_SLOPES)


def try_by_halves(found: Sequence[Found]) -> CrossValidation:
    """Fit on every other pair of patients, judge the rest, and the other way round."""
    halves = [[f for f in found if f.patient // 2 % 2 == side] for side in (0, 1)]
    even, odd = (fit_score(half) for half in halves)
    predicted = np.concatenate([scores_of(halves[0], odd), scores_of(halves[1], even)])
    true = np.concatenate([_right(half) for half in halves])
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
    found: Sequence[Found], scores: Floats, lesions: int, patients: int
) -> tuple[Mapping[str, float], ...]:
    """Sensitivity and false candidates per scan at each of `LEVELS`, rising in score."""
    points = []
    for level in LEVELS:
        kept = [f for f, s in zip(found, scores, strict=True) if s >= level]
        hit = {(f.patient, n) for f in kept for n in f.lesions}
        false = sum(not f.right for f in kept)
        points.append({
            "threshold": level,
            "sensitivity": round(len(hit) / max(1, lesions), 4),
            "false_per_scan": round(false / max(1, patients), 4),
        })  # fmt: skip
    return tuple(points)


def floor_of(points: Sequence[Mapping[str, float]], most_false: float = MAX_FALSE) -> float:
    """Lowest score with the fewest false candidates, of those that find as many lesions as can be.

    No more than `most_false` a scan; else the highest score.
    """
    rare = [point for point in points if point["false_per_scan"] <= most_false]
    best = min(
        rare or points[-1:],
        key=lambda point: (-point["sensitivity"], point["false_per_scan"], point["threshold"]),
    )
    return best["threshold"]
