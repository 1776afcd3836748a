"""The database of a worklist: its content survives other users and being killed at any time."""

from __future__ import annotations

import sqlite3
import stat

import pytest

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.labels import ReviewState
from lesionlens.site.database.records import Phase, ReadKey, StudyEntry
from lesionlens.site.database.worklist_database import (
    NAME,
    existing_worklist_database,
    open_worklist_database,
)
from lesionlens.site.worklist.read_session import ReadSession

KEY = ReadKey("case", "A. Reader")


def test_what_is_kept_comes_back_and_nothing_twice(tmp_path):
    entry = StudyEntry("a", "/x", "P1", "2026-01-05", ("t1c",), "1.2", 2, 0.9, ("moved", "thick"))
    database = open_worklist_database(tmp_path)
    assert database.add_studies([entry, StudyEntry("b", "/y")]) == 2
    assert database.add_studies([StudyEntry("a", "/other")]) == 0
    database.close()
    with existing_worklist_database(tmp_path) as again:
        assert again.entries() == (entry, StudyEntry("b", "/y"))
        assert again.entry("c") is None
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_two_processes_see_each_others_acts(tmp_path):
    one, two = open_worklist_database(tmp_path), open_worklist_database(tmp_path)
    before = one.version
    ReadSession(two, KEY).mark((1.0, 2.0, 3.0), 80)
    assert one.version != before
    assert one.read(KEY).marks[0].at_mm == (1.0, 2.0, 3.0)


def test_a_damaged_or_later_book_is_refused_in_words(tmp_path):
    (tmp_path / NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(ReadError, match="Move it away"):
        open_worklist_database(tmp_path)
    later = tmp_path / "later"
    open_worklist_database(later).close()
    connection = sqlite3.connect(later / NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ReadError, match="99"):
        open_worklist_database(later)
    with (
        pytest.raises(ReadError, match="no worklist"),
        existing_worklist_database(tmp_path / "none"),
    ):
        pass


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_seconds_are_those_that_the_study_lay_open(tmp_path):
    clock = Clock()
    first = ReadSession(open_worklist_database(tmp_path), KEY, unaided_first=True, clock=clock)
    clock.now += 7
    first.mark((0, 0, 0))
    clock.now += 5
    first.sign()
    clock.now += 2
    first.leave()
    clock.now += 1000
    again = ReadSession(open_worklist_database(tmp_path), KEY, unaided_first=True, clock=clock)
    clock.now += 4
    again.sign("nothing further")
    assert again.read.unaided_seconds == pytest.approx(12)
    assert again.read.aided_seconds == pytest.approx(6)


def test_what_was_signed_unaided_stays_and_what_follows_is_kept_apart(tmp_path):
    read_session = ReadSession(open_worklist_database(tmp_path), KEY, unaided_first=True)
    assert read_session.closed
    slip = read_session.mark((9, 9, 9), 10)
    seen = read_session.mark((1, 2, 3), 70)
    read_session.take_back(slip.uid)
    assert read_session.sign() == "1 marked"
    assert not read_session.closed
    with pytest.raises(Exception, match="signed as unaided"):
        read_session.take_back(seen.uid)
    read_session.verdict("2.25.1", ReviewState.ACCEPTED, (4, 5, 6), confidence=90)
    late = read_session.mark((7, 8, 9))
    read = open_worklist_database(tmp_path).read(KEY)
    assert read.marks_of(Phase.UNAIDED) == (seen,)
    assert read.marks_of(Phase.AIDED) == (late,)
    assert not read.complete
    read_session.sign("nothing further")
    assert open_worklist_database(tmp_path).read(KEY).complete
    read_session.verdict("2.25.1", ReviewState.UNREVIEWED)
    read = open_worklist_database(tmp_path).read(KEY)
    assert not read.complete
    assert read.unaided == "1 marked"
    assert read.verdicts == ()
    written = read_session.unaided_read()
    assert written is not None
    assert [m.at_mm for m in written.marks] == [(1, 2, 3)]


def test_readers_are_kept_apart(tmp_path):
    database = open_worklist_database(tmp_path)
    ReadSession(database, KEY).mark((1, 1, 1))
    ReadSession(database, ReadKey("case", "B. Reader")).sign("nothing seen")
    assert len(database.reads("case")) == 2
    assert database.read(KEY).signed is None
    assert database.read(ReadKey("case", "B. Reader")).marks == ()


def test_a_signed_read_takes_no_mark_until_it_is_withdrawn_for_a_reason(tmp_path):
    read_session = ReadSession(open_worklist_database(tmp_path), KEY)
    read_session.sign("nothing further")
    with pytest.raises(UnusableInputError, match="signed"):
        read_session.mark((1, 2, 3))
    with pytest.raises(UnusableInputError, match="reason"):
        read_session.withdraw(" ")
    read_session.withdraw("wrong study")
    assert not open_worklist_database(tmp_path).read(KEY).complete
    assert open_worklist_database(tmp_path).read(KEY).acts[-1].words == "wrong study"
    read_session.mark((1, 2, 3))


def test_a_read_goes_on_under_a_name_that_comes_late(tmp_path):
    database = open_worklist_database(tmp_path)
    nobody = ReadSession(database, ReadKey("case", ""))
    nobody.mark((1, 2, 3))
    named = nobody.under("A. Reader")
    named.sign("nothing further")
    read = database.read(ReadKey("case", "A. Reader"))
    assert read.complete
    assert [mark.at_mm for mark in read.marks] == [(1, 2, 3)]
