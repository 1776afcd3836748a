"""Attention maps: proportional to the weights, comparable, faint where nothing is singled out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.analysis.explain import maps
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import Trace

SHAPE = (12, 10, 8)


def trace_of(weights):
    return Trace({Region.WT: weights.astype(np.float32)}, "a test", ("one",))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-6, 1e6))
def test_the_scale_of_the_weights_does_not_matter(seed, scale):
    weights = np.random.default_rng(seed).random(SHAPE) ** 8
    brain = np.ones(SHAPE, bool)
    one = maps.normalised(trace_of(weights), brain)
    two = maps.normalised(trace_of(weights * scale), brain)
    np.testing.assert_allclose(one.maps[Region.WT], two.maps[Region.WT], rtol=1e-3, atol=1e-6)
    assert one.raw_range[Region.WT] == pytest.approx(two.raw_range[Region.WT], rel=1e-3)


def test_below_full_scale_it_is_proportional_to_the_weights():
    weights = np.random.default_rng(0).random(SHAPE) ** 12
    drawn = maps.normalised(trace_of(weights), np.ones(SHAPE, bool)).maps[Region.WT]
    shown = (drawn > 1e-4) & (drawn < 1)
    ratio = drawn[shown] / weights[shown]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_a_spike_does_not_hide_the_rest():
    weights = np.full(SHAPE, 1e-3)
    weights[2:5, 2:5, 2:5] = 1.0
    weights[3, 3, 3] = 5.0
    drawn = maps.normalised(trace_of(weights), np.ones(SHAPE, bool)).maps[Region.WT]
    assert drawn[3, 3, 3] == 1
    assert drawn[2, 2, 2] > 0.9
    assert drawn[8, 8, 6] < 0.01


def test_attention_everywhere_alike_stays_faint():
    drawn = maps.normalised(trace_of(np.ones(SHAPE)), np.ones(SHAPE, bool))
    assert drawn.maps[Region.WT].max() == pytest.approx(1 / maps.FAINT)
    assert drawn.raw_range[Region.WT] == (pytest.approx(1), maps.FAINT)


def test_attention_on_one_voxel_reaches_one():
    weights = np.zeros(SHAPE)
    weights[3, 4, 5] = 1e-9
    drawn = maps.normalised(trace_of(weights), np.ones(SHAPE, bool))
    assert drawn.maps[Region.WT][3, 4, 5] == 1
    assert drawn.raw_range[Region.WT][1] == pytest.approx(np.prod(SHAPE))


def test_what_lies_outside_the_brain_is_left_out():
    weights = np.ones(SHAPE)
    weights[0] = 100
    brain = np.ones(SHAPE, bool)
    brain[0] = False
    drawn = maps.normalised(trace_of(weights), brain)
    assert not drawn.maps[Region.WT][0].any()
    assert drawn.raw_range[Region.WT] == (pytest.approx(1), maps.FAINT)


def test_no_attention_at_all_is_an_empty_map():
    drawn = maps.normalised(trace_of(np.zeros(SHAPE)), np.ones(SHAPE, bool))
    assert not drawn.maps[Region.WT].any()
