"""Images of two patients in one folder: refused by what differs, or confirmed by a person."""

import shutil

import pytest
from tests.helpers.dicom_files import edited_dicom
from tests.helpers.file_search import files_below
from tests.phantoms.acquire import AXIAL, Acquisition
from tests.phantoms.files import write_dicom
from tests.phantoms.headers import PatientIdentity

from lesionlens.base.errors import PatientConflictError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.readers import open_study

WHOLE = {
    "PatientID": "P1",
    "IssuerOfPatientID": "HOSPITAL",
    "PatientName": "Müller^Anna",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory, patient):
    """Two series of one study, of which every header says who it is."""
    folder = tmp_path_factory.mktemp("pair")
    wanted = (MrSequence.T1C, MrSequence.FLAIR)
    write_dicom(patient, folder, sequences=wanted, how=Acquisition(AXIAL, (4.0, 4.0, 8.0)))
    rewrite(folder, WHOLE)
    return folder


def rewrite(folder, header, charset="ISO_IR 192"):
    for path in files_below(folder):
        with edited_dicom(path) as dataset:
            dataset.decode()
            dataset.SpecificCharacterSet = charset
            for keyword, value in header.items():
                setattr(dataset, keyword, value)


@pytest.fixture
def study(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "study")
    return tmp_path / "study"


def second(study):
    return sorted(p for p in study.iterdir() if p.is_dir())[1]


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        ({"PatientID": "P2"}, ("patient ID",)),
        ({"PatientID": ""}, ("patient ID",)),
        ({"IssuerOfPatientID": "PRACTICE"}, ("issuer of the patient ID",)),
        ({"PatientName": "Roe^Jane"}, ("name",)),
        ({"PatientBirthDate": "19710102"}, ("birth date",)),
        ({"PatientSex": "M"}, ("sex",)),
        ({"PatientID": "", "PatientName": "Roe^Jane"}, ("name",)),
        ({"PatientID": "", "PatientName": "", "PatientBirthDate": ""}, ("patient ID", "name")),
        (dict.fromkeys(WHOLE, ""), ("patient ID", "issuer of the patient ID", "name")),
    ],
)
def test_series_of_two_patients_are_refused_by_what_differs(study, header, fields):
    rewrite(second(study), header)
    with pytest.raises(PatientConflictError, match="--same-patient") as caught:
        open_study(study)
    assert caught.value.fields[: len(fields)] == fields
    assert not any(value in str(caught.value) for value in ("P1", "P2", "Roe", "1970", "PRACTICE"))
    confirmed = open_study(study, same_patient=True)
    assert len(confirmed.series) == 2
    assert any("confirmed that it is the same patient" in n for n in confirmed.notices)


@pytest.mark.parametrize(
    ("header", "charset"),
    [
        ({"PatientName": "MÜLLER^ANNA^^"}, "ISO_IR 192"),
        ({"PatientName": "Müller^Anna"}, "ISO_IR 100"),
        ({"PatientName": "Mueller^Anna"}, "ISO_IR 6"),
        ({"PatientID": " P1 ", "IssuerOfPatientID": "", "PatientSex": ""}, "ISO_IR 192"),
    ],
)
def test_one_patient_in_other_spelling_is_one(study, header, charset):
    rewrite(second(study), header, charset)
    read = open_study(study)
    assert len(read.series) == 2
    assert not any("confirmed" in notice for notice in read.notices)


def test_a_series_named_from_elsewhere_is_of_the_same_patient_too(study, tmp_path):
    moved = second(study).rename(tmp_path / "elsewhere")
    assert len(open_study(study, named={"flair": moved}).series) == 2
    rewrite(moved, {"PatientBirthDate": "19710102"})
    with pytest.raises(PatientConflictError, match="birth date"):
        open_study(study, named={"flair": moved})


def test_two_patients_with_a_study_each_are_told_to_name_one(make_study, tmp_path):
    small = {"dicom": True, "spacing_mm": (4.0, 4.0, 8.0)}
    make_study(name="both/a", sequences={"t1c"}, **small)
    other = PatientIdentity(patient_id="OTHER", name="Other^One")
    make_study(name="both/b", sequences={"flair"}, identity=other, **small)
    with pytest.raises(PatientConflictError, match="--study"):
        open_study(tmp_path / "both")
    assert len(open_study(tmp_path / "both", study_uid=other.uid("study")).series) == 1
