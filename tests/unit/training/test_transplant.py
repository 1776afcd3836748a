"""A patient's tumour in another brain: it is carried over whole, and nothing else changes."""

import dataclasses

import numpy as np
import pytest

from lesionlens.network.synth.instances import WHITE_SPOTS
from lesionlens.training.data import Packed
from lesionlens.training.transplant import transplanted

SHAPE = (40, 48, 40)
SPACING_MM = 4.0


def _brain(seed, tumour=None):
    """A ball of noise, and in it a box of tumour that is bright in every sequence."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    code = ((place**2).sum(0) < 1).astype(np.uint8)
    if tumour is not None:
        code[tumour] = 3
    channels = (rng.uniform(-1, 1, (4, *SHAPE)) + 2.3 * (code > 1)) * (code > 0)
    return Packed(channels.astype(np.float16), code, (code > 1).astype(np.uint8))


@pytest.fixture(scope="module")
def donor():
    return _brain(0, (slice(8, 16), slice(18, 28), slice(16, 24)))


@pytest.fixture(scope="module")
def host():
    return _brain(1)


@pytest.mark.parametrize("seed", range(8))
def test_the_tumour_arrives_with_its_label(host, donor, seed):
    new = transplanted(host, donor, SPACING_MM, np.random.default_rng(seed))
    tumour, rest = new.code == 3, new.code == 1
    assert 0.6 * (donor.code == 3).sum() <= tumour.sum() <= (donor.code == 3).sum()
    assert new.channels[1][tumour].astype(float).min() > new.channels[1][rest].astype(float).max()
    np.testing.assert_array_equal(new.code > 0, host.code > 0)
    np.testing.assert_array_equal(new.instances > 0, tumour)


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_scores_of_the_new_brain(host, donor, seed):
    new = transplanted(host, donor, SPACING_MM, np.random.default_rng(seed))
    inside = new.channels[:, new.code > 0].astype(float)
    assert abs(inside.mean(1)).max() < 0.03
    assert abs(inside.std(1) - 1).max() < 0.03
    assert not new.channels[:, new.code == 0].any()


def test_either_side_is_reached(host, donor):
    sides = {
        bool(np.argwhere(new.code == 3)[:, 0].mean() > SHAPE[0] / 2)
        for new in (
            transplanted(host, donor, SPACING_MM, np.random.default_rng(s)) for s in range(12)
        )
    }
    assert sides == {True, False}


def test_what_the_host_drew_keeps_its_number_where_no_tumour_lies(host, donor):
    spots = np.zeros(SHAPE, np.uint8)
    spots[30:33, 20:24, 18:22] = WHITE_SPOTS
    spotted = dataclasses.replace(host, instances=spots)
    new = transplanted(spotted, donor, SPACING_MM, np.random.default_rng(0))
    kept = new.code == 1
    np.testing.assert_array_equal(new.instances[kept], spots[kept])
    assert (new.instances[new.code > 1] == 1).all()


def test_the_host_stays_where_there_is_nothing_to_give_or_other_sequences(host, donor):
    rng = np.random.default_rng(0)
    assert transplanted(donor, host, SPACING_MM, rng) is donor
    partly = dataclasses.replace(donor, present=np.array([True, True, False, True]))
    assert transplanted(host, partly, SPACING_MM, rng) is host
