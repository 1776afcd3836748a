"""Connected parts and depth of masks, in any dimension."""

from __future__ import annotations

import numpy as np

from lesionlens.base.numerics import connected_parts, depth_inside


def test_an_empty_mask_has_no_part():
    numbers, sizes = connected_parts(np.zeros((3, 4, 5), bool))
    assert not numbers.any()
    assert sizes.tolist() == [0]


def test_voxels_that_share_a_corner_are_one_part_by_default():
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[1, 1, 2] = True
    assert connected_parts(mask)[1].tolist() == [0, 3]
    assert connected_parts(mask, None)[1].tolist() == [0, 1, 2]


def test_the_border_of_the_array_is_outside():
    depth = depth_inside(np.ones((5, 9), bool), (2.0, 1.0))
    assert depth[2].tolist() == [1, 2, 3, 4, 5, 4, 3, 2, 1]
    assert depth[:, 4].tolist() == [2, 4, 5, 4, 2]
