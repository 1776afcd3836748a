"""What is drawn lies at its millimetres, in any orientation."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.orientations import aff2axcodes
from tests.reviewed_head import LEFT

from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.arrays import Volume
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.napari.model.overlays import maps as display


def test_every_label_shown_lies_at_its_millimetres(analysis):
    overlays = display.overlays_of(analysis)
    place = np.argwhere(overlays.components == 1).mean(axis=0)
    np.testing.assert_allclose(overlays.grid.to_mm(place), LEFT, atol=3.0)


def test_a_region_outline_lies_within_the_whole(analysis):
    overlays = display.overlays_of(analysis)
    whole, core = overlays.outline(Region.WT), overlays.outline(Region.TC)
    assert 0 < np.count_nonzero(core) < np.count_nonzero(whole)
    assert (whole[core > 0] == core[core > 0]).all()


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "ASL"])
def test_any_orientation_is_laid_straight_without_interpolation(orientation):
    turns = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(orientation):
        row, sign = turns[letter]
        affine[row, axis] = sign * (axis + 1.0)
    affine[:3, 3] = (5.0, -7.0, 11.0)
    data = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    volume = Volume(data, Grid((4, 5, 6), affine))
    straight = display.axis_aligned(volume)
    assert aff2axcodes(straight.grid.affine) == ("R", "A", "S")
    assert sorted(straight.data.ravel()) == sorted(data.ravel())
    where = np.array(np.unravel_index(int(data.argmax()), data.shape))
    there = np.array(np.unravel_index(int(straight.data.argmax()), straight.data.shape))
    np.testing.assert_allclose(straight.grid.to_mm(there), volume.grid.to_mm(where), atol=1e-6)


def test_an_oblique_scan_is_resampled_to_the_same_millimetres():
    angle = np.deg2rad(15)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    data = np.zeros((40, 40, 10), np.float32)
    data[28:31, 9:12, 4:7] = 1.0
    volume = Volume(data, Grid(data.shape, affine))
    straight = display.axis_aligned(volume)
    marked = np.argwhere(straight.data > 0.5).mean(axis=0)
    np.testing.assert_allclose(
        straight.grid.to_mm(marked), volume.grid.to_mm((29, 10, 5)), atol=0.5
    )


def test_labels_are_never_mixed_on_the_way_to_the_screen(analysis):
    prepared, volumes = analysis.prepared, analysis.volumes
    shown = display.onto(volumes.labels.data, prepared.native, prepared.working, nearest=True)
    assert set(np.unique(shown)) <= set(np.unique(volumes.labels.data))
    assert shown.dtype == volumes.labels.data.dtype
    back = resample(shown.astype(np.float32), prepared.working, prepared.native, nearest=True)
    np.testing.assert_array_equal(back, volumes.labels.data)


def test_contrast_leaves_air_dark_and_tissue_spread():
    rng = np.random.default_rng(0)
    data = np.zeros((40, 40, 40), np.float32)
    data[8:32, 8:32, 8:32] = rng.normal(600, 100, (24, 24, 24))
    low, high = display.contrast_limits(data)
    assert low <= 400
    assert 700 < high < 1000
