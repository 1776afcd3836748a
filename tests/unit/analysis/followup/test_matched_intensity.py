"""Intensities of two examinations, matched by unaffected tissue."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.analysis.followup.matched_intensity import match_intensities

SHAPE = (36, 32, 28)
BRAIN = np.linalg.norm((np.moveaxis(np.indices(SHAPE), 0, -1) - 15) / 15, axis=-1) <= 1
LESION = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - 15, axis=-1) <= 5
NORMAL = ndimage.binary_erosion(BRAIN) & ~ndimage.binary_dilation(LESION, iterations=3)


def tissue(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return (np.exp(0.3 * noise / noise.std()) * BRAIN).astype(np.float32)


@pytest.mark.parametrize("unit", [1.0, 300.0])
def test_another_curve_and_another_field_are_taken_out_and_a_change_is_not(unit):
    """A lesion, a seventh of the brain, has doubled in intensity."""
    before, along = tissue(0), np.linspace(-1, 1, SHAPE[0])[:, None, None]
    field = np.exp(0.2 * along - 0.1 * along**2)
    now = (unit * before**0.8 * field).astype(np.float32)
    changed = np.where(LESION, 2 * now, now)
    found = match_intensities(before[None], changed[None], BRAIN, NORMAL, LESION)
    assert found.correlation == pytest.approx([1], abs=0.01)
    difference = (found.now - found.before)[0]
    assert np.abs(difference[NORMAL]).mean() < 0.03
    core = ndimage.binary_erosion(LESION, iterations=2)
    assert difference[core] == pytest.approx(np.log(2), abs=0.1)


def test_images_of_different_tissue_do_not_correlate():
    images = [tissue(seed)[None] for seed in (1, 2)]
    found = match_intensities(*images, BRAIN, BRAIN, BRAIN)
    assert abs(found.correlation[0]) < 0.6
