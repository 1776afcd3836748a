"""Added metastases lie in the brain, away from its tumour, and change nothing elsewhere."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.network.synth.generator import GeneratorConfig, draw


@pytest.fixture(scope="module")
def with_metastases(script):
    # a head at 1.7 mm, used as a small one at 1 mm: a fifth of the voxels
    batch = draw(GeneratorConfig((90, 108, 90), (1.7, 1.7), tumour_free=1.0), [7])
    mask = batch.brain[0].numpy()
    images = batch.channels[0].numpy() * mask
    tumour = np.zeros(mask.shape, bool)
    tumour[36:48, 36:48, 36:48] = mask[36:48, 36:48, 36:48]
    affine = np.eye(4)
    affine[:3, 3] = -np.array(mask.shape) / 2
    with script("small_lesions.metastases") as metastases:
        brain = metastases.Brain(images, tumour, Grid(mask.shape, affine))
        yield brain, metastases.add_metastases(brain, 3)


@pytest.mark.slow
def test_lesions_lie_in_the_brain_and_away_from_its_tumour(with_metastases):
    brain, result = with_metastases
    numbers = np.unique(result.cores[result.cores > 0])
    assert 4 <= len(numbers) <= len(result.sites)
    assert brain.mask[result.cores > 0].all()
    assert result.whole[result.cores > 0].all()
    assert ndimage.distance_transform_edt(~brain.tumour)[result.cores > 0].min() > 4
    assert not result.whole[brain.tumour].any()


def test_lesions_enhance(with_metastases):
    brain, result = with_metastases
    gain = (result.images - brain.images)[1] / brain.images[1][brain.mask].std()
    gains = [float(gain[result.cores == n].mean()) for n in np.unique(result.cores) if n]
    assert np.median(gains) > 0.5


def test_nothing_changes_far_from_the_lesions(with_metastases):
    brain, result = with_metastases
    is_far = ndimage.distance_transform_edt(~result.whole) > 30
    assert (is_far & brain.mask).any()
    assert np.array_equal(result.images[:, is_far], brain.images[:, is_far])
    assert np.array_equal(result.images[:, brain.tumour], brain.images[:, brain.tumour])
