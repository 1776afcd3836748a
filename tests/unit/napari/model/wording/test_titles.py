"""The line that names patient and examination."""

import warnings
from dataclasses import replace

import pydicom
import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.review import Review
from lesionlens.imaging.reading.open import REPORTED, open_study
from lesionlens.napari.model.state.identity import StudyIdentity, identity_of
from lesionlens.napari.model.wording.titles import notices_of


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (
            ("Doe^Jane", "P-7", "19700102", "F", "20260105"),
            ("Doe Jane", "P-7", "born 1970-01-02 · F", "2026-01-05"),
        ),
        (("Doe", "", "", "F", ""), ("Doe", "of the list", "F", "2020-02-03")),
        (("", "P-7", "1970", "", "2026"), ("", "P-7", "born 1970", "2026")),
    ],
)
def test_the_patient_is_that_of_the_header_and_only_what_it_lacks_that_of_the_list(
    make_study, header, shown
):
    study = open_study(make_study(dicom=True, sequences={"t1c"}))
    path = study.series[MrSequence.T1C].files[0].path
    dataset = pydicom.dcmread(path)
    tags = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate")
    with warnings.catch_warnings(action="ignore"):  # dates that are none
        for tag, value in zip(tags, header, strict=True):
            setattr(dataset, tag, value)
        dataset.save_as(path)
        listed = StudyIdentity("row 3", "Other^Name", "of the list", "", "2020-02-03")
        assert identity_of(study, listed) == StudyIdentity("row 3", *shown)


def test_a_file_of_another_patient_by_now_names_nobody(make_study):
    study = open_study(make_study(dicom=True, sequences={"t1c"}))
    assert identity_of(study).patient
    path = study.series[MrSequence.T1C].files[0].path
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = "2.25.1"
    dataset.save_as(path)
    assert identity_of(study, StudyIdentity("listed")) == StudyIdentity("listed")


def test_a_study_with_a_report_says_so_before_it_is_analysed(make_study):
    study = open_study(make_study(sequences={"t1c"}))
    assert REPORTED not in notices_of(study, None, Review())
    assert REPORTED in notices_of(replace(study, has_report=True), None, Review())
