"""Resampling axis by axis against general interpolation, and laws of partition and place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lesionlens.base import geometry
from lesionlens.base.errors import GeometryError
from lesionlens.base.grid import Grid
from lesionlens.engines.grid import resample

SHAPE = (23, 31, 17)


def coarser(spacing):
    affine, shape = geometry.respace(np.eye(4), SHAPE, (spacing,) * 3)
    return Grid(shape, affine)


FINE = Grid(SHAPE, np.eye(4))


@settings(max_examples=15, deadline=None)
@given(st.floats(1.1, 4.0), st.integers(0, 10))
def test_it_is_gaussian_smoothing_then_linear_interpolation(spacing, seed):
    values = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    target = coarser(spacing)
    got = resample(torch.from_numpy(values), FINE, target, antialias=True).numpy()
    smooth = ndimage.gaussian_filter(values.astype(np.float64), 0.42 * spacing)
    index = np.linalg.inv(FINE.affine) @ target.affine
    want = ndimage.affine_transform(
        smooth, np.diag(index)[:3], index[:3, 3], output_shape=target.shape, order=1
    )
    reach = int(np.ceil(1.68 * spacing + 1) / spacing) + 1
    inner = (slice(reach, -reach),) * 3
    np.testing.assert_allclose(got[inner], want[inner], atol=2e-3)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.1, 4.0))
def test_a_constant_map_comes_back_constant(spacing):
    target = coarser(spacing)
    out = resample(torch.full((2, *target.shape), 0.3), target, FINE)
    assert out.shape == (2, *SHAPE)
    torch.testing.assert_close(out, torch.full_like(out, 0.3))


def test_a_ramp_keeps_its_place_there_and_back():
    target = coarser(2.0)
    ramp = torch.from_numpy(np.indices(SHAPE)[1].astype(np.float32))
    there = resample(ramp, FINE, target, antialias=True)
    again = resample(there, target, FINE)
    torch.testing.assert_close(again[6:-6, 6:-6, 6:-6], ramp[6:-6, 6:-6, 6:-6], atol=1e-3, rtol=0)


def test_turned_grids_are_refused():
    turned = np.eye(4)[[1, 0, 2, 3]]
    with pytest.raises(GeometryError, match="rotated"):
        resample(torch.zeros(SHAPE), FINE, Grid(SHAPE, turned))
