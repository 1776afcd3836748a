"""What earlier releases kept in two databases is there again, once, and their files stay."""

from __future__ import annotations

import shutil
import stat
from contextlib import closing
from pathlib import Path

import pytest

from lesionlens.base.labels import Phase, ReviewState
from lesionlens.site.database.records import Arm, ReadKey, Status, StudyEntry, StudyOutcome
from lesionlens.site.database.worklist_database import (
    NAME,
    existing_worklist_database,
    is_worklist_folder,
    open_worklist_database,
)

EARLIER = Path(__file__).parents[3] / "data" / "earlier_list"
"""Made by the release before: a list with reads, and the outcomes of a batch."""


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(EARLIER, tmp_path / "list")


def test_the_studies_outcomes_and_notes_of_an_earlier_pair_are_there(folder):
    files = {place.name: place.read_bytes() for place in folder.iterdir()}
    assert is_worklist_folder(folder)
    with existing_worklist_database(folder) as database:
        first, second, third = database.entries()
        assert database.read_note("cursor") == "case-b"
        assert database.outcome("case-a", "print-a") == StudyOutcome(
            "case-a", Status.ANALYSED, 0, "2 candidate regions", 12.5, 2, "lens 0.2 abc", 1400.0
        )
        assert database.outcome("case-b").exit_status == 2
        assert database.outcome("case-c", "another print") is None
    assert first == StudyEntry(
        "case-a", "/studies/case-a", "P1", "2026-01-05", ("t1c", "flair"), "1.2.3", 2, 0.9,
        ("moved", "thick"),
    )  # fmt: skip
    assert (second.name, second.place, third.study_uid) == (
        "case-b",
        "/studies/case-b",
        "1.2.840.1",
    )
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600


def test_every_read_of_an_earlier_list_is_there(folder):
    with existing_worklist_database(folder) as database:
        reads = {read.key: read for read in database.reads()}
    mine = reads[ReadKey("case-a", "A. Reader")]
    assert [mark.at_mm for mark in mine.marks_of(Phase.UNAIDED)] == [(1.0, 2.0, 3.0)]
    assert [mark.at_mm for mark in mine.marks_of(Phase.AIDED)] == [(7.0, 8.0, 9.0)]
    assert (mine.unaided, mine.signed) == ("1 marked", "nothing further seen")
    assert (mine.unaided_seconds, mine.aided_seconds) == (10.0, 20.0)  # until it was signed
    verdicts = {one.tracking_uid: one for one in mine.verdicts}
    assert (verdicts["2.25.1"].state, verdicts["2.25.1"].confidence) == (ReviewState.ACCEPTED, 85)
    assert verdicts["2.25.2"].at_mm == (14.0, 5.0, 6.0)
    other = reads[ReadKey("case-a", "B. Reader")]
    assert [(one.state, one.reason) for one in other.verdicts] == [
        (ReviewState.DEFERRED, "prior needed")
    ]
    alone = reads[ReadKey("case-b", "A. Reader", 1, Arm.UNAIDED)]
    assert alone.complete
    assert alone.unaided == "nothing seen"


def test_an_earlier_pair_is_read_once(folder):
    with existing_worklist_database(folder) as database:
        database.write_note("cursor", "case-a")
    with existing_worklist_database(folder) as database:
        assert database.read_note("cursor") == "case-a"
        assert len(database.entries()) == 3


def test_the_outcomes_of_an_earlier_batch_alone_are_no_list_but_are_known(folder):
    (folder / "reading.sqlite").unlink()
    assert not is_worklist_folder(folder)
    with closing(open_worklist_database(folder, readers=False)) as database:
        assert database.outcome("case-a").candidates == 2
        assert database.entries() == ()


def test_a_batch_keeps_no_log_beside_its_database_that_a_share_could_not_hold(tmp_path):
    with closing(open_worklist_database(tmp_path, readers=False)) as database:
        database.add_studies([StudyEntry("a", "/a")])
        assert {place.name for place in tmp_path.iterdir()} == {NAME}
