"""Slices stored more than once are counted; interpolated and padded scans are not accused."""

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.checks import repeated_slices

T2 = MrSequence.T2


@pytest.fixture(scope="module")
def head():
    volume = make_patient(spacing_mm=3.0).sequences[T2]
    return volume.data, volume.grid


def check(values, grid):
    return repeated_slices.check({T2: (values, grid)})


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 4])
def test_copies_of_a_slice_are_counted(head, axis, count):
    values, grid = head[0].copy(), head[1]
    lines = np.moveaxis(values, axis, 0)
    lines[21 : 21 + count] = lines[20]
    found = check(values, grid)
    assert not found.passed
    assert f"T2 {count}." in found.message


@pytest.mark.parametrize("factor", [1.2, 1.5, 3.0])
def test_nearest_neighbours_and_padding_are_no_lost_slices(head, factor):
    values, grid = head
    lines = np.floor(np.arange(round(values.shape[2] * factor)) / factor + 1e-6).astype(int)
    wide = np.pad(values[:, :, lines], 8)
    assert check(wide, Grid(wide.shape, grid.affine)) is None
    assert check(values, grid) is None
