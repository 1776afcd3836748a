"""Lists from folders, BIDS, tables and archives; analysed ahead from where the reader is."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from tests.phantoms.headers import NOBODY
from tests.saved_results import write_saved

from lesionlens.base.errors import ConfigError, UnusableInputError
from lesionlens.base.run_context import RunContext
from lesionlens.cli import worklist as commands
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.database.describing import describe_all
from lesionlens.site.database.records import Status, StudyEntry, StudyOutcome
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.pacs.peer import Access, FoundStudy, StudyQuery
from lesionlens.site.pacs.server import Server
from lesionlens.site.worklist import ahead, site, sources
from lesionlens.site.worklist.ahead import ARCHIVE, CURSOR, UNDER_WAY, run_ahead
from lesionlens.site.worklist.sources import studies_at, studies_of


@pytest.fixture
def list_of_three(tmp_path, monkeypatch):
    """Three studies whose analysis is written in no time; `begun` says in which order."""
    database = open_worklist_database(tmp_path / "list")
    for name in "abc":
        (tmp_path / name).mkdir()
    database.add_studies(
        StudyEntry(name, str(tmp_path / name), sequences=("t1c",)) for name in "abc"
    )
    begun = []

    def analyse(job, choice, context):
        begun.append(job.name)
        assert choice.files.evidence, "so that its reader can ask without analysing again"
        if job.name == "b":
            return StudyOutcome("b", Status.FAILED, 2, "no brain in the scan")
        rows = [{"score": 0.9}, {"score": None}]
        write_saved(job.out, candidates=rows, warnings=["w"])
        return StudyOutcome(job.name, Status.ANALYSED, 0, "", engine="x")

    monkeypatch.setattr(ahead, "analyse", analyse)
    monkeypatch.setattr(ahead, "identity", lambda choice: "x")
    yield database, begun
    database.close()


def test_the_study_that_is_read_comes_first_and_nothing_is_done_twice(list_of_three):
    database, begun = list_of_three
    database.take_note(CURSOR, "b")
    run_ahead(database, CohortChoice())
    assert begun == ["b", "c", "a"]
    a, b, c = database.entries()
    assert (a.candidates, a.highest, a.warnings) == (1, 0.9, ("w",))
    assert (b.candidates, b.warnings) == (None, ("no brain in the scan",))
    assert c.candidates == 1
    assert database.note(UNDER_WAY) is None
    begun.clear()
    run_ahead(database, CohortChoice())
    assert begun == ["b"]


def test_a_message_of_a_failure_goes_once_the_study_is_analysed_or_fails_otherwise(
    list_of_three, tmp_path, monkeypatch
):
    database, _ = list_of_three
    (tmp_path / "a").rmdir()
    run_ahead(database, CohortChoice())
    a, b, _ = database.entries()
    assert a.warnings[0].startswith("not at hand")
    (tmp_path / "a").mkdir()
    (tmp_path / "b" / "new.nii").touch()
    analyse = ahead.analyse
    failed = StudyOutcome("b", Status.FAILED, 2, "no memory")
    monkeypatch.setattr(
        ahead, "analyse", lambda job, *rest: failed if job.name == "b" else analyse(job, *rest)
    )
    run_ahead(database, CohortChoice())
    a, b, _ = database.entries()
    assert a.warnings == ("w",)
    assert b.warnings == ("no memory",)


def test_a_reader_who_goes_on_is_followed(list_of_three):
    database, begun = list_of_three

    def progress(stage, fraction):
        database.take_note(CURSOR, "c")

    original = ahead.analyse
    ahead.analyse = lambda job, *rest: (progress("", 0), original(job, *rest))[1]
    run_ahead(database, CohortChoice())
    assert begun == ["a", "c", "b"]


def test_a_stop_leaves_the_rest(list_of_three):
    database, begun = list_of_three
    stop = threading.Event()
    original = ahead.analyse
    ahead.analyse = lambda job, *rest: (stop.set(), original(job, *rest))[1]
    run_ahead(database, CohortChoice(), context=RunContext(cancel=stop))
    assert begun == ["a"]
    assert database.entries()[1].candidates is None


def test_a_table_of_studies_is_read_and_refused_in_words(tmp_path, make_study):
    place = make_study(name="one", sequences={"t1c"})
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as lines:
        csv.writer(lines).writerows([("study", "patient", "date"), ("one", "P7", "2026-01-05")])
    (entry,) = studies_at(table, tmp_path / "list")
    assert (entry.place, entry.patient, entry.date) == (str(place), "P7", "2026-01-05")
    database = open_worklist_database(tmp_path / "list")
    database.add_studies([entry, StudyEntry("gone", str(tmp_path / "gone"))])
    describe_all(database)
    one, gone = database.entries()
    assert one.sequences == ("t1c",)
    assert gone.warnings[0].startswith("cannot be used: no such file")
    database.close()
    refused = {
        "name\nx\n": "no column",
        "study\na/x\nb/x\n": "two studies",
        "study\na/x\nb/X\n": "two studies",  # one folder on Windows and macOS
    }
    for text, found in refused.items():
        table.write_text(text)
        with pytest.raises(UnusableInputError, match=found):
            studies_at(table, tmp_path / "list")


def test_a_dicom_study_says_patient_and_day_but_no_name(tmp_path, make_study):
    make_study(name="studies/one", sequences={"t1c"}, dicom=True)
    database = open_worklist_database(tmp_path / "list")
    database.add_studies(studies_at(tmp_path / "studies", tmp_path / "list"))
    describe_all(database)
    (entry,) = database.entries()
    assert entry.patient
    assert entry.date.count("-") == 2
    database.close()
    content = (tmp_path / "list" / "studies.sqlite").read_bytes()
    assert entry.patient.encode() in content
    assert b"Synthetic^" not in content


def test_a_list_that_names_another_patient_than_the_images_says_so(tmp_path, make_study):
    """The row had the table's patient, and panel and picture that of the images, unnoticed."""
    place = str(make_study(name="one", sequences={"t1c"}, dicom=True))
    database = open_worklist_database(tmp_path / "list")
    database.add_studies([StudyEntry("a", place, "P7", "1999-01-05"), StudyEntry("b", place)])
    describe_all(database)
    describe_all(database, again=True)
    listed, free = database.entries()
    assert [one for one in listed.warnings if "in the list" in one] == [
        "its patient ID in the list is not that of the images",
        "its date in the list is not that of the images",
    ]
    assert listed.patient == "P7"
    assert not any("in the list" in one for one in free.warnings)
    database.close()


def test_studies_of_an_archive_are_fetched_when_their_turn_comes(tmp_path, monkeypatch, make_study):
    there = make_study(name="there", sequences={"t1c"}, dicom=True)

    def get(uid, target, *, context):
        target.parent.mkdir(exist_ok=True)
        there.rename(target)

    found = FoundStudy(NOBODY.uid("study"), "P1", "20260105", "Head", ("MR",), 4, "Doe^Jane")
    archive = SimpleNamespace(find=lambda query, context: (found,), get=get)
    monkeypatch.setattr(sources, "connect", lambda address, access: archive)
    entries = studies_of("https://a/dicom-web", Access(), StudyQuery(study_date="20260105"))
    assert "Doe" not in repr(entries)
    database = open_worklist_database(tmp_path / "list")
    database.add_studies(entries)
    database.take_note(ARCHIVE, Server.of("https://a/dicom-web", Access()).note())
    monkeypatch.setattr(ahead, "identity", lambda choice: "x")
    monkeypatch.setattr(
        ahead, "analyse", lambda job, *_: StudyOutcome(job.name, Status.FAILED, 1, job.study.name)
    )
    run_ahead(database, CohortChoice())
    (entry,) = database.entries()
    assert entry.place == str(tmp_path / "list" / "studies" / NOBODY.uid("study"))
    assert entry.sequences == ("t1c",)
    database.close()


def test_the_commands_make_show_and_compare_a_list(tmp_path, make_study):
    make_study(name="studies/one", sequences={"t1c"})
    folder = tmp_path / "list"
    answer = commands.scan(str(tmp_path / "studies"), folder)
    assert "1 study" in str(answer.output[0])
    (row,) = json.loads(str(commands.show(folder, json=True).output[0]))
    assert (row["name"], row["state"], row["sequences"]) == ("one", "new", ["t1c"])
    assert json.loads(str(commands.show(folder, words="flair", json=True).output[0])) == []
    assert json.loads(str(commands.compare(folder, json=True).output[0])) == []


def test_a_site_can_require_unaided_reads_and_a_wrong_file_is_not_passed_over(
    tmp_path, monkeypatch
):
    place = tmp_path / "settings.toml"
    monkeypatch.setattr(site, "site_file", lambda: place)
    assert not site.unaided_first_required()
    place.write_text("[reading]\nunaided_first = true\n")
    assert site.unaided_first_required()
    for wrong in ("[reading]\nunaided_first = 'yes'\n", "reading = ", "reading = 1\n"):
        place.write_text(wrong)
        with pytest.raises(ConfigError, match=r"settings\.toml"):
            site.unaided_first_required()


def test_a_study_without_a_folder_or_an_archive_fails_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "identity", lambda choice: "x")
    database = open_worklist_database(tmp_path / "list")
    database.add_studies([StudyEntry("nowhere", "")])
    (outcome,) = run_ahead(database, CohortChoice())
    assert outcome.exit_status == 2
    assert "without an archive" in database.entries()[0].warnings[0]
    database.close()


def test_what_a_window_has_analysed_ahead_ends_well_while_the_window_stays_open(tmp_path):
    """Python aborted at its end, and a list that was complete was said to have ended early."""
    open_worklist_database(tmp_path / "list").close()
    command = ["-m", "lesionlens", "worklist", "ahead", str(tmp_path / "list"), "--while-open"]
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        status = process.wait(120)  # its input is open all the while
        assert (status, process.stderr.read()) == (0, b"")
    finally:
        process.stdin.close()
        process.stderr.close()
