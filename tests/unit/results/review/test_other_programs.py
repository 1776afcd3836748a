"""Segmentations that other programs' own code wrote of a synthetic head become candidates.

`other_programs/make.py` recorded them: dcmqi 1.5.7 (as used by itself, and with the metadata that
3D Slicer's export writes), highdicom 0.28.2, pydicom-seg 0.4.1, TotalSegmentator 2.18.0 and MONAI
Deploy's App SDK 4.0.0.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.labels import Label, MrSequence, Region, ReviewState
from lesionlens.base.records.study import StudyKind
from lesionlens.results.review.from_dicom import from_dicom
from lesionlens.testing import Lesion, make_patient

RECORDED = Path(__file__).parent / "other_programs"
PARTS = {"dcmqi", "pydicom_seg"}
"""Core, oedema and enhancing part are segments of their own."""


def drawn_head(folder):
    """Write a head with two lesions as DICOM below a folder, and return its analysis."""
    lesions = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))
    patient = make_patient(spacing_mm=6.0, lesions=lesions)
    study = write_study(
        patient, folder / "study", kind=StudyKind.DICOM,
        sequences=(MrSequence.T1C,), how=Acquisition("LPS"),
    )  # fmt: skip
    return make_analysis(patient, study)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return drawn_head(tmp_path_factory.mktemp("others"))


@pytest.mark.parametrize(
    "program",
    ["dcmqi", "slicer", "highdicom", "pydicom_seg", "totalsegmentator", "monai_deploy"],
)
def test_it_reopens_voxel_for_voxel_as_candidates_that_nobody_reviewed(head, tmp_path, program):
    shutil.copy(RECORDED / f"{program}.dcm", tmp_path)
    again = from_dicom(tmp_path, head.study, head.prepared)
    labels, meant = again.volumes.labels.data, head.volumes.labels.data
    np.testing.assert_array_equal(labels > 0, meant > 0)
    if program in PARTS:
        np.testing.assert_array_equal(labels, meant)
    if program == "highdicom":
        np.testing.assert_array_equal(labels == Label.ENHANCING, meant == Label.ENHANCING)
    grid = head.volumes.labels.grid
    assert [c.volume_ml[Region.WT] for c in again.findings.candidates] == pytest.approx(
        sorted((grid.volume_ml(head.findings.components == n) for n in (1, 2)), reverse=True)
    )
    parted = program in PARTS or program == "highdicom"
    for candidate in again.findings.candidates:
        known = [candidate.volume_ml[part] is not None for part in (Region.TC, Region.ET)]
        assert known == [parted, parted]
        assert (candidate.rano_measurable is not None) is parted
    assert any("core and enhancing part" in text for text in again.findings.notices) is not parted
    states = {again.review.state_of(c.tracking_uid) for c in again.findings.candidates}
    assert states == {ReviewState.UNREVIEWED}
    assert {c.score for c in again.findings.candidates} == {None}
    assert not any("resampled" in text for text in again.run.notices)
    brain = [text for text in again.run.notices if "not used as candidates" in text]
    assert bool(brain) == (program == "totalsegmentator")


def test_a_report_of_dcmqi_on_its_segmentation_does_not_keep_it_from_reopening(head, tmp_path):
    for name in ("dcmqi", "dcmqi_report"):
        shutil.copy(RECORDED / f"{name}.dcm", tmp_path)
    again = from_dicom(tmp_path, head.study, head.prepared)
    np.testing.assert_array_equal(again.volumes.labels.data, head.volumes.labels.data)
    assert len(again.findings.candidates) == 2
    assert len(again.run.documents) == 1
