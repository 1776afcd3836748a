"""Thick slices are divided so that their means stay and thin structures regain their contrast."""

from __future__ import annotations

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.preparation.thick_slices import divide_slices, slice_axis


@pytest.fixture
def profile():
    """Return a profile of 100 voxels of 1 mm with a sheet of about 8 mm, and its 5 mm slices."""
    along = np.arange(100)
    fine = 100 + 20 * np.sin(along / 15) + 80 * np.exp(-(((along - 45) / 5) ** 2))
    thick = fine.reshape(20, 5).mean(1).astype(np.float32)
    return fine, thick


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_means_over_slices_stay(profile, axis):
    thick = np.moveaxis(np.broadcast_to(profile[1], (8, 7, 20)), -1, axis).copy()
    edges = np.ones(4)
    edges[axis] = 5
    thin, grid = divide_slices(thick, Grid(thick.shape, np.diag(edges)), 1.0)
    assert grid.shape[axis] == 100
    assert grid.spacing_mm == pytest.approx([1, 1, 1])
    along = np.moveaxis(thin, axis, -1).reshape(8, 7, 20, 5)
    assert along.mean(-1) == pytest.approx(np.moveaxis(thick, axis, -1), abs=0.5)


def test_first_part_lies_where_the_slice_begins():
    source = Grid((4, 4, 6), np.diag([1.0, 1.0, 5.0, 1.0]))
    _, grid = divide_slices(np.zeros(source.shape, np.float32), source, 1.0)
    assert grid.to_mm((0, 0, 0)) == pytest.approx([0, 0, -2])
    assert grid.to_mm((3, 3, 29)) == pytest.approx([3, 3, 27])


def test_closer_to_the_truth_than_linear(profile):
    fine, thick = profile
    source = Grid((4, 4, 20), np.diag([1.0, 1.0, 5.0, 1.0]))
    values = np.broadcast_to(thick, source.shape).astype(np.float32)
    affine = np.eye(4)
    affine[2, 3] = -2
    target = Grid((4, 4, 100), affine)
    linear = resample(values, source, target)[0, 0, 5:95]
    spline = resample(*divide_slices(values, source, 1.0), target)[0, 0, 5:95]
    apart = [np.abs(found - fine[5:95]).mean() for found in (linear, spline)]
    assert apart[1] < 0.6 * apart[0]
    assert fine.max() - spline.max() < 0.4 * (fine.max() - linear.max())


@pytest.mark.parametrize(
    ("edges", "shape"),
    [
        ((1, 1, 1), (9, 9, 9)),
        ((2, 2, 2.5), (9, 9, 9)),
        ((4, 4, 4), (9, 9, 9)),
        ((1, 1, 5), (9, 9, 3)),
    ],
)
def test_what_is_not_of_thick_slices_stays_as_it_is(edges, shape):
    grid = Grid(shape, np.diag([*map(float, edges), 1.0]))
    values = np.ones(shape, np.float32)
    assert slice_axis(grid) is None
    assert divide_slices(values, grid, 1.0)[0] is values
