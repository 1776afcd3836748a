"""What is drawn lies at its millimetres, in any orientation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nibabel.orientations import aff2axcodes
from tests.helpers.analysed_head import LEFT

from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import PreparationStep, StepName
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
    assert display.as_acquired(volume) is volume


def test_labels_are_never_mixed_on_the_way_to_the_screen(analysis):
    prepared, volumes = analysis.prepared, analysis.volumes
    shown = display.onto(volumes.labels.data, prepared.native, prepared.working, nearest=True)
    assert set(np.unique(shown)) <= set(np.unique(volumes.labels.data))
    assert shown.dtype == volumes.labels.data.dtype
    back = resample(shown.astype(np.float32), prepared.working, prepared.native, nearest=True)
    np.testing.assert_array_equal(back, volumes.labels.data)


def test_candidates_and_labels_between_voxels_keep_their_values(analysis):
    native, prepared = analysis.prepared.native, analysis.prepared
    affine = prepared.working.affine.copy()
    affine[:3, 3] += prepared.working.spacing_mm * 0.4
    working = replace(prepared.working, affine=affine)
    drawn = np.zeros(native.shape, bool)
    drawn[tuple(slice(s // 4, s // 2) for s in native.shape)] = True
    shifted = replace(
        analysis,
        prepared=replace(prepared, working=working),
        volumes=replace(analysis.volumes, cavity=Volume(drawn, native)),
    )
    components, labels = display.outlines_of(shifted)
    stored = analysis.findings.components, shifted.volumes.labels.data
    cavity = shifted.volumes.all_labels.data == Label.CAVITY
    voxels = native.nearest_voxel(working.to_mm(np.argwhere(np.ones(working.shape, bool))))
    inside = native.contains(voxels)
    nearest = tuple(voxels[inside].T)
    for shown, data in zip(
        (components, labels, display.cavity_of(shifted)), (*stored, cavity), strict=True
    ):
        np.testing.assert_array_equal(shown.ravel()[inside], data[nearest])
        assert data[nearest].any()


def test_a_layer_lies_on_its_grid():
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-9.0, 8.0, 7.0)
    grid = Grid((4, 5, 6), affine)
    data = np.random.default_rng(3).normal(size=grid.shape).astype(np.float32)
    keywords = display.image_keywords(data, grid)
    assert display.grid_of(data, keywords["scale"], keywords["translate"]).matches(grid)
    assert keywords["axis_labels"] == ("left–right", "back–front", "bottom–top")
    assert keywords["contrast_limits"] == display.contrast_limits(data)


def test_contrast_leaves_air_dark_and_tissue_spread():
    rng = np.random.default_rng(0)
    data = np.zeros((40, 40, 40), np.float32)
    data[8:32, 8:32, 8:32] = rng.normal(600, 100, (24, 24, 24))
    low, high = display.contrast_limits(data)
    assert low <= 400
    assert 700 < high < 1000


def test_attention_is_shown_in_multiples_of_uniform_attention(analysis):
    raw_range = dict.fromkeys(analysis.maps.raw_range, (0.0, 50.0))
    shown = display.overlays_of(replace(analysis, maps=replace(analysis.maps, raw_range=raw_range)))
    for region, view in shown.attention.items():
        raw = analysis.maps.maps[region] * 50.0
        np.testing.assert_allclose(view.data, np.log10(np.maximum(raw, 1.0)), atol=1e-6)
        assert view.ticks == ((0.0, "1×"), (1.0, "10×"), (2.0, "≥ 100×"))
        assert (view.low, view.top, view.role) == (0.0, 2.0, "attention")


def test_attention_without_its_raw_values_is_shown_in_shares_of_its_maximum(analysis):
    shown = display.overlays_of(replace(analysis, maps=None))
    assert set(shown.attention) == set(analysis.volumes.attention)
    for region, view in shown.attention.items():
        stored = analysis.volumes.attention[region]
        working = resample(stored.data, stored.grid, analysis.prepared.working)
        np.testing.assert_allclose(view.data, working, atol=1e-6)
        assert view.data.dtype == np.float32
        assert (view.top, view.ticks) == (1.0, ((0.0, "0"), (0.5, "0.5"), (1.0, "1")))


def test_only_sequences_that_were_moved_count_as_registered(analysis):
    steps = tuple(
        PreparationStep(step, sequence, done, "")
        for step, sequence, done in (
            (StepName.REGISTER, MrSequence.T2, True),
            (StepName.REGISTER, MrSequence.FLAIR, False),
            (StepName.BRAIN, MrSequence.T1, True),
        )
    )
    prepared = replace(analysis.prepared, steps=steps)
    shown = display.overlays_of(replace(analysis, prepared=prepared))
    assert shown.registered == {MrSequence.T2}


def test_a_cavity_is_shown_where_no_tumour_is_outlined(analysis):
    native, working = analysis.prepared.native, analysis.prepared.working
    assert not display.cavity_of(analysis).any()
    drawn = np.zeros(native.shape, bool)
    drawn[tuple(slice(s // 4, s // 2) for s in native.shape)] = True
    volumes = replace(analysis.volumes, cavity=Volume(drawn, native))
    shown = display.cavity_of(replace(analysis, volumes=volumes))
    background = analysis.volumes.labels.data == Label.BACKGROUND
    expected = resample((drawn & background).astype(np.float32), native, working, nearest=True)
    np.testing.assert_array_equal(shown, expected > 0.5)
    assert shown.any()
