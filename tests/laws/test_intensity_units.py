"""Brightness has no unit: a scan times any positive number, plus any number, is the same scan."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, SourceFile, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.brain import stripped_brain_mask
from lesionlens.imaging.preparation.intensities import is_stripped, standard_units
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.open import open_study
from lesionlens.imaging.samples import FOLDER
from lesionlens.network.normalise import zscore
from lesionlens.testing import make_patient

factors = st.floats(-30, 15).map(lambda power: 10.0**power)
offsets = st.floats(-3, 3)
"""Of the range of the image."""


@pytest.fixture(scope="module")
def head():
    return make_patient(spacing_mm=5.0)


def zscored(values, brain):
    return zscore(torch.tensor(values), torch.tensor(brain)).numpy()


def scaled(values, factor, offset):
    moved = values.astype(np.float64) + offset * float(np.ptp(values))
    return (moved * factor).astype(np.float32)


def prepared(values, grid, tmp_path):
    path = tmp_path / "t1c.nii"
    series = Series(
        MrSequence.T1C, "test", 1.0, grid, (SourceFile(path, path.name),), lambda: values
    )
    study = Study("x", StudyKind.NIFTI, {MrSequence.T1C: series}, tmp_path)
    return prepare(study, RunContext(), PrepareOptions(edge_mm=4.0, strip=False))


@pytest.fixture(scope="module")
def unscaled(head, tmp_path_factory):
    """The head in standard units, as z-scores, and prepared."""
    volume = head.sequences[MrSequence.T1C]
    grid = Grid(volume.data.shape, volume.grid.affine)
    return SimpleNamespace(
        units=standard_units(volume.data),
        zscores=zscored(volume.data[None, None], head.brain.data[None]),
        prepared=prepared(volume.data, grid, tmp_path_factory.mktemp("study")),
    )


@given(factor=factors, offset=offsets)
@settings(max_examples=30, deadline=None)
def test_standard_units_know_no_unit(head, unscaled, factor, offset):
    values = head.sequences[MrSequence.T1C].data
    one, other = unscaled.units, standard_units(scaled(values, factor, offset))
    assert ((one == 0) == (other == 0)).all()
    ratio = other.max() / one.max()
    np.testing.assert_allclose(other, one * ratio, rtol=1e-4, atol=1e-5 * other.max())
    assert 1e-3 < other.max() < 1e7


@given(factor=factors, offset=offsets)
@settings(max_examples=30, deadline=None)
def test_zscores_know_no_unit(head, unscaled, factor, offset):
    values, brain = head.sequences[MrSequence.T1C].data, head.brain.data[None]
    one = unscaled.zscores
    other = zscored(scaled(values, factor, offset)[None, None], brain)
    assert one.std() > 0
    np.testing.assert_allclose(other, one, atol=1e-3)


@given(factor=factors, offset=offsets)
@settings(max_examples=6, deadline=None)
def test_preparation_knows_no_unit(head, unscaled, tmp_path_factory, factor, offset):
    volume, place = head.sequences[MrSequence.T1C], tmp_path_factory.mktemp("study")
    grid = Grid(volume.data.shape, volume.grid.affine)
    one = unscaled.prepared
    other = prepared(scaled(volume.data, factor, offset), grid, place)
    assert (one.brain == other.brain).all()
    assert [q.passed for q in one.quality] == [q.passed for q in other.quality]
    both = [zscored(p.channels[None], p.brain[None]) for p in (one, other)]
    np.testing.assert_allclose(both[0], both[1], atol=2e-3)


def test_darker_tissue_than_background_stays_tissue(head):
    values, brain = head.sequences[MrSequence.T1C].data, head.brain.data
    z = np.where(brain, (values - values[brain].mean()) / values[brain].std(), 0)
    units = standard_units(z.astype(np.float32))
    assert (units[~brain] == 0).all()
    assert (units[brain] > 0).mean() > 0.999


@pytest.mark.parametrize("padding", [-2000.0, -32768.0])
@pytest.mark.parametrize("around", [3, 12])
def test_padding_below_all_signal_is_background(head, padding, around):
    values = head.sequences[MrSequence.T1C].data
    padded = values.copy()
    padded[:around] = padding
    expected = values.copy()
    expected[:around] = 0
    assert (expected[around:] > 0).any()
    np.testing.assert_array_equal(standard_units(padded), standard_units(expected))


@pytest.mark.parametrize("ranges", [1.0, 20.0])
@pytest.mark.parametrize("background", [0.0, -2000.0])
def test_an_offset_within_the_head_alone_is_taken_off(head, ranges, background):
    values, brain = head.sequences[MrSequence.T1C].data, head.brain.data
    shifted = np.where(brain, values + ranges * np.ptp(values[brain]), background)
    units = standard_units(shifted.astype(np.float32))
    assert (units[~brain] == 0).all()
    low, high = np.quantile(units[brain], (0.01, 0.99))
    assert low < 0.2 * high
    assert np.corrcoef(units[brain], values[brain])[0, 1] > 0.999


STEP_MM = 1.5


@functools.cache
def resampled(order):
    """Resample the shipped T1c, with a rim, by splines of this order; its volume in ml beside."""
    series = open_study(FOLDER / "study").series[MrSequence.T1C]
    values = np.pad(series.load(), 6)
    found = ndimage.zoom(values, 1 / STEP_MM, order=order, mode="grid-constant", grid_mode=True)
    return found, (values > 0).sum() * series.grid.voxel_ml


@pytest.mark.parametrize("stored", [np.float32, np.int16])
@pytest.mark.parametrize("order", [3, 5])
def test_what_splines_leave_round_a_brain_is_background(order, stored):
    """Resampling rings: a little darker than the background beside the brain, tiny far from it."""
    (one, true_ml), (other, _) = resampled(1), resampled(order)
    ringing = np.rint(other).astype(stored) if stored is np.int16 else other
    assert ringing.min() < 0
    units = standard_units(ringing.astype(np.float32))
    grid = Grid(units.shape, np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0]))
    assert is_stripped(units, grid)
    assert units.min() == 0
    assert grid.volume_ml(stripped_brain_mask([units], grid)) == pytest.approx(true_ml, rel=0.08)
    inside = ndimage.binary_erosion(one > 0, iterations=4)
    np.testing.assert_array_equal(units[inside], ringing[inside])


def test_a_background_that_is_blank_but_for_rounding_is_blank(head):
    values, brain = head.sequences[MrSequence.T1C].data, head.brain.data
    rounding = np.random.default_rng(0).normal(0, 1e-3, values.shape)
    units = standard_units((values + rounding).astype(np.float32))
    assert ((units == units.min()) >= ~brain).mean() > 0.999
