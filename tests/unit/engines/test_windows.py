"""Windows see everything that is wanted; blending leaves agreement alone."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionlens.engines import windows


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(5, 60)] * 3),
    st.tuples(*[st.integers(4, 40)] * 3),
    st.integers(0, 2**32 - 1),
)
def test_every_wanted_voxel_is_seen_within_the_volume(shape, size, seed):
    wanted = np.random.default_rng(seed).random(shape) > 0.995
    seen = np.zeros(shape, bool)
    for window in windows.over(wanted, size):
        assert all(0 <= s.start < s.stop <= n for s, n in zip(window, shape, strict=True))
        assert all(
            s.stop - s.start == min(e, n) for s, e, n in zip(window, size, shape, strict=True)
        )
        seen[window] = True
    assert seen[wanted].all()


def test_nothing_wanted_needs_no_window():
    assert list(windows.over(np.zeros((9, 9, 9), bool), (4, 4, 4))) == []


def test_answers_that_agree_with_what_was_known_change_nothing():
    known = torch.full((20, 22, 18), 1.5)
    blend = windows.Blend((20, 22, 18), torch.device("cpu"))
    for window in windows.over(np.ones((20, 22, 18), bool), (12, 12, 12)):
        blend.add(window, known[window])
    torch.testing.assert_close(blend.over(known, 0.6), known)


def test_a_window_counts_in_its_middle_and_fades_to_its_border():
    known = torch.zeros((30, 30, 30))
    blend = windows.Blend((30, 30, 30), torch.device("cpu"))
    blend.add((slice(5, 25),) * 3, torch.ones((20, 20, 20)))
    mixed = blend.over(known, 0.6)
    assert mixed[15, 15, 15] == 0.6
    assert mixed[5, 15, 15] < 0.1
    assert mixed[2, 15, 15] == 0


def test_the_whole_volume_reaches_from_minus_one_to_one():
    whole = (slice(0, 20), slice(0, 22), slice(0, 18))
    place = windows.relative_bounds(whole, (20, 22, 18), torch.device("cpu"))
    assert place.tolist() == [[[-1, 1]] * 3]
    half = windows.relative_bounds((slice(10, 20), *whole[1:]), (20, 22, 18), torch.device("cpu"))
    assert half[0, 0].tolist() == [0, 1]
