"""`lesionlens export` writes what the readers decided, and nothing where it cannot."""

from __future__ import annotations

import json

import pydicom
import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, make_reviewed, write_study

from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.labels import MapExtent, MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.cli.export import export
from lesionlens.cli.option_groups import FileOptions
from lesionlens.cli.review import review
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.export.exporter import save
from lesionlens.results.review.reopen import read_run

pytestmark = pytest.mark.usefixtures("coarse")


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """A study, and a result of it whose second candidate was rejected."""
    folder = tmp_path_factory.mktemp("reviewed")
    save(make_reviewed(folder / "study", (MrSequence.T1C,), "LPS"), folder / "result")
    return folder / "study", folder / "result"


def test_the_new_result_says_what_the_readers_decided(reviewed, tmp_path):
    study, result = reviewed
    answer = export(result, study, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "findings.json").read_text())
    states = [candidate["review"]["state"] for candidate in written["candidates"]]
    assert states == ["unreviewed", "rejected"]
    assert "1 rejected" in str(answer.output[0])
    assert (tmp_path / "out" / "report.html").exists()


def test_options_for_dicom_objects_of_a_nifti_study_are_named_as_without_effect(reviewed, tmp_path):
    """They were ignored without a word."""
    study, result = reviewed
    given = FileOptions(maps=MapExtent.FULL, include_unaccepted=True).choice()
    answer = export(result, study, tmp_path / "out", export_options=given)
    assert answer.notes[-1].startswith("--maps and --rest had no effect: the study is not DICOM")


@pytest.mark.parametrize("command", [export, review])
def test_the_study_of_what_was_written_is_found_where_it_is_a_prior(
    reviewed, tmp_path, monkeypatch, command
):
    """Only `analyze` remembered where its images lie: --prior asked for them."""
    monkeypatch.setattr(study_locations, "location_file", lambda: tmp_path / "studies.json")
    study, result = reviewed
    command(result, study, tmp_path / "out")
    known = study_locations.recall(read_run(tmp_path / "out").inputs)
    assert known == (study, open_study(study).uid)


def test_another_study_is_refused_and_nothing_is_written(reviewed, make_study, tmp_path):
    _, result = reviewed
    other = make_study(sequences={"t1c"}, spacing_mm=(4.0, 4.0, 5.0))
    with pytest.raises(ReadError, match="a different study"):
        export(result, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_result_is_refused(reviewed, tmp_path):
    study, _ = reviewed
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError):
        export(tmp_path / "empty", study, tmp_path / "out")


def test_the_study_is_never_written_to(reviewed):
    study, result = reviewed
    with pytest.raises(UnusableInputError, match="within the study"):
        export(result, study, study / "out")


def test_each_note_is_said_once_though_a_name_holds_markup_and_control_characters(tmp_path):
    """What the DICOM objects do not repeat was a note of the result, and again of its export."""
    patient = make_patient(spacing_mm=4.0, lesions=(Lesion(),))
    how = Acquisition("LPS", (4.0, 4.0, 5.0))
    sequences = (MrSequence.T1C,)
    place = tmp_path / "study"
    write_study(patient, place, kind=StudyKind.DICOM, sequences=sequences, how=how)
    for path in place.rglob("*"):
        if path.is_file():
            header = pydicom.dcmread(path)
            header.StudyDescription = "<b>brain</b>\x1b[31m\r\n"
            header.save_as(path)
    save(make_analysis(patient, open_study(place)), tmp_path / "result")
    for earlier, later in (("result", "again"), ("again", "third")):
        notes = export(tmp_path / earlier, place, tmp_path / later).notes
        assert any("StudyDescription" in note for note in notes)
        assert sorted(notes) == sorted(set(notes))
