"""Outlines move to where the images have them: near the outline, on both sides alike, nested."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.engines.lens.outline_refinement import refine

SHAPE = (56, 48, 52)
ALL = np.ones(4, bool)


def ball(centre, radius):
    place = np.indices(SHAPE).T - np.asarray(centre)
    return radius**2 > (place**2).sum(-1).T


TRUTH = tuple(ball((26, 25, 24), radius) for radius in (15, 11, 9))
BRAIN = ball((28, 24, 26), 23)


def predicted():
    """What a network would say that has the lesion 2 mm too far to one side, and softly."""
    return np.stack(
        [ndimage.gaussian_filter(np.roll(t, 2, 0).astype(np.float32), 2) for t in TRUTH]
    )


def images(seed=0):
    """T1, T1c, T2, FLAIR in which oedema, core and uptake differ, with noise."""
    whole, core, uptake = TRUTH
    shown = np.stack([-1.0 * core, 2.0 * uptake, 1.5 * whole + core, 2.0 * whole])
    return (shown + np.random.default_rng(seed).normal(0, 0.5, (4, *SHAPE))).astype(np.float32)


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture(scope="module")
def refined():
    return refine(predicted(), images(), ALL, BRAIN)


def test_each_region_comes_nearer_to_what_the_images_show(refined):
    for before, after, truth in zip(predicted(), refined, TRUTH, strict=True):
        assert dice(after > 0.5, truth) > dice(before > 0.5, truth) + 0.03


def test_nothing_changes_far_from_an_outline_but_what_lies_outside_the_brain(refined):
    before = predicted() * BRAIN
    outline = before[0] > 0.5
    away = ndimage.distance_transform_edt(~outline) + ndimage.distance_transform_edt(outline)
    assert np.array_equal(refined[0][away > 9], before[0][away > 9])
    assert not refined[:, ~BRAIN].any()


def test_regions_stay_nested(refined):
    assert (refined[0] >= refined[1]).all()
    assert (refined[1] >= refined[2]).all()


@pytest.mark.parametrize("flipped", [(0,), (1,), (0, 1, 2)])
def test_a_mirrored_head_gives_the_mirrored_outline(refined, flipped):
    axes = tuple(a + 1 for a in flipped)
    other = refine(
        np.flip(predicted(), axes), np.flip(images(), axes), ALL, np.flip(BRAIN, flipped)
    )
    np.testing.assert_allclose(np.flip(other, axes), refined, atol=1e-5)


def test_units_of_a_scanner_do_not_matter(refined):
    scale, offset = np.array([3, 0.1, 700, 9]), np.array([50, -2, 0, 1000])
    shown = images() * scale.reshape(-1, 1, 1, 1) + offset.reshape(-1, 1, 1, 1)
    other = refine(predicted(), shown.astype(np.float32), ALL, BRAIN)
    np.testing.assert_allclose(other, refined, atol=1e-3)


def test_images_that_show_nothing_leave_outlines_alone():
    plain = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    other = refine(predicted(), plain, ALL, BRAIN)
    for before, after in zip(predicted() * BRAIN, other, strict=True):
        assert dice(before > 0.5, after > 0.5) > 0.98


def test_an_absent_sequence_is_not_read(refined):
    present = np.array([True, True, False, True])
    junk = images()
    junk[2] = 1e4 * np.random.default_rng(2).normal(size=SHAPE)
    zero = images()
    zero[2] = 0
    first, second = (refine(predicted(), shown, present, BRAIN) for shown in (junk, zero))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, refined)


def test_where_a_sequence_was_not_scanned_voxels_stay_as_they_are():
    slab = images()
    slab[3, :, :, 30:] = 0
    before, after = predicted() * BRAIN, refine(predicted(), slab, ALL, BRAIN)
    np.testing.assert_array_equal(after[1][:, :, 30:], before[1][:, :, 30:])
    assert dice(after[0] > 0.5, TRUTH[0]) > dice(before[0] > 0.5, TRUTH[0]) + 0.02


def test_enhancement_is_left_alone_where_neither_t1_is_there():
    before = predicted()
    after = refine(before, images(), np.array([False, False, True, True]), BRAIN)
    unbound = np.minimum(before[2] * BRAIN, after[1])
    assert np.array_equal(after[2], unbound)
