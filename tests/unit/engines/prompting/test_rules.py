"""Which parts of a response belong to its prompts."""

import numpy as np
import pytest

from lesionlens.engines.prompting.rules import connected_component


@pytest.mark.parametrize("corner", [(0, 0, 0), (9, 9, 9)])
@pytest.mark.parametrize(("gap", "kept"), [(0, True), (2, True), (3, False)])
def test_a_part_belongs_to_a_prompt_up_to_two_voxels_away(corner, gap, kept):
    chance, at = np.zeros((10, 10, 10), np.float32), np.array([corner])
    part = tuple(np.abs(at[0] - gap))
    chance[part] = 0.9
    found = connected_component(chance, at, None)
    assert found[part] == pytest.approx(0.9 if kept else 0.49)
