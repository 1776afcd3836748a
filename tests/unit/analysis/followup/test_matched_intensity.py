"""Intensities of two examinations, matched by unaffected tissue."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.analysis.followup.matched_intensity import VoxelRoles, match_intensities

SHAPE = (36, 32, 28)
BRAIN = np.linalg.norm((np.moveaxis(np.indices(SHAPE), 0, -1) - 15) / 15, axis=-1) <= 1
LESION = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - 15, axis=-1) <= 5
OVERLOOKED = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - (25, 15, 15), axis=-1) <= 3
NORMAL = ndimage.binary_erosion(BRAIN) & ~ndimage.binary_dilation(LESION, iterations=3)


def tissue(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return (np.exp(0.3 * noise / noise.std()) * BRAIN).astype(np.float32)


@pytest.mark.parametrize("unit", [1.0, 300.0])
def test_another_curve_and_another_field_are_taken_out_and_a_change_is_not(unit):
    """A lesion has doubled in intensity, and so has a part that no outline holds."""
    before, along = tissue(0), np.linspace(-1, 1, SHAPE[0])[:, None, None]
    log_before = np.log(np.maximum(before, 1e-3))
    curve = np.exp(0.8 * log_before + 0.4 * log_before**2 + 0.2 * along - 0.1 * along**2)
    changed = np.where(LESION | OVERLOOKED, 2 * unit, unit) * curve * BRAIN
    roles = VoxelRoles(BRAIN, LESION, LESION, NORMAL, LESION, NORMAL)
    found = match_intensities(before[None], changed[None].astype(np.float32), roles)
    assert np.median(found.now[0][NORMAL]) == pytest.approx(0, abs=1e-5)
    difference = (found.now - found.before)[0]
    beside = NORMAL & ~ndimage.binary_dilation(OVERLOOKED, iterations=3)
    assert np.abs(difference[beside]).mean() < 0.02
    for part in (LESION, OVERLOOKED):
        core = ndimage.binary_erosion(part, iterations=2)
        assert difference[core].mean() == pytest.approx(np.log(2), abs=0.08)
    assert found.correlation[0] > 0.8


def test_images_of_different_tissue_do_not_correlate():
    images = [tissue(seed)[None] for seed in (1, 2)]
    found = match_intensities(*images, VoxelRoles(*[BRAIN] * 6))
    assert abs(found.correlation[0]) < 0.6
