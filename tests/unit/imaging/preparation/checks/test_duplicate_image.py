"""A processed copy under another sequence's name is found; two acquisitions are none."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.checks import duplicate_image, swapped_names

T1, T1C, T2, FLAIR = MrSequence
SHAPE = (60, 72, 48)


def noise(seed, size):
    return np.random.default_rng(seed).normal(0, size, SHAPE)


@pytest.fixture(scope="module")
def brain():
    axes = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    return sum((axis / 0.9) ** 2 for axis in axes) < 1


@pytest.fixture(scope="module")
def images(brain):
    """Return two acquisitions of one contrast, with noise of 5% each, and one of another."""
    folds = ndimage.gaussian_filter(noise(0, 1), 2) > 0
    tissue = ndimage.gaussian_filter(np.where(folds, 130.0, 100.0), 0.7)
    drawn = {T1: tissue, T1C: tissue * 1.1, FLAIR: 250 - tissue}
    return {
        sequence: ((values + noise(seed, 5)) * brain).astype(np.float32)
        for seed, (sequence, values) in enumerate(drawn.items(), 1)
    }


def test_two_acquisitions_of_one_contrast_are_no_copies(images, brain):
    assert duplicate_image.copies(images, brain) is None


@pytest.mark.parametrize(
    "process",
    [
        lambda image: ndimage.gaussian_filter(image, 0.4),
        lambda image: image * np.linspace(0.8, 1.2, SHAPE[1])[:, None],
        np.sqrt,
        lambda image: np.round(image / 4),
        lambda image: image + noise(9, 1),
    ],
    ids=["smoothed", "shaded", "compressed", "coarser", "noisier"],
)
def test_a_processed_copy_is_named(images, brain, process):
    copied = {**images, T1: (process(images[T1C]) * brain).astype(np.float32)}
    assert duplicate_image.copies(copied, brain) == (T1, T1C)
    found = swapped_names.check(copied, brain, Grid(SHAPE, np.eye(4)))
    assert found is not None
    assert not found.passed
    assert found.message.startswith("T1 and T1c show the same detail")


def test_an_inverted_acquisition_is_no_copy(images, brain):
    inverted = {**images, T1: (images[T1C].max() - images[T1C]) * brain}
    assert duplicate_image.copies(inverted, brain) is None


def test_too_little_brain_is_not_compared(images, brain):
    small = brain & (np.arange(SHAPE[0]) < 8)[:, None, None]
    assert duplicate_image.copies({**images, T1: images[T1C]}, small) is None
