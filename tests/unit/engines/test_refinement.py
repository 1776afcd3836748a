"""Refinement: windows cover, small lesions are added where they are, outlines follow the images."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import refinement
from lesionlens.engines.grid import make_network_input
from lesionlens.engines.refinement import (
    add_small_lesions,
    find_small_lesions,
    refine_enhancing,
    refine_outlines,
    relative_bounds,
    windows_over,
)

CPU = torch.device("cpu")


# --- Windows -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(5, 60)] * 3), st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_every_voxel_is_seen_by_a_window_within_the_volume(shape, edge, seed):
    wanted = np.random.default_rng(seed).random(shape) > 0.995
    seen = np.zeros(shape, bool)
    for window in windows_over(wanted, edge):
        for side, size in zip(window, shape, strict=True):
            assert 0 <= side.start < side.stop <= size
            assert side.stop - side.start == min(edge, size)
        assert wanted[window].any()
        seen[window] = True
    assert seen[wanted].all()


def test_windows_that_agree_change_nothing_and_others_fade_to_their_border():
    grid, shape = Grid((30, 30, 30), np.eye(4)), (30, 30, 30)
    window, near, known = (slice(5, 25),) * 3, torch.ones(shape), torch.full(shape, 1.5)
    attended = torch.ones((20, 20, 20))
    same = refine_enhancing(near, known, grid, grid, [(window, known[window], attended)])[0]
    torch.testing.assert_close(same, torch.zeros(shape), atol=1e-5, rtol=0)
    more = refine_enhancing(near, known, grid, grid, [(window, known[window] + 1, attended)])[0]
    assert float(more[15, 15, 15]) == pytest.approx(refinement.WINDOW_WEIGHT, abs=1e-4)
    assert 0 < more[5, 15, 15] < 0.1
    assert more[2, 15, 15] == 0


def test_the_whole_volume_reaches_from_minus_one_to_one():
    whole = (slice(0, 20), slice(0, 22), slice(0, 18))
    assert relative_bounds(whole, (20, 22, 18), CPU).tolist() == [[[-1, 1]] * 3]
    half = relative_bounds((slice(10, 20), *whole[1:]), (20, 22, 18), CPU)
    assert half[0, 0].tolist() == [0, 1]


# --- Small lesions -------------------------------------------------------------------------------

SHAPE = (60, 66, 56)
SEAT = np.array([20, 36, 28])
RADIUS_MM, NOTHING, SPACING_MM = 3.5, -8.0, 1.3


def ball(centre, radius, shape=SHAPE):
    away = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return (away**2).sum(0) <= radius**2


def study_with(*seats, mirrored=False):
    """A brain of noise with bright balls on T1c, on cubes of 1 mm."""
    rng = np.random.default_rng(3)
    brain = ball(np.array(SHAPE) / 2, 25)
    channels = np.abs(rng.normal(100, 4, (4, *SHAPE))).astype(np.float32)
    for seat in seats:
        channels[1][ball(seat, RADIUS_MM)] = 190
    channels *= brain
    if mirrored:
        channels, brain = channels[:, ::-1].copy(), brain[::-1].copy()
    affine = np.eye(4)
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2
    grid = Grid(SHAPE, affine)
    return PreparedStudy(channels, np.ones(4, bool), brain, grid, grid, np.eye(4), MrSequence.T1)


@pytest.fixture
def _reads_brightness(monkeypatch):
    """A network that calls bright T1c a lesion, so that the rest is tested alone."""
    monkeypatch.setattr(
        refinement, "lesion_logits", lambda images: np.where(images[1] > 4, 14, NOTHING)
    )


def searched(study, known=NOTHING):
    fine = make_network_input(study, SPACING_MM, CPU)
    return find_small_lesions(fine, np.full((2, *fine.grid.shape), known, np.float32))


def added(study):
    frame = make_network_input(study, SPACING_MM, CPU).frame
    nothing = np.zeros((3, *frame.box_grid.shape), np.float32)
    return frame.pasted(add_small_lesions(nothing, searched(study), frame))


@pytest.mark.usefixtures("_reads_brightness")
def test_a_lesion_is_added_where_it_is_and_nowhere_else():
    whole, core, enhancing = added(study_with(SEAT)) >= 0.5
    truth = ball(SEAT, RADIUS_MM)
    assert 2 * (whole & truth).sum() / (whole.sum() + truth.sum()) > 0.8
    assert not whole[~ball(SEAT, RADIUS_MM + 2)].any()
    assert (whole == core).all()
    assert (core | ~enhancing).all()
    assert enhancing[tuple(SEAT)]


@pytest.mark.usefixtures("_reads_brightness")
def test_a_mirrored_brain_gives_the_mirrored_lesion():
    here, there = added(study_with(SEAT)) >= 0.5, added(study_with(SEAT, mirrored=True)) >= 0.5
    assert (here[0] ^ there[0][::-1]).sum() < 0.3 * here[0].sum()  # the cubes lie elsewhere
    assert there[0][SHAPE[0] - 1 - SEAT[0], SEAT[1], SEAT[2]]


@pytest.mark.usefixtures("_reads_brightness")
def test_neither_nothing_nor_the_core_of_a_large_tumour_is_added():
    assert searched(study_with()) == []
    assert searched(study_with(SEAT), known=3.0) == []
    assert len(searched(study_with(SEAT, (38, 20, 30)))) == 2


@pytest.mark.usefixtures("_reads_brightness")
def test_a_lesion_in_a_small_outline_is_added():
    study = study_with(SEAT)
    fine = make_network_input(study, SPACING_MM, CPU)
    at = np.rint(fine.grid.to_voxel(study.working.to_mm(SEAT)))
    known = np.where(ball(at, 4, fine.grid.shape), 3.0, NOTHING).astype(np.float32)
    assert len(find_small_lesions(fine, np.stack([known, known]))) == 1


@pytest.mark.usefixtures("_reads_brightness")
def test_at_the_brains_surface_a_lesion_ends_with_the_brain():
    """Whatever the skull looks like."""
    study = study_with((8, 33, 28))
    channels = study.channels.copy()
    channels[1][~study.brain] = 400
    here, there = added(dataclasses.replace(study, channels=channels)), added(study)
    np.testing.assert_array_equal(here, there)
    assert here[0][study.brain].max() > 0.5
    assert not here[:, ~study.brain].any()


# --- Outlines ------------------------------------------------------------------------------------

HEAD = (56, 48, 52)
ALL = np.ones(4, bool)
TRUTH = tuple(ball((26, 25, 24), radius, HEAD) for radius in (15, 11, 9))
BRAIN = ball((28, 24, 26), 23, HEAD)


def shifted():
    """What a network would say that has the lesion 2 mm too far to one side, and softly."""
    return np.stack(
        [ndimage.gaussian_filter(np.roll(t, 2, 0).astype(np.float32), 2) for t in TRUTH]
    )


def images(seed=0):
    """T1, T1c, T2, FLAIR in which oedema, core and uptake differ, with noise."""
    whole, core, uptake = TRUTH
    shown = np.stack([-1.0 * core, 2.0 * uptake, 1.5 * whole + core, 2.0 * whole])
    return (shown + np.random.default_rng(seed).normal(0, 0.5, (4, *HEAD))).astype(np.float32)


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture(scope="module")
def refined():
    return refine_outlines(shifted(), images(), ALL, BRAIN)


def test_each_region_comes_nearer_to_what_the_images_show(refined):
    for before, after, truth in zip(shifted(), refined, TRUTH, strict=True):
        assert dice(after > 0.5, truth) > dice(before > 0.5, truth) + 0.03
    assert (refined[0] >= refined[1]).all()
    assert (refined[1] >= refined[2]).all()


def test_nothing_changes_far_from_an_outline_but_what_lies_outside_the_brain(refined):
    before = shifted() * BRAIN
    outline = before[0] > 0.5
    away = ndimage.distance_transform_edt(~outline) + ndimage.distance_transform_edt(outline)
    assert np.array_equal(refined[0][away > 9], before[0][away > 9])
    assert not refined[:, ~BRAIN].any()


@pytest.mark.parametrize("flipped", [(0,), (0, 1, 2)])
def test_a_mirrored_head_gives_the_mirrored_outline(refined, flipped):
    axes = tuple(a + 1 for a in flipped)
    other = refine_outlines(
        np.flip(shifted(), axes), np.flip(images(), axes), ALL, np.flip(BRAIN, flipped)
    )
    np.testing.assert_allclose(np.flip(other, axes), refined, atol=1e-4)


def test_units_of_a_scanner_do_not_matter(refined):
    scale, offset = np.array([3, 0.1, 700, 9]), np.array([50, -2, 0, 1000])
    shown = images() * scale.reshape(-1, 1, 1, 1) + offset.reshape(-1, 1, 1, 1)
    other = refine_outlines(shifted(), shown.astype(np.float32), ALL, BRAIN)
    np.testing.assert_allclose(other, refined, atol=1e-3)


def test_images_that_show_nothing_leave_outlines_alone():
    plain = np.random.default_rng(1).normal(size=(4, *HEAD)).astype(np.float32)
    other = refine_outlines(shifted(), plain, ALL, BRAIN)
    for before, after in zip(shifted() * BRAIN, other, strict=True):
        assert dice(before > 0.5, after > 0.5) > 0.98


def test_an_absent_sequence_is_not_read(refined):
    present = np.array([True, True, False, True])
    junk, zero = images(), images()
    junk[2] = 1e4 * np.random.default_rng(2).normal(size=HEAD)
    zero[2] = 0
    first, second = (refine_outlines(shifted(), shown, present, BRAIN) for shown in (junk, zero))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, refined)
    no_t1 = refine_outlines(shifted(), images(), np.array([False, False, True, True]), BRAIN)
    np.testing.assert_array_equal(no_t1[2], np.minimum(shifted()[2] * BRAIN, no_t1[1]))


def test_where_a_sequence_was_not_scanned_voxels_stay_as_they_are():
    slab = images()
    slab[3, :, :, 30:] = 0
    before, after = shifted() * BRAIN, refine_outlines(shifted(), slab, ALL, BRAIN)
    np.testing.assert_array_equal(after[1][:, :, 30:], before[1][:, :, 30:])
    assert dice(after[0] > 0.5, TRUTH[0]) > dice(before[0] > 0.5, TRUTH[0]) + 0.02
