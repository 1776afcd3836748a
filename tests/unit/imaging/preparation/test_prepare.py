"""Preparation: what is left alone, what is registered and stripped, what is refused and told."""

import threading
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from tests.phantoms.acquire import Acquisition

from lesionlens.base.errors import CancelledError, GeometryError, ReadError, UnusableInputError
from lesionlens.base.geometry import bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, StepName, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.brain import (
    fill_holes,
    largest,
    stripped_brain_mask,
)
from lesionlens.imaging.preparation.intensities import foreground, is_stripped
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare, reference_of
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.open import open_study
from lesionlens.testing import make_patient

T1, T1C, T2, FLAIR = MrSequence
SAMPLE = Path(__file__).parents[4] / "sample_data" / "study"
COARSE = PrepareOptions(edge_mm=4.0)
"""The grid that the heads are drawn on, where the question is none of the grid."""
PLACED = replace(COARSE, strip=False, sides=False)
"""And neither the brain nor its sides are looked for, where the question is none of them."""
FINER = PrepareOptions(edge_mm=3.0, strip=False)
"""Smaller voxels than theirs, where a movement is measured."""


def study_of(values, grid=None, sequence=T1C):
    grid = grid or Grid(values.shape, np.diag([4.0, 4.0, 4.0, 1.0]))
    series = Series(sequence, "test", 1.0, grid, (), lambda: values, "x.nii.gz")
    return Study("x", StudyKind.NIFTI, {sequence: series}, root=None)


@pytest.fixture(scope="module")
def ball():
    axes = np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij")
    inside = sum(a**2 for a in axes) < 0.7
    noise = np.random.default_rng(0).normal(0, 8, (40, 40, 40))
    return np.where(inside, 500 + 60 * axes[0] + noise, 0).astype(np.float32)


@pytest.fixture(scope="module")
def bare():
    return make_patient(spacing_mm=4.0).sequences[T1C].data


def test_registered_stripped_input_is_left_alone_and_stages_are_timed(make_study):
    reported = []
    context = RunContext(lambda stage, fraction: reported.append((stage, fraction))).timed()
    prepared = prepare(open_study(make_study()), context)
    assert not any(step.done for step in prepared.steps)
    assert prepared.present.all()
    assert prepared.reference is T1C
    np.testing.assert_allclose(np.diag(prepared.working.affine), 1.0)
    assert 1000 < prepared.brain.sum() / 1000 < 2000
    names = [time.name for time in context.times]
    assert names == ["load", "register", "find the brain", "resample", "check quality"]
    assert {stage for stage, _ in reported} == set(names)
    assert all(0 <= fraction <= 1 for _, fraction in reported)


def test_voxels_that_coincide_are_copied_not_interpolated(make_study):
    study = open_study(make_study(orientation="LPS"))
    prepared = prepare(study, RunContext(), PLACED)
    original = set(np.unique(study.series[T1C].load()).tolist())
    assert set(np.unique(prepared.channels[1]).tolist()) <= original | {0.0}


@pytest.mark.parametrize(
    ("there", "reference"),
    [((T1, T1C), T1C), ((T1, T2, FLAIR), FLAIR), ((T1, T2), T2), ((T1,), T1)],
)
def test_absent_t1c_makes_flair_the_reference_and_so_on(make_study, there, reference):
    prepared = prepare(open_study(make_study(sequences=there)), RunContext(), PLACED)
    assert prepared.reference is reference
    for index, sequence in enumerate(MrSequence):
        assert prepared.present[index] == (sequence in there)
        assert prepared.channels[index].any() == (sequence in there)


def test_sequences_on_their_own_grids_come_together(make_study, patient):
    how = {
        "t1c": Acquisition("LPS", (4, 4, 4)),
        "flair": Acquisition("LIP", (4, 4, 6), tilt_deg=8),
    }
    study = open_study(make_study(sequences={"t1c", "flair"}, how=how))
    prepared = prepare(study, RunContext(), FINER)
    assert [s.sequence for s in prepared.steps if s.step is StepName.REGISTER] == [FLAIR]
    lesion = np.argwhere(patient.labels.data > 0)
    centre = patient.labels.grid.to_mm(lesion).mean(axis=0)
    voxel = np.rint(prepared.working.to_voxel(centre)).astype(int)
    for channel in (1, 3):
        near = prepared.channels[channel][tuple(slice(v - 4, v + 5) for v in voxel)]
        assert near.max() > 1.3 * np.median(prepared.channels[channel][prepared.brain])


def test_voxels_that_thick_slices_fill_in_part_are_not_brain():
    fine = Grid((80, 80, 80), np.diag([2.0, 2.0, 2.0, 1.0]))
    away = np.linalg.norm(np.indices(fine.shape) - 39.5, axis=0)
    ball = np.where(away < 32, 500.0, 0.0).astype(np.float32)
    slabs = ball.reshape(80, 80, 16, 5).mean(axis=3)
    thick = Grid(slabs.shape, np.diag([2.0, 2.0, 10.0, 1.0]))
    found, true = stripped_brain_mask([slabs], thick).sum() * 5, (ball > 0).sum()
    assert 0.98 * true < found < 1.06 * true
    assert (slabs > 0).sum() * 5 > 1.08 * true
    assert stripped_brain_mask([ball], fine).sum() == true


@pytest.mark.parametrize("step_mm", [1.5, 2.0])
def test_the_rim_that_resampling_leaves_is_not_brain(step_mm):
    head = make_patient(spacing_mm=3.0)
    true = head.brain.data.sum() * 27
    images = [
        ndimage.zoom(ndimage.gaussian_filter(v.data, 0.5), 3 / step_mm, order=1, grid_mode=True,
                     mode="grid-constant")
        for v in head.sequences.values()
    ]  # fmt: skip
    grid = Grid(images[0].shape, np.diag([step_mm, step_mm, step_mm, 1.0]))
    assert (images[0] > 0).sum() * step_mm**3 > 1.1 * true
    found = stripped_brain_mask(images, grid)
    assert found.sum() * step_mm**3 == pytest.approx(true, rel=0.05)
    whole = [v.data for v in head.sequences.values()]
    fine = Grid(whole[0].shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert (stripped_brain_mask(whole, fine) == fill_holes(largest(foreground(whole[0])))).all()


def test_one_grid_is_no_proof_that_the_patient_lay_still(make_study):
    study = open_study(make_study(sequences={"t1c", "flair"}))
    still = prepare(study, RunContext(), FINER)
    flair = study.series[FLAIR]
    motion = np.eye(4)
    motion[:3, 3] = 9.0, -7.0, 6.0
    elsewhere = resample(flair.load(), flair.grid, flair.grid, moved=motion)
    series = {**study.series, FLAIR: replace(flair, load=lambda: elsewhere)}
    prepared = prepare(replace(study, series=series), RunContext(), FINER)
    assert [step.sequence for step in prepared.steps if step.done] == [FLAIR]
    found, true = prepared.channels[3], still.channels[3]
    inside = still.brain & (found != 0)
    assert np.corrcoef(found[inside], true[inside])[0, 1] > 0.95
    assert inside.sum() > 0.97 * still.brain.sum()


def test_a_head_that_lay_still_on_one_grid_is_not_interpolated(make_study):
    head = make_patient(spacing_mm=3.0, skull=True)
    study = open_study(make_study(patient=head, sequences={"t1c", "flair"}))
    prepared = prepare(study, RunContext(), PrepareOptions(edge_mm=3.0, strip=False, sides=False))
    asked = [step for step in prepared.steps if step.step is StepName.REGISTER]
    assert [step.sequence for step in asked] == [FLAIR]
    assert not asked[0].done
    original = set(np.unique(study.series[FLAIR].load()).tolist())
    assert set(np.unique(prepared.channels[3]).tolist()) <= original | {0.0}


@pytest.mark.parametrize("when", ["load", "find the brain", "resample"])
def test_a_request_to_stop_is_heard_in_every_stage(make_study, when):
    stop = threading.Event()

    def progress(stage, fraction):
        if stage == when:
            stop.set()

    with pytest.raises(CancelledError):
        prepare(open_study(make_study()), RunContext(progress, stop), COARSE)


def spoiled(values, kind):
    out = values.copy()
    if kind == "constant":
        out[:] = 100
    elif kind == "blank":
        out[:] = 0
    elif kind == "nan":
        out[10:30:3, 20, 20] = np.nan
    elif kind == "infinite":
        out[20, 20, 20] = np.inf
    elif kind == "labels":
        out = np.rint(out / 300)
    elif kind == "hounsfield":
        out = np.where(out > 0, out / 20, -1000)
    elif kind == "noise":
        out = np.random.default_rng(0).normal(500, 100, out.shape)
    return out.astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("constant", "same value, 100, in every"),
        ("blank", "same value, 0, in every"),
        ("nan", "NaN"),
        ("infinite", "infinite"),
        ("labels", "label image"),
        ("hounsfield", "CT"),
        ("noise", "noise"),
    ],
)
def test_what_is_no_head_is_refused_by_name(ball, kind, words):
    with pytest.raises((ReadError, UnusableInputError), match=words) as caught:
        prepare(study_of(spoiled(ball, kind)), RunContext(), COARSE)
    assert "x.nii.gz" in str(caught.value)


def test_nan_outside_the_head_counts_as_background_with_a_notice(bare):
    values = np.where(bare == 0, np.nan, bare).astype(np.float32)
    prepared = prepare(study_of(values), RunContext(), PLACED)
    assert any("NaN" in notice for notice in prepared.notices)
    assert np.isfinite(prepared.channels).all()


def test_a_head_half_of_which_is_blank_has_a_failed_check(bare):
    values = bare.copy()
    values[: len(values) // 2] = 0
    for image, passed in ((values, False), (bare, True)):
        checks = prepare(study_of(image), RunContext(), PLACED).quality
        assert next(c for c in checks if c.check == "signal").passed is passed


def test_single_wild_voxels_are_capped_with_a_notice(bare):
    values = bare.copy()
    values[20, 20, 20] = 1e30
    prepared = prepare(study_of(values), RunContext(), PLACED)
    assert prepared.channels.max() < 1e5
    assert any("capped" in notice for notice in prepared.notices)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([50.0, 50, 50, 1]), "50 x 50 x 50 mm"),
        (np.diag([0.01, 0.01, 0.01, 1]), "no volume of a head"),
        (np.array([[4, 0, 0, 1e7], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1.0]]), "isocentre"),
        (np.array([[4, 0, 0, 0], [4, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1.0]]), "sheared"),
        (np.array([[4, 0, 0, 0], [-4, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1.0]]), "sheared"),
    ],
)
def test_a_grid_that_no_head_has_is_refused(ball, affine, words):
    with pytest.raises(GeometryError, match=words):
        prepare(study_of(ball, Grid(ball.shape, affine)), RunContext())


def test_no_sequence_has_no_reference():
    with pytest.raises(UnusableInputError):
        reference_of({})


def test_steps_can_be_left_out(make_study):
    how = {"t1c": Acquisition("LPS"), "t2": Acquisition("LPS", (4, 4, 8))}
    study = open_study(make_study(sequences={"t1c", "t2"}, how=how))
    prepared = prepare(study, RunContext(), replace(PLACED, register=False))
    assert not any(step.done for step in prepared.steps)
    assert "registration" not in {check.check for check in prepared.quality}


def test_files_that_vanished_after_opening_are_named_as_missing(tmp_path):
    study = study_of(np.ones((8, 8, 8), np.float32))

    def load():
        return np.load(tmp_path / "gone.npy")

    series = {s: replace(one, load=load) for s, one in study.series.items()}
    with pytest.raises(ReadError, match="T1c"):
        prepare(replace(study, series=series), RunContext(), PLACED)


def test_a_stripped_brain_that_is_cropped_to_its_own_box_stays_one():
    """Its outermost slices then touch every face of the image."""
    for series in open_study(SAMPLE).series.values():
        values = series.load()
        visible = values != 0
        tight = values[bounding_box(visible)]
        assert is_stripped(values, series.grid)
        assert is_stripped(tight, Grid(tight.shape, series.grid.affine))


@pytest.mark.parametrize("blank", [1, 3, 20])
def test_blank_voxels_beside_a_brain_do_not_change_what_a_network_reads(bare, blank):
    """The grid began at the border of the image: one voxel more moved what is read at 2 mm."""
    brain = bare[bounding_box(bare > 0)]
    lattice = Grid(brain.shape, np.diag([4.0, 4.0, 4.0, 1.0]))
    padded = np.pad(brain, ((blank, 0), (0, blank), (blank, 2 * blank)))
    affine = lattice.affine.copy()
    affine[:3, 3] = lattice.to_mm((-blank, 0, -blank))
    cropped, whole = (
        prepare(study_of(values, grid), RunContext(), COARSE)
        for values, grid in ((brain, lattice), (padded, Grid(padded.shape, affine)))
    )
    assert cropped.working.matches(whole.working)
    np.testing.assert_array_equal(cropped.brain, whole.brain)
    np.testing.assert_array_equal(cropped.channels, whole.channels)


@pytest.mark.parametrize("edge_mm", [0.0, -1.0, np.nan])
def test_voxels_of_no_size_are_refused(edge_mm):
    with pytest.raises(UnusableInputError):
        PrepareOptions(edge_mm=edge_mm)


@pytest.mark.parametrize("stripped", [True, False])
def test_a_mask_of_any_tool_is_the_brain_however_it_is_stored(make_study, tmp_path, stripped):
    head = make_patient(spacing_mm=4.0, skull=not stripped)
    study = open_study(make_study(patient=head, sequences={"t1c"}))
    image = nib.Nifti1Image(head.brain.data.astype(np.uint8), head.brain.grid.affine)
    found = []
    for orientation in ("RAS", "LIP", "PSR"):
        path = tmp_path / f"{orientation}.nii.gz"
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(orientation)
        )
        image.as_reoriented(turn).to_filename(path)
        prepared = prepare(study, RunContext(), replace(COARSE, brain_mask=path))
        found.append(prepared)
        assert "brain mask" in prepared.steps[-1].message
    assert found[0].working.volume_ml(found[0].brain) == pytest.approx(
        head.brain.grid.volume_ml(head.brain.data), rel=0.02
    )
    for other in found[1:]:
        assert other.working.matches(found[0].working)
        np.testing.assert_array_equal(other.brain, found[0].brain)


def test_a_mask_elsewhere_or_no_mask_is_refused(make_study, tmp_path):
    study = open_study(make_study(sequences={"t1c"}))
    affine = np.eye(4)
    affine[:3, 3] = 1000
    nib.Nifti1Image(np.ones((9, 9, 9), np.uint8), affine).to_filename(tmp_path / "far.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no image")
    for name in ("far.nii.gz", "text.nii.gz", "missing.nii.gz"):
        with pytest.raises((ReadError, UnusableInputError)) as refused:
            prepare(study, RunContext(), replace(COARSE, brain_mask=tmp_path / name))
        assert refused.value.exit_status == 2
        assert name in str(refused.value)
