"""A drawn reader study: the order is fair and the same again, and what went in comes out."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from tests.helpers.saved_results import write_saved_result
from tests.helpers.stored_decisions import decide

from lesionlens.base.errors import ReadError
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.review import Outline
from lesionlens.results.review.log import ReviewLog
from lesionlens.site.database.descriptions import with_result
from lesionlens.site.database.records import Arm, ReadKey, StudyEntry, StudyState
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.worklist.protocol import FILE, ReadingProtocol, assignments, read_protocol
from lesionlens.site.worklist.read_session import ReadSession
from lesionlens.site.worklist.rows import locked_until, matching, rows_of
from lesionlens.site.worklist.table import tables_of, write_tables

CASES = tuple(f"case{n:02d}" for n in range(20))
PROTOCOL = ReadingProtocol(title="drawn", seed=7, readers=("A", "B"))


@pytest.mark.parametrize("reader", PROTOCOL.readers)
def test_every_case_comes_once_in_every_arm_and_once_a_session(reader):
    plan = assignments(PROTOCOL, reader, CASES)
    assert Counter((one.study, one.arm) for one in plan) == Counter(
        (case, arm) for case in CASES for arm in Arm
    )
    for session in (1, 2, 3):
        mine = [one for one in plan if one.session == session]
        assert sorted(one.study for one in mine) == sorted(CASES)
        assert max(Counter(one.arm for one in mine).values()) <= 7


def test_the_order_is_the_same_again_and_another_for_each_reader_session_and_seed():
    def order(protocol, reader, session=1):
        plan = assignments(protocol, reader, CASES)
        return [one.study for one in plan if one.session == session]

    assert order(PROTOCOL, "A") == order(PROTOCOL, "A")
    other = ReadingProtocol(title="drawn", seed=8, readers=("A", "B"))
    orders = [
        order(PROTOCOL, "A"),
        order(PROTOCOL, "B"),
        order(PROTOCOL, "A", 2),
        order(other, "A"),
    ]
    assert len({tuple(one) for one in orders}) == 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("title = 'x'\nseed = 1\nreaders = []", "readers"),
        ("title = 'x'\nseed = 1\nreaders = ['A', 'A']", "named twice"),
        ("title = 'x'\nseed = 1\nreaders = ['A']\narms = ['maps']", "arms"),
        ("title = 'x'\nseed = 1\nreaders = ['A']\nwho = 1", "who"),
        ("title = 'x'\nseed = 1\nreaders = ['A']\nwashout_days = 4000000", "washout_days"),
        ("title = ", "TOML|value|Invalid"),
    ],
)
def test_a_wrong_protocol_is_refused_in_words(tmp_path, text, found):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ReadError, match=found) as refusal:
        read_protocol(tmp_path)
    assert "\n" not in refusal.value.found


def table(place):
    with place.open(newline="") as lines:
        return list(csv.DictReader(lines))


def drawn_read(read_session, draw):
    """Act as a reader would; return what must come out of the tables."""
    went_in = []
    for _ in range(draw.randrange(3)):
        at, rating = tuple(round(draw.uniform(-60, 60), 2) for _ in range(3)), draw.randrange(101)
        phase = read_session.phase
        mark = read_session.mark(at, rating)
        if draw.random() < 0.2:
            read_session.remove_mark(mark.uid)
        else:
            went_in.append((phase.value, "mark", *at, str(rating), ""))
    if read_session.key.arm.aided:
        for number in range(draw.randrange(3)):
            at = tuple(round(draw.uniform(-60, 60), 2) for _ in range(3))
            state = draw.choice([ReviewState.ACCEPTED, ReviewState.REJECTED])
            rating = draw.randrange(101)
            decide(read_session, f"2.25.{number}", state, at, confidence=rating)
            kept = str(rating) if state is ReviewState.ACCEPTED else ""
            went_in.append(("aided", "candidate", *at, kept, state.value))
        read_session.sign("nothing further seen")
    else:
        read_session.sign()
    read_session.close()
    return went_in


def test_marks_of_a_study_of_twenty_cases_come_out_as_they_went_in(tmp_path):
    database, draw = open_worklist_database(tmp_path / "list"), random.Random(3)
    database.add_studies([StudyEntry(case, f"/{case}") for case in CASES])
    went_in = {}
    for reader in PROTOCOL.readers:
        for one in assignments(PROTOCOL, reader, CASES)[: 60 if reader == "A" else 20]:
            key = ReadKey(one.study, reader, one.session, one.arm)
            went_in[(reader, str(one.session), one.study, one.arm.value)] = drawn_read(
                ReadSession(database, key), draw
            )
    reads, marks = write_tables(
        database.reads(), {(case, "2.25.0"): 0.75 for case in CASES}, tmp_path / "out"
    )
    rows = table(reads)
    assert len(rows) == len(went_in) == 80
    assert {row["complete"] for row in rows} == {"true"}
    came_out = {key: [] for key in went_in}
    for row in table(marks):
        key = tuple(row[name] for name in ("reader", "session", "case", "arm"))
        at = tuple(float(row[name]) for name in ("x_mm", "y_mm", "z_mm"))
        came_out[key].append((row["phase"], row["kind"], *at, row["rating"], row["verdict"]))
        assert row["score"] == ("0.75" if row["id"] == "2.25.0" else "")
    assert came_out == went_in
    silent = [row for row in rows if row["marks_unaided"] == "0" and row["arm"] == "unaided"]
    assert {row["signed_unaided"] for row in silent} == {"nothing seen"}


def rated_rows(tmp_path, acts):
    """Return the rows of a read in which 1 is accepted with 80 and 2 with 30, then `acts(act)`."""
    with closing(open_worklist_database(tmp_path)) as database:
        database.add_studies([StudyEntry("case", "/x")])
        read_session = ReadSession(database, ReadKey("case", "A"))
        log = ReviewLog()

        def act(change, confidence=None):
            change(log)
            positions = {"1": (1.0, 0.0, 0.0), "2": (2.0, 0.0, 0.0)}
            read_session.store_decisions(log.review, positions, confidence)

        act(lambda log: log.decide("1", ReviewState.ACCEPTED), 80)
        act(lambda log: log.decide("2", ReviewState.ACCEPTED), 30)
        acts(act)
        read_session.close()
    written = tables_of(tmp_path, tmp_path / "out")
    return {row["id"]: row for row in table(written.marks)}, table(written.reads)[0]


def reason_and_diameters(act):
    ends = (((0.0, 0.0, 0.0), (9.0, 0.0, 0.0)), ((4.0, 0.0, 0.0), (4.0, 5.0, 0.0)))
    act(lambda log: log.decide("1", ReviewState.ACCEPTED, reason="seen on FLAIR too"))
    act(lambda log: log.place_diameters("1", ends))


def undone(act):
    act(lambda log: log.decide("1", ReviewState.REJECTED), 10)
    act(lambda log: log.undo())


def redone(act):
    act(lambda log: log.undo())
    act(lambda log: log.undo())
    act(lambda log: log.redo())
    act(lambda log: log.redo())


@pytest.mark.parametrize("acts", [reason_and_diameters, undone, redone])
def test_a_rating_stays_with_the_decision_that_it_was_entered_for(tmp_path, acts):
    """A reason that was typed after the decision took the rating, and so the FROC mark."""
    rows, _ = rated_rows(tmp_path, acts)
    ratings = {uid: (row["verdict"], row["rating"]) for uid, row in rows.items()}
    assert ratings == {"1": ("accepted", "80"), "2": ("accepted", "30")}


def test_a_candidate_that_was_merged_into_another_is_no_mark(tmp_path):
    def merge(act):
        both = Outline("1", (0, 0, 0), np.full((3, 3, 3), 2, np.uint8))

        def change(log):
            with log.one_act():
                log.decide("1", ReviewState.EDITED, outline=both)
                log.decide("2", ReviewState.EDITED, outline=Outline.empty("2"))

        act(change, 70)

    rows, read = rated_rows(tmp_path, merge)
    assert {uid: (row["verdict"], row["rating"]) for uid, row in rows.items()} == {
        "1": ("edited", "70"), "2": ("merged", ""),
    }  # fmt: skip
    assert (read["accepted"], read["edited"]) == ("0", "1")


def test_a_lesion_at_two_examinations_has_the_score_of_each(tmp_path):
    """A matched candidate takes the prior's tracking UID; the read keeps the examination's own."""
    with closing(open_worklist_database(tmp_path)) as database:
        database.add_studies([StudyEntry("then", "/x"), StudyEntry("now", "/y")])
        for study, own, shown, score in (("then", "2.25.1", "2.25.1", 0.9),
                                         ("now", "2.25.2", "2.25.1", 0.0)):  # fmt: skip
            read_session = ReadSession(database, ReadKey(study, "A"))
            decide(read_session, own, ReviewState.ACCEPTED, (0.0, 0.0, 0.0))
            read_session.close()
            rows = [{"tracking_uid": shown, "score": score}]
            (tmp_path / study).mkdir()
            (tmp_path / study / "findings.json").write_text(json.dumps({"candidates": rows}))
            names = {} if own == shown else {shown: own}
            (tmp_path / study / "followup.json").write_text(json.dumps({"own_uids": names}))
    written = tables_of(tmp_path, tmp_path / "out")
    scores = {row["case"]: float(row["score"]) for row in table(written.marks)}
    assert scores == {"then": 0.9, "now": 0.0}


@pytest.mark.parametrize(("cases", "planned"), [(CASES, 120), (CASES[:3], 18)])
def test_progress_counts_the_reads_that_nobody_has_begun(tmp_path, cases, planned):
    """It said "1 of 1 reads complete" of a study of 120."""
    named = f"\ncases = {list(cases)}" * (cases is not CASES)
    (tmp_path / FILE).write_text(f"title = 'x'\nseed = 7\nreaders = ['A', 'B']{named}")
    with closing(open_worklist_database(tmp_path)) as database:
        database.add_studies([StudyEntry(case, "/x") for case in CASES])
        first = rows_of(database, "A", read_protocol(tmp_path))[0]
        ReadSession(database, ReadKey(first.entry.name, "A", 1, first.arm)).sign("x")
    written = tables_of(tmp_path, tmp_path / "out")
    assert written.progress_text == f"1 of {planned} reads complete: 1 {first.arm}"


def test_reads_that_the_tables_omit_are_counted(tmp_path):
    """Without its protocol, a study of signed reads gave empty tables: "0 of 0 reads complete"."""
    protocol = tmp_path / FILE
    protocol.write_text("title = 'x'\nseed = 7\nreaders = ['A', 'B']")
    with closing(open_worklist_database(tmp_path)) as database:
        database.add_studies([StudyEntry(case, "/x") for case in CASES])
        first = rows_of(database, "A", PROTOCOL)[0]
        ReadSession(database, ReadKey(first.entry.name, "A", 1, first.arm)).sign("x")
        for case in CASES[:2]:
            ReadSession(database, ReadKey(case, "A")).sign("x")
    text = tables_of(tmp_path, tmp_path / "out").progress_text
    assert text.endswith(f"1 {first.arm}. Omitted: 2 reads outside the study")
    protocol.rename(tmp_path / "protocol.txt")
    text = tables_of(tmp_path, tmp_path / "out").progress_text
    assert text.startswith("2 of 2 reads complete")
    assert text.endswith("Omitted: 1 read of a reader study: protocol.toml is missing")


def test_the_list_of_a_reader_study_tells_nothing_of_the_network_nor_of_others(tmp_path):
    database = open_worklist_database(tmp_path)
    database.add_studies([StudyEntry(case, "/x", candidates=2, highest=0.9) for case in CASES])
    other = rows_of(database, "B", PROTOCOL)[0]
    ReadSession(database, ReadKey(other.entry.name, "B", 1, other.arm)).sign("x")
    rows = rows_of(database, "A", PROTOCOL)
    assert len(rows) == 60
    assert {(r.entry.candidates, r.entry.highest, r.other_states) for r in rows} == {
        (None, None, ())
    }


def test_the_time_between_sessions_is_kept(tmp_path):
    database = open_worklist_database(tmp_path)
    database.add_studies([StudyEntry(case, "/x") for case in CASES])
    rows = rows_of(database, "A", PROTOCOL)
    later = next(row for row in rows if row.session == 2)
    assert locked_until(PROTOCOL, later, database.reads()) is None
    first = rows[0]
    ReadSession(database, ReadKey(first.entry.name, "A", 1, first.arm)).close()
    now = datetime.now(UTC)
    assert locked_until(PROTOCOL, later, database.reads(), now + timedelta(days=27)) is not None
    assert locked_until(PROTOCOL, later, database.reads(), now + timedelta(days=29)) is None


def test_a_study_read_in_a_later_session_first_is_locked_in_the_earlier_ones(tmp_path):
    """Session 1 stayed open on the day on which its study had been read with the analysis."""
    database = open_worklist_database(tmp_path)
    database.add_studies([StudyEntry(case, "/x") for case in CASES])
    rows = rows_of(database, "A", PROTOCOL)
    later = next(row for row in rows if row.session == 2)
    ReadSession(database, ReadKey(later.entry.name, "A", 2, later.arm)).close()
    now = datetime.now(UTC)
    reads, soon = database.reads(), now + timedelta(days=27)
    locked = [row.entry.name for row in rows[:20] if locked_until(PROTOCOL, row, reads, soon)]
    assert locked == [later.entry.name]
    earlier = next(r for r in rows if (r.session, r.entry.name) == (1, later.entry.name))
    assert locked_until(PROTOCOL, earlier, reads, now + timedelta(days=29)) is None


@pytest.mark.parametrize("change", ["a study is added", "seed", "order of readers"])
def test_a_reader_study_that_changes_after_it_was_begun_is_refused(tmp_path, change):
    """A study that a second scan added gave others another arm: they were to be read twice."""
    database, protocol = open_worklist_database(tmp_path), PROTOCOL
    database.add_studies([StudyEntry(case, "/x") for case in CASES])
    for row in rows_of(database, "A", protocol):
        if row.session == 1:
            ReadSession(database, ReadKey(row.entry.name, "A", 1, row.arm)).sign("x")
    changed = {
        "a study is added": protocol,
        "seed": replace(protocol, seed=8),
        "order of readers": replace(protocol, readers=("B", "A")),
    }[change]
    database.add_studies([StudyEntry("new", "/x")] * (changed is protocol))
    for reader in "AB":  # B would begin by a plan that does not fit A's
        with pytest.raises(ReadError, match="changed after A had begun"):
            rows_of(database, reader, changed)
    rows = rows_of(database, "A", replace(protocol, cases=CASES))
    assert {row.state for row in rows if row.session == 1} == {StudyState.SIGNED}


def test_unaided_first_closes_the_list_until_the_reader_signed(tmp_path):
    database = open_worklist_database(tmp_path)
    database.add_studies([StudyEntry("a", "/a", candidates=1, highest=0.8), StudyEntry("b", "/b")])
    read_session = ReadSession(database, ReadKey("a", "A"), unaided_first=True)
    (row, new) = rows_of(database, "A", unaided_first=True)
    assert (row.entry.candidates, row.state, new.state) == (
        None,
        StudyState.ANALYSED,
        StudyState.NEW,
    )
    read_session.sign()
    (row, _) = rows_of(database, "A", unaided_first=True)
    assert (row.entry.candidates, row.state) == (1, StudyState.IN_REVIEW)
    read_session.sign("nothing further")
    (row, _) = rows_of(database, "B")
    assert row.other_states == (("A", StudyState.SIGNED),)
    assert row.entry.highest == 0.8


def test_the_filter_takes_every_word_and_leaves_out_what_a_minus_names(tmp_path):
    database = open_worklist_database(tmp_path)
    database.add_studies(
        [
            StudyEntry("a", "/a", "P1", "2026-01-05", ("t1c", "flair")),
            StudyEntry("b", "/b", "P2", "2026-01-06", ("t1",), warnings=("thick slices",)),
        ]
    )
    rows = rows_of(database, "")
    assert [r.entry.name for r in matching(rows, "flair 2026")] == ["a"]
    assert [r.entry.name for r in matching(rows, "-flair")] == ["b"]
    assert [r.entry.name for r in matching(rows, "THICK new")] == ["b"]
    assert matching(rows, "p1 p2") == ()
    assert [r.entry.name for r in matching(rows, "-1 -")] == []
    assert [r.entry.name for r in matching(rows, "-f")] == ["b"]


def test_what_a_result_warns_of_is_hidden_with_it_and_what_the_images_warn_of_is_not(tmp_path):
    """'3.8 ml of the enhancing part are bright on T1' stood beside a study to be read unaided."""
    said = ["3.8 ml of the enhancing part are already bright on T1", "thick slices"]
    rows = [{"score": 0.9}]
    write_saved_result(tmp_path / "a", candidates=rows, warnings=said)
    with closing(open_worklist_database(tmp_path)) as database:
        database.add_studies([StudyEntry("a", "/a", warnings=("thick slices",))])
        database.update(with_result(database.entry("a"), tmp_path / "a"))
    with closing(open_worklist_database(tmp_path)) as database:
        assert database.entry("a").warnings == ("thick slices", said[0])
        (hidden,) = rows_of(database, "A", unaided_first=True)
        assert hidden.entry.warnings == ("thick slices",)
        assert matching([hidden], "bright") == ()
        assert "bright" not in str(hidden)
        ReadSession(database, ReadKey("a", "A"), unaided_first=True).sign()
        (shown,) = rows_of(database, "A", unaided_first=True)
        assert shown.entry.warnings == ("thick slices", said[0])
        write_saved_result(tmp_path / "a", candidates=rows[:1], warnings=["another"])
        again = with_result(database.entry("a"), tmp_path / "a")
        assert again.warnings == ("thick slices", "another"), "not those of the earlier result"
