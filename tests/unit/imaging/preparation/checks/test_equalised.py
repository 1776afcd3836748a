"""An equalised histogram is reported; scans as acquired, in 8 bits too, are not accused."""

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.checks import equalised

T1C = MrSequence.T1C


@pytest.fixture(scope="module")
def scan():
    return make_patient(spacing_mm=3.0).sequences[T1C].data


def check(values):
    return equalised.check({T1C: (values.astype(np.float32), Grid(values.shape, np.eye(4)))})


def flattened(values, where):
    out, inside = np.zeros_like(values), values[where]
    ranks = np.searchsorted(np.sort(inside), inside, side="right") / inside.size
    out[where] = np.round(255 * ranks)
    return out


def test_an_equalised_brain_and_an_equalised_image_are_named(scan):
    for where in (scan > 0, np.ones(scan.shape, bool)):
        found = check(flattened(scan, where))
        assert not found.passed
        assert "T1c" in found.message


def test_a_scan_and_its_copy_in_8_bits_are_not_accused(scan):
    assert check(scan) is None
    assert check(np.round(scan / scan.max() * 255)) is None


def test_tissues_that_fill_the_range_between_them_are_not_accused(scan):
    """The T1 of a healthy brain without its fluid was: two broad tissues, nearly side by side."""
    values, drawn = np.zeros_like(scan), np.random.default_rng(0)
    brain = scan > 0
    tissues = drawn.normal(0.27, 0.11, scan.shape), drawn.normal(0.73, 0.11, scan.shape)
    values[brain] = np.where(drawn.random(scan.shape) < 0.5, *tissues).clip(0.01, 1)[brain]
    assert check(values) is None


def test_a_scan_that_shows_next_to_nothing_is_not_judged(scan):
    assert check(np.zeros_like(scan)) is None
    assert check(np.where(scan > 0, 100, 0)) is None
