"""Laws of preparation: whatever the grid, the lesion stays at its millimetres and on its side."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.helpers.storage_order import grid_stored, orders, stored

from lesionlens.base.geometry import apply, index_map
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.resampling import resample, resample_mask

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
COARSE = PrepareOptions(edge_mm=2.0, strip=False, checks=False, sides=False)
"""An eighth of the voxels, and nothing but their places; the laws are those of any edge."""
HEAD_MM = np.array([66.0, 80.0, 62.0])
LESION_MM = np.array([-28.0, 12.0, 20.0])
"""On the patient's left, in front and above the middle."""

codes = st.sampled_from(
    ["".join(p) for p in ("RAS", "LPS", "PIR", "LIP", "SRA", "ASL", "IPR", "RPI", "PLS")]
)
edges = st.tuples(*[st.floats(2.5, 6.0)] * 3)
angles = st.tuples(*[st.floats(-20, 20)] * 3)
offsets = st.tuples(*[st.floats(-15, 15)] * 3)


def grid_of(code, spacing, turn_deg=(0, 0, 0), offset=(0, 0, 0)):
    """A grid of the given directions over a field of view that holds the head."""
    ornt = nib.orientations.axcodes2ornt(tuple(code))
    directions = np.zeros((3, 3))
    directions[ornt[:, 0].astype(int), range(3)] = ornt[:, 1]
    spacing = np.asarray(spacing)
    view = (2 * HEAD_MM + 60)[ornt[:, 0].astype(int)]
    shape = np.ceil(view / spacing).astype(int)
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    affine[:3, :3] = turn @ directions * spacing
    affine[:3, 3] = np.asarray(offset) - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid(tuple(int(n) for n in shape), affine)


def head_on(grid):
    """A stripped brain with a bright ball, drawn at its millimetres."""
    mm = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    inside = ((mm / HEAD_MM) ** 2).sum(axis=-1) < 1
    texture = 400 + 60 * np.sin(mm[..., 0] / 9) * np.cos(mm[..., 1] / 11) + mm[..., 2] / 3
    ball = np.exp(-(((mm - LESION_MM) / 12.0) ** 2).sum(axis=-1))
    return np.where(inside, texture + 1500 * ball, 0).astype(np.float32)


def study_of(grids):
    series = {
        sequence: Series(sequence, "test", 1.0, grid, (), lambda g=grid: head_on(g), sequence.value)
        for sequence, grid in grids.items()
    }
    return Study("phantom", StudyKind.NIFTI, series, root=None)


def peak_mm(values, grid):
    weight = np.clip(values - 900, 0, None).astype(np.float64)
    index = np.moveaxis(np.indices(values.shape), 0, -1)
    centre = (index * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum()
    return grid.to_mm(centre)


@FEW
@given(code=codes, spacing=edges, turn=angles, offset=offsets)
def test_any_grid_gives_the_same_lesion_at_the_same_millimetres(code, spacing, turn, offset):
    """And what was computed there comes back to the native voxels: preparing takes the time."""
    native = grid_of(code, spacing, turn, offset)
    prepared = prepare(study_of({MrSequence.T1C: native}), RunContext(), COARSE)
    found = peak_mm(prepared.channels[1], prepared.working)
    np.testing.assert_allclose(found, LESION_MM, atol=1.0)
    assert found[0] < 0  # the patient's left
    np.testing.assert_allclose(np.diag(prepared.working.affine)[:3], COARSE.edge_mm)
    assert np.count_nonzero(prepared.working.affine[:3, :3]) == 3
    check_inverses(prepared, native)
    check_return(prepared, native)


def check_inverses(prepared, native):
    """Working and native grid lead to one another to the voxel."""
    points = np.random.default_rng(0).uniform(0, 50, (20, 3))
    there = apply(prepared.to_native, points)
    np.testing.assert_allclose(native.to_mm(there), prepared.working.to_mm(points), atol=1e-6)
    back = apply(index_map(native.affine, prepared.working.affine), there)
    np.testing.assert_allclose(back, points, atol=1e-6)


def check_return(prepared, native):
    """A map returns to the native voxels that it came from."""
    returned = resample(prepared.channels[1], prepared.working, native)
    off = native.to_voxel(peak_mm(returned, native)) - native.to_voxel(LESION_MM)
    assert np.abs(off).max() < 0.5
    original = head_on(native)
    inside = original > 0
    inside &= resample(prepared.brain.astype(np.float32), prepared.working, native) > 0.999
    error = np.abs(returned - original)[inside]
    assert np.median(error) < 0.03 * original.max()


@FEW
@given(
    seed=st.integers(0, 999),
    order=orders(),
    edge=st.sampled_from((0.9, 1.2, 3.3)),
    first=st.floats(-90, 90),
)
def test_a_mask_halved_between_its_voxels_is_the_same_however_it_is_stored(
    seed, order, edge, first
):
    """Every voxel of the target lies midway, so that half of the shares are ties."""
    affine = np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = first, -first / 3, first / 7
    source = Grid((8, 9, 7), affine)
    midway = affine.copy()
    midway[:3, 3] = source.to_mm((0.5, 0.5, 0.5))
    target = Grid((7, 8, 6), midway)
    mask = np.random.default_rng(seed).random(source.shape) < 0.5
    found = resample_mask(mask, source, target)
    np.testing.assert_array_equal(
        found, resample_mask(stored(mask, order), grid_stored(source, order), target)
    )
    corners = [mask[a : a + 7, b : b + 8, c : c + 6] for a, b, c in np.ndindex(2, 2, 2)]
    np.testing.assert_array_equal(found, np.sum(corners, axis=0) >= 4)


AS_IS = ((0, 1, 2), (False, False, False))


@pytest.fixture(scope="module")
def prepared_as_stored():
    """Prepare three sequences of one grid, the second and third stored in these orders."""
    grid = grid_of("LPS", (4, 4, 4))
    values = head_on(grid)

    def prepared(*others):
        series = {
            sequence: Series(sequence, "test", 1.0, grid_stored(grid, order), (), load)
            for sequence, order in zip(
                (MrSequence.T1C, MrSequence.T2, MrSequence.FLAIR), (AS_IS, *others), strict=True
            )
            for load in (lambda order=order: stored(values, order),)
        }
        study = Study("phantom", StudyKind.NIFTI, series, root=None)
        return prepare(study, RunContext(), COARSE)

    return prepared


@pytest.fixture(scope="module")
def prepared_as_is(prepared_as_stored):
    return prepared_as_stored(AS_IS, AS_IS)


@settings(FEW, max_examples=3)
@given(first=orders(), second=orders())
def test_sequences_on_one_grid_may_be_stored_in_different_orders(
    prepared_as_stored, prepared_as_is, first, second
):
    """They were brought together before, whoever converted each: none is moved or interpolated."""
    one, other = prepared_as_is, prepared_as_stored(first, second)
    assert one.steps == other.steps
    np.testing.assert_array_equal(one.brain, other.brain)
    np.testing.assert_allclose(one.channels, other.channels, atol=1e-3)  # rounding


@FEW
@given(first=codes, second=codes)
def test_orders_of_axes_on_one_lattice_are_copied_exactly(first, second):
    a = grid_of(first, (3, 3, 3))
    ornt = nib.orientations.ornt_transform(
        nib.io_orientation(a.affine), nib.orientations.axcodes2ornt(tuple(second))
    )
    values = head_on(a)
    turned = nib.Nifti1Image(values, a.affine).as_reoriented(ornt)
    b = Grid(turned.shape, turned.affine)
    np.testing.assert_array_equal(resample(values, a, b), np.asarray(turned.dataobj))
    np.testing.assert_array_equal(resample(resample(values, a, b), b, a), values)


@FEW
@given(code=codes, spacing=edges, turn=angles)
def test_labels_keep_their_values_by_nearest_neighbour(code, spacing, turn):
    source, target = grid_of("RAS", (4, 4, 4)), grid_of(code, spacing, turn)
    labels = (head_on(source) > 0) + 2.0 * (head_on(source) > 900)
    moved = resample(labels.astype(np.float32), source, target, nearest=True)
    assert set(np.unique(moved)) <= {0.0, 1.0, 3.0}
    assert moved.sum() * target.voxel_ml == pytest.approx(labels.sum() * source.voxel_ml, rel=0.1)


@FEW
@given(turn=angles, offset=offsets)
def test_a_registration_s_movement_is_undone_by_resampling(turn, offset):
    source = grid_of("LPS", (3, 3, 3))
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    moved[:3, 3] = offset
    target = grid_of("RAS", (3, 3, 3))
    shifted = Grid(source.shape, moved @ source.affine)  # where the patient lay in another scan
    back = resample(head_on(source), shifted, target, moved=moved)
    np.testing.assert_allclose(peak_mm(back, target), LESION_MM, atol=1.0)
