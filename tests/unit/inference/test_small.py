"""Scores, rollout and the spread of answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.inference import rollout
from lesionlens.inference.calibration import component_score
from lesionlens.inference.uncertainty import spread


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000))
def test_a_score_lies_between_mean_and_maximum_whatever_the_order(count, seed):
    rng = np.random.default_rng(seed)
    values = rng.random(count)
    score = component_score(values)
    assert values.mean() - 1e-9 <= score <= values.max() + 1e-9
    assert component_score(rng.permutation(values)) == pytest.approx(score)


def test_surer_voxels_score_higher():
    assert component_score(np.full(50, 0.9)) > component_score(np.full(50, 0.6))


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


def test_answers_that_agree_have_no_spread():
    assert spread(np.full((5, 2, 2, 2), 0.7, np.float32)).max() == pytest.approx(0, abs=1e-6)
