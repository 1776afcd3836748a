"""A slice that does not fit its neighbours is counted; noise, thick slices and gain are not."""

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging import samples
from lesionlens.imaging.preparation.checks import corrupted_slices
from lesionlens.imaging.reading.readers import open_study

T2 = MrSequence.T2


@pytest.fixture(scope="module")
def head():
    volume = make_patient(spacing_mm=2.0).sequences[T2]
    return volume.data, volume.grid


def check(values, grid):
    return corrupted_slices.check({T2: (values, grid)})


def noise(lines, place):
    inside = lines[place] > 0
    values = np.random.default_rng(0).uniform(0, lines.max(), lines[place].shape)
    return np.where(inside, values, 0)


def shifted(lines, place):
    return np.roll(lines[place], 10, axis=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("corrupt", [noise, shifted])
def test_corrupted_slices_are_counted(head, axis, corrupt):
    values, grid = head[0].copy(), head[1]
    lines = np.moveaxis(values, axis, 0)
    places = [len(lines) // 2 - 4, len(lines) // 2 + 4]
    corrupted = [corrupt(lines, place) for place in places]
    for place, content in zip(places, corrupted, strict=True):
        lines[place] = content
    found = check(values, grid)
    assert not found.passed
    assert "T2 2." in found.message


def test_slices_of_other_gain_noise_and_thick_slices_are_none(head):
    values, grid = head
    assert check(values, grid) is None
    assert check(values * np.where(np.arange(values.shape[2]) % 2, 1.4, 1.0), grid) is None
    strong = np.random.default_rng(1).normal(0, 0.3 * np.median(values[values > 0]), values.shape)
    assert check(values + strong * (values > 0), grid) is None
    count = values.shape[2] // 3
    thick = values[:, :, : 3 * count].reshape(*values.shape[:2], count, 3).mean(axis=3)
    assert check(thick, Grid(thick.shape, grid.affine @ np.diag([1, 1, 3, 1]))) is None


@pytest.mark.parametrize("folder", [samples.STUDY, samples.DICOM_STUDY], ids=lambda f: f.name)
def test_the_sample_patients_have_none_also_where_a_head_ends(folder):
    """At the skull base, slices of 5 mm resemble their neighbours little."""
    volumes = {s: (one.load(), one.grid) for s, one in open_study(folder).series.items()}
    assert len(volumes) == 4
    assert corrupted_slices.check(volumes) is None


def test_a_slice_half_of_which_is_noise_is_counted(head):
    values, grid = head[0].copy(), head[1]
    lines = values.transpose(2, 0, 1)
    place = len(lines) // 2
    lines[place] = 0.5 * (lines[place] + noise(lines, place))
    assert "T2 1." in check(values, grid).message


def test_few_voxels_of_noise_are_not_compared():
    rod = np.zeros((16, 16, 200), np.float32)
    rod[4:12, 4:12] = np.random.default_rng(0).uniform(50, 100, (8, 8, 200))
    assert check(rod, Grid(rod.shape, np.diag([3.0, 3.0, 3.0, 1.0]))) is None


@pytest.mark.parametrize(("edge_mm", "reported"), [(6.0, True), (9.0, False)])
def test_slices_too_thick_to_resemble_each_other_are_not_judged(head, edge_mm, reported):
    values, grid = head[0].copy(), head[1]
    values[:, :, values.shape[2] // 2] = noise(values.transpose(2, 0, 1), values.shape[2] // 2)
    thick = Grid(values.shape, grid.affine @ np.diag([1, 1, edge_mm / 2, 1]))
    assert (check(values, thick) is not None) is reported
