"""`lesionlens deidentify` and `export --deidentify` as a user calls them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pydicom
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.files import user_folders
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.cli.deidentify import Dates, deidentify
from lesionlens.cli.export import export
from lesionlens.cli.options import ResultLayout
from lesionlens.results.export.exporter import save


@pytest.fixture
def places(tmp_path):
    return {"key": tmp_path / "apart" / "key", "map_file": tmp_path / "apart" / "map.csv"}


def test_a_study_is_copied_without_names(patient, tmp_path, places):
    study = write_study(patient, tmp_path / "study", kind=StudyKind.DICOM)
    answer = deidentify(tmp_path / "study", tmp_path / "out", json=True, **places)
    reported = json.loads(answer.output[0])
    files = list((tmp_path / "out").rglob("*.dcm"))
    assert reported["files"] == len(files) == sum(len(s.files) for s in study.series.values())
    assert any("a skull-stripped brain" in notice for notice in reported["notices"])
    first = pydicom.dcmread(files[0])
    assert first.PatientID.startswith("LL-")
    assert first.StudyDate != "20260105"
    assert f"patient,SYNTHETIC-1,{first.PatientID}" in places["map_file"].read_text()
    one_series, full = study.series[MrSequence.T1C].files[0].path.parent, tmp_path / "full"
    deidentify(one_series, full, dates=Dates.FULL, keep_uids=True, **places)
    again = pydicom.dcmread(next(full.rglob("*.dcm")))
    assert again.StudyDate == "20260105"
    assert again.StudyInstanceUID == study.uid
    assert again.PatientID == first.PatientID


def test_one_file_is_one_file(make_study, tmp_path, places):
    """It printed "1 files"."""
    study = make_study(sequences={"t1c"}, dicom=True)
    file = next(path for path in study.rglob("*") if path.is_file())
    answer = deidentify(file, tmp_path / "out", **places)
    assert answer.output[0].startswith("1 file in ")


def test_key_and_map_never_lie_in_what_is_handed_on(make_study, tmp_path):
    make_study(sequences={"t1c"}, dicom=True)
    with pytest.raises(UnusableInputError, match="shared"):
        deidentify(tmp_path / "study", tmp_path / "out", key=tmp_path / "out" / "key")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [("key", "key"), ("key", "sub/../key"), ("out", "map")])
def test_key_map_and_output_folder_are_three_paths(make_study, tmp_path, names):
    """A key was left where the map should have been written, or the copy."""
    make_study(sequences={"t1c"}, dicom=True)
    key, map_file = (tmp_path / name for name in names)
    with pytest.raises(UnusableInputError, match=r"for the key and for the map|shared"):
        deidentify(tmp_path / "study", tmp_path / "out", key=key, map_file=map_file)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_a_user_without_a_home_is_told_to_name_key_and_map(make_study, tmp_path, monkeypatch):
    """As HOME=/dev/null: the message was "Not a directory (lesionlens/deidentification)"."""
    make_study(sequences={"t1c"}, dicom=True)
    monkeypatch.setattr(user_folders, "data", lambda: Path(os.devnull, "lesionlens"))
    with pytest.raises(ResourceError, match=r"secret key .*--key and --map"):
        deidentify(tmp_path / "study", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_map_is_refused_before_any_work_and_stays_as_it_is(
    make_study, tmp_path, places
):
    make_study(sequences={"t1c"}, dicom=True)
    other = tmp_path / "patients.csv"
    other.write_text("name,city\nDoe,Xanadu")
    with pytest.raises(UnusableInputError, match=r"'patients.csv', which is not a table"):
        deidentify(tmp_path / "study", tmp_path / "out", **{**places, "map_file": other})
    assert other.read_text() == "name,city\nDoe,Xanadu"
    assert not (tmp_path / "out").exists()
    assert not places["key"].exists()


def test_nifti_is_refused_with_a_word(make_study, tmp_path, places):
    with pytest.raises(UnusableInputError, match="no DICOM file"):
        deidentify(make_study(sequences={"t1c"}), tmp_path / "out", **places)


def test_bids_and_deidentify_exclude_each_other(patient, tmp_path, places):
    study = write_study(
        patient, tmp_path / "study", kind=StudyKind.DICOM, sequences=(MrSequence.T1C,)
    )
    save(make_analysis(patient, study), tmp_path / "result")
    with pytest.raises(UnusableInputError, match="bids"):
        export(
            tmp_path / "result", tmp_path / "study", tmp_path / "out",
            deidentify=True, layout=ResultLayout.BIDS, **places,
        )  # fmt: skip
