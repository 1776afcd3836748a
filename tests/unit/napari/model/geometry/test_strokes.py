"""Strokes on slices of any obliquity take the voxels that lie there, on their own side."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from lesionlens.base.grid import Grid
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import Frame, OrientedVolume
from lesionlens.napari.model.geometry.strokes import Slab, stroked_voxels

WORKING = Grid(
    (60, 64, 56), np.array([[1.0, 0, 0, -30], [0, 1, 0, -32], [0, 0, 1, -28], [0, 0, 0, 1]])
)


@st.composite
def slices(draw):
    """Return a frame, a plane and the slab of a slice of a native series with thick slices."""
    angles = [draw(st.floats(-25, 25)) for _ in range(3)]
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    flips = np.diag([draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)])
    edges = np.diag([draw(st.floats(0.5, 1.2)), draw(st.floats(0.5, 1.2)), draw(st.floats(2, 6))])
    affine = np.eye(4)
    affine[:3, :3] = turned @ flips @ edges
    shape = (48, 52, 11)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    frame, plane = Frame.acquired(grid), draw(st.sampled_from(list(Plane)))
    picture = OrientedVolume.of(np.zeros(shape, np.uint8), grid)
    number = picture.number_at(frame, plane, 0.0) + draw(st.integers(-1, 1))
    middle = picture.depth_of(frame, plane, number)
    return frame, plane, Slab(frame.normal(plane), middle, picture.step_mm(frame, plane))


@settings(max_examples=60, deadline=None)
@given(slices(), st.floats(-8, 8), st.floats(-8, 8), st.floats(-6, 6), st.floats(1.5, 5))
def test_a_stroke_lies_on_its_slice_and_within_the_brush(view, right, down, along, radius):
    frame, plane, slab = view
    start = frame.in_patient(plane, (right, down), slab.depth_mm)
    end = frame.in_patient(plane, (right + along, down), slab.depth_mm)
    taken = stroked_voxels(WORKING, (tuple(start), tuple(end)), radius, slab)
    places = WORKING.to_mm(np.stack(taken, axis=1))
    assert len(places)
    thick = max(slab.thickness_mm, 1.0)
    assert np.abs(places @ slab.normal - slab.depth_mm).max() <= thick / 2 + 1e-3
    flat = frame.on_screen(plane, places)
    low, high = sorted((right, right + along))
    over = np.clip(flat[:, 0], low, high)
    assert np.hypot(flat[:, 0] - over, flat[:, 1] - down).max() <= radius + 1e-3
    middle = frame.in_patient(plane, (right + along / 2, down), slab.depth_mm)
    assert np.linalg.norm(places.mean(axis=0) - middle) <= 1.0 + thick / 4


points = st.tuples(*(st.floats(-14, 14) for _ in range(3)))


@settings(max_examples=40, deadline=None)
@given(slices(), points, points, st.floats(0.5, 5), st.booleans())
def test_a_stroke_takes_every_voxel_within_the_brush_and_no_other(view, start, end, radius, ball):
    """On a thick, oblique grid too."""
    _, _, slab = view
    if not ball:  # start and end lie in the slice
        ends = np.array((start, end))
        start, end = ends + (slab.depth_mm - ends @ slab.normal)[:, None] * slab.normal
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (20, -10, 35), degrees=True).as_matrix()
    affine[:3, :3] *= (1.5, 1.0, 4.0)
    affine[:3, 3] = -affine[:3, :3] @ (10, 14, 4)
    grid = Grid((21, 29, 9), affine)
    at = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    along = np.linspace(start, end, 120)
    outside_mm = np.zeros(len(at))
    if not ball:
        depth = at @ slab.normal - slab.depth_mm
        outside_mm = np.abs(depth) - max(slab.thickness_mm, 1.0) / 2
        at, along = (p - (p @ slab.normal)[:, None] * slab.normal for p in (at, along))
    away_mm = cdist(at, along).min(axis=1)
    taken = np.zeros(grid.shape, bool)
    taken[stroked_voxels(grid, (start, end), radius, None if ball else slab)] = True
    found, slack = taken.ravel(), 0.05  # of the points along the stroke
    assert not (found & ((away_mm > radius + slack) | (outside_mm > 1e-3))).any()
    assert not (~found & (away_mm < radius - slack) & (ball | (outside_mm < -1e-3))).any()


@settings(max_examples=40, deadline=None)
@given(slices(), st.floats(10, 18))
def test_left_stays_left(view, away):
    frame, _, slab = view
    for side in (-1.0, 1.0):
        at = frame.axes[:, 0] * side * away
        at = at + slab.normal * (slab.depth_mm - at @ slab.normal)
        taken = stroked_voxels(WORKING, (tuple(at), tuple(at)), 2.0, slab)
        x = WORKING.to_mm(np.stack(taken, axis=1))[:, 0]
        assert len(x)
        if abs(at[0]) > 4.0 + slab.thickness_mm:
            assert (np.sign(x) == np.sign(at[0])).all()


def test_a_ball_goes_through_slices_and_a_stroke_outside_takes_nothing():
    ball = stroked_voxels(WORKING, ((0.0, 0.0, 0.0),) * 2, 3.0, None)
    assert np.ptp(ball, axis=1).tolist() == [6, 6, 6]
    nowhere = stroked_voxels(WORKING, ((500.0, 0.0, 0.0),) * 2, 3.0, None)
    assert [axis.size for axis in nowhere] == [0, 0, 0]
