"""The log only grows, and its fold is what the reader last wanted."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import DrawingMethod, ReviewAct, ReviewState
from lesionlens.base.records.response import Response, SignedResponse
from lesionlens.base.records.review import (
    CAVITY,
    WHOLE_STUDY,
    Outline,
    Review,
)
from lesionlens.results.review.log import ReviewLog

UIDS = ("1.1", "1.2", "1.3")
STABLE = SignedResponse(
    Response.STABLE, "2025-03-04", "A. Reader", "2026-01-05T11:00:00Z"
)  # fmt: skip
acts = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(UIDS), st.sampled_from(list(ReviewState))),
        st.sampled_from(["undo", "redo"]),
    ),
    max_size=30,
)


class _Model:
    """The plain meaning of a review: a list of decisions and a pointer into it."""

    def __init__(self):
        self.decisions, self.at = [], 0

    def decide(self, uid, state):
        self.decisions[self.at :] = [(uid, state)]
        self.at += 1

    def undo(self):
        self.at = max(self.at - 1, 0)

    def redo(self):
        self.at = min(self.at + 1, len(self.decisions))

    def state_of(self, uid):
        reported = [s for u, s in self.decisions[: self.at] if u == uid]
        return reported[-1] if reported else ReviewState.UNREVIEWED


def _play(log, model, sequence):
    for act in sequence:
        if act == "undo":
            log.undo(), model.undo()
        elif act == "redo":
            log.redo(), model.redo()
        else:
            log.decide(*act), model.decide(*act)
    return {uid: model.state_of(uid) for uid in UIDS}


@given(acts)
def test_the_fold_is_what_a_list_with_a_pointer_says(sequence):
    log, model = ReviewLog(), _Model()
    meant = _play(log, model, sequence)
    assert {uid: log.review.state_of(uid) for uid in UIDS} == meant
    assert log.can_undo == (model.at > 0)
    assert log.can_redo == (model.at < len(model.decisions))


@given(acts, acts)
def test_a_log_read_back_goes_on_where_it_stopped(before, after):
    log, model = ReviewLog(), _Model()
    _play(log, model, before)
    again = ReviewLog(Review(log.review.events))
    meant = _play(again, model, after)
    assert {uid: again.review.state_of(uid) for uid in UIDS} == meant


@given(acts)
def test_it_only_grows(sequence):
    log, model = ReviewLog(), _Model()
    seen = ()
    for act in sequence:
        _play(log, model, [act])
        events = log.review.events
        assert events[: len(seen)] == seen
        seen = events


def test_an_undo_stays_on_the_record():
    log = ReviewLog()
    log.decide("1.1", ReviewState.ACCEPTED, reader="A", reason="ring")
    log.decide("1.1", ReviewState.REJECTED, reader="A", reason="vessel")
    log.undo()
    last = log.review.events[-1]
    assert (last.act, last.state, last.reason) == (ReviewAct.UNDO, ReviewState.ACCEPTED, "ring")
    log.redo()
    last = log.review.events[-1]
    assert (last.act, last.state, last.reason) == (ReviewAct.REDO, ReviewState.REJECTED, "vessel")


@pytest.mark.parametrize(
    ("acts_of_b", "who"),
    [
        ([], "A"),
        (["place"], "A"),
        (["place", "place"], "A"),
        (["reject", "undo"], "A"),
        (["accept"], "B"),
        (["accept", "undo"], "A"),
        (["place", "accept"], "B"),
        (["reject", "undo", "redo"], "B"),
        (["undo"], None),
        (["undo", "redo"], "A"),
        (["undo", "place"], None),
    ],
)
def test_the_decision_is_of_the_reader_who_made_it(acts_of_b, who):
    """Who placed diameters, or undid a later decision, was named as who had decided."""
    log = ReviewLog()
    log.decide("1.1", ReviewState.ACCEPTED, reader="A", reason="ring")
    log = ReviewLog(log.review)
    for number, act in enumerate(acts_of_b):
        match act:
            case "accept":
                log.decide("1.1", ReviewState.ACCEPTED, reader="B", reason="ring")
            case "reject":
                log.decide("1.1", ReviewState.REJECTED, reader="B")
            case "undo":
                log.undo(reader="B")
            case "redo":
                log.redo(reader="B")
            case "place":
                end = ((float(number), 2.0, 3.0), (4.0, 5.0, 6.0))
                log.place_diameters("1.1", (end, end), reader="B")
    decision = log.review.decision_of("1.1")
    assert (decision.reader if decision else None) == who
    assert {event.reader for event in log.review.events[1:]} <= {"B"}, "each act is its reader's"
    again = ReviewLog(log.review).review.decision_of("1.1")
    assert again == decision


def test_every_act_names_its_reader_and_its_time():
    log, end = ReviewLog(), ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    log.decide("1.1", ReviewState.ACCEPTED, reader="A")
    log.place_diameters("1.1", (end, end), reader="A")
    log.add(_ball("9.1", 2), DrawingMethod.MANUAL, reader="A")
    log.undo(reader="A")
    log.redo(reader="A")
    log.sign_response(STABLE)
    log.withdraw_response("by mistake", reader="A")
    log.sign("nothing further seen", reader="A")
    log.withdraw("wrong side", reader="A")
    events = log.review.events
    assert [event.reader for event in events] == ["A"] * 8
    assert all(datetime.fromisoformat(event.time).tzinfo is not None for event in events)


def signed():
    log = ReviewLog()
    log.decide("1.1", ReviewState.ACCEPTED, reader="A")
    log.sign("nothing further seen", reader="A")
    return log


def test_undo_and_redo_never_end_a_signature():
    log = signed()
    before = log.review
    assert not log.can_undo
    log.undo()
    log.redo()
    assert log.review == before
    again = ReviewLog(log.review)
    assert not again.can_undo


def test_nothing_can_be_redone_after_a_signature():
    log = ReviewLog()
    log.decide("1.1", ReviewState.ACCEPTED)
    log.undo()
    assert log.can_redo
    log.sign("nothing further seen", reader="A")
    assert not log.can_redo
    assert not ReviewLog(log.review).can_redo


def test_a_withdrawal_needs_a_reason_and_is_recorded_as_what_it_is():
    log = signed()
    with pytest.raises(UnusableInputError, match="reason"):
        log.withdraw("  ", reader="A")
    log.withdraw("wrong side", reader="B")
    last = log.review.events[-1]
    assert (last.act, last.tracking_uid) == (ReviewAct.WITHDRAW, WHOLE_STUDY)
    assert (last.reader, last.reason, log.review.signed) == ("B", "wrong side", None)
    log.undo()
    assert log.review.state_of("1.1") is ReviewState.UNREVIEWED
    with pytest.raises(UnusableInputError, match="no signature"):
        log.withdraw("again", reader="B")


def test_nobody_signs_without_a_name_or_twice():
    log = ReviewLog()
    with pytest.raises(UnusableInputError, match="no reader's name"):
        log.sign("nothing seen", reader=" ")
    log.sign("nothing seen", reader="A")
    assert log.review.signed == "nothing seen, A"
    with pytest.raises(UnusableInputError, match="is signed"):
        log.sign("nothing seen", reader="A")


def _ball(uid, size):
    return Outline(uid, (0, 0, 0), np.full((size, 1, 1), 2, np.uint8))


@pytest.mark.parametrize(("known", "left"), [("1.1", 1), ("1.2", 1), ("both", 5)])
def test_a_merge_is_taken_over_whole_or_not_at_all(known, left):
    """Half of it lost the outlined volume of the other half."""
    log = ReviewLog()
    log.decide("1.1", ReviewState.ACCEPTED)
    log.decide("1.2", ReviewState.REJECTED)
    with log.one_act():
        log.decide("1.1", ReviewState.EDITED, outline=_ball("1.1", 5))
        log.decide("1.2", ReviewState.EDITED, outline=Outline.empty("1.2"))
    log.decide("1.1", ReviewState.ACCEPTED)  # of the merged outline
    kept = log.review.restricted_to({"1.1", "1.2"} if known == "both" else {known})
    assert len(kept.events) == left
    assert kept.events == tuple(e for e in log.review.events if e in kept.events)
    assert set(kept.outlined) == ({"1.1", "1.2"} if known == "both" else set())


@pytest.mark.parametrize("is_added", [False, True])
def test_an_outline_with_labels_that_no_candidate_has_is_refused(is_added):
    """No file could name the tumour's parts; the cavity is no part of a candidate."""
    log, labels = ReviewLog(), np.array([[[3, 4, 7]]], np.uint8)
    outline = Outline("1.1", (0, 0, 0), labels)
    with pytest.raises(UnusableInputError, match="a candidate with label 4, 7"):
        if is_added:
            log.add(outline, DrawingMethod.MANUAL)
        else:
            log.decide("1.1", ReviewState.EDITED, outline=outline)
    assert log.review == Review()


def test_the_resection_cavity_has_an_outline_of_its_own():
    log, labels = ReviewLog(), np.full((1, 1, 2), 4, np.uint8)
    log.decide(CAVITY, ReviewState.EDITED, outline=Outline(CAVITY, (0, 0, 0), labels))
    assert CAVITY in log.review.outlined
