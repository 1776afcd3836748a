"""The database of a worklist: its content survives other users and being killed at any time."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from tests.helpers.stored_decisions import RESPONSE, decide

from lesionlens.base.errors import LesionLensError, ReadError, ResourceError, UnusableInputError
from lesionlens.base.labels import DrawingMethod, Phase, ReviewState
from lesionlens.base.records.review import Outline, Review
from lesionlens.results.review.log import ReviewLog
from lesionlens.site.database.records import Arm, ReadKey, StudyEntry
from lesionlens.site.database.worklist_database import (
    NAME,
    existing_worklist_database,
    open_worklist_database,
)
from lesionlens.site.worklist import read_session as read_session_module
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


def test_two_processes_see_each_others_acts(tmp_path):
    one, two = open_worklist_database(tmp_path), open_worklist_database(tmp_path)
    before = one.version
    ReadSession(two, KEY).mark((1.0, 2.0, 3.0), 80)
    assert one.version != before
    assert one.read(KEY).marks[0].at_mm == (1.0, 2.0, 3.0)


def test_a_copy_of_the_file_alone_has_every_act_of_a_list_that_is_open(tmp_path):
    """The acts of a whole day were in the write-ahead log only, which a copy of the file lacks."""
    with closing(open_worklist_database(tmp_path / "list")) as database:
        database.add_studies([StudyEntry("case", "/x")])
        with closing(open_worklist_database(tmp_path / "list")) as beside:
            ReadSession(beside, KEY).mark((1.0, 2.0, 3.0), 80)
        ReadSession(database, KEY).mark((4.0, 5.0, 6.0), 80)
        (tmp_path / "copy").mkdir()
        shutil.copy(tmp_path / "list" / NAME, tmp_path / "copy")
        with existing_worklist_database(tmp_path / "copy") as copy:
            assert len(copy.read(KEY).marks) == 2
            assert copy.entry("case") is not None


def test_a_damaged_or_later_book_is_refused_in_words(tmp_path):
    (tmp_path / NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(ReadError, match=NAME):
        open_worklist_database(tmp_path)
    later = tmp_path / "later"
    open_worklist_database(later).close()
    connection = sqlite3.connect(later / NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ReadError, match=r"a later version of LesionLens \(99\).*Update") as refused:
        open_worklist_database(later)
    assert "away" not in refused.value.next_step  # it holds the readers' decisions
    for number in (-1, 1):  # no release wrote these
        with closing(sqlite3.connect(later / NAME)) as connection:
            connection.execute(f"PRAGMA user_version = {number}")
        with pytest.raises(ReadError, match=NAME):
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
    first.close()
    clock.now += 1000
    again = ReadSession(open_worklist_database(tmp_path), KEY, unaided_first=True, clock=clock)
    clock.now += 4
    again.sign("nothing further")
    assert again.read.unaided_seconds == pytest.approx(12)
    assert again.read.aided_seconds == pytest.approx(6)


@pytest.mark.parametrize("arm", [Arm.UNAIDED, Arm.MAPS])
def test_the_seconds_of_a_signed_read_do_not_grow_while_it_stays_open(tmp_path, arm):
    """A reader study counted the time until the next study was opened as reading time."""
    clock = Clock()
    key = ReadKey("case", "A. Reader", session=1, arm=arm)
    only = ReadSession(open_worklist_database(tmp_path), key, unaided_first=False, clock=clock)
    clock.now += 30
    only.sign("nothing seen")
    clock.now += 3600
    only.close()
    (read,) = open_worklist_database(tmp_path).reads()
    assert read.complete
    assert read.unaided_seconds + read.aided_seconds == pytest.approx(30)


def test_what_was_signed_unaided_stays_and_what_follows_is_kept_apart(tmp_path):
    read_session = ReadSession(open_worklist_database(tmp_path), KEY, unaided_first=True)
    assert read_session.is_analysis_hidden
    slip = read_session.mark((9, 9, 9), 10)
    seen = read_session.mark((1, 2, 3), 70)
    read_session.remove_mark(slip.uid)
    assert read_session.sign() == "1 marked"
    assert not read_session.is_analysis_hidden
    with pytest.raises(UnusableInputError, match="signed as unaided"):
        read_session.remove_mark(seen.uid)
    decide(read_session, "2.25.1", ReviewState.ACCEPTED, (4, 5, 6), confidence=90)
    late = read_session.mark((7, 8, 9))
    read = open_worklist_database(tmp_path).read(KEY)
    assert read.marks_of(Phase.UNAIDED) == (seen,)
    assert read.marks_of(Phase.AIDED) == (late,)
    assert not read.complete
    read_session.sign("nothing further")
    assert open_worklist_database(tmp_path).read(KEY).complete
    decide(read_session, "2.25.1", ReviewState.UNREVIEWED)
    read = open_worklist_database(tmp_path).read(KEY)
    assert not read.complete
    assert read.unaided == "1 marked"
    assert read.verdicts == ()
    written = read_session.unaided_read()
    assert written is not None
    assert [m.at_mm for m in written.marks] == [(1, 2, 3)]


@pytest.mark.parametrize("crashed", [False, True])
def test_an_unaided_read_says_that_the_study_was_open_before_with_its_analysis(tmp_path, crashed):
    """It was recorded as any other, as if the reader had not seen the candidates."""
    aided = ReadSession(open_worklist_database(tmp_path), KEY)
    if not crashed:
        aided.close()
    read_session = ReadSession(open_worklist_database(tmp_path), KEY, unaided_first=True)
    day = aided.read.begun[:10]
    assert read_session.is_analysis_hidden
    assert read_session.shown_before == day
    read_session.mark((1, 2, 3))
    said = f"1 marked; opened on {day} with the analysis not hidden"
    assert read_session.unaided_summary == read_session.sign() == said
    assert read_session.unaided_read().statement == said


def test_an_unaided_read_has_the_times_when_it_was_begun_and_signed(tmp_path, monkeypatch):
    times = [f"2026-01-05T10:0{minute}:00.000Z" for minute in range(6)]
    monkeypatch.setattr(read_session_module, "now", iter(times).__next__)
    read_session = ReadSession(open_worklist_database(tmp_path), KEY, unaided_first=True)
    read_session.mark((1, 2, 3))
    read_session.sign()
    read_session.mark((7, 8, 9))
    read_session.sign("nothing further")
    signed = read_session.unaided_read()
    assert (signed.begun, signed.time, signed.reader) == (times[0], times[2], "A. Reader")
    assert signed.statement == "1 marked"


def test_readers_are_kept_apart(tmp_path):
    database = open_worklist_database(tmp_path)
    ReadSession(database, KEY).mark((1, 1, 1))
    ReadSession(database, ReadKey("case", "B. Reader")).sign("nothing seen")
    assert len(database.reads("case")) == 2
    assert database.read(KEY).signed is None
    assert database.read(ReadKey("case", "B. Reader")).marks == ()


def test_a_signed_read_takes_no_mark_until_it_is_withdrawn_for_a_reason(tmp_path):
    read_session, log = ReadSession(open_worklist_database(tmp_path), KEY), ReviewLog()
    log.sign("nothing further", reader="A. Reader")
    read_session.store_decisions(log.review)
    with pytest.raises(UnusableInputError, match="signed"):
        read_session.mark((1, 2, 3))
    log.withdraw("wrong study", reader="A. Reader")
    read_session.store_decisions(log.review)
    assert not open_worklist_database(tmp_path).read(KEY).complete
    assert open_worklist_database(tmp_path).read(KEY).acts[-1].reason == "wrong study"
    read_session.mark((1, 2, 3))


def test_a_read_goes_on_under_a_name_that_comes_late(tmp_path):
    database = open_worklist_database(tmp_path)
    nobody = ReadSession(database, ReadKey("case", ""))
    nobody.mark((1, 2, 3))
    named = nobody.continue_as("A. Reader")
    named.sign("nothing further")
    read = database.read(ReadKey("case", "A. Reader"))
    assert read.complete
    assert [mark.at_mm for mark in read.marks] == [(1, 2, 3)]
    assert [one.key.reader for one in database.reads()] == ["A. Reader"], "no second reader"
    nobody.mark((4, 5, 6))
    assert [one.key.reader for one in database.reads()] == ["", "A. Reader"]


def test_a_read_that_its_reader_continues_beside_an_own_one_is_no_second_reader_s(tmp_path):
    """It was listed as unnamed too."""
    database = open_worklist_database(tmp_path)
    ReadSession(database, ReadKey("case", "A. Reader")).mark((7, 8, 9))
    nobody = ReadSession(database, ReadKey("case", ""))
    nobody.mark((1, 2, 3))
    nobody.continue_as("A. Reader")
    (read,) = database.reads()
    assert [mark.at_mm for mark in read.marks] == [(7, 8, 9), (1, 2, 3)]


def outline(uid, size):
    return Outline(uid, (3, 4, 5), np.arange(size**3, dtype=np.uint8).reshape(size, size, size) % 3)


def made():
    """A review with every kind of decision."""
    log = ReviewLog()
    log.decide("1.1", ReviewState.REJECTED, reader="A. Reader", reason="a vessel")
    log.decide("1.2", ReviewState.EDITED, reader="A. Reader", outline=outline("1.2", 4))
    log.add(outline("2.25.7", 3), DrawingMethod.MANUAL, reader="A. Reader")
    log.undo()
    log.redo()
    log.undo()
    ends = ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    log.place_diameters("1.1", (ends, ends), reader="A. Reader")
    log.sign_response(RESPONSE)
    log.sign("nothing further seen", reader="A. Reader")
    return log.review


def test_a_review_comes_back_from_the_log_as_it_was(tmp_path):
    read_session = ReadSession(open_worklist_database(tmp_path), KEY)
    read_session.continue_from("analysis", Review())
    review = made()
    for count in range(1, len(review.events) + 1):
        whole = count == len(review.events)
        signed = review.responses if whole else ()
        read_session.store_decisions(
            replace(review, events=review.events[:count], responses=signed)
        )
    with existing_worklist_database(tmp_path) as database:
        assert database.reviews("analysis") == {KEY: (review,)}
        assert database.reviews("another") == {}
        assert len(database.read(KEY).acts) == 2 + len(review.events)
    assert ReviewLog(review).review == review


def test_what_a_full_disk_refused_is_kept_with_the_next_decision(tmp_path, monkeypatch):
    database = open_worklist_database(tmp_path)
    read_session, review = ReadSession(database, KEY), made()
    read_session.continue_from("analysis", Review())
    add = database.add_acts

    def full(*_, **__):
        raise ResourceError(found="a full disk", expected="room", next_step="Free some space")

    monkeypatch.setattr(database, "add_acts", full)
    with pytest.raises(ResourceError):
        read_session.store_decisions(replace(review, events=review.events[:2], responses=()))
    monkeypatch.setattr(database, "add_acts", add)
    read_session.store_decisions(review)
    assert database.reviews("analysis")[KEY][-1] == review


def test_decisions_made_elsewhere_are_taken_over_with_the_first_new_one(tmp_path):
    database, review = open_worklist_database(tmp_path), made()
    first = ReadSession(database, KEY)
    first.continue_from("analysis", Review())
    decide(first, "1.1", ReviewState.ACCEPTED, confidence=30)
    decide(first, "1.9", ReviewState.ACCEPTED)
    again = ReadSession(database, KEY)
    elsewhere = replace(review, events=review.events[:2], responses=())
    again.continue_from("analysis", elsewhere)
    assert len(database.reviews("analysis")[KEY][-1].events) == 2
    again.store_decisions(elsewhere)
    assert database.reviews("analysis")[KEY][-1].state_of("1.9") is ReviewState.ACCEPTED
    again.store_decisions(review)
    assert database.reviews("analysis")[KEY][-1] == review
    states = {one.tracking_uid: one.state for one in database.read(KEY).verdicts}
    assert states == {"1.1": ReviewState.REJECTED, "1.2": ReviewState.EDITED}


def test_two_readers_and_the_sessions_of_a_reader_study_have_logs_of_their_own(tmp_path):
    database = open_worklist_database(tmp_path)
    keys = (KEY, ReadKey("case", "B. Reader"), ReadKey("case", "A. Reader", 2, Arm.CANDIDATES))
    for key, state in zip(keys, list(ReviewState)[1:], strict=False):
        read_session = ReadSession(database, key)
        read_session.continue_from("analysis", Review())
        decide(read_session, "1.1", state, reader=key.reader)
    found = {key: review.state_of("1.1") for key, (review,) in database.reviews("analysis").items()}
    assert found == dict(zip(keys, list(ReviewState)[1:], strict=False))


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM outlines",
        "UPDATE outlines SET labels = x'00'",
        "UPDATE outlines SET shape = '[100000, 100000, 100000]'",
        "UPDATE outlines SET corner = '[1, 2, 3]'",
        "UPDATE acts SET act = '{}' WHERE analysis != ''",
        """UPDATE acts SET act = replace(act, '"reader"', '"other"')""",
    ],
)
def test_a_damaged_log_is_refused_in_words(tmp_path, damage):
    read_session = ReadSession(open_worklist_database(tmp_path), KEY)
    read_session.continue_from("analysis", Review())
    read_session.store_decisions(made())
    read_session.database.close()
    connection = sqlite3.connect(tmp_path / NAME)
    connection.execute(damage)
    connection.commit()
    connection.close()
    with (
        existing_worklist_database(tmp_path) as database,
        pytest.raises(LesionLensError, match=r"studies\.sqlite"),
    ):
        database.reviews("analysis")
