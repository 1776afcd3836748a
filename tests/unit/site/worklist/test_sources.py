"""A list's study is fetched from its archive once, whoever needs it."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pydicom
import pytest
from tests.phantoms.files import write_dicom

from lesionlens.base.errors import PatientConflictError, ReadError
from lesionlens.base.run_context import SILENT
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.pacs.intake import Pacs
from lesionlens.site.pacs.server import Server
from lesionlens.site.worklist import sources
from lesionlens.testing import make_patient


@pytest.fixture
def files(tmp_path):
    write_dicom(make_patient(spacing_mm=24.0), tmp_path / "archive", sequences=("t1c",))
    return sorted(path for path in (tmp_path / "archive").rglob("*") if path.is_file())


@pytest.fixture
def entry(files):
    uid = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    return StudyEntry(uid, "", "P1", "", study_uid=uid)


class Archive(Pacs):
    """Sends files; `meanwhile` is called before the first."""

    def __init__(self, files, meanwhile=lambda: None):
        headers = [pydicom.dcmread(path) for path in files]
        self._listed = {str(h.SOPInstanceUID): str(h.SOPClassUID) for h in headers}
        self._files, self._meanwhile = files, meanwhile

    def find(self, *_, **__):
        return ()

    def _series(self, *_):
        return {}

    def _store(self, *_):
        raise NotImplementedError

    def _listing(self, *_, **__):
        return self._listed

    def _fetch(self, study_uid, intake, context):
        self._meanwhile()
        for path in self._files:
            intake.add_file([path.read_bytes()])


def fetch(archive, entry, folder, monkeypatch, **how):
    monkeypatch.setattr(sources, "connect", lambda *_: archive)
    return sources.fetched(entry, Server(), folder, context=SILENT, **how)


def test_an_empty_folder_is_no_study(files, entry, tmp_path, monkeypatch):
    folder = tmp_path / "list" / "studies" / entry.study_uid
    folder.mkdir(parents=True)
    assert fetch(Archive(files), entry, tmp_path / "list", monkeypatch).place == str(folder)
    assert len(list(folder.iterdir())) == len(files)


def test_a_study_that_was_fetched_is_not_asked_for_again(files, entry, tmp_path, monkeypatch):
    found = fetch(Archive(files), entry, tmp_path / "list", monkeypatch)
    asked = []
    monkeypatch.setattr(sources, "connect", lambda *_: asked.append(1))
    assert sources.fetched(entry, Server(), tmp_path / "list", context=SILENT) == found
    assert not asked


def test_a_study_that_nobody_could_fetch_is_refused(files, entry, tmp_path, monkeypatch):
    archive = Archive(files)
    archive._listed.popitem()
    with pytest.raises(ReadError, match="did not list"):
        fetch(archive, entry, tmp_path / "list", monkeypatch)
    assert not (tmp_path / "list" / "studies" / entry.study_uid).exists()


def test_a_study_of_two_patients_is_fetched_once_a_person_confirmed_that_it_is_one(
    files, entry, tmp_path, monkeypatch
):
    image = pydicom.dcmread(files[0])
    image.PatientID = "another"
    image.save_as(files[0])
    with pytest.raises(PatientConflictError):
        fetch(Archive(files), entry, tmp_path / "list", monkeypatch)
    assert not (tmp_path / "list" / "studies" / entry.study_uid).exists()
    found = fetch(Archive(files), entry, tmp_path / "list", monkeypatch, same_patient=True)
    assert len(list(Path(found.place).iterdir())) == len(files)


@pytest.mark.parametrize("result_file", ["report.html", "findings.json"])
def test_a_list_among_its_studies_names_neither_itself_nor_results(
    tmp_path, make_study, result_file
):
    study = make_study(name="all/one", sequences={"t1c"})
    folder = study.parent / "list"
    with closing(open_worklist_database(folder)):
        pass
    for other in (folder, study.parent / "result"):
        shutil.copytree(study, other, dirs_exist_ok=True)
    (study.parent / "result" / result_file).touch()
    (study / "notes.txt").touch()
    assert [e.place for e in sources.studies_at(study.parent, folder)] == [str(study)]
    elsewhere = sources.studies_at(study.parent, tmp_path / "other")
    assert [e.name for e in elsewhere] == ["list", "one", "result"]
