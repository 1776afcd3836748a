"""Attention rollout, one row at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.engines.attention import rollout


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(2, 30), st.integers(0, 1000))
def test_one_row_of_the_rollout_is_that_of_the_whole_product(layers, tokens, seed):
    rng = torch.Generator().manual_seed(seed)
    made = [torch.randn(tokens, tokens, generator=rng).softmax(-1) for _ in range(layers)]
    product = torch.eye(tokens)
    for weights in made:
        product = (0.5 * weights + 0.5 * torch.eye(tokens)) @ product
    found = rollout(made, tokens - 1)
    torch.testing.assert_close(found, product[tokens - 1], atol=1e-5, rtol=1e-4)
    assert float(found.sum()) == pytest.approx(1, abs=1e-4)
    several = rollout(made, torch.full((tokens,), 1 / tokens))
    torch.testing.assert_close(several, product.mean(0), atol=1e-5, rtol=1e-4)
