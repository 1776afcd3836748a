"""A face is taken off by a template, and nothing of the brain; where none fits, that is said."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid
from tests.helpers.file_search import files_below
from tests.phantoms.acquire import Acquisition
from tests.phantoms.files import write_dicom

from lesionlens.base import geometry
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.deidentification import defacing
from lesionlens.imaging.deidentification.face import find_face, fit, load_template
from lesionlens.imaging.deidentification.folder import FACES_REMAIN, deidentify_folder
from lesionlens.imaging.deidentification.profile import Options
from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms
from lesionlens.imaging.preparation import brain_extraction
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.network.synth import classes

NAMES = Pseudonyms(b"k" * 32)
BRIGHT = {
    classes.CORTEX: 500, classes.WHITE: 700, classes.FLUID: 150, classes.VENTRICLE: 150,
    classes.OUTER_FLUID: 150, classes.SOFT: 450, classes.BONE: 80, classes.MARROW: 800,
    classes.SKIN: 750, classes.MUCOSA: 450, classes.SINUS: 150, classes.EYE: 250,
    classes.OTHER: 400, classes.CORD: 600, classes.AIR: 0,
}  # fmt: skip
"""As in T1; all else is grey and white matter."""


def head(number):
    """Return a bundled head's classes (I, J, K) and their grid."""
    with (
        (files("lesionlens.network.synth") / "anatomies.npz").open("rb") as stream,
        np.load(stream) as stored,
    ):
        labels = stored[f"head_{number:02d}.labels"]
        affine = stored[f"head_{number:02d}.affine"].astype(np.float64)
    return labels, Grid(labels.shape, affine)


@pytest.fixture(scope="module")
def person():
    """A patient drawn from the second head's label map on 3 mm, and its classes there."""
    labels, grid = head(2)
    values = np.array([BRIGHT.get(n, 600) for n in range(classes.COUNT)], np.float32)[labels]
    affine, shape = geometry.ras_grid(grid.affine, grid.shape, 3.0)
    target = Grid(shape, affine)
    data = np.pad(resample(values, grid, target), 4)
    moved = np.array(affine)
    moved[:3, 3] -= 12.0
    wide = Grid(data.shape, moved)
    data += np.random.default_rng(0).normal(0, 8, data.shape).astype(np.float32)
    image = Volume(data.clip(0), wide)
    drawn = replace(make_patient(spacing_mm=8.0), sequences={MrSequence.T1: image})
    return drawn, labels, grid


def _pixels(folder):
    """Return every object of a folder by its place, with its pixels."""
    found = {}
    for path in files_below(folder):
        if path.is_file():
            dataset = pydicom.dcmread(path)
            place = tuple(np.round(np.array(dataset.ImagePositionPatient, float), 2))
            found[place] = (dataset, dataset.pixel_array)
    return found


def _classes_at(dataset, labels, grid):
    """Return the classes of an object's pixels, (rows, columns)."""
    turn = np.array(dataset.ImageOrientationPatient, float)
    down, along = map(float, dataset.PixelSpacing)
    row, column = np.mgrid[: dataset.Rows, : dataset.Columns]
    lps = np.array(dataset.ImagePositionPatient, float) + (
        column[..., None] * along * turn[:3] + row[..., None] * down * turn[3:]
    )
    index = np.rint(grid.to_voxel(geometry.points_lps_from_ras(lps.reshape(-1, 3)))).astype(int)
    inside = ((index >= 0) & (index < labels.shape)).all(axis=1)
    found = np.zeros(len(index), np.uint8)
    found[inside] = labels[tuple(index[inside].T)]
    return found.reshape(row.shape)


@pytest.mark.parametrize(("orientation", "compressed"), [("LPS", False), ("PIR", True)])
def test_eyes_and_nose_go_and_the_brain_stays(person, tmp_path, orientation, compressed):
    patient, labels, grid = person
    write_dicom(
        patient, tmp_path / "in", sequences=(MrSequence.T1,), how=Acquisition(orientation)
    )  # fmt: skip
    if compressed:
        for path in files_below(tmp_path / "in"):
            dataset = pydicom.dcmread(path)
            dataset.compress(RLELossless, generate_instance_uid=False)
            dataset.save_as(path)
    done = deidentify_folder(tmp_path / "in", tmp_path / "out", NAMES, Options())
    before, after = _pixels(tmp_path / "in"), _pixels(tmp_path / "out")
    assert set(before) == set(after)
    eyes = gone = 0
    for place, (dataset, pixels) in before.items():
        there, new = after[place]
        kinds = _classes_at(dataset, labels, grid)
        brain = np.isin(kinds, classes.BRAIN)
        np.testing.assert_array_equal(new[brain], pixels[brain])
        changed = new != pixels
        eyes += int((kinds == classes.EYE).sum())
        gone += int((new[kinds == classes.EYE] == 0).sum())
        assert (new[changed] == 0).all()
        assert there.RecognizableVisualFeatures == "NO"
        methods = [item.CodeValue for item in there.DeidentificationMethodCodeSequence]
        assert "113102" in methods
    assert gone >= 0.98 * eyes > 50
    assert any("face removed" in notice for notice in done.notices)
    assert not any("Faces remain" in notice for notice in done.notices)


def test_on_request_pixels_stay_and_it_is_reported(person, tmp_path):
    patient, *_ = person
    write_dicom(patient, tmp_path / "in", sequences=(MrSequence.T1,))
    done = deidentify_folder(tmp_path / "in", tmp_path / "out", NAMES, Options(keep_faces=True))
    before, after = _pixels(tmp_path / "in"), _pixels(tmp_path / "out")
    for place, (_, pixels) in before.items():
        np.testing.assert_array_equal(after[place][1], pixels)
        assert after[place][0].RecognizableVisualFeatures == "YES"
    assert FACES_REMAIN in done.notices


def test_an_image_without_a_place_keeps_its_face_and_it_is_reported(person, tmp_path):
    patient, *_ = person
    paths = write_dicom(patient, tmp_path / "in", sequences=(MrSequence.T1,))[MrSequence.T1]
    dataset = pydicom.dcmread(paths[0])
    del dataset.ImageOrientationPatient
    dataset.save_as(paths[0])
    done = deidentify_folder(tmp_path / "in", tmp_path / "out", NAMES, Options())
    assert any(notice.startswith("1 × Faces remain in some images") for notice in done.notices)
    assert any("face removed" in notice for notice in done.notices)


def test_an_image_that_cannot_be_decoded_keeps_its_face(person, tmp_path):
    patient, *_ = person
    paths = write_dicom(patient, tmp_path, sequences=(MrSequence.T1,))[MrSequence.T1]
    faces = defacing.find_faces(paths)
    whole, cut = pydicom.dcmread(paths[0]), pydicom.dcmread(paths[0])
    cut.PixelData = stored = cut.PixelData[:-100]
    assert defacing.remove_face(whole, paths[0], faces) is defacing.DefacingOutcome.REMOVED
    assert defacing.remove_face(cut, paths[0], faces) is defacing.DefacingOutcome.REMAINS
    assert (whole.RecognizableVisualFeatures, cut.RecognizableVisualFeatures) == ("NO", "YES")
    assert cut.PixelData == stored


def test_a_stripped_brain_has_no_face_to_take_off(tmp_path, monkeypatch):
    brain = brain_extraction.OutlineContent(brain=0.8, beyond=0.0)
    monkeypatch.setattr(brain_extraction, "outline_content", lambda *_: brain)
    patient = make_patient(spacing_mm=4.0, noise=0.0)
    write_dicom(patient, tmp_path / "in", sequences=(MrSequence.T1,))
    paths = files_below(tmp_path / "in")
    found = defacing.find_faces(paths)
    assert found.by_frame == {}
    assert len(found.stripped_series) == 1


def test_a_stripped_volume_makes_no_stripped_series_of_a_head_beside_it(tmp_path, monkeypatch):
    """Two volumes under one UID: the faces of the other one were called unrecognisable."""
    patient = make_patient(spacing_mm=4.0, noise=0.0)
    for path in write_dicom(patient, tmp_path, sequences=(MrSequence.T1,))[MrSequence.T1]:
        dataset = pydicom.dcmread(path)
        dataset.EchoNumbers = 2
        uid = generate_uid(entropy_srcs=[dataset.SOPInstanceUID])
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.save_as(path.with_name(f"second_{path.name}"))
    monkeypatch.setattr(defacing, "_locate_face", lambda *_: None)
    stripped_echoes = {"2"}
    monkeypatch.setattr(
        defacing, "_is_stripped_series", lambda s: s.first.text("EchoNumbers") in stripped_echoes
    )
    assert not defacing.find_faces(files_below(tmp_path)).stripped_series
    stripped_echoes.add("")
    assert len(defacing.find_faces(files_below(tmp_path)).stripped_series) == 1


def test_two_studies_with_one_frame_of_reference_have_a_face_each(tmp_path, monkeypatch):
    """Some anonymisers write one Frame of Reference UID for all patients."""
    patient = make_patient(spacing_mm=4.0, noise=0.0)
    for study in ("a", "b"):
        folder = tmp_path / study
        for path in write_dicom(patient, folder, sequences=(MrSequence.T1,))[MrSequence.T1]:
            dataset = pydicom.dcmread(path)
            dataset.FrameOfReferenceUID = "1.2.3"
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                new = generate_uid(entropy_srcs=[study, str(dataset[keyword].value)])
                setattr(dataset, keyword, new)
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(path)
    seen = []
    monkeypatch.setattr(defacing, "_locate_face", lambda stack, _: seen.append(stack) or stack)
    found = defacing.find_faces(files_below(tmp_path)).by_frame
    assert len(found) == len(seen) == 2


@pytest.mark.parametrize(("other", "faces"), [("B2", 2), ("", 1)])
def test_two_patients_with_the_same_uids_have_a_face_each(tmp_path, monkeypatch, other, faces):
    """A second patient's face stayed: the template lay where the first one's is."""
    patient = make_patient(spacing_mm=4.0, noise=0.0)
    for patient_id in ("A1", other):
        folder = tmp_path / f"p{patient_id}"
        for path in write_dicom(patient, folder, sequences=(MrSequence.T1,))[MrSequence.T1]:
            dataset = pydicom.dcmread(path)
            dataset.PatientID = patient_id
            uid = generate_uid(entropy_srcs=[patient_id, dataset.SOPInstanceUID])
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            dataset.save_as(path)
    seen = []
    monkeypatch.setattr(defacing, "_locate_face", lambda stack, _: seen.append(stack) or stack)
    located = defacing.find_faces(files_below(tmp_path)).by_frame
    assert len(located) == 2
    assert len(seen) == len({id(stack) for stack in located.values()}) == faces
    for (_, owner), stack in located.items():
        assert faces == 1 or {item.patient for item in stack.slices} == {owner}


@pytest.mark.parametrize(
    "number", [1, 11, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 14, 20))]
)
def test_the_template_fits_heads_however_they_nod(number):
    labels, grid = head(number)
    brain = np.isin(labels, classes.BRAIN)
    face = find_face(brain, grid)
    assert face.dice > 0.95
    eyes = grid.to_mm(np.argwhere(labels == classes.EYE)[::7])
    assert face.contains(eyes).mean() > 0.95
    assert not face.contains(grid.to_mm(np.argwhere(brain)[::101])).any()


def test_what_is_no_brain_has_no_face():
    shape = (60, 60, 60)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    stick = np.zeros(shape, bool)
    stick[5:55, 28:32, 10:50] = True
    assert find_face(stick, Grid(shape, affine)) is None


def test_a_fit_undoes_a_turn_and_a_stretch():
    template = load_template()
    turn = np.array([[1.05, 0, 0, 4], [0, 0.96, -0.2, -8], [0, 0.2, 0.98, 6], [0, 0, 0, 1.0]])
    other = resample(template.brain, template.grid, template.grid, moved=turn)
    found, dice = fit(other, template.grid, template.brain, template.grid)
    assert dice > 0.98
    corners = np.array([[x, y, z] for x in (-60, 60) for y in (-70, 70) for z in (-50, 60)])
    gaps = geometry.apply(found, corners) - geometry.apply(turn, corners)
    assert np.linalg.norm(gaps, axis=1).max() < 3.0


def test_a_head_on_a_blank_background_is_no_stripped_brain(tmp_path, monkeypatch):
    """It has a face, which would be left and called unrecognisable."""
    patient = make_patient(spacing_mm=4.0, noise=0.0)
    write_dicom(patient, tmp_path / "in", sequences=(MrSequence.T1,))
    head = brain_extraction.OutlineContent(brain=0.5, beyond=0.2)
    monkeypatch.setattr(brain_extraction, "outline_content", lambda *_: head)
    assert not defacing.find_faces(files_below(tmp_path / "in")).stripped_series
