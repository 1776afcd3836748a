"""Voxels that are copied, averaged in blocks or interpolated, each where it lies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.storage_order import grid_stored, orders, stored

from lesionlens.base.grid import Grid
from lesionlens.imaging.preparation.resampling import (
    block_means,
    resample,
    resample_mask,
    resample_mask_near,
)


def test_blocks_keep_their_place_and_leave_the_rest_out():
    values = np.zeros((9, 9, 11), np.float32)
    values[3:6, 0:3, 6:8] = 2.0
    grid = Grid(values.shape, np.diag([1.0, -1.0, 2.0, 1.0]))
    small, where = block_means(values, grid, (3, 3, 2))
    assert small.shape == where.shape == (3, 3, 5)
    assert small.dtype == np.float32
    assert small[1, 0, 3] == small.max() == 2.0
    np.testing.assert_allclose(where.to_mm((1, 0, 3)), grid.to_mm((4, 1, 6.5)))
    np.testing.assert_allclose(where.spacing_mm, (3, 3, 4))


@given(orders(), st.tuples(*[st.integers(-5, 7)] * 3))
def test_voxels_that_coincide_are_copied_and_those_beyond_the_image_are_zero(order, first):
    values = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    source = Grid(values.shape, np.diag([1.0, 2.0, 3.0, 1.0]))
    affine = source.affine.copy()
    affine[:3, 3] = source.to_mm(first)
    i, j, k = np.add(first, 8)
    expected = np.pad(values, 8)[i : i + 5, j : j + 4, k : k + 3]
    found = resample(values, source, grid_stored(Grid(expected.shape, affine), order))
    np.testing.assert_array_equal(found, stored(expected, order))


@pytest.mark.parametrize(("step", "start"), [(1.0, 0.02), (1.001, 0.0)])
def test_voxels_that_almost_coincide_are_interpolated(step, start):
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None], (12, 3, 3))
    target = np.diag([step, 1.0, 1.0, 1.0])
    target[0, 3] = start
    found = resample(ramp, Grid(ramp.shape, np.eye(4)), Grid((11, 3, 3), target))
    np.testing.assert_allclose(found[:, 1, 1], start + step * np.arange(11), atol=1e-5)


def test_near_some_points_a_mask_is_what_it_is_when_all_of_it_is_brought():
    rng = np.random.default_rng(3)
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag([0.5, 0.9, 3.0])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned, -turned @ (40, 20, 8)
    source = Grid((80, 40, 16), affine)
    target = Grid(
        (40, 40, 40), np.array([[1.0, 0, 0, -20], [0, 1, 0, -20], [0, 0, 1, -20], [0, 0, 0, 1]])
    )
    mask = np.zeros(source.shape, bool)
    mask[20:60, 8:30, 3:12] = True
    points = np.array([[18, 20, 21], [22, 20, 19]])
    near = resample_mask_near(mask, source, target, points, 8.0)
    whole = resample_mask(mask, source, target)
    box = (slice(10, 31), slice(12, 29), slice(11, 30))
    assert near[box].any()
    assert not near[box].all()
    np.testing.assert_array_equal(near[box], whole[box])
    near[box] = False
    assert not near.any()
