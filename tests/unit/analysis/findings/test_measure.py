"""Diameters against shapes whose answer is known, and the laws that turns must keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.storage_order import grid_stored, orders, stored

from lesionlens.analysis.findings import measure
from lesionlens.base.grid import Grid

SHAPE = (40, 44, 24)


def grid_of(shape=SHAPE, spacing=(1.0, 1.0, 1.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-20.0, 7.0, 30.0)
    return Grid(shape, affine)


def ellipsoid(semi, shape=SHAPE, spacing=(1.0, 1.0, 1.0), angle=0.0):
    centre = (np.array(shape) - 1) / 2
    axes = [(np.arange(n) - c) * s for n, c, s in zip(shape, centre, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    turned = (np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y, z)
    return sum((t / a) ** 2 for t, a in zip(turned, semi, strict=True)) <= 1


def test_a_bar_has_its_own_edges():
    mask = np.zeros(SHAPE, bool)
    mask[5:25, 10:16, 3:6] = True
    found = measure.diameters(mask, grid_of())
    assert found.longest_mm == pytest.approx(np.hypot(20, 6), abs=1.0)
    mask = np.zeros(SHAPE, bool)
    mask[5:6, 10:31, 3] = True
    assert measure.diameters(mask, grid_of()).longest_mm == pytest.approx(21, abs=0.1)
    assert measure.diameters(mask, grid_of()).perpendicular_mm == pytest.approx(1, abs=0.1)


def test_what_touches_at_a_corner_alone_is_measured_as_one():
    mask = np.zeros(SHAPE, bool)
    mask[5:15, 5:15, 3:6] = True
    mask[15:23, 15:23, 3:6] = True
    assert measure.diameters(mask, grid_of()).longest_mm == pytest.approx(18 * np.sqrt(2), abs=1.0)


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8, 1.4])
def test_an_ellipse_has_its_axes_whatever_its_turn(angle):
    found = measure.diameters(ellipsoid((16, 9, 8), angle=angle), grid_of())
    assert found.longest_mm == pytest.approx(32, abs=1.2)
    assert found.perpendicular_mm == pytest.approx(18, abs=1.2)


def test_a_thick_slice_grid_gives_the_same_diameters():
    spacing = (1.0, 1.0, 4.0)
    mask = ellipsoid((16, 9, 20), spacing=spacing)
    found = measure.diameters(mask, grid_of(spacing=spacing))
    assert found.longest_mm == pytest.approx(32, abs=1.2)
    assert found.perpendicular_mm == pytest.approx(18, abs=1.2)


def test_planes_are_axial_in_the_patient_not_in_the_array():
    mask = np.zeros((12, 40, 12), bool)
    mask[4:8, 2:38, 4:8] = True
    upward = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    found = measure.diameters(mask, Grid(mask.shape, upward))
    assert found.longest_mm == pytest.approx(np.hypot(4, 4), abs=1.0)


def test_two_parts_are_not_measured_as_one():
    mask = np.zeros(SHAPE, bool)
    mask[2:6, 2:6, 4] = mask[30:36, 30:36, 4] = True
    assert measure.diameters(mask, grid_of()).longest_mm < 10


def test_a_rim_is_measured_across():
    ring = ellipsoid((12, 12, 8)) & ~ellipsoid((9, 9, 6))
    found = measure.diameters(ring, grid_of())
    assert found.perpendicular_mm == pytest.approx(24, abs=1.5)


def test_nothing_marked_has_no_diameter():
    assert measure.diameters(np.zeros(SHAPE, bool), grid_of()) is None


@settings(max_examples=40, deadline=None)
@given(
    edges=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    turn=st.floats(0.0, 1.5),
    places=st.sets(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=4),
)
def test_whatever_is_marked_has_diameters(edges, turn, places):
    """A voxel of .6 mm may lie between planes of 1 mm."""
    mask = np.zeros((6, 6, 6), bool)
    mask[tuple(np.array(sorted(places)).T)] = True
    affine = np.diag([*edges, 1.0])
    level = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine[:3, :3] = level @ affine[:3, :3]
    found = measure.diameters(mask, Grid(mask.shape, affine))
    assert 0 < found.perpendicular_mm <= found.longest_mm + 1e-9
    assert found.longest_mm < 2 * np.linalg.norm(6 * np.array(edges))


@settings(max_examples=24, deadline=None)
@given(orders())
def test_measures_ignore_how_the_array_is_stored(order):
    mask, grid = ellipsoid((13, 7, 9), angle=0.4), grid_of()
    turned, other = stored(mask, order), grid_stored(grid, order)
    want, got = measure.diameters(mask, grid), measure.diameters(turned, other)
    assert got.longest_mm == pytest.approx(want.longest_mm, abs=1e-6)
    assert got.perpendicular_mm == pytest.approx(want.perpendicular_mm, abs=0.3)
    np.testing.assert_allclose(
        measure.bounding_box_mm(turned, other), measure.bounding_box_mm(mask, grid), atol=1e-9
    )
    assert measure.slices_touched(turned, other) == measure.slices_touched(mask, grid)


def test_the_box_reaches_the_outer_edges():
    mask = np.zeros(SHAPE, bool)
    mask[3:5, 6, 7] = True
    low, high = measure.bounding_box_mm(mask, grid_of())
    np.testing.assert_allclose(high - low, (2, 1, 1))
    np.testing.assert_allclose(low, grid_of().to_mm((2.5, 5.5, 6.5)))


@pytest.mark.parametrize(
    ("semi", "slices", "measurable"),
    [((8, 7, 6), None, True), ((8, 4.4, 6), None, False), ((8, 7, 6), 1, False)],
)
def test_rano_asks_for_both_diameters_and_two_slices(semi, slices, measurable):
    mask = ellipsoid(semi)
    if slices:
        only = np.zeros_like(mask)
        only[:, :, 12] = mask[:, :, 12]
        mask = only
    found = measure.diameters(mask, grid_of())
    assert measure.is_rano_measurable(mask, grid_of(), found) is measurable


def test_a_speck_or_doubtful_enhancement_is_not_measurable():
    """A film of 12 mm on two slices of 1 mm has .2 ml; a ball of 16 mm may be undecided."""
    film = np.zeros(SHAPE, bool)
    ball = ellipsoid((8, 7, 6))
    middle = int(np.argwhere(ball).mean(axis=0)[2])
    film[:, :, middle : middle + 2] = ball[:, :, middle : middle + 2]
    assert grid_of().volume_ml(film) < 0.5
    for mask, probability, measurable in (
        (film, 0.9, False),
        (ball, 0.4, False),
        (ball, 0.6, True),
    ):
        found = measure.diameters(mask, grid_of())
        assert found.perpendicular_mm >= measure.MEASURABLE_MM
        sure = np.full(SHAPE, probability, np.float32)
        assert measure.is_rano_measurable(mask, grid_of(), found, sure) is measurable


def test_the_ends_of_the_longest_diameter_lie_on_the_region_in_the_patient():
    affine = np.array(
        [[0.0, 0.0, 2.0, -40.0], [-1.0, 0.0, 0.0, 30.0], [0.0, -1.0, 0.0, 25.0], [0, 0, 0, 1]]
    )
    grid = Grid((40, 30, 20), affine)
    mask = np.zeros(grid.shape, bool)
    mask[10:31, 12, 8] = True  # 21 voxels along the patient's front to back
    found = measure.diameters(mask, grid)
    ends = np.array(found.ends_mm)
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(found.longest_mm)
    places = grid.to_mm(np.argwhere(mask))
    for end in ends:
        assert np.linalg.norm(places - end, axis=1).min() <= 1.5
