"""Patient, date and scanner of a DICOM study are read from DICOM, also beside a named NIfTI."""

import pytest
from tests.phantoms.headers import PatientIdentity

from lesionlens import Study, open_study
from lesionlens.analysis.followup.patient import examination_of
from lesionlens.imaging import samples
from lesionlens.napari.model.state.identity import identity_of
from lesionlens.results.export.page import _dicom_header
from lesionlens.site.database.descriptions import patient_and_date_of


@pytest.fixture(scope="module")
def mixed() -> Study:
    """Return a DICOM study whose first sequence is a NIfTI file that the user named."""
    return open_study(samples.DICOM_STUDY, named={"t1": samples.STUDY / "t1.nii.gz"})


@pytest.mark.parametrize("read", [_dicom_header, examination_of, patient_and_date_of, identity_of])
def test_what_a_header_states_is_known_beside_a_named_nifti_file(mixed, read):
    dicom_only = open_study(samples.DICOM_STUDY)
    stated, expected = read(mixed), read(dicom_only)
    assert expected
    if read is _dicom_header:  # of another object of the same study
        stated, expected = ({**header, "SOPInstanceUID": ""} for header in (stated, expected))
    assert stated == expected


def test_the_patient_and_the_date_are_those_of_the_header(mixed):
    assert _dicom_header(mixed)["PatientID"] == "SYNTHETIC-SAMPLE"
    assert examination_of(mixed).date == "2026-01-05"


def test_a_series_that_is_named_from_an_earlier_study_gives_no_date(make_study):
    """Window, report and comparison had the day and the UID of that study."""
    folder, earlier = (
        make_study(name=date, sequences=sequences, dicom=True, identity=identity)
        for date, sequences, identity in (
            ("now", {"t1c", "flair"}, PatientIdentity(study="2", date="20260105")),
            ("then", {"t1"}, PatientIdentity(study="1", date="20200101")),
        )
    )
    study = open_study(folder, named={"t1": earlier})
    examination = examination_of(study)
    assert (examination.date, examination.study_uid) == ("2026-01-05", study.uid)
    assert identity_of(study).date == patient_and_date_of(study).date == "2026-01-05"
    assert _dicom_header(study)["StudyDate"] == "20260105"


def test_a_nifti_study_has_its_first_file():
    study = open_study(samples.STUDY)
    assert study.header_file is next(iter(study.series.values())).files[0]
