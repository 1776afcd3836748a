"""Lists from folders, BIDS, tables and archives; analysed ahead from where the reader is."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.helpers.saved_results import write_saved_result
from tests.phantoms.analysis import make_analysis, write_study
from tests.phantoms.headers import NOBODY, PatientIdentity

from lesionlens.base.errors import ConfigError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.results.export.exporter import save
from lesionlens.results.review.reopen import read_run
from lesionlens.site.cohort.work import CohortChoice, engine_identity
from lesionlens.site.database.descriptions import (
    OTHER_IMAGES,
    OTHER_RESULT,
    describe_studies,
)
from lesionlens.site.database.records import ReadKey, Status, StudyEntry, StudyOutcome
from lesionlens.site.database.study_files import fingerprint, study_files
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.pacs.peer import FoundStudy, StudyQuery
from lesionlens.site.pacs.server import Server
from lesionlens.site.worklist import background_analysis, site_policy, sources
from lesionlens.site.worklist.background_analysis import (
    CURSOR,
    UNDER_WAY,
    local_study,
    record_archive,
    run_ahead,
    store_result,
)
from lesionlens.site.worklist.read_session import ReadSession
from lesionlens.site.worklist.sources import studies_at, studies_of
from lesionlens.testing import Lesion, make_patient


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
        rows = [{"score": 0.9}, {"score": None, "source": "reader"}]
        write_saved_result(job.out, candidates=rows, warnings=["w"])
        return StudyOutcome(job.name, Status.ANALYSED, 0, "", engine="x")

    monkeypatch.setattr(background_analysis, "analyse", analyse)
    monkeypatch.setattr(background_analysis, "identity", lambda choice: "x")
    yield database, begun
    database.close()


def test_the_study_that_is_read_comes_first_and_nothing_is_done_twice(list_of_three):
    database, begun = list_of_three
    database.write_note(CURSOR, "b")
    run_ahead(database, CohortChoice())
    assert begun == ["b", "c", "a"]
    a, b, c = database.entries()
    assert (a.candidates, a.highest, a.warnings) == (1, 0.9, ("w",))
    assert b.candidates is None
    assert "no brain in the scan" in b.warnings
    assert c.candidates == 1
    assert database.read_note(UNDER_WAY) is None
    begun.clear()
    run_ahead(database, CohortChoice())
    assert begun == ["b"]


def test_a_result_of_a_batch_with_other_files_is_kept(list_of_three, monkeypatch):
    """A batch with other files was analysed again and replaced without them."""
    database, begun = list_of_three
    run_ahead(database, CohortChoice())
    for name in "ac":
        outcome = replace(database.outcome(name), engine="x maps=full")
        database.store_outcome(outcome, fingerprint(Path(database.entry(name).place)))
    begun.clear()
    run_ahead(database, CohortChoice())
    assert begun == ["b"]
    monkeypatch.setattr(background_analysis, "identity", lambda choice: "x N4")
    run_ahead(database, CohortChoice())
    assert begun == ["b", "a", "b", "c"]


def test_a_reader_who_goes_on_is_followed(list_of_three):
    database, begun = list_of_three

    def progress(stage, fraction):
        database.write_note(CURSOR, "c")

    original = background_analysis.analyse
    background_analysis.analyse = lambda job, *rest: (progress("", 0), original(job, *rest))[1]
    run_ahead(database, CohortChoice())
    assert begun == ["a", "c", "b"]


def test_a_stop_leaves_the_rest(list_of_three):
    database, begun = list_of_three
    stop = threading.Event()
    original = background_analysis.analyse
    background_analysis.analyse = lambda job, *rest: (stop.set(), original(job, *rest))[1]
    run_ahead(database, CohortChoice(), context=RunContext(cancel=stop))
    assert begun == ["a"]
    assert database.entries()[1].candidates is None


def test_two_analyses_ahead_of_one_list_share_the_work(list_of_three):
    """Each began the study that the other was analysing, and both wrote its result."""
    database, begun = list_of_three
    waiting, original, more = threading.Event(), background_analysis.analyse, []

    def second():
        with closing(open_worklist_database(database.folder)) as own:
            context = RunContext(progress=lambda stage, _: "waiting" in stage and waiting.set())
            more.extend(run_ahead(own, CohortChoice(), context=context))

    thread = threading.Thread(target=second)

    def analyse(job, *rest):
        if not begun:
            thread.start()
            assert waiting.wait(60), "the second one did not wait"
        return original(job, *rest)

    background_analysis.analyse = analyse
    run_ahead(database, CohortChoice())
    thread.join(60)
    assert begun == ["a", "b", "c", "b"]  # "b" failed: it is tried again
    assert [outcome.name for outcome in more] == ["b"]


def test_a_table_of_studies_is_read_and_refused_in_words(tmp_path, make_study):
    place = make_study(name="one", sequences={"t1c"})
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as lines:
        csv.writer(lines).writerows([("study", "patient", "date"), ("one", "P7", "2026-01-05")])
    (entry,) = studies_at(table, tmp_path / "list")
    assert (entry.place, entry.patient, entry.date) == (str(place), "P7", "2026-01-05")
    with table.open("a") as lines:
        lines.write(",,\n , ,\n")  # as spreadsheets leave them at the end
    assert studies_at(table, tmp_path / "list") == (entry,)
    database = open_worklist_database(tmp_path / "list")
    database.add_studies([entry, StudyEntry("gone", str(tmp_path / "gone"))])
    describe_studies(database)
    one, gone = database.entries()
    assert one.sequences == ("t1c",)
    assert gone.warnings[0].startswith("cannot be used: 'gone' does not exist")
    database.close()
    refused = {
        "name\nx\n": "no column",
        "study,name\na/x,\n,,\n,b\n": "no path in the row after that of 'x'",
        "study,date\na/x,\n,,\nb,2026-02-31\n": "no such day as '2026-02-31', the date of 'b'",
        "study,name\n,\n": "0 rows",
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
    describe_studies(database)
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
    describe_studies(database)
    describe_studies(database, force=True)
    listed, free = database.entries()
    assert [one for one in listed.warnings if "in the list" in one] == [
        "its patient ID in the list is not that of the images",
        "its date in the list is not that of the images",
    ]
    assert listed.patient == "P7"
    assert not any("in the list" in one for one in free.warnings)
    database.close()


@pytest.fixture
def listed_study(tmp_path, make_study, monkeypatch):
    """A list of one DICOM study, scanned; its analysis is written in no time."""
    place = make_study(name="one", sequences={"t1c", "t2"}, dicom=True)

    def analyse(job, choice, context):
        write_saved_result(
            job.out, study_files(job.study), candidates=[{"score": 0.9}], warnings=["w"]
        )
        return StudyOutcome(job.name, Status.ANALYSED, 0, "", engine="x")

    monkeypatch.setattr(background_analysis, "analyse", analyse)
    monkeypatch.setattr(background_analysis, "identity", lambda choice: "x")
    with closing(open_worklist_database(tmp_path / "list")) as database:
        yield database, place


def replace_study(place, make_study):
    """Put another patient's study, of another day and sequence, into the folder."""
    shutil.rmtree(place)
    other = PatientIdentity(patient_id="OTHER", date="20250203")
    make_study(name=place.name, sequences={"t1c"}, dicom=True, identity=other)


def test_warnings_about_the_identity_outlast_an_analysis(listed_study):
    """The row still named the table's patient, and the warning was gone."""
    database, place = listed_study
    database.add_studies([StudyEntry("a", str(place), "WRONG", "2020-01-01")])
    describe_studies(database)
    warned = database.entry("a").warnings[:2]
    assert all("in the list is not that of the images" in one for one in warned)
    run_ahead(database, CohortChoice())
    describe_studies(database)
    now = database.entry("a")
    assert (now.patient, now.candidates) == ("WRONG", 1)
    assert now.warnings[:2] == warned
    assert "w" in now.warnings


@pytest.mark.parametrize("noticed_by", ["scan", "ahead"])
def test_a_row_follows_the_images_that_replace_its_study(listed_study, make_study, noticed_by):
    """Patient, date and sequences stayed those of the study that was there first."""
    database, place = listed_study
    database.add_studies([StudyEntry("a", str(place))])
    describe_studies(database)
    run_ahead(database, CohortChoice())
    before = database.entry("a")
    ReadSession(database, ReadKey("a", "A. Reader")).mark((1.0, 2.0, 3.0), 80)
    replace_study(place, make_study)
    if noticed_by == "scan":
        assert describe_studies(database) == 1
        now = database.entry("a")
        assert (now.candidates, now.highest) == (None, None), "of the other patient"
        assert OTHER_RESULT in now.warnings
        assert describe_studies(database) == 0
    run_ahead(database, CohortChoice())
    now = database.entry("a")
    assert (now.patient, now.date, now.sequences) == ("OTHER", "2025-02-03", ("t1c",))
    assert before.patient != "OTHER"
    assert (now.candidates, now.warnings[:2]) == (
        1,
        (
            "its images have another patient ID than when it was read or signed",
            "its images have another date than when it was read or signed",
        ),
    )
    assert OTHER_RESULT not in now.warnings
    shutil.rmtree(place)
    make_study(name=place.name, sequences={"t1c", "t2"}, dicom=True)
    describe_studies(database)
    now = database.entry("a")
    assert (now.patient, now.date, now.sequences) == (before.patient, before.date, before.sequences)
    assert not any("than when it was read" in one for one in now.warnings)


@pytest.fixture
def replaced(tmp_path, make_study):
    """A list with a NIfTI study that a reader has read, its file, and another study's file."""
    place = make_study(name="one", sequences={"t1c"})
    other = make_study(name="two", sequences={"t1c"}, spacing_mm=(3.0, 3.0, 3.0))
    with closing(open_worklist_database(tmp_path / "list")) as database:
        database.add_studies([StudyEntry("a", str(place))])
        describe_studies(database)
        ReadSession(database, ReadKey("a", "A. Reader")).mark((1.0, 2.0, 3.0), 80)
        (file,) = study_files(place)
        yield database, file, (other / file.name).read_bytes()


def test_images_that_name_no_patient_are_told_apart_by_their_content(replaced):
    """A signed NIfTI study whose files were replaced was still signed, without a word."""
    database, file, theirs = replaced
    mine = file.read_bytes()
    os.utime(file, (1_000_000_000, 1_000_000_000))
    describe_studies(database)
    assert OTHER_IMAGES not in database.entry("a").warnings
    file.write_bytes(theirs)
    for _ in range(2):
        describe_studies(database, force=True)
        assert OTHER_IMAGES in database.entry("a").warnings
    file.write_bytes(mine)
    describe_studies(database)
    assert OTHER_IMAGES not in database.entry("a").warnings


def test_studies_of_an_archive_are_fetched_when_their_turn_comes(tmp_path, monkeypatch, make_study):
    there = make_study(name="there", sequences={"t1c"}, dicom=True)

    def get(uid, target, *, listed, same_patient, context):
        target.parent.mkdir(exist_ok=True)
        there.rename(target)

    found = FoundStudy(NOBODY.uid("study"), "P1", "20260105", "Head", ("MR",), 4, "Doe^Jane")
    archive = SimpleNamespace(find=lambda query, context: (found,), get=get)
    monkeypatch.setattr(sources, "connect", lambda _: archive)
    entries = studies_of(Server("https://a/dicom-web"), StudyQuery(study_date="20260105"))
    assert "Doe" not in repr(entries)
    database = open_worklist_database(tmp_path / "list")
    database.add_studies(entries)
    names = [entry.name for entry in entries]
    record_archive(database, names, Server("https://a/dicom-web"))
    monkeypatch.setattr(background_analysis, "identity", lambda choice: "x")
    monkeypatch.setattr(
        background_analysis,
        "analyse",
        lambda job, *_: StudyOutcome(job.name, Status.FAILED, 1, job.study.name),
    )
    run_ahead(database, CohortChoice())
    (entry,) = database.entries()
    assert entry.place == str(tmp_path / "list" / "studies" / NOBODY.uid("study"))
    assert entry.sequences == ("t1c",)
    moved = Path(entry.place).rename(tmp_path / "deleted")
    archive.get = lambda uid, target, **_: moved.rename(target)
    assert Path(local_study(database, entry, SILENT).place).is_dir()
    database.close()


def test_studies_of_two_archives_are_fetched_each_from_its_own(tmp_path, monkeypatch):
    """All were sought in the archive that was scanned last."""
    requests = []

    def connect(server):
        def get(uid, target, **_):
            requests.append((server.address, server.user, uid))
            target.mkdir(parents=True)

        return SimpleNamespace(get=get)

    monkeypatch.setattr(sources, "connect", connect)
    monkeypatch.setattr(background_analysis, "refresh_entry", lambda _, entry: entry)
    servers = [Server("https://a/dicom-web"), Server("https://b/dicom-web")]
    with closing(open_worklist_database(tmp_path / "list")) as database:
        for number, server in enumerate(servers):
            entry = StudyEntry(f"1.2.{number}", "", study_uid=f"1.2.{number}")
            database.add_studies([entry])
            record_archive(database, [entry.name], server)
        record_archive(database, (), replace(servers[0], user="reader"))  # changed in the dialog
        for entry in database.entries():
            assert local_study(database, entry, SILENT).place.endswith(entry.name)
    assert requests == [
        ("https://a/dicom-web", "reader", "1.2.0"),
        ("https://b/dicom-web", "", "1.2.1"),
    ]


def test_a_site_can_require_unaided_reads_and_a_wrong_file_is_not_passed_over(
    tmp_path, monkeypatch
):
    place = tmp_path / "settings.toml"
    monkeypatch.setattr(site_policy, "site_file", lambda: place)
    assert not site_policy.unaided_first_required()
    place.write_text("[reading]\nunaided_first = true\n")
    assert site_policy.unaided_first_required()
    for silent in ("", "[reading]\n"):
        place.write_text(silent)
        assert not site_policy.unaided_first_required()
    misspelt = ("[Reading]\nunaided_first = true\n", "[reading]\nunaided-first = true\n")
    for wrong in ("[reading]\nunaided_first = 'yes'\n", "reading = ", "reading = 1\n", *misspelt):
        place.write_text(wrong)
        with pytest.raises(ConfigError, match=r"settings\.toml"):
            site_policy.unaided_first_required()


def test_a_study_without_a_folder_or_an_archive_fails_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(background_analysis, "identity", lambda choice: "x")
    database = open_worklist_database(tmp_path / "list")
    database.add_studies([StudyEntry("nowhere", "")])
    (outcome,) = run_ahead(database, CohortChoice())
    assert outcome.exit_status == 2
    assert "without an archive" in database.entries()[0].warnings[0]
    database.close()


@pytest.mark.slow
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


@pytest.fixture
def analysed_in_window(tmp_path):
    """A list of one study, and an analysis of it."""
    head = make_patient(5, spacing_mm=4.0, lesions=(Lesion((-30.0, -10.0, 20.0), 18.0),))
    study = write_study(head, tmp_path / "a", sequences=(MrSequence.T1C,))
    with closing(open_worklist_database(tmp_path / "list")) as database:
        database.add_studies([StudyEntry("a", str(tmp_path / "a"), sequences=("t1c",))])
    return tmp_path / "list", make_analysis(head, study)


def test_a_result_from_a_window_is_that_of_analysing_ahead(analysed_in_window, monkeypatch):
    folder, analysis = analysed_in_window
    assert store_result(folder, "a", analysis, CohortChoice())
    engine = engine_identity(analysis.run.engine, CohortChoice())
    monkeypatch.setattr(background_analysis, "identity", lambda choice: engine)
    monkeypatch.setattr(background_analysis, "analyse", None)  # nothing is analysed again
    with closing(open_worklist_database(folder)) as database:
        assert run_ahead(database, CohortChoice()) == ()
        (entry,) = database.entries()
    assert entry.candidates == len(analysis.findings.candidates) > 0


def test_a_result_that_the_list_has_is_left_alone(analysed_in_window):
    folder, analysis = analysed_in_window
    assert store_result(folder, "a", analysis, CohortChoice())
    before = {path: path.stat().st_mtime_ns for path in (folder / "a").iterdir()}
    assert not store_result(folder, "a", analysis, CohortChoice())
    assert {path: path.stat().st_mtime_ns for path in (folder / "a").iterdir()} == before


def test_a_result_of_images_that_are_others_by_now_is_not_stored(analysed_in_window, tmp_path):
    folder, analysis = analysed_in_window
    (image,) = (tmp_path / "a").glob("*.nii*")
    image.write_bytes(image.read_bytes() + b"0")
    with pytest.raises(UnusableInputError, match="images of 'a' that differ"):
        store_result(folder, "a", analysis, CohortChoice())
    assert not (folder / "a").exists()


def test_a_result_of_another_study_that_was_put_there_since_is_not_replaced(
    analysed_in_window, tmp_path
):
    folder, analysis = analysed_in_window
    assert store_result(folder, "a", analysis, CohortChoice())
    inputs = tuple((name, "ab" * 32) for name, _ in analysis.run.inputs)
    shutil.rmtree(folder / "a")
    save(replace(analysis, run=replace(analysis.run, inputs=inputs)), folder / "a")
    with pytest.raises(UnusableInputError, match="another study"):
        store_result(folder, "a", analysis, CohortChoice())
    assert set(read_run(folder / "a").inputs) == set(inputs)


def test_a_result_replaces_one_of_other_images(analysed_in_window, tmp_path):
    folder, earlier = analysed_in_window
    assert store_result(folder, "a", earlier, CohortChoice())
    other_head = make_patient(6, spacing_mm=4.0, lesions=(Lesion((30.0, -10.0, 20.0), 18.0),))
    study = write_study(other_head, tmp_path / "a", sequences=(MrSequence.T1C,))
    analysis = make_analysis(other_head, study)
    assert store_result(folder, "a", analysis, CohortChoice())
    assert set(read_run(folder / "a").inputs) == set(analysis.run.inputs)
