"""Which parts of a response belong to its prompts."""

import numpy as np
import pytest

from lesionlens.engines.prompting.rules import connected_component, lowered_threshold


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
    """From 60 % of its highest probability near the prompt; zero, beyond the crop, stays zero."""
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
