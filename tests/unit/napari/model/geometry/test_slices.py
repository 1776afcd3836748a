"""Slices, letters and outlines of linked views, against markers at known places of the patient."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.napari.model.geometry.contours import lines_around
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import (
    Frame,
    OrientedVolume,
    Slices,
    plane_of_acquisition,
    plane_to_open,
)

SIDES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1),
         "I": (0, 0, -1)}  # fmt: skip
FAR_MM = 30.0


def turned(degrees, axis):
    """A rotation about one of the patient's axes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    others = [n for n in range(3) if n != axis]
    turn = np.eye(3)
    turn[np.ix_(others, others)] = [[c, -s], [s, c]]
    return turn


def grid_of(order, flips, spacing, turn):
    """A grid around the origin with its axes in any order and direction, and oblique."""
    axes = np.zeros((3, 3))
    for voxel_axis, patient_axis in enumerate(order):
        axes[patient_axis, voxel_axis] = flips[voxel_axis]
    edges = np.asarray(spacing)[list(order)]
    shape = tuple(int(n) for n in np.ceil(90.0 / edges))
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes * edges
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape, affine)


def marked(grid, point_mm, radius_mm=7.0):
    """A volume with a bright ball at a place of the patient."""
    where = np.moveaxis(np.indices(grid.shape), 0, -1)
    away = np.linalg.norm(grid.to_mm(where) - point_mm, axis=-1)
    return (away < radius_mm).astype(np.float32)


def seen_at(picture, frame, plane, point_mm):
    """Where the ball is on the screen (mm), from the pixels of the slice through it."""
    number = picture.number_at(frame, plane, float(frame.depth(plane, point_mm)))
    part = picture.cut(frame, plane, number)
    assert part.data.max() > 0.5, "the marker is not on the slice through it"
    rows, columns = np.nonzero(part.data > 0.5)
    size = np.divide(part.size, part.data.shape[::-1])
    at = (np.asarray([columns.mean(), rows.mean()]) + 0.5) * size + part.corner
    return at, part


GRIDS = [
    grid_of(order, flips, (1.5, 1.5, 3.0), turn)
    for order, flips, turn in [
        *((order, (1, 1, 1), np.eye(3)) for order in itertools.permutations(range(3))),
        *((((0, 1, 2)), flips, np.eye(3)) for flips in itertools.product((1, -1), repeat=3)),
        ((2, 0, 1), (-1, 1, -1), turned(23, 0)),
        ((1, 2, 0), (1, -1, 1), turned(-17, 1) @ turned(9, 2)),
        ((0, 1, 2), (-1, -1, 1), turned(38, 2)),
    ]
]


@pytest.mark.parametrize("grid", GRIDS)
def test_letters_name_the_side_where_the_marker_is_seen(grid):
    points = {letter: FAR_MM * np.asarray(way, float) for letter, way in SIDES.items()}
    pictures = {letter: OrientedVolume.of(marked(grid, at), grid) for letter, at in points.items()}
    for frame, plane in itertools.product((Frame.acquired(grid), Frame.patient()), Plane):
        seen = {n: seen_at(pictures[n], frame, plane, points[n])[0] for n in SIDES}
        left, right, top, bottom = frame.edges(plane)
        furthest = {
            left: min(seen, key=lambda one: seen[one][0]),
            right: max(seen, key=lambda one: seen[one][0]),
            top: min(seen, key=lambda one: seen[one][1]),
            bottom: max(seen, key=lambda one: seen[one][1]),
        }
        for letters, marker in furthest.items():
            assert letters[0] == marker, (frame, plane, letters, furthest)


@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_drawn_lies_where_it_is_in_the_patient(grid):
    point = np.asarray([17.0, -12.0, 9.0])
    picture = OrientedVolume.of(marked(grid, point), grid)
    for frame, plane in itertools.product((Frame.patient(), Frame.acquired(grid)), Plane):
        at, _ = seen_at(picture, frame, plane, point)
        np.testing.assert_allclose(at, frame.on_screen(plane, point), atol=1.6)
        back = frame.in_patient(plane, at, float(frame.depth(plane, point)))
        np.testing.assert_allclose(back, point, atol=2.3)


def test_the_right_of_the_patient_is_on_the_left_and_the_face_too():
    assert Frame.patient().edges(Plane.AXIAL) == ("R", "L", "A", "P")
    assert Frame.patient().edges(Plane.CORONAL) == ("R", "L", "S", "I")
    assert Frame.patient().edges(Plane.SAGITTAL) == ("A", "P", "S", "I")


def test_a_thick_oblique_series_is_shown_slice_by_slice_as_it_was_acquired():
    grid = grid_of((0, 1, 2), (-1, -1, 1), (0.45, 0.45, 4.0), turned(20, 0))
    voxels = np.random.default_rng(3).random(grid.shape, dtype=np.float32)
    picture, frame = OrientedVolume.of(voxels, grid), Frame.acquired(grid)
    assert frame.tilted
    assert plane_of_acquisition(grid) is Plane.AXIAL
    _, count, step = picture.depths(frame, Plane.AXIAL)
    assert (count, step) == (grid.shape[2], pytest.approx(4.0))
    for number in range(count):
        part = picture.cut(frame, Plane.AXIAL, number)
        assert not part.interpolated
        assert part.number == number + 1
        np.testing.assert_array_equal(np.sort(part.data, None), np.sort(voxels[..., number], None))


def test_oblique_voxels_along_the_patients_axes_say_that_they_are_interpolated():
    grid = grid_of((0, 1, 2), (1, 1, 1), (1.0, 1.0, 4.0), turned(20, 0))
    picture = OrientedVolume.of(np.ones(grid.shape, np.float32), grid)
    assert picture.cut(Frame.patient(), Plane.AXIAL, 10).interpolated
    assert not picture.cut(Frame.acquired(grid), Plane.AXIAL, 10).interpolated


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [((1.0, 1.0, 5.0), Plane.AXIAL), ((5.0, 1.0, 1.0), Plane.SAGITTAL),
     ((1.0, 5.0, 1.0), Plane.CORONAL), ((1.0, 1.0, 1.2), None)],
)  # fmt: skip
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_the_plane_of_acquisition_is_found(spacing, plane, order):
    assert plane_of_acquisition(grid_of(order, (1, -1, 1), spacing, turned(12, 1))) is plane


def test_a_step_goes_to_the_next_slice_and_ends_at_the_last():
    grid = grid_of((0, 1, 2), (1, 1, 1), (1.0, 1.0, 5.0), turned(15, 0))
    picture = OrientedVolume.of(np.zeros(grid.shape, np.float32), grid)
    frame = Frame.acquired(grid)
    point, numbers = (0.0, 0.0, 0.0), []
    for _ in range(30):
        point = Slices.of(picture, frame, Plane.AXIAL).stepped(point, 1)
        depth = float(frame.depth(Plane.AXIAL, point))
        numbers.append(picture.number_at(frame, Plane.AXIAL, depth))
    assert numbers == sorted(set(numbers)) + [numbers[-1]] * (len(numbers) - len(set(numbers)))
    assert numbers[-1] == grid.shape[2] - 1


def test_the_point_at_a_slice_lies_straight_across_from_where_one_was():
    """Of an oblique thick series: each slice is reached by its number, and nothing else moves."""
    grid = grid_of((0, 1, 2), (1, 1, 1), (1.0, 1.0, 5.0), turned(15, 0))
    frame = Frame.acquired(grid)
    slices = Slices.of(
        OrientedVolume.of(np.zeros(grid.shape, np.float32), grid), frame, Plane.AXIAL
    )
    assert (slices.count, slices.interpolated) == (grid.shape[2], False)
    start = (3.0, -7.0, 2.0)
    for number in range(1, slices.count + 1):
        point = slices.at(start, number)
        assert slices.number(point) == number
        assert grid.to_voxel(point)[2] == pytest.approx(number - 1, abs=1e-6)
        moved = np.subtract(point, start)
        np.testing.assert_allclose(np.cross(moved, frame.normal(Plane.AXIAL)), 0, atol=1e-9)


@pytest.mark.parametrize("plane", Plane)
def test_a_grid_over_points_has_one_voxel_for_each_slice(plane):
    grid = grid_of((0, 1, 2), (1, 1, 1), (1.0, 1.0, 5.0), turned(15, 0))
    frame, rng = Frame.acquired(grid), np.random.default_rng(0)
    slices = Slices.of(OrientedVolume.of(np.zeros(grid.shape, np.float32), grid), frame, plane)
    points = grid.to_mm(rng.uniform(20, 60, (50, 3)) * (1, 1, 0.2))
    over = slices.grid_over(points, 0.8)
    np.testing.assert_allclose(over.spacing_mm, (0.8, 0.8, slices.step_mm))
    voxels = over.to_voxel(points)
    assert ((voxels > -1e-6) & (voxels < np.array(over.shape) - 1 + 1e-6)).all()
    for k in range(over.shape[2]):
        depths = frame.depth(plane, over.to_mm([[0, 0, k], [5, 9, k]]))
        numbers = (depths - slices.first_mm) / slices.step_mm
        np.testing.assert_allclose(numbers, np.rint(numbers), atol=1e-6)


OBLIQUE = GRIDS[-3]


@pytest.mark.parametrize("plane", Plane)
def test_oblique_slices_reach_from_the_first_to_the_last_corner(plane):
    picture, frame = OrientedVolume.of(np.ones(OBLIQUE.shape, np.float32), OBLIQUE), Frame.patient()
    index = list(itertools.product(*((0, n - 1) for n in OBLIQUE.shape)))
    edges = list(itertools.product(*((-0.5, n - 0.5) for n in OBLIQUE.shape)))
    centres = frame.depth(plane, OBLIQUE.to_mm(index))
    depths, on_screen = (of(plane, OBLIQUE.to_mm(edges)) for of in (frame.depth, frame.on_screen))
    first, count, step = picture.depths(frame, plane)
    assert step == pytest.approx(1.5)
    assert (centres.min() - first) / step == pytest.approx(round((centres.min() - first) / step))
    assert abs(first - depths.min()) <= step / 2 + 1e-5
    assert abs(first + (count - 1) * step - depths.max()) <= step / 2 + 1e-5
    part = picture.cut(frame, plane, count // 2)
    assert part.number == count // 2 + 1
    low, high = on_screen.min(axis=0), on_screen.max(axis=0)
    pixel_mm = np.divide(part.size, part.data.shape[::-1])
    np.testing.assert_allclose(pixel_mm, 1.5)
    np.testing.assert_allclose(part.corner, low)
    excess = np.add(part.corner, part.size) - high
    assert ((excess > -1e-5) & (excess < pixel_mm)).all()


@pytest.mark.parametrize("grid", [GRIDS[0], OBLIQUE], ids=["straight", "oblique"])
def test_beyond_the_volume_a_slice_is_empty_and_has_no_number(grid):
    picture, frame = OrientedVolume.of(np.ones(grid.shape, np.float32), grid), Frame.patient()
    count = picture.depths(frame, Plane.AXIAL)[1]
    for number in (-1, count):
        part = picture.cut(frame, Plane.AXIAL, number)
        assert part.number == 0
        assert part.data.max() == 0
    inside = [picture.cut(frame, Plane.AXIAL, number).number for number in (0, count - 1)]
    assert inside == [1, count]


def test_labels_on_oblique_slices_stay_labels():
    voxels = np.random.default_rng(2).choice([0, 1, 4], OBLIQUE.shape).astype(np.uint8)
    part = OrientedVolume.of(voxels, OBLIQUE).cut(Frame.patient(), Plane.AXIAL, 30, nearest=True)
    assert set(np.unique(part.data)) == {0, 1, 4}


def test_an_outline_is_never_further_than_half_a_voxel_from_the_voxels_edge():
    rng = np.random.default_rng(5)
    voxels = (rng.random((40, 40, 1)) > 0.6).astype(np.uint8)
    voxels[8:30, 10:28] = 1
    picture = OrientedVolume.of(voxels, Grid(voxels.shape, np.diag([2.0, 2.0, 2.0, 1.0])))
    part = picture.cut(Frame.patient(), Plane.AXIAL, 0, nearest=True)
    inside, outside = part.data > 0, np.pad(part.data > 0, 1)
    edges = [
        np.add(np.argwhere(outside[1:-1, 1:] != outside[1:-1, :-1]), (0.5, 0.0)),
        np.add(np.argwhere(outside[1:, 1:-1] != outside[:-1, 1:-1]), (0.0, 0.5)),
    ]
    middles = np.concatenate(edges)[:, ::-1] * 2.0 + part.corner
    lines = lines_around(inside, part)
    assert lines
    for line in lines:
        away = np.linalg.norm(line[:, None] - middles[None], axis=-1).min(axis=1)
        assert away.max() <= 1.0 + 1e-6  # mm, of voxels of 2 mm


@pytest.mark.parametrize(
    ("axis", "plane"), [(0, Plane.SAGITTAL), (1, Plane.CORONAL), (2, Plane.AXIAL)]
)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_slab_of_even_voxels_opens_across_its_thin_side(axis, plane, order):
    """However its file is stored; a whole head opens as the reader likes it."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * (1.0, -1.1, 1.2)
    sizes = [40 if of == axis else 200 for of in order]
    assert plane_to_open(Grid(tuple(sizes), affine)) is plane
    assert plane_to_open(Grid((160, 200, 200), affine)) is None
