"""A strong field of a surface coil is taken out; weak ones and lesions are left alone."""

import numpy as np
import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.bias_field import strong_fields

T1, T1C, T2, FLAIR = MrSequence
SHAPE = (60, 70, 50)
X, Y, Z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
BRAIN = X**2 + Y**2 + Z**2 < 0.8
LESION = (X - 0.3) ** 2 + (Y + 0.4) ** 2 + Z**2 < 0.15


def coil(reach):
    """How strongly a coil behind the head sees each voxel."""
    return (1 / (1 + (X**2 + (Y + 1.1) ** 2 + Z**2) / reach)).astype(np.float32)


@pytest.fixture
def image():
    tissue = np.where(np.sin(9 * X) * np.sin(8 * Y) * np.sin(7 * Z) > 0, 100.0, 130.0)
    noise = np.random.default_rng(0).normal(0, 5, SHAPE)
    return ((tissue + noise) * BRAIN).clip(0).astype(np.float32)


def unevenness(image):
    back, front = (np.median(image[:, part][BRAIN[:, part]]) for part in (np.s_[:20], np.s_[50:]))
    return back / front


def test_a_strong_field_is_taken_out(image):
    shaded = image * coil(0.7)
    found = strong_fields({FLAIR: shaded, T1: image}, BRAIN)
    assert set(found) == {FLAIR}
    assert found[FLAIR].fraction == 1
    assert unevenness(shaded) > 2.5
    even = found[FLAIR].removed_from(shaded)
    assert unevenness(even) == pytest.approx(unevenness(image), rel=0.25)


def test_a_slope_is_taken_out_before_it_is_strong(image):
    slope = 2.8 ** (-Y / 0.89 / 2)
    found = strong_fields({FLAIR: (image * slope).astype(np.float32)}, BRAIN)[FLAIR]
    assert found.ratio == pytest.approx(2.3, abs=0.15)
    even = found.removed_from((image * slope).astype(np.float32))
    assert unevenness(even) == pytest.approx(unevenness(image), rel=0.1)


@pytest.mark.parametrize("what", ["nothing", "weak coil", "bright lesion"])
def test_what_is_even_or_a_lesion_stays(image, what):
    if what == "weak coil":
        image = image * coil(6.0)
    elif what == "bright lesion":
        image = np.where(LESION, image * 2.5, image)
    assert not strong_fields({FLAIR: image}, BRAIN)


def test_a_lesion_of_another_sequence_does_not_bend_the_field(image):
    shaded, lesion = image * coil(0.7), LESION & BRAIN
    plain = strong_fields({FLAIR: shaded}, BRAIN)[FLAIR].log[lesion]
    faint, clear = np.where(lesion, shaded * 1.35, shaded), np.where(lesion, image * 3, image)
    beside = strong_fields({T2: clear, FLAIR: faint}, BRAIN)[FLAIR].log[lesion]
    assert np.median(np.exp(plain - beside)) > 0.97
