"""z-scores inside the brain."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lesionlens.network.normalise import Z_LIMIT, with_presence, zscore


def _brain(shape=(12, 14, 10)):
    brain = torch.zeros(1, *shape, dtype=torch.bool)
    brain[:, 2:-2, 2:-2, 2:-2] = True
    return brain


@given(gain=st.floats(0.01, 1e4), offset=st.floats(-1e3, 1e3))
def test_scanner_units_do_not_matter(gain, offset):
    brain = _brain()
    image = torch.rand(1, 4, 12, 14, 10, generator=torch.Generator().manual_seed(0))
    scaled = (image.double() * gain + offset).float()
    if gain < 1e-3 * abs(offset):
        return
    torch.testing.assert_close(zscore(scaled, brain), zscore(image, brain), atol=0.02, rtol=0.02)


def test_outside_is_zero_and_inside_is_standard():
    brain = _brain()
    out = zscore(torch.rand(1, 4, 12, 14, 10), brain)
    assert not out[:, :, ~brain[0]].any()
    inside = out[0, 0][brain[0]]
    assert abs(float(inside.mean())) < 0.02
    assert abs(float(inside.std()) - 1) < 0.05


def test_an_outlier_is_cut():
    image = torch.rand(1, 1, 12, 14, 10)
    image[0, 0, 6, 6, 5] = 1e6
    assert float(zscore(image, _brain()).max()) == Z_LIMIT


def test_constant_and_empty_give_zero():
    brain = _brain()
    assert not zscore(torch.full((1, 1, 12, 14, 10), 3.0), brain).any()
    assert not zscore(torch.rand(1, 1, 12, 14, 10), torch.zeros_like(brain)).any()


def test_presence_channels_hold_the_brain():
    brain = _brain()
    x = with_presence(torch.rand(1, 4, 12, 14, 10), torch.tensor([[1, 0, 1, 1]]), brain)
    assert x.shape == (1, 8, 12, 14, 10)
    assert not x[:, 1].any()
    assert not x[:, 5].any()
    assert torch.equal(x[0, 4] > 0, brain[0])


def test_one_voxel_more_or_less_in_the_brain_moves_no_other():
    shape = (48, 52, 50)
    brain = np.ones((1, *shape), bool)
    image = np.random.default_rng(0).gamma(2, size=(1, 1, *shape)).astype(np.float32)
    less = brain.copy()
    less[0, 1, 2, 3] = False
    one, other = (
        zscore(torch.from_numpy(image), torch.from_numpy(mask)).numpy() for mask in (brain, less)
    )
    np.testing.assert_allclose(one[:, :, less[0]], other[:, :, less[0]], atol=1e-3)
