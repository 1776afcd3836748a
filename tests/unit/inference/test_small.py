"""Scores, rollout and the spread of answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.inference import rollout
from lesionlens.inference.component_score import component_score
from lesionlens.inference.uncertainty import undecided
from lesionlens.records.prediction import Scoring


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


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(2, 30), st.integers(0, 1000))
def test_one_row_of_the_rollout_is_that_of_the_whole_product(layers, tokens, seed):
    rng = torch.Generator().manual_seed(seed)
    made = [
        rollout.layer_weights(
            torch.randn(2, tokens, 4, generator=rng), torch.randn(2, tokens, 4, generator=rng)
        )
        for _ in range(layers)
    ]
    product = torch.eye(tokens)
    for weights in made:
        product = (0.5 * weights + 0.5 * torch.eye(tokens)) @ product
    found = rollout.row(tokens - 1, made)
    torch.testing.assert_close(found, product[tokens - 1], atol=1e-5, rtol=1e-4)
    assert float(found.sum()) == pytest.approx(1, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_doubt_lies_between_none_and_one_whatever_the_order_of_voices(voices, seed):
    rng = np.random.default_rng(seed)
    said = rng.random((voices, 3, 3, 3)).astype(np.float32)
    doubt = undecided(said)
    assert doubt.min() >= -1e-6
    assert doubt.max() <= 1 + 1e-6
    np.testing.assert_allclose(undecided(said[::-1]), doubt, atol=1e-6)
    np.testing.assert_allclose(undecided(1 - said), doubt, atol=1e-5)


def test_sure_answers_leave_no_doubt_and_contradiction_does():
    sure = np.ones((5, 2, 2, 2), np.float32)
    assert undecided(sure).max() == 0
    torn = sure.copy()
    torn[:1] = 0
    assert undecided(torn).min() == pytest.approx(0.4)
