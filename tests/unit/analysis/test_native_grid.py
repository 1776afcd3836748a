"""Back to the native grid: the exact inverse of how the study was prepared."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from tests.helpers.storage_order import grid_stored, orders, stored

from lesionlens.analysis import native_grid
from lesionlens.base.geometry import index_map
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region


def with_native(study, affine, shape):
    grid = Grid(shape, affine)
    to_native = index_map(study.working.affine, grid.affine)
    return dataclasses.replace(study, native=grid, to_native=to_native)


@settings(max_examples=20, deadline=None)
@given(orders())
def test_a_reordered_native_grid_gets_the_same_voxels(make_prepared, order):
    study = make_prepared()
    values = np.random.default_rng(0).random(study.working.shape).astype(np.float32)
    values *= study.brain
    want, grid = stored(values, order), grid_stored(study.working, order)
    study = with_native(study, grid.affine, grid.shape)
    np.testing.assert_allclose(native_grid.to_native(values, study), want, atol=0.5 / 4096 + 1e-6)


def test_a_smooth_map_keeps_its_place_on_an_oblique_grid(make_prepared):
    study = make_prepared()
    points = study.working.to_mm(np.stack(np.indices(study.working.shape), -1))
    centre = study.working.to_mm((np.array(study.working.shape) - 1) / 2)
    bump = np.exp(-((points - centre) ** 2).sum(-1) / (2 * 20.0**2)).astype(np.float32)
    bump *= study.brain
    angle = 0.3
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= 3.0
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array([50, 50, 40]) / 2)
    study = with_native(study, affine, (51, 51, 41))
    got = native_grid.to_native(bump, study)
    peak = study.native.to_mm(np.unravel_index(int(got.argmax()), got.shape))
    np.testing.assert_allclose(peak, centre, atol=3.0)
    assert got.max() == pytest.approx(1, abs=0.05)


def test_regions_stay_nested(make_prepared):
    study = make_prepared()
    rng = np.random.default_rng(1)
    maps = {
        region: rng.random(study.working.shape).astype(np.float32) * study.brain
        for region in Region
    }
    out = native_grid.regions_to_native(maps, study, nested=True)
    assert (out[Region.WT] >= out[Region.TC]).all()
    assert (out[Region.TC] >= out[Region.ET]).all()
    free = native_grid.regions_to_native(maps, study, nested=False)
    np.testing.assert_allclose(free[Region.ET], maps[Region.ET], atol=0.5 / 4096 + 1e-6)


def test_values_are_steps_that_compress(make_prepared):
    study = make_prepared()
    values = np.random.default_rng(2).random(study.working.shape).astype(np.float32)
    steps = native_grid.to_native(values * study.brain, study) * 4096
    np.testing.assert_array_equal(steps, np.rint(steps))


def test_a_native_voxel_finds_its_working_voxel(make_prepared):
    study = make_prepared()
    shifted = study.working.affine.copy()
    shifted[:3, 3] -= 8.0
    study = with_native(study, shifted, study.working.shape)
    assert native_grid.nearest_working_voxels((5, 6, 7), study).tolist() == [3, 4, 5]


def test_a_part_is_brought_as_the_whole_is(make_prepared):
    study = make_prepared()
    affine = study.working.affine @ np.diag([1.5, -2.0, 1.0, 1.0])
    affine[:3, 3] = study.working.to_mm((0.3, study.working.shape[1] - 1.0, -1.2))
    shape = tuple(int(n) for n in np.ceil(np.array(study.working.shape) / (1.5, 2.0, 1.0)))
    study = with_native(study, affine, shape)
    values = np.zeros(study.working.shape, np.float32)
    part = tuple(slice(n // 3, n // 2 + 4) for n in values.shape)
    values[part] = np.random.default_rng(0).random(values[part].shape)
    values *= study.brain
    box, found = native_grid.part_to_native(values[part], study, part)
    wanted = native_grid.to_native(values, study)
    assert wanted.any()
    np.testing.assert_allclose(found, wanted[box], rtol=0, atol=0.5 / 4096)
    wanted[box] = 0
    assert not wanted.any()
