"""A head that lies half a turn away from what its headers say is reported, whatever the turn."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.imaging.preparation.checks.half_turn_check import half_turn
from lesionlens.imaging.preparation.tissue_template import load_template

WORDS = {
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


def test_a_head_that_lies_as_its_headers_say_has_no_row(brain):
    assert half_turn(brain) is None


@pytest.mark.parametrize("axes", WORDS)
def test_a_half_turn_is_reported_with_the_exchanged_directions(brain, axes):
    found = half_turn(np.flip(brain, axes))
    assert found is not None
    assert not found.passed
    assert WORDS[axes] in found.message


def test_a_shape_without_a_front_or_no_brain_says_nothing():
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3))
    assert half_turn((grid**2).sum(axis=0) < 0.8) is None
    assert half_turn(np.zeros((5, 5, 5), bool)) is None
