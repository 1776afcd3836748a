"""Scores of components."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.analysis.findings.component_scores import component_score
from lesionlens.base.records.prediction import Scoring


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000))
def test_a_score_lies_within_the_voxels_whatever_their_order(count, seed):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.01, 0.99, count)
    score = component_score(values, 1.0)
    assert np.median(values) - 1e-9 <= score <= values.max() + 1e-9
    assert component_score(rng.permutation(values), 1.0) == pytest.approx(score)


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(0.1, 2), st.floats(0, 1), st.floats(0.1, 100))
def test_surer_and_larger_components_score_higher(intercept, logit, log_ml, volume):
    model = Scoring(intercept, logit, log_ml)
    score = component_score(np.full(50, 0.6), volume, model)
    assert component_score(np.full(50, 0.7), volume, model) > score
    assert component_score(np.full(50, 0.6), 2 * volume, model) >= score
    assert 0 < score < 1


def test_variants_are_scored_one_by_one():
    both = np.stack([np.full(50, 0.9), np.full(50, 0.2)])
    np.testing.assert_allclose(component_score(both, 1.0), [0.9, 0.2])
