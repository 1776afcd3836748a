"""What `lesionlens worklist` returns to a script."""

from __future__ import annotations

import csv
import json
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.helpers.stored_decisions import decide

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.labels import ReviewState
from lesionlens.cli import reader_study, worklist
from lesionlens.cli.console import StopRequest
from lesionlens.cli.main import _print
from lesionlens.site.database import worklist_database
from lesionlens.site.database.records import ReadKey, Status, StudyEntry, StudyOutcome
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.pacs.peer import FoundStudy
from lesionlens.site.worklist import background_analysis, sources
from lesionlens.site.worklist.read_session import ReadSession


@pytest.mark.parametrize(
    ("statuses", "status"), [((0, 0), 0), ((2, 0), 2), ((2, 1), 1), ((1, 2), 1)]
)
def test_the_exit_status_of_ahead_is_that_of_batch(monkeypatch, statuses, status):
    """A full disk beside an unusable study was reported as unusable input alone."""
    outcomes = tuple(
        StudyOutcome(str(n), Status.FAILED if code else Status.ANALYSED, code, "a message")
        for n, code in enumerate(statuses)
    )
    monkeypatch.setattr(worklist, "STOP", StopRequest())
    monkeypatch.setattr(background_analysis, "lower_priority", lambda: None)
    monkeypatch.setattr(background_analysis, "run_ahead", lambda *_, **__: outcomes)
    monkeypatch.setattr(worklist_database, "existing_worklist_database", nullcontext)
    assert worklist.ahead(folder=Path("list")).status == status


@pytest.mark.parametrize("count", [2, 3])
def test_a_list_of_an_archive_that_is_cut_short_says_so(monkeypatch, tmp_path, count):
    """Of a month with more studies than one query returns, the others were missing in silence."""
    monkeypatch.setattr(worklist, "LIMIT", 3)
    found = [FoundStudy(f"1.2.{n}", "7", "20260105", "Head", ("MR",)) for n in range(count)]
    archive = SimpleNamespace(find=lambda query, context: found)
    monkeypatch.setattr(sources, "connect", lambda *_: archive)
    output = worklist.scan("https://a/dicom-web", tmp_path / "list", date="20260101-20260131")
    assert [note for note in output.notes if "if one is missing" in note] == list(output.notes)
    assert len(output.notes) == (count == 3)


@pytest.mark.parametrize(
    ("patient", "count"), [("", 0), ("p1", 2), ("P*", 1), ("P?", 1), ("P[1", 3)]
)
def test_an_archive_that_ignores_the_patient_id_is_named(monkeypatch, tmp_path, patient, count):
    """Its list had the studies of all patients, without a word."""
    ids = ("P1", "P1", "P2", "7")
    found = [FoundStudy(f"1.2.{n}", i, "20260105", "Head", ("MR",)) for n, i in enumerate(ids)]
    archive = SimpleNamespace(find=lambda query, context: found)
    monkeypatch.setattr(sources, "connect", lambda *_: archive)
    notes = worklist.scan("https://a/dicom-web", tmp_path / "list", patient=patient).notes
    ids_text = f"of {count} other patient ID{'s' if count > 1 else ''} too"
    assert [ids_text in note for note in notes] == [True] * bool(count)


def test_a_list_of_a_folder_names_what_is_not_in_it(make_study, tmp_path):
    make_study(name="studies/a", sequences={"flair"})
    (tmp_path / "studies" / "read me.txt").write_text("")
    (note,) = worklist.scan(str(tmp_path / "studies"), tmp_path / "list").notes
    assert note == "Files next to the study folders belong to no study and were skipped: 1"
    table = tmp_path / "studies.csv"
    table.write_text("study,colour\nstudies/a,blue\n")
    (note,) = worklist.scan(str(table), tmp_path / "other").notes
    assert "colour" in note


def test_a_file_in_the_place_of_a_list_is_refused_before_an_archive_is_searched(tmp_path):
    """It was called a full disk, by the exit status of a defect, after the search."""
    (tmp_path / "list").write_text("mine")
    with pytest.raises(UnusableInputError, match="list"):
        worklist.scan("http://127.0.0.1:1/dicom-web", tmp_path / "list")
    assert (tmp_path / "list").read_text() == "mine"


PROTOCOL = 'title = "t"\nseed = 7\nreaders = ["A", "B"]\narms = ["unaided", "candidates"]\n'


@pytest.fixture
def folder(tmp_path):
    """A list of two studies on which two readers agree, except on one candidate."""
    with closing(open_worklist_database(tmp_path)) as database:
        long = (
            "Thick slices: T1 5.0 mm, T2 5.0 mm, FLAIR 4.0 mm. Lesions thinner than a slice hide",
            "T2 moves by up to 3 mm between its slices: look at it before you rely on outlines",
        )
        studied = StudyEntry("[a]", "/a", candidates=2, highest=0.94, warnings=long)
        database.add_studies([studied, StudyEntry("b:cat:", "/b")])
        for reader, state in (("A", ReviewState.ACCEPTED), ("", ReviewState.REJECTED)):
            session = ReadSession(database, ReadKey("[a]", reader))
            decide(session, "2.25.111111", ReviewState.ACCEPTED)
            decide(session, "2.25.222222", state)
    return tmp_path


def _printed(output, capsys):
    _print(output, quiet=False, in_json=False)
    return capsys.readouterr().out


def test_a_reader_study_lists_reads_with_session_and_arm(folder, capsys, monkeypatch):
    """Each study was counted once for every session."""
    monkeypatch.setenv("COLUMNS", "200")
    (folder / "protocol.toml").write_text(PROTOCOL)
    printed = _printed(worklist.show(folder, reader="B"), capsys)
    assert printed.endswith("4 reads\n")
    rows = json.loads(worklist.show(folder, reader="B", json=True).output[0])
    assert {(row["name"], row["session"]) for row in rows} == {
        (name, session) for name in ("[a]", "b:cat:") for session in (1, 2)
    }
    for row in rows:
        assert f"{row['session']}: {row['arm']}, {row['state']}" in printed
    plan = json.loads(reader_study.plan(folder, json=True).output[0])
    assert [(one["case"], one["arm"], one["session"]) for one in plan if one["reader"] == "B"] == [
        (row["name"], row["arm"], row["session"]) for row in rows
    ]
    assert _printed(reader_study.plan(folder), capsys).endswith("8 reads\n")


def test_a_list_without_a_protocol_has_tables_but_no_plan(folder, tmp_path):
    with pytest.raises(ReadError, match=r"no protocol\.toml"):
        reader_study.plan(folder)
    _, reads, marks = reader_study.table(folder, tmp_path / "tables").output
    lines = Path(reads).read_text("utf-8").splitlines()
    assert {row["reader"] for row in csv.DictReader(lines)} == {"", "A"}
    assert Path(marks).is_file()
