"""How near several answers are to undecided."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.analysis.explain.perturbations import undecided


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_doubt_lies_between_none_and_one_whatever_the_order_of_voices(voices, seed):
    rng = np.random.default_rng(seed)
    reported = rng.random((voices, 3, 3, 3)).astype(np.float32)
    doubt = undecided(reported)
    assert doubt.min() >= -1e-6
    assert doubt.max() <= 1 + 1e-6
    np.testing.assert_allclose(undecided(reported[::-1]), doubt, atol=1e-6)
    np.testing.assert_allclose(undecided(1 - reported), doubt, atol=1e-5)


def test_sure_answers_leave_no_doubt_and_contradiction_does():
    sure = np.ones((5, 2, 2, 2), np.float32)
    assert undecided(sure).max() == 0
    torn = sure.copy()
    torn[:1] = 0
    assert undecided(torn).min() == pytest.approx(0.4)
