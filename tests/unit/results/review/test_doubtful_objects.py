"""What is odd in DICOM objects and masks of a study is said or refused, never placed in silence."""

from __future__ import annotations

import shutil
from dataclasses import replace

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from tests.helpers.dicom_files import edited_dicom
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import ReadError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.patient import Patient
from lesionlens.base.records.study import StudyKind
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.review.from_dicom import from_dicom
from lesionlens.results.review.reopen import is_mask, reopen_folder
from lesionlens.testing import Lesion, make_patient

ONE = MrSequence.T1C
STATED = {"PatientID": "SYNTHETIC-1", "PatientName": "Synthetic^Phantom", "PatientSex": "O"}


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head with two lesions as DICOM, and its analysis."""
    lesions = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))
    patient = make_patient(spacing_mm=6.0, lesions=lesions)
    study = write_study(
        patient, tmp_path_factory.mktemp("odd") / "study", kind=StudyKind.DICOM,
        sequences=(ONE,), how=Acquisition("LPS"),
    )  # fmt: skip
    return make_analysis(patient, replace(study, patient=Patient.of(STATED)))


def segmentation(head, *masks, uids=(), kind="BINARY", scale=1.0):
    """Return a Segmentation of another program: one tumour a mask."""
    segments = [
        highdicom.seg.SegmentDescription(
            n, f"Tumor {n}", pydicom.sr.codedict.codes.SCT.MorphologicallyAbnormalStructure,
            pydicom.sr.codedict.codes.SCT.Neoplasm, "MANUAL",
            tracking_uid=uid, tracking_id=uid,
        )
        for n, uid in enumerate(uids or [None] * len(masks), 1)
    ]  # fmt: skip
    frames = np.stack([mask.transpose(2, 1, 0) for mask in masks], axis=-1)
    return highdicom.seg.Segmentation(
        [pydicom.dcmread(f.path) for f in head.study.series[ONE].files],
        frames * np.float32(scale) if kind == "FRACTIONAL" else frames.astype(np.uint8),
        kind, segments, generate_uid(), 50, generate_uid(), 1, "Somebody", "Other", "1", "1",
        max_fractional_value=100,
    )  # fmt: skip


def marked(head, *numbers):
    return np.isin(head.findings.components, numbers)


def reopened(head, seg, folder):
    seg.save_as(folder / "seg.dcm")
    return from_dicom(folder, head.study, head.prepared)


def said(analysis, words):
    return [text for text in analysis.run.notices if words in text]


def moved(seg, mm):
    """Move each frame by its own shift (x, y, z), mm."""
    for frame, shift in zip(seg.PerFrameFunctionalGroupsSequence, mm, strict=True):
        where = frame.PlanePositionSequence[0]
        where.ImagePositionPatient = [
            float(v) + d for v, d in zip(where.ImagePositionPatient, shift, strict=True)
        ]
    return seg


def test_objects_of_another_patient_are_noticed_without_a_name(head, tmp_path):
    seg = segmentation(head, marked(head, 1, 2))
    assert not said(reopened(head, seg, tmp_path), "patient")
    seg.PatientID, seg.PatientName = "OTHER-7", "Other^Person"
    (notice,) = said(reopened(head, seg, tmp_path), "one patient")
    assert notice.startswith("Patient ID and name differ between the DICOM objects and the images")
    assert "OTHER" not in notice.upper().replace("ANOTHER", "")


def test_another_frame_of_reference_is_noticed_unless_it_is_drawn_on_the_reference(head, tmp_path):
    seg = segmentation(head, marked(head, 1, 2))
    seg.FrameOfReferenceUID = generate_uid()
    assert not said(reopened(head, seg, tmp_path), "frame of reference")
    others = {f.sop_instance_uid: generate_uid() for f in head.study.series[ONE].files}
    for element in seg.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            element.value = others.get(str(element.value), element.value)
    assert said(reopened(head, seg, tmp_path), "another frame of reference")
    seg.FrameOfReferenceUID = head.prepared.native.frame_uid
    assert not said(reopened(head, seg, tmp_path), "frame of reference")
    del seg.FrameOfReferenceUID  # unknown
    assert not said(reopened(head, seg, tmp_path), "frame of reference")


def test_frames_without_a_position_are_refused_not_dropped(head, tmp_path):
    seg = segmentation(head, marked(head, 1, 2))
    del seg.PerFrameFunctionalGroupsSequence[-4:]
    with pytest.raises(ReadError, match="cannot be read"):
        reopened(head, seg, tmp_path)


def test_a_stack_between_the_voxels_is_resampled(head, tmp_path):
    seg = segmentation(head, marked(head, 1))
    again = reopened(head, moved(seg, [(4.0, 0, 0)] * int(seg.NumberOfFrames)), tmp_path)
    assert said(again, "resampled")
    beside = np.roll(marked(head, 1), 1, axis=0)  # 4 of 6 mm to the left
    np.testing.assert_array_equal(again.findings.components > 0, beside)


@pytest.mark.parametrize(
    ("thickness", "stated"),
    [(6.0, None), (4.0, None), (3.0, None), (2.0, None), (5.0, 1.0), (4.0, 2.0), (6.0, 0.5)],
)
def test_slices_thinner_than_their_distance_keep_the_volume(head, tmp_path, thickness, stated):
    """Slices with gaps were taken for every other slice, also where the gap is stated."""
    seg = segmentation(head, marked(head, 1))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SpacingBetweenSlices
    if stated is not None:
        measures.SpacingBetweenSlices = stated
    measures.SliceThickness = thickness
    again = reopened(head, moved(seg, [(4.0, 0, 0)] * int(seg.NumberOfFrames)), tmp_path)
    beside = np.roll(marked(head, 1), 1, axis=0)
    np.testing.assert_array_equal(again.findings.components > 0, beside)


def test_frames_of_several_orientations_are_refused(head, tmp_path):
    seg = segmentation(head, marked(head, 1))
    shared = seg.SharedFunctionalGroupsSequence[0]
    plane = shared.PlaneOrientationSequence
    del shared.PlaneOrientationSequence
    for number, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        turned = pydicom.Dataset()
        turned.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        frame.PlaneOrientationSequence = [turned] if number % 2 else plane
    with pytest.raises(ReadError, match="several orientations"):
        reopened(head, moved(seg, [(2.0, 0, 0)] * int(seg.NumberOfFrames)), tmp_path)


def test_a_map_with_a_value_that_is_no_number_is_refused(head, tmp_path):
    DicomExporter().write(head, tmp_path)
    with edited_dicom(tmp_path / "dicom" / "attention.dcm") as ds:
        values = np.frombuffer(ds.FloatPixelData, "<f4").copy()
        values[0] = np.nan
        ds.FloatPixelData = values.tobytes()
    with pytest.raises(ReadError, match="cannot be read"):
        from_dicom(tmp_path / "dicom", head.study, head.prepared)


@pytest.mark.parametrize(
    ("images", "mask", "other"),
    [
        ("BraTS2021_01660_{}.nii.gz", "BraTS2021_01660_seg.nii.gz", False),
        ("BraTS2021_01660_{}.nii.gz", "BraTS2021_00002_seg.nii.gz", True),
        ("sub-01_ses-2_{}.nii.gz", "sub-02_ses-2_dseg.nii.gz", True),
        ("sub-01_ses-2_{}.nii.gz", "sub-01_ses-1_dseg.nii.gz", True),
        ("sub-01_ses-2_{}.nii.gz", "sub-01_ses-2_dseg.nii.gz", False),
        ("P001_{}.nii.gz", "reader2_P001_seg_3.nii.gz", False),
        ("P001_{}.nii.gz", "seg_v2.nii.gz", False),
    ],
)
def test_a_mask_that_is_named_for_another_examination_is_noticed(tmp_path, images, mask, other):
    """Scans of public sets share one grid: nothing but the name tells their masks apart."""
    patient, both = make_patient(spacing_mm=6.0), (ONE, MrSequence.FLAIR)
    study = write_study(patient, tmp_path / "study", sequences=both)
    named = {}
    for sequence, series in study.series.items():
        file = series.files[0]
        path = file.path.with_name(images.format("T1c" if sequence is ONE else "FLAIR"))
        shutil.move(file.path, path)
        named[sequence] = replace(series, files=(replace(file, path=path),))
    analysis = make_analysis(patient, replace(study, series=named))
    drawn = analysis.volumes.labels
    nib.save(nib.Nifti1Image(drawn.data, drawn.affine), tmp_path / mask)
    again = reopen_folder(tmp_path / mask, analysis.study, analysis.prepared)
    assert bool(said(again, "another examination")) is other


def test_a_mask_is_recognised_by_its_name_or_header(head, tmp_path):
    segmentation(head, marked(head, 1)).save_as(tmp_path / "seg.dcm")
    (tmp_path / "notes.txt").write_text("none")
    assert is_mask(tmp_path / "seg.dcm")
    (tmp_path / "lesion_mask.nii.gz").touch()
    assert is_mask(tmp_path / "lesion_mask.nii.gz")
    image = head.study.series[ONE].files[0].path
    (tmp_path / "t1c.nii.gz").touch()
    others = (image, tmp_path / "t1c.nii.gz", tmp_path / "notes.txt", tmp_path, tmp_path / "absent")
    assert not any(map(is_mask, others))
