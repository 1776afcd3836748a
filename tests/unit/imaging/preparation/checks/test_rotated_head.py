"""A head that lies a quarter or half a turn from what its headers say is reported."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.checks.rotated_head import (
    QUARTER_TURNS,
    check,
    half_turn,
    quarter_turn,
    rotated,
)
from lesionlens.imaging.preparation.tissue_template import load_template


def _nodding(degrees):
    """Return image and mask of the template's brain, stretched, that nods."""
    template = load_template()
    maps = np.stack([template.white, template.grey, template.mask])
    larger = ndimage.zoom(maps, (1, 2.0, 1.9, 2.1), order=1)
    white, grey, mask = ndimage.rotate(larger, degrees, axes=(2, 3), order=1)
    noise = np.random.default_rng(0).normal(0, 0.1, white.shape)
    return {MrSequence.T1: (3 * white + 2 * grey + noise).astype(np.float32)}, mask > 0.5


@pytest.fixture(scope="module")
def head():
    return _nodding(4.0)


def _rotated(head, turn):
    images, brain = head
    return {s: rotated(values, turn) for s, values in images.items()}, rotated(brain, turn)


def test_twenty_turns_swap_axes_and_keep_the_handedness():
    assert len(set(QUARTER_TURNS)) == 20
    corner = np.zeros((2, 2, 2))
    corner[1, 0, 0], corner[0, 1, 0], corner[0, 0, 1] = 1, 2, 3
    results = {rotated(corner, turn).tobytes() for turn in QUARTER_TURNS}
    assert len(results) == 20


@pytest.mark.parametrize("degrees", [-25.0, -15.0, 4.0, 20.0])
def test_a_head_that_lies_as_its_headers_say_has_no_row_even_if_it_nods(degrees):
    assert quarter_turn(*_nodding(degrees)) is None


@pytest.mark.parametrize("turn", QUARTER_TURNS[::4])
def test_every_turn_that_swaps_axes_is_reported(head, turn):
    found = check(*_rotated(head, turn))
    assert found is not None
    assert not found.passed
    assert "quarter turn" in found.message


def test_shape_alone_is_not_enough(head):
    images, brain = _rotated(head, ((0, 2, 1), (0, 0, 1)))
    even = {s: brain.astype(np.float32) for s in images}
    assert quarter_turn(even, brain) is None


def test_t1c_alone_is_not_judged(head):
    images, brain = _rotated(head, QUARTER_TURNS[0])
    assert quarter_turn({MrSequence.T1C: images[MrSequence.T1]}, brain) is None


def test_a_ball_or_no_brain_says_nothing():
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3))
    ball = (axes**2).sum(axis=0) < 0.8
    assert quarter_turn({MrSequence.T1: ball.astype(np.float32)}, ball) is None
    assert check({}, np.zeros((5, 5, 5), bool)) is None


HALF_TURNS = {
    (0, 1): "left and right, front and back",
    (0, 2): "left and right, top and bottom",
    (1, 2): "front and back, top and bottom",
}


@pytest.fixture(scope="module")
def brain():
    """A tilted, stretched brain with a field of view that cuts off its lower end."""
    grown = ndimage.zoom(load_template().mask, (2.0, 1.9, 2.1), order=1)
    mask = ndimage.rotate(grown, 8.0, axes=(1, 2), order=1) > 0.5
    mask[:, :, : mask.shape[2] // 5] = False
    return mask


def test_a_tilted_head_that_lies_as_its_headers_say_has_no_row(brain):
    assert half_turn(brain) is None


@pytest.mark.parametrize("axes", HALF_TURNS)
def test_a_half_turn_is_reported_with_the_swapped_directions(brain, axes):
    rotated_brain = np.flip(brain, axes)
    found = check({MrSequence.T1C: rotated_brain.astype(np.float32)}, rotated_brain)
    assert found is not None
    assert not found.passed
    assert HALF_TURNS[axes] in found.message


def test_a_shape_without_a_front_says_nothing():
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3))
    assert half_turn((grid**2).sum(axis=0) < 0.8) is None
