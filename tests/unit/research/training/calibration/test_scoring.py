"""The score of a candidate is the frequency of correct ones among such candidates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from research.training.calibration import scoring
from research.training.calibration.scoring import ScoredCandidate

from lesionlens.base.errors import UnusableInputError


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _candidates(count, rng, slope=1.2, volume=0.5):
    logits, sizes = rng.normal(0.5, 2, count), rng.normal(0, 1.5, count)
    correct = rng.random(count) < _sigmoid(-0.3 + slope * logits + volume * sizes)
    return [
        ScoredCandidate(x, ml, bool(yes), n // 2, frozenset({1} if yes else ()))
        for n, (x, ml, yes) in enumerate(zip(logits, sizes, correct, strict=True))
    ]


def test_the_model_is_recovered():
    found = _candidates(20_000, np.random.default_rng(1))
    np.testing.assert_allclose(scoring.fit_score(found), [-0.3, 1.2, 0.5], atol=0.1)


def test_a_slope_is_never_negative():
    rng = np.random.default_rng(2)
    found = _candidates(4000, rng, volume=-0.7)
    intercept, logit, size = scoring.fit_score(found)
    assert size == 0
    assert logit > 0.8
    alone = scoring.fit_logistic(
        np.array([[f.logit] for f in found]), np.array([f.correct for f in found])
    )
    np.testing.assert_allclose([intercept, logit], alone, atol=1e-6)


def test_a_score_depends_on_the_logit_even_if_volume_alone_would_suffice():
    found = _candidates(4000, np.random.default_rng(4), slope=-0.3, volume=0.8)
    _, logit, size = scoring.fit_score(found)
    assert logit == pytest.approx(scoring.MIN_SLOPES[0])
    assert size == pytest.approx(0.8, abs=0.15)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(12, 80), st.floats(-2, 2), st.floats(-2, 2))
def test_the_bounded_fit_is_the_best_one_within_the_bounds(seed, count, slope, volume):
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (count, 2))
    correct = rng.random(count) < _sigmoid(features @ [slope, volume])
    fitted = scoring.fit_logistic(features, correct, ridge=1.0)
    scale = features.std(0)

    def cost(weights):
        logit = weights[0] + features @ weights[1:]
        loss = np.logaddexp(0, np.where(correct, -logit, logit)).sum()
        return loss + ((weights[1:] * scale) ** 2).sum() / 2

    assert (fitted[1:] >= 0).all()
    for step in rng.normal(0, 0.05, (60, 3)):
        other = fitted + step
        other[1:] = np.maximum(other[1:], 0)
        assert cost(other) >= cost(fitted) - 0.01


def test_scores_of_other_patients_are_calibrated():
    rng = np.random.default_rng(4)
    result = scoring.cross_validate_halves(_candidates(6000, rng))
    assert result.error < 0.03
    assert sum(row["count"] for row in result.bins) == 6000
    for row in result.bins:
        assert row["from"] - 1e-9 <= row["predicted"] <= row["to"] + 1e-9
    # a score unrelated to correctness predicts the base rate
    unrelated = [
        ScoredCandidate(f.logit, f.log_ml, bool(rng.random() < 0.7), f.patient, f.lesions)
        for f in _candidates(6000, rng)
    ]
    assert scoring.cross_validate_halves(unrelated).brier == pytest.approx(0.21, abs=0.01)


def test_too_few_candidates_are_refused():
    found = [ScoredCandidate(1.0, 0.0, True, n, frozenset({1})) for n in range(40)]
    with pytest.raises(UnusableInputError, match="40 correct and 0 false"):
        scoring.fit_score(found)


def test_operating_points_count_lesions_once():
    found = [
        ScoredCandidate(3.0, 0.0, True, 0, frozenset({1})),
        ScoredCandidate(1.0, 0.0, True, 0, frozenset({1})),
        ScoredCandidate(0.0, 0.0, False, 1, frozenset()),
    ]
    points = scoring.operating_points(found, np.array([0.97, 0.7, 0.3]), 2, 2)
    low, high = points[0], points[-2]
    assert low["sensitivity"] == high["sensitivity"] == 0.5
    assert low["false_per_scan"] == 0.5
    assert high["false_per_scan"] == 0
    assert scoring.floor_of(points) == 0.35


def test_the_threshold_is_where_no_lesion_is_lost_and_the_fewest_are_false():
    rows = [
        (0.2, 0.75, 0.15),
        (0.25, 0.75, 0.08),
        (0.4, 0.75, 0.04),
        (0.6, 0.75, 0.04),
        (0.7, 0.7, 0),
    ]
    points = [
        dict(zip(("threshold", "sensitivity", "false_per_scan"), row, strict=True)) for row in rows
    ]
    assert scoring.floor_of(points) == 0.4
    assert scoring.floor_of(points, max_false=0.01) == 0.7
    assert scoring.floor_of(points[:1]) == 0.2


def test_points_fall_as_the_score_rises():
    found = _candidates(500, np.random.default_rng(5))
    scores = scoring.scores_of(found, np.array([0.0, 1.0, 0.0]))
    points = scoring.operating_points(found, scores, 400, 250)
    for name in ("sensitivity", "false_per_scan"):
        values = [p[name] for p in points]
        assert values == sorted(values, reverse=True)
