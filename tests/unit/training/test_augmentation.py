"""A real volume is shown anew each time, and stays what it is."""

import numpy as np
import pytest

from lesionlens.training.augmentation import augment
from lesionlens.training.data import Packed

SHAPE = (40, 48, 40)
TUMOUR = (slice(8, 18), slice(20, 32), slice(16, 26))


@pytest.fixture(scope="module")
def brain():
    """A ball with a bright tumour on the left; T2 is missing."""
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    code = ((place**2).sum(0) < 1).astype(np.uint8)
    code[TUMOUR] = 2
    channels = rng.normal(0, 0.3, (4, *SHAPE)) + 2.0 * (code > 1) - 0.5 * place[2]
    channels[2] = 0
    inside = code > 0
    centred = channels - channels[:, inside].mean(1)[:, None, None, None]
    deviation = channels[:, inside].std(1).clip(1e-6)[:, None, None, None]
    present = np.array([True, True, False, True])
    scores = (centred / deviation * inside * present[:, None, None, None]).astype(np.float16)
    return Packed(scores, code, (code > 1).astype(np.uint8), present)


def test_it_looks_new_each_time_and_the_same_for_the_same_seed(brain):
    first, again, other = (augment(brain, 4.0, None, np.random.default_rng(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first.channels, again.channels)
    assert first.code.shape != other.code.shape or not np.array_equal(first.code, other.code)


@pytest.mark.parametrize("seed", range(6))
def test_labels_move_with_the_image_and_scores_stay_scores(brain, seed):
    new = augment(brain, 4.0, None, np.random.default_rng(seed))
    inside, tumour = new.code > 0, new.code > 1
    assert 0.4 < tumour.sum() / (brain.code > 1).sum() < 2.2
    np.testing.assert_array_equal(new.instances > 0, tumour)
    for sequence in (0, 1, 3):
        values = new.channels[sequence].astype(float)
        assert values[tumour].mean() > values[inside & ~tumour].mean() + 0.5
        assert abs(values[inside].mean()) < 0.1
        assert values[inside].std() == pytest.approx(1, abs=0.12)
        assert not values[~inside].any()
    assert not new.channels[2].any()


@pytest.mark.parametrize("seed", range(4))
def test_sides_are_not_swapped(brain, seed):
    new = augment(brain, 4.0, None, np.random.default_rng(seed))
    centre = np.argwhere(new.code > 1).mean(0) / np.array(new.code.shape)
    assert centre[0] < 0.45


def test_a_window_knows_its_place(brain):
    new = augment(brain, 4.0, (16, 16, 16), np.random.default_rng(0))
    assert new.code.shape == (16, 16, 16)
    width = (new.position_range[:, 1] - new.position_range[:, 0]) / 2
    np.testing.assert_allclose(width, 16 / np.array(SHAPE), atol=0.02)
