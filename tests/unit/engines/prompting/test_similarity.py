"""A correction carries over to what looks alike near by."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt, gaussian_filter

from lesionlens.engines.prompting import similarity
from lesionlens.engines.prompting.rules import Error
from lesionlens.engines.prompting.similarity import (
    propagated_corrections,
    shifted_logits,
)

NONE = np.zeros((0, 3), np.int64)
AT = np.array([[10, 20, 20]])


@pytest.fixture
def scene():
    """A thing of two tissues that the analysis sees too weakly, beside an outline."""
    chance = np.full((40, 40, 40), 0.02, np.float32)
    chance[5:35, 15:25, 15:25] = 0.2
    chance[20:35, 15:25, 15:25] = 0.8
    chance = gaussian_filter(chance, 1.5)
    images = np.zeros((2, 40, 40, 40), np.float32)
    images[:, 5:15, 15:25, 15:25] = 2.0
    images[:, 15:20, 15:25, 15:25] = -2.0
    return chance, images, chance >= 0.5


def test_a_prompt_for_lifts_what_looks_like_it_and_less_what_does_not(scene):
    before, after = (shifted_logits(*scene, (p, NONE)) for p in (NONE, AT))
    risen = after - before
    assert before[10, 20, 20] < 0 < after[10, 20, 20]
    assert risen[8, 20, 20] > 4 * risen[17, 20, 20] > 0
    assert risen[38, 38, 38] < 0.2 * risen[8, 20, 20]


def test_logits_are_zero_at_the_border_of_the_outline_and_finite_where_the_analysis_is_sure(scene):
    chance, images, outline = scene
    inwards, outwards = (distance_transform_cdt(part, "taxicab") for part in (outline, ~outline))
    logits = shifted_logits(chance, images, outline, (NONE, NONE))
    assert np.median(logits[(inwards == 1) | (outwards == 1)]) == pytest.approx(0, abs=1e-6)
    nothing = np.zeros(outline.shape, bool)
    for certain in (0.0, 1.0):
        even = np.full(outline.shape, certain, np.float32)
        sure = shifted_logits(even, images, nothing, (NONE, NONE))
        assert np.allclose(sure, (2 * certain - 1) * np.log(0.999 / 0.001), rtol=1e-4)


def test_a_prompt_shifts_no_more_than_it_needs_and_nothing_of_which_the_analysis_is_sure(scene):
    chance, images, outline = scene
    chance[5:9] = 0  # looks like the prompt
    before, after = (shifted_logits(chance, images, outline, (p, NONE)) for p in (NONE, AT))
    assert 0 < after[10, 20, 20] <= similarity._MARGIN
    assert before[6, 20, 20] < -2 * similarity._MAX_MARGIN
    assert after[6, 20, 20] == before[6, 20, 20]


def test_a_prompt_against_lowers_and_one_that_is_followed_changes_nothing(scene):
    before = shifted_logits(*scene, (NONE, NONE))
    assert np.array_equal(shifted_logits(*scene, (NONE, AT)), before)
    inside = np.array([[28, 20, 20]])
    lowered = shifted_logits(*scene, (NONE, inside))[28, 20, 20]
    assert -similarity._MARGIN <= lowered < 0 < before[28, 20, 20]


def test_several_prompts_are_explained_at_once(scene):
    foreground, background = np.array([[8, 20, 20], [12, 20, 20]]), np.array([[28, 20, 20]])
    after = shifted_logits(*scene, (foreground, background))
    assert (after[tuple(foreground.T)] > 0).all()
    assert (after[tuple(background.T)] < 0).all()
    unlike = np.array([[10, 20, 20], [17, 20, 20]])
    assert (shifted_logits(*scene, (unlike, NONE))[tuple(unlike.T)] > 0).all()
    beyond = np.array([[99, 0, 0]])
    more = shifted_logits(*scene, (foreground, np.concatenate([background, beyond])))
    assert np.array_equal(after, more)


@pytest.fixture
def answered():
    """Bright tissue outside of an outline, of which the network's answer takes a small ball."""
    images = np.zeros((1, 48, 48, 48), np.float32)
    images[:, 12:36, 18:30, 18:30] = 3.0
    away = np.linalg.norm(np.indices(images.shape[1:]) - 24.0, axis=0)
    logits = np.clip(2.0 - away / 2, -3.0, 2.0).astype(np.float32)
    outline = np.zeros(logits.shape, bool)
    outline[36:44, 18:30, 18:30] = True
    return logits, images, outline


def carried(answered, wrong, share=1.0):
    return propagated_corrections(*answered, wrong, np.zeros(3, np.int64), share)


def test_a_correction_is_carried_on_in_what_looks_like_the_prompt(answered):
    """The answer ended some millimetres from the prompt where the network knew the image less."""
    logits, images, _ = answered
    error = Error(np.array([[24, 24, 24]]), is_foreground=True, depth_mm=6.0, reach_mm=36.0)
    after = carried(answered, [error])
    away = np.linalg.norm(np.indices(logits.shape) - 24.0, axis=0)
    beyond = (images[0] > 0) & (away > 4) & (away <= 5.5)
    assert (logits[beyond] < 0).all()
    assert (after[beyond] > 0).mean() > 0.8
    dark = images[0] == 0
    assert np.array_equal(after[dark] > 0, logits[dark] > 0)
    assert (carried(answered, [error], share=0.0) == logits).all()


def test_a_correction_is_the_same_wherever_the_crop_lies(answered):
    logits, images, outline = answered
    error = Error(np.array([[24, 24, 24]]), is_foreground=True, depth_mm=6.0, reach_mm=36.0)
    risen = carried(answered, [error]) - logits
    assert risen.any()
    corner = np.array([100, 50, 7])
    moved = Error(error.points + corner, is_foreground=True, depth_mm=6.0, reach_mm=36.0)
    elsewhere = propagated_corrections(logits, images, outline, [moved], corner, 1.0)
    assert np.array_equal(elsewhere - logits, risen)


def test_the_shift_is_what_alike_voxels_half_to_one_and_a_half_depths_away_lack():
    """There the logits are -2, so 2 and the margin are lacking; elsewhere they are 10."""
    distance = np.linalg.norm(np.indices((60, 60, 60)) - 30.0, axis=0)
    ring = (distance >= 2) & (distance <= 6)
    outline = np.zeros(ring.shape, bool)
    outline[30, 30, 32:36] = True  # right already
    logits = np.where(ring & ~outline, -2.0, 10.0).astype(np.float32)
    error = Error(np.array([[30, 30, 30]]), is_foreground=True, depth_mm=4.0, reach_mm=24.0)
    alike = np.zeros((1, *ring.shape), np.float32)
    shift = carried((logits, alike, outline), [error]) - logits
    expected = (2 + similarity._MARGIN) * np.exp(-(distance**2) / (2 * (2 * 4.0) ** 2))
    near = np.abs(np.indices(ring.shape) - 30).max(axis=0) <= 24
    assert np.allclose(shift[near], expected[near], atol=1e-4)
    assert not shift[~near].any()
    lone = np.where(distance == 2, alike, 9.0).astype(np.float32)
    lone[0, 30, 30, 30] = 0
    assert carried((logits, lone, outline), [error])[30, 30, 30] > logits[30, 30, 30]
    lone[:] = 9.0
    lone[0, 30, 30, 30] = 0
    assert np.array_equal(carried((logits, lone, outline), [error]), logits)


def test_prompts_of_both_signs_are_carried_on_alike(answered):
    logits, images, outline = answered
    foreground = Error(np.array([[24, 24, 24]]), is_foreground=True, depth_mm=6.0, reach_mm=36.0)
    background = Error(np.array([[24, 24, 24]]), is_foreground=False, depth_mm=6.0, reach_mm=36.0)
    mirrored = (-logits, images, ~outline)
    assert np.allclose(carried(answered, [foreground]), -carried(mirrored, [background]))


def test_nothing_changes_where_the_network_follows_or_the_prompt_lies_elsewhere(answered):
    logits, images, outline = answered
    followed = np.where(images[0] > 0, 2.0, -2.0).astype(np.float32)
    error = Error(np.array([[24, 24, 24]]), is_foreground=True, depth_mm=6.0, reach_mm=36.0)
    assert np.array_equal(carried((followed, images, outline), [error]), followed)
    elsewhere = Error(np.array([[99, 24, 24]]), is_foreground=True, depth_mm=6.0, reach_mm=36.0)
    assert np.array_equal(carried(answered, [elsewhere]), logits)
