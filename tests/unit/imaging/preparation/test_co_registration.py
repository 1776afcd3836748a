"""A registration is doubted by limits that fit the pair: of two heads, or of a head and a brain."""

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, StepName, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import co_registration
from lesionlens.imaging.preparation.draft import Loaded
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.testing import make_patient

T1C, FLAIR = MrSequence.T1C, MrSequence.FLAIR
OPTIONS = PrepareOptions(edge_mm=4.0, strip=False, sides=False)


@pytest.fixture(scope="module")
def head():
    """Return a head with scalp, and air that is no constant."""
    patient = make_patient(spacing_mm=4.0, skull=True)
    air = np.abs(np.random.default_rng(0).normal(0, 20, patient.brain.data.shape))
    images = {s: (patient.sequences[s].data + air).astype(np.float32) for s in (T1C, FLAIR)}
    return images, patient.brain


@pytest.mark.parametrize("stripped", [(), (T1C,), (FLAIR,)])
@pytest.mark.parametrize("pronounced", [0.08, 0.15, 0.3])
def test_one_stripped_sequence_is_not_of_another_patient(head, monkeypatch, stripped, pronounced):
    images, brain = head
    found = Registration(np.eye(4), 0.0, 0.0, 0.4, pronounced)
    monkeypatch.setattr(co_registration, "register", lambda *_, **__: found)
    series = {}
    for sequence, image in images.items():
        values = np.where(brain.data, image, np.float32(0)) if sequence in stripped else image
        name = f"{sequence}.nii.gz"
        series[sequence] = Series(sequence, "x", 1.0, brain.grid, (), lambda v=values: v, name)
    study = Study("x", StudyKind.NIFTI, series, root=None)
    prepared = prepare(study, RunContext(), OPTIONS)
    doubtful = pronounced < (0.125 if stripped else 0.2)
    assert any("different patients" in notice for notice in prepared.notices) is doubtful
    checks = {check.check: check for check in prepared.quality}
    assert checks["registration"].passed is not doubtful
    assert [s.figure for s in prepared.steps if s.step is StepName.REGISTER] == [pronounced]


def _stripped(sequence, values, grid):
    return Series(sequence, "x", 1.0, grid, (), lambda: values, f"{sequence}.nii.gz")


def _prepared(head, change):
    images, brain = head
    values, grid = change(np.where(brain.data, images[FLAIR], np.float32(0)), brain.grid)
    t1c = _stripped(T1C, np.where(brain.data, images[T1C], np.float32(0)), brain.grid)
    series = {T1C: t1c, FLAIR: _stripped(FLAIR, values, grid)}
    return prepare(Study("x", StudyKind.NIFTI, series, root=None), RunContext(), OPTIONS)


def _cropped(values, grid, margin):
    box = tuple(slice(i.min() - margin, i.max() + 1 + margin) for i in np.nonzero(values))
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_mm([side.start for side in box])
    return values[box], Grid(values[box].shape, affine)


@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_a_stripped_sequence_cropped_to_the_brain_is_left_where_it_is(head, margin, order):
    def change(values, grid):
        values, grid = _cropped(values, grid, margin)
        affine = grid.affine[:, [*order, 3]]
        affine[:3, 3] += affine[:3, 1] * (values.shape[order[1]] - 1)
        affine[:3, 1] *= -1
        values = np.flip(values.transpose(order), 1)
        return values, Grid(values.shape, affine)

    cropped, whole = _prepared(head, change), _prepared(head, lambda *same: same)
    assert not any(step.done for step in cropped.steps)
    assert np.array_equal(cropped.brain, whole.brain)
    np.testing.assert_allclose(cropped.channels, whole.channels, atol=1e-3)


@pytest.mark.parametrize("shift", [(0.5, 0, 0), (3, 0, 0)])
def test_a_cropped_sequence_that_lies_elsewhere_is_registered(head, shift):
    def change(values, grid):
        values, grid = _cropped(values, grid, 0)
        affine = grid.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array(shift)
        return values, Grid(values.shape, affine)

    assert any(step.done for step in _prepared(head, change).steps)


def test_the_grid_of_a_moved_sequence_lies_in_the_frame_of_the_reference():
    """A brain that is outlined on that sequence must be where the reference shows it."""
    grid = Grid((4, 5, 6), np.diag([2.0, 2.0, 3.0, 1.0]))
    turned = np.array([[0.0, -1, 0, 5], [1, 0, 0, -7], [0, 0, 1, 2], [0, 0, 0, 1]])
    values = np.zeros(grid.shape, np.float32)
    scan = Loaded(_stripped(T1C, values, grid), values, reference_to_sequence=turned)
    here = scan.moved_grid().to_mm(np.array([1, 2, 3]))
    np.testing.assert_allclose(turned @ [*here, 1], [*grid.to_mm(np.array([1, 2, 3])), 1])
    assert Loaded(scan.series, values).moved_grid() is grid
