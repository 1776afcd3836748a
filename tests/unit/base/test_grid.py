"""Grids with the same voxels in different storage orders."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.helpers.storage_order import grid_stored, orders, stored

from lesionlens.base.grid import Grid


@given(order=orders(), turn=st.tuples(*[st.floats(-60, 60)] * 3))
def test_the_same_voxels_are_recognised_in_any_order(order, turn):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * (0.9, 1.2, 3.3)
    affine[:3, 3] = 12, -30, 7
    grid = Grid((4, 5, 6), affine)
    other = grid_stored(grid, order)
    voxels = np.arange(120).reshape(grid.shape)
    found = other.storage_order(grid)
    assert found is not None
    axes, mirrored = found
    back = np.flip(stored(voxels, order).transpose(axes), mirrored)
    np.testing.assert_array_equal(back, voxels)


def test_other_voxels_are_no_other_order_of_the_same():
    grid = Grid((4, 5, 6), np.diag([1.0, 1.0, 2.0, 1.0]))
    shifted = np.diag([1.0, 1.0, 2.0, 1.0])
    shifted[0, 3] = 0.5
    assert grid.storage_order(Grid(grid.shape, shifted)) is None
    assert grid.storage_order(Grid((4, 6, 5), grid.affine)) is None
    assert grid.storage_order(Grid(grid.shape, np.diag([1.0, 1.0, 2.2, 1.0]))) is None
    mirrored = np.diag([-1.0, 1.0, 2.0, 1.0])  # about the origin, not within its own box
    assert grid.storage_order(Grid(grid.shape, mirrored)) is None


def test_a_scaled_grid_has_the_same_corners_and_frame_of_reference():
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (20, -10, 35), degrees=True).as_matrix()
    affine[:3] = affine[:3] @ np.diag([0.9, 1.2, 3.3, 1.0]) + [[0, 0, 0, 12]]
    grid = Grid((6, 4, 8), affine, "1.2.3")
    for factors, shape in (((3, 2, 4), (2, 2, 2)), (0.5, (12, 8, 16))):
        scaled = grid.scaled(factors, shape)
        assert (scaled.shape, scaled.frame_uid) == (shape, "1.2.3")
        for of_scaled, of_grid in ((np.zeros(3), np.zeros(3)), (shape, grid.shape)):
            np.testing.assert_allclose(
                scaled.to_mm(np.subtract(of_scaled, 0.5)), grid.to_mm(np.subtract(of_grid, 0.5))
            )


def test_a_tiny_component_still_has_a_voxel():
    grid = Grid((5, 5, 5), np.diag([4.0, 4.0, 4.0, 1.0]))
    assert list(grid.flat_voxels([[4.9, 0.0, 0.0]])) == [25]
    assert list(grid.flat_voxels([[-90.0, 0.0, 0.0]])) == [0]


def test_a_point_between_voxels_goes_to_the_nearest_and_one_outside_is_not_contained():
    grid = Grid((5, 5, 5), np.diag([4.0, -4.0, 4.0, 1.0]))
    voxels = grid.nearest_voxel([[5.9, -6.1, 0.0], [0.0, 6.1, 16.0]])
    assert voxels.tolist() == [[1, 2, 0], [0, -2, 4]]
    assert grid.contains(voxels).tolist() == [True, False]
    assert grid.nearest_voxel([0.0, 6.1, 16.0], clip=True).tolist() == [0, 0, 4]
