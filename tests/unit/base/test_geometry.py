"""Laws of affines, over any rotation, mirror, spacing and origin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes
from scipy.spatial.transform import Rotation

from lesionlens.base import geometry
from lesionlens.base.errors import GeometryError
from lesionlens.base.grid import Grid

lengths = st.floats(0.3, 8.0)
edges = st.tuples(lengths, lengths, lengths)
shapes = st.tuples(*(st.integers(1, 40) for _ in range(3)))


@st.composite
def affines(draw):
    """Any grid at right angles: turned, mirrored, spaced and placed anyhow."""
    angles = draw(st.tuples(*(st.floats(-180, 180) for _ in range(3))))
    mirror = np.diag(draw(st.tuples(*(st.sampled_from((-1.0, 1.0)) for _ in range(3)))))
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = turn @ mirror * np.asarray(draw(edges))
    affine[:3, 3] = draw(st.tuples(*(st.floats(-200, 200) for _ in range(3))))
    return affine


def corners(shape):
    return np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), -1).reshape(-1, 3)


@given(affines())
def test_ras_and_lps_are_inverses_and_keep_handedness(affine):
    lps = geometry.lps_from_ras(affine)
    np.testing.assert_allclose(geometry.ras_from_lps(lps), affine)
    assert np.linalg.det(lps) * np.linalg.det(affine) > 0
    points = geometry.apply(affine, [[1, 2, 3], [0, 0, 0]])
    np.testing.assert_allclose(
        geometry.points_lps_from_ras(points), geometry.apply(lps, [[1, 2, 3], [0, 0, 0]])
    )


@given(affines(), shapes, edges)
@example(np.diag([-1.0, -1.0, -1.0, 1.0]), (1, 1, 11), (1.0, 1.0, 0.99999))
def test_respace_keeps_the_centre_and_covers_the_view(affine, shape, spacing):
    out, counts = geometry.respace(affine, shape, spacing)
    np.testing.assert_allclose(
        geometry.centre_mm(out, counts), geometry.centre_mm(affine, shape), atol=1e-6
    )
    view, voxel = geometry.spacing_mm(affine) * shape, geometry.spacing_mm(out)
    slack = 0.001 * voxel  # the number of voxels is rounded before it is rounded up
    assert (voxel * counts >= view - slack).all()
    assert (voxel * (np.asarray(counts) - 1) < view + slack).all()
    assert np.linalg.det(out) * np.linalg.det(affine) > 0


@given(affines(), shapes, st.floats(0.5, 4.0))
def test_the_ras_grid_holds_every_voxel_centre(affine, shape, edge):
    out, counts = geometry.ras_grid(affine, shape, edge)
    assert aff2axcodes(out) == ("R", "A", "S")
    inside = geometry.apply(geometry.index_map(affine, out), corners(shape))
    assert (inside > -0.5 - 1e-4).all()
    assert (inside < np.asarray(counts) - 0.5 + 1e-4).all()


def test_a_header_in_metres_gives_the_grid_of_one_in_millimetres():
    """float32 holds 0.001 m as 1.00000005 mm: one more voxel along k moved outlines by 1.5%."""
    metres = np.diag([-0.001, -0.001, 0.001, 1.0]).astype(np.float32).astype(np.float64)
    metres[:3] *= 1000.0
    assert geometry.ras_grid(metres, (128, 175, 137), 1.0)[1] == (128, 175, 137)
    assert geometry.respace(metres, (128, 175, 137), (1.0, 1.0, 1.0))[1] == (128, 175, 137)


@given(affines(), affines(), st.tuples(*(st.floats(-50, 50) for _ in range(3))))
def test_an_index_map_keeps_the_place_in_the_patient(source, target, voxel):
    there = geometry.apply(geometry.index_map(source, target), voxel)
    np.testing.assert_allclose(
        geometry.apply(target, there), geometry.apply(source, voxel), atol=1e-5
    )


@given(affines(), shapes, st.tuples(*(st.floats(-50, 50) for _ in range(3))))
def test_a_grid_s_maps_are_inverses_and_it_cannot_be_changed(affine, shape, voxel):
    grid = Grid(shape, affine)
    np.testing.assert_allclose(grid.to_voxel(grid.to_mm(voxel)), voxel, atol=1e-6)
    assert grid.voxel_ml == pytest.approx(float(np.prod(grid.spacing_mm)) / 1000, abs=1e-9)
    assert grid.matches(Grid(shape, affine))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 1.0


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.eye(3),
        np.diag([1.0, 1.0, 1.0, 2.0]),
        np.diag([1e-9, 1.0, 1.0, 1.0]),
        np.diag([500.0, 1.0, 1.0, 1.0]),
        np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
    ids=["zero", "nan", "3 x 3", "last row", "thin", "huge", "flat"],
)
def test_an_affine_that_no_scan_has_is_refused_with_its_place(affine):
    with pytest.raises(GeometryError, match="t1c") as refusal:
        geometry.check_affine(affine, where="t1c")
    assert refusal.value.next_step
