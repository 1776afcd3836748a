"""Which parts of a response belong to its prompts."""

import numpy as np
import pytest

from lesionlens.engines.prompting.rules import (
    Error,
    changeable_voxels,
    connected_component,
    lowered_threshold,
)


@pytest.mark.parametrize("corner", [(0, 0, 0), (9, 9, 9)])
@pytest.mark.parametrize(("gap", "kept"), [(0, True), (2, True), (3, False)])
def test_a_part_belongs_to_a_prompt_up_to_two_voxels_away(corner, gap, kept):
    chance, at = np.zeros((10, 10, 10), np.float32), np.array([corner])
    part = tuple(np.abs(at[0] - gap))
    chance[part] = 0.9
    found = connected_component(chance, at, None)
    assert found[part] == pytest.approx(0.9 if kept else 0.49)


@pytest.mark.parametrize("corner", [(0, 0, 0), (9, 9, 9)])
@pytest.mark.parametrize(("gap", "is_compared"), [(3, True), (4, False)])
def test_a_prompt_is_compared_with_what_is_within_three_voxels(corner, gap, is_compared):
    """Beside 0.3, whose threshold is 0.18, 0.1 stands out no more."""
    chance, at = np.zeros((10, 10, 10), np.float32), np.array([corner])
    chance[corner], chance[tuple(np.abs(at[0] - gap))] = 0.1, 0.3
    assert (lowered_threshold(chance, at)[corner] < 0.5) is np.bool_(is_compared)


def test_a_faint_structure_is_outlined_at_a_lowered_threshold():
    """From 60% of its highest probability near the prompt; zero, beyond the crop, stays zero."""
    chance = np.zeros((12, 12, 12), np.float32)
    chance[4:8, 4:8, 4:8] = 0.17
    chance[5:7, 5:7, 5:7] = 0.19
    chance[5, 5, 5] = 0.3
    chance[11, 0, 0] = 1.0  # elsewhere
    found = lowered_threshold(chance, np.array([[5, 5, 5], [5, 11, 11]]))
    np.testing.assert_array_equal(found >= 0.5, chance >= 0.18)
    np.testing.assert_array_equal(found == 0, chance == 0)
    assert np.array_equal(np.argsort(found, axis=None), np.argsort(chance, axis=None))
    clear = np.where(chance == np.float32(0.3), np.float32(0.7), chance)
    assert lowered_threshold(clear, np.array([[5, 5, 5]])) is clear


def test_a_flagged_lesion_need_not_be_connected_to_the_prompt_in_it():
    chance, lesion = np.zeros((20, 5, 5), np.float32), np.zeros((20, 5, 5), bool)
    chance[0:3], chance[8:11], chance[16:19] = 0.9, 0.8, 0.7
    lesion[10:14] = True
    found = connected_component(chance, np.array([[1, 2, 2]]), lesion)
    assert found[[1, 9, 17], 2, 2].tolist() == pytest.approx([0.9, 0.8, 0.49])


MIDDLE = np.array([20, 20, 20])
DISTANCE = np.linalg.norm(np.indices((40, 40, 40)) - MIDDLE[:, None, None, None], axis=0)


@pytest.mark.parametrize("is_foreground", [True, False])
@pytest.mark.parametrize(("certainty", "radius"), [(0.545, 4.5), (0.565, 6.5), (0.9, 10)])
def test_the_farther_from_a_prompt_the_more_certain_a_change_must_be(
    is_foreground, certainty, radius
):
    """One half at the prompt, 0.6 at its reach of 10 mm; what agrees with it does not change."""
    outline = np.full(DISTANCE.shape, not is_foreground)
    outline[:12] = True
    outline[:, :, 22:] = is_foreground
    likely = np.full(outline.shape, certainty if is_foreground else 1 - certainty, np.float32)
    error = Error(MIDDLE[None], is_foreground, depth_mm=2.0, reach_mm=10.0)
    box = (slice(5, 36), slice(6, 37), slice(7, 38))
    found = changeable_voxels(likely[box], outline, [error], box)
    expected = (radius >= DISTANCE) & (outline != is_foreground)
    np.testing.assert_array_equal(found, expected[box])
    assert not changeable_voxels(1 - likely[box], outline, [error], box)[14, 14, 13]


def test_voxels_nearer_to_a_prompt_of_the_other_sign_do_not_change():
    outline, likely = np.zeros(DISTANCE.shape, bool), np.ones(DISTANCE.shape, np.float32)
    outline[:8] = True
    opposite = MIDDLE[None] + np.array([[6, 0, 0], [90, 0, 0]])
    error = Error(MIDDLE[None], True, depth_mm=2.0, reach_mm=8.0, opposite=opposite)
    box = (slice(9, 40), slice(8, 40), slice(7, 40))
    found = changeable_voxels(likely[box], outline, [error], box)
    at = np.indices(outline.shape)[0]
    np.testing.assert_array_equal(found, ((DISTANCE <= 8) & (at <= 23))[box])


@pytest.mark.parametrize(("outlined", "added"), [(0, 400), (90, 400), (128, 512)])
def test_a_prompt_adds_the_most_certain_of_four_times_the_outline(outlined, added):
    outline = np.zeros(DISTANCE.shape, bool)
    outline.ravel()[:outlined] = True
    x, y, z = np.indices(outline.shape)
    likely = (0.7 + 0.005 * z + 0.0003 * y + 0.00007 * x).astype(np.float32)
    error = Error(MIDDLE[None], True, depth_mm=2.0, reach_mm=10.0)
    found = changeable_voxels(likely, outline, [error], (slice(0, 40),) * 3)
    margin = np.where(DISTANCE <= 10, likely - 0.01 * DISTANCE, 0)
    np.testing.assert_array_equal(found, margin >= np.sort(margin, axis=None)[-added])
