"""Where a core is drawn: by the Dice that may be expected of it, within limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionlens.engines.lens.thresholds import (
    coarse_whole_tumour_threshold,
    core_threshold,
    of_highest_expected_dice,
)


def expected_dice(probability, cut):
    drawn = probability >= cut
    return 2 * probability[drawn].sum() / (drawn.sum() + probability.sum())


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5), st.floats(0.2, 5))
def test_no_other_cut_promises_more(seed, a, b):
    probability = np.random.default_rng(seed).beta(a, b, 4000).astype(np.float32)
    probability = probability[probability > 0.005].reshape(-1, 1, 1)
    cut = of_highest_expected_dice(probability)
    reached = expected_dice(probability, cut)
    assert cut == pytest.approx(reached / 2, abs=0.01)
    assert reached >= max(expected_dice(probability, at) for at in np.linspace(0, 0.99, 100)) - 0.01


def test_what_is_hardly_probable_anywhere_is_no_core():
    faint = np.zeros((20, 20, 20), np.float32)
    faint[5:10] = 0.15
    assert core_threshold(faint, 0.35) == 0.2
    assert core_threshold(np.zeros_like(faint), 0.35) == 0.2


def test_a_doubtful_core_is_drawn_from_lower_than_a_sure_one():
    doubtful, sure = np.zeros((2, 20, 20, 20), np.float32)
    doubtful[5:10], sure[5:10] = 0.4, 0.95
    assert core_threshold(doubtful, 0.35) == pytest.approx(0.4 / 1.4, abs=0.01)
    assert core_threshold(sure, 0.35) == 0.35


def test_a_tumour_that_is_faint_in_larger_voxels_is_flagged_whole():
    probability = np.zeros((20, 20, 20), np.float32)
    probability[5:15, 5:15, 5:15] = 0.45
    probability[9:11, 9:11, 9:11] = 0.6
    threshold = coarse_whole_tumour_threshold(probability, 0.5)
    assert (probability >= threshold).sum() == 1000
    assert coarse_whole_tumour_threshold(probability, 0.8) == 0.8
    assert coarse_whole_tumour_threshold(np.minimum(probability * 3, 1), 0.5) > 0.49
