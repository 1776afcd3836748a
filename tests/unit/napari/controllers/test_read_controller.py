"""Which marks are taken: in the head, and with a rating where the protocol wants one."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.helpers.analysed_head import (  # noqa: F401  fixtures
    LEFT,
    RIGHT,
    FakeResult,
    analysis,
    head,
    without_right,
)

from lesionlens.base.errors import ResourceError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import (
    DrawingMethod,
    ReviewAct,
    ReviewState,
)
from lesionlens.base.records.findings import PreliminaryFindings
from lesionlens.base.records.followup import Alignment, Comparison
from lesionlens.base.records.response import (
    Response,
    SignedMeasure,
    SignedResponse,
)
from lesionlens.base.records.review import Outline
from lesionlens.napari.controllers import current_read
from lesionlens.napari.controllers.current_read import ExpectedRead
from lesionlens.napari.controllers.read_controller import ReadController
from lesionlens.napari.controllers.read_texts import phase_text
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.geometry.head import HeadMask
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.overlays.redraw import reviewed
from lesionlens.results.review import store
from lesionlens.results.review.log import ReviewLog
from lesionlens.site.database.records import Arm, ReadKey
from lesionlens.site.database.worklist_database import (
    WorklistDatabase,
    existing_worklist_database,
    open_worklist_database,
)
from lesionlens.site.worklist import reader_log


@pytest.fixture
def reading(analysis, tmp_path):  # noqa: F811
    session = ReviewSession()
    made = ReadController(session)
    turn = ExpectedRead(
        open_worklist_database(tmp_path), ReadKey("a", "A. Reader"), unaided_first=True, rated=True
    )
    made.expected = turn
    session.open(analysis.study)
    yield made
    made.release()


def test_a_protocol_that_wants_ratings_takes_no_mark_without_one(reading):
    reading.marking.mark(LEFT)
    assert reading.marking.marks == ()
    assert "rating" in reading.session.state.message
    reading.marking.confidence = 60
    reading.marking.mark(LEFT)
    assert [mark.confidence for mark in reading.marking.marks] == [60]
    assert reading.marking.confidence is None
    reading.marking.mark(LEFT)
    assert len(reading.marking.marks) == 1, "the rating of the mark before was taken for this one"


def test_a_mark_pressed_twice_is_one_mark(
    analysis,  # noqa: F811
    own,
    tmp_path,
):
    """A double click on *Mark* beside linked views marked the crosshair twice."""
    with opened(analysis, unaided(tmp_path / "list", "A. Reader")) as window:
        for position in (LEFT, LEFT, RIGHT, LEFT):
            window.marking.mark(position)
        assert [mark.at_mm for mark in window.marking.marks] == [LEFT, RIGHT, LEFT]
        window.marking.remove_mark()
        window.marking.mark(LEFT)
        window.marking.confidence = 60
        window.marking.mark(LEFT)
        assert [mark.confidence for mark in window.marking.marks] == [None, None, None, 60]


def test_a_signed_read_takes_no_mark_and_says_so(reading):
    reading.marking.confidence = 60
    reading.marking.mark(LEFT)
    reading.sign_unaided()
    reading.read_session.sign("nothing further seen")
    assert phase_text(reading).endswith("Signed: nothing further seen.")
    assert not reading.marking.can_remove(reading.marking.marks[0])
    reading.marking.mark(LEFT)
    assert len(reading.marking.marks) == 1
    assert "signed" in reading.session.state.message


def test_a_mark_beside_the_head_is_not_taken(reading):
    reading.marking.confidence, reading.marking.in_head = 60, lambda _: False
    reading.marking.mark(LEFT)
    assert reading.marking.marks == ()
    assert "outside the head" in reading.session.state.message


def test_dark_parts_within_the_head_belong_to_it_and_the_air_does_not():
    data = np.full((60, 60, 20), 3.0, np.float32)  # noise of the air
    data[10:50, 10:50, 2:18] = 100
    data[24:36, 24:36, 4:16] = 0  # as dark as the air
    head_there = HeadMask.of(data, Grid(data.shape, np.diag([4.0, 4.0, 8.0, 1.0])))
    assert head_there.contains((120, 120, 80))
    assert head_there.contains((44, 120, 80))
    assert not head_there.contains((12, 120, 80))
    assert not head_there.contains((120, 120, 500))


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(reader_log, "own_folder", lambda: tmp_path / "own")
    monkeypatch.setattr(store, "sessions_folder", lambda: tmp_path / "reviews")


@contextmanager
def shown(analysis, turn=None):  # noqa: F811
    """Show an analysis as a window does, with what its reader decided before."""
    session = ReviewSession()
    controller = ReadController(session)
    controller.expected = turn
    session.open(analysis.study)
    result = SimpleNamespace(analysis=analysis, trace=None, engine=None)
    found, controller.message = controller.decision_log.recovered(analysis)
    session.analysed(result, overlays_of(analysis), found)
    session.go_to_candidate(1)
    yield controller
    controller.release()


def decided(controller):
    return [event.state for event in controller.session.state.review.events]


def listed(folder):
    return ExpectedRead(open_worklist_database(folder), ReadKey("a", ""), unaided_first=False)


def test_a_decision_is_in_one_log_and_shown_again(analysis, own, tmp_path):  # noqa: F811
    with shown(analysis) as window:
        window.session.decide(ReviewState.ACCEPTED)
        assert window.saver.all_saved
    with shown(analysis) as window:
        assert decided(window) == [ReviewState.ACCEPTED]
        assert window.message
    assert [place.name for place in tmp_path.iterdir()] == ["own"]


def test_what_was_decided_last_is_shown_wherever_the_study_is_opened(
    analysis,  # noqa: F811
    own,
    tmp_path,
):
    with shown(analysis) as window:
        window.session.decide(ReviewState.REJECTED)
    with shown(analysis, listed(tmp_path / "list")) as window:
        assert decided(window) == [ReviewState.REJECTED]
        window.session.decide(ReviewState.ACCEPTED)
    with shown(analysis) as window:
        assert decided(window) == [ReviewState.REJECTED, ReviewState.ACCEPTED]
    with existing_worklist_database(tmp_path / "list") as database:
        (verdict,) = database.read(ReadKey("a", "")).verdicts
    assert verdict.state is ReviewState.ACCEPTED
    assert verdict.at_mm == analysis.findings.candidates[0].centroid_mm


@pytest.mark.parametrize(
    ("first", "reader"),
    [
        ("A. Reader", "A. Reader"),
        ("B. Reader", "B. Reader"),
        (None, "A. Reader"),
        ("B. Reader", "A. Reader"),
    ],
)
def test_a_list_has_what_its_own_reader_decided_elsewhere_once_it_is_shown(
    analysis,  # noqa: F811
    own,
    tmp_path,
    first,
    reader,
):
    """Another reader's decisions, shown with a saved result, are no read of this one.

    Those that the reader continued are.
    """
    log = ReviewLog()
    for candidate, decided_by in zip(analysis.findings.candidates, (first, reader), strict=True):
        log.decide(candidate.tracking_uid, ReviewState.REJECTED, reader=decided_by)
    log.sign("nothing further seen", reader=reader)
    saved, key = replace(analysis, review=log.review), ReadKey("a", "A. Reader")
    for _ in range(2):  # the second time there is nothing left to take over
        turn = replace(listed(tmp_path / "list"), key=key)
        with shown(saved, turn) as window:
            window.saver.store_own_shown()
            assert window.session.state.review.signed
    with existing_worklist_database(tmp_path / "list") as database:
        read = database.read(key)
    mine = reader == key.reader
    assert read.complete is mine
    assert len(read.verdicts) == 2 * mine
    assert sum(act.act is ReviewAct.TAKE_OVER for act in read.acts) == mine


@pytest.mark.parametrize("saved", [False, True])
def test_decisions_on_candidates_that_a_result_lacks_are_not_hidden_by_new_ones(
    analysis,  # noqa: F811
    own,
    saved,
):
    """Of one input a smaller result is decided on, with decisions of a file or without."""
    left, right = (candidate.tracking_uid for candidate in analysis.findings.candidates)
    with shown(analysis) as window:
        for number, state in ((1, ReviewState.ACCEPTED), (2, ReviewState.REJECTED)):
            window.session.go_to_candidate(number)
            window.session.decide(state)
    fewer = without_right(analysis)
    if saved:
        elsewhere = ReviewLog()
        elsewhere.decide(left, ReviewState.DEFERRED, reader="B. Reader")
        fewer = replace(fewer, review=elsewhere.review)
    with shown(fewer) as window:
        window.session.decide(ReviewState.REJECTED)
        assert window.saver.all_saved
    with shown(analysis) as window:
        review = window.session.state.review
        assert review.state_of(right) is ReviewState.REJECTED
        assert review.state_of(left) is ReviewState.REJECTED


def test_a_session_of_a_reader_study_sees_no_other_decisions(
    analysis,  # noqa: F811
    own,
    tmp_path,
):
    with shown(analysis) as window:
        window.session.decide(ReviewState.REJECTED)
    database = open_worklist_database(tmp_path / "list")
    turn = ExpectedRead(database, ReadKey("a", "", 1), unaided_first=False)
    with shown(analysis, turn) as window:
        assert decided(window) == []
        window.session.decide(ReviewState.DEFERRED)
    with shown(analysis) as window:
        assert decided(window) == [ReviewState.REJECTED]


def test_a_log_that_cannot_be_written_is_reported_and_heals(
    analysis,  # noqa: F811
    own,
    monkeypatch,
):
    with shown(analysis) as window:
        with full_disk(monkeypatch):
            window.session.decide(ReviewState.REJECTED)
        assert not window.saver.all_saved
        assert "full disk" in window.session.state.problem.found
        window.session.decide(ReviewState.ACCEPTED)
        assert window.saver.all_saved
        assert window.session.state.problem is None
    with shown(analysis) as window:
        assert decided(window) == [ReviewState.REJECTED, ReviewState.ACCEPTED]


@contextmanager
def full_disk(monkeypatch):
    def refuse(*_):
        raise ResourceError(found="a full disk", expected="room", next_step="Free some space")

    with monkeypatch.context() as broken:
        broken.setattr(WorklistDatabase, "add_acts", refuse)
        yield


def test_a_study_whose_decisions_cannot_be_stored_is_not_left_at_once(
    analysis,  # noqa: F811
    own,
    monkeypatch,
):
    with shown(analysis) as window:
        assert window.saver.may_leave()
        with full_disk(monkeypatch):
            window.session.decide(ReviewState.REJECTED)
            assert not window.saver.may_leave()
            assert "would be lost" in window.session.state.message
            window.session.decide(ReviewState.DEFERRED)
            assert not window.saver.may_leave(), "nothing was said of the decision made since"
            window.session.begin("Comparing")
            window.session.ended("Nothing was found.")
            assert window.saver.may_leave(), "the end of a job was taken for a further decision"
            assert window.saver.may_leave(), "the study that is not left yet was refused again"
        window.session.decide(ReviewState.ACCEPTED)
        with full_disk(monkeypatch):
            window.session.decide(ReviewState.REJECTED)
            assert not window.saver.may_leave(), "the warning was of an earlier decision"
        assert window.saver.may_leave()
        assert window.session.state.problem is None
        with full_disk(monkeypatch):
            window.session.decide(ReviewState.DEFERRED)
            window.session.close()
        assert "decide again on the result that you left" in window.session.state.problem.next_step


def test_a_study_of_a_list_opens_on_a_full_disk_and_its_read_is_stored_when_there_is_room(
    analysis,  # noqa: F811
    own,
    tmp_path,
    monkeypatch,
):
    """Its opening could not be stored: 'a defect in LesionLens', and a study without pictures."""
    turn = listed(tmp_path / "list")
    session = ReviewSession()
    window = ReadController(session)
    window.expected = turn
    with full_disk(monkeypatch):
        session.open(analysis.study)
    assert turn.database.read(turn.key).acts == ()
    session.analysed(FakeResult(analysis), overlays_of(analysis))
    session.go_to_candidate(1)
    session.decide(ReviewState.ACCEPTED)
    assert window.saver.all_saved
    stored = turn.database.read(turn.key).acts
    assert [act.act for act in stored] == [ReviewAct.BEGIN, ReviewAct.DECIDE]
    window.release()


def saved_with(analysis, *states):  # noqa: F811
    """Return the analysis as a saved result, reviewed."""
    log = ReviewLog()
    for state in states:
        log.decide(analysis.findings.candidates[0].tracking_uid, state)
    return replace(analysis, review=log.review)


def test_decisions_after_a_result_was_saved_are_shown_with_it_again(
    analysis,  # noqa: F811
    own,
):
    saved = saved_with(analysis, ReviewState.REJECTED)
    with shown(saved) as window:
        assert window.message == ""
        window.session.decide(ReviewState.ACCEPTED)  # and the window is killed
    with shown(saved) as window:
        assert decided(window) == [ReviewState.REJECTED, ReviewState.ACCEPTED]
        assert "restored" in window.message


def test_decisions_that_do_not_continue_a_result_are_kept_aside(
    analysis,  # noqa: F811
    own,
    tmp_path,
):
    with shown(analysis) as window:
        window.session.decide(ReviewState.ACCEPTED)
    with shown(saved_with(analysis, ReviewState.REJECTED)) as window:
        assert decided(window) == [ReviewState.REJECTED]
        assert "saved in" in window.message
    (aside,) = (tmp_path / "own" / "set_aside").iterdir()
    assert [event.state for event in store.load(aside).events] == [ReviewState.ACCEPTED]


def test_decisions_of_other_weights_are_not_taken_for_these(analysis, own):  # noqa: F811
    engine = replace(analysis.run.engine, weights_sha256="0" * 64)
    with shown(replace(analysis, run=replace(analysis.run, engine=engine))) as window:
        window.session.decide(ReviewState.ACCEPTED)
    with shown(saved_with(analysis, ReviewState.REJECTED)) as window:
        assert decided(window) == [ReviewState.REJECTED]
        assert window.message == ""


def outline(number):
    return Outline.of(f"2.25.{number}", np.full((2, 2, 2), 2, np.uint8), (4 * number, 2, 2))


def acted(window, act):
    """Let a reader act on the result shown."""
    log, state = window.session.log(), window.session.state
    act(log)
    window.session.settle(log, *reviewed(state.analysis, state.overlays, log.review))


def of_other_network(analysis):  # noqa: F811
    found, run = analysis.findings, analysis.run
    others = tuple(replace(one, tracking_uid=f"2.25.7{one.id}") for one in found.candidates)
    return replace(
        analysis,
        findings=replace(found, candidates=others),
        run=replace(run, engine=replace(run.engine, weights_sha256="0" * 64)),
    )


def show_next(window, shown_analysis):
    review, _ = window.decision_log.review_of(shown_analysis)
    result = SimpleNamespace(analysis=shown_analysis, trace=None, engine=None)
    window.session.analysed(result, overlays_of(shown_analysis), review)
    window.saver.store_own_shown()


def test_what_a_reader_added_by_hand_is_there_on_the_result_of_another_network(
    analysis,  # noqa: F811
    own,
    monkeypatch,
):
    """It was gone on return to the result on which the reader had decided before."""
    monkeypatch.setattr(current_read, "preferred_reader", lambda: "A. Reader")
    other = of_other_network(analysis)
    first = analysis.findings.candidates[0].tracking_uid
    one, two, undone, foreign = map(outline, range(1, 5))

    def add(log, added, reader="A. Reader"):
        log.add(added, DrawingMethod.MANUAL, reader=reader)

    def uids():
        return list(window.session.state.review.outlined)

    with shown(analysis) as window:
        acted(window, lambda log: log.decide(first, ReviewState.REJECTED, reader="A. Reader"))
        acted(window, lambda log: add(log, one))
        show_next(window, other)
        acted(window, lambda log: add(log, foreign, "B. Other"))
        acted(window, lambda log: add(log, two))
        acted(window, lambda log: add(log, undone))
        acted(window, lambda log: log.undo(reader="A. Reader"))
        show_next(window, analysis)
        assert uids() == ["2.25.1", "2.25.2"]
        listed_uids = [c.tracking_uid for c in window.session.state.analysis.findings.candidates]
        assert listed_uids[-2:] == uids(), "listed, and exported"
        assert window.session.state.review.state_of(first) is ReviewState.REJECTED
        show_next(window, other)
        assert len(uids()) == len(set(uids())) == 3, "nothing is doubled"


def test_a_session_of_a_reader_study_sees_no_review_of_the_result(
    analysis,  # noqa: F811
    own,
    tmp_path,
):
    database = open_worklist_database(tmp_path / "list")
    turn = ExpectedRead(database, ReadKey("a", "", 1), unaided_first=False)
    with shown(saved_with(analysis, ReviewState.REJECTED), turn) as window:
        assert decided(window) == []


def test_a_removed_folder_loses_no_decision(analysis, own, tmp_path):  # noqa: F811
    """SQLite goes on writing into a file that has no name any more."""
    with shown(analysis) as window:
        window.session.decide(ReviewState.ACCEPTED)
        shutil.rmtree(tmp_path / "own")
        window.session.decide(ReviewState.REJECTED)
        assert window.saver.all_saved
        assert window.session.state.problem is None
    with shown(analysis) as window:
        assert decided(window) == [ReviewState.ACCEPTED, ReviewState.REJECTED]


def test_a_list_that_vanished_is_reported_and_left(analysis, own, tmp_path):  # noqa: F811
    with shown(analysis, listed(tmp_path / "list")) as window:
        window.session.decide(ReviewState.ACCEPTED)
        (tmp_path / "list").rename(tmp_path / "unmounted")
        window.session.decide(ReviewState.REJECTED)
        assert not window.saver.all_saved
        assert "vanished" in window.session.state.problem.found
        (tmp_path / "unmounted").rename(tmp_path / "list")
        window.session.decide(ReviewState.DEFERRED)
        assert window.saver.all_saved
        shutil.rmtree(tmp_path / "list")


def test_decisions_after_a_comparison_come_back_with_the_result_as_it_was(
    analysis,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    """They were kept under the prior's identifiers, which the saved result does not know."""
    monkeypatch.setattr(reader_log, "own_folder", lambda: tmp_path)
    session = ReviewSession(reader="A. Reader")
    made = ReadController(session)
    session.analysed(FakeResult(analysis), overlays_of(analysis))
    session.go_to_candidate(2)
    session.decide(ReviewState.ACCEPTED)
    shown = session.state.analysis
    own = [c.tracking_uid for c in shown.findings.candidates]
    names = dict(zip(own, reversed(own), strict=True))  # of the worst kind: swapped
    candidates = tuple(
        replace(c, tracking_uid=names[c.tracking_uid]) for c in shown.findings.candidates
    )
    laid = Alignment(((1.0, 0.0, 0.0, 0.0),) * 3 + ((0.0, 0.0, 0.0, 1.0),), 0.0, 0.0, False, "T1c")
    after = replace(
        shown,
        findings=replace(shown.findings, candidates=candidates),
        review=shown.review.renamed(names),
        followup=Comparison((), (), laid, {new: old for old, new in names.items()}),
    )
    session.settle(ReviewLog(after.review), after, session.state.overlays)
    session.go_to_candidate(1)
    session.decide(ReviewState.DEFERRED)
    found, _ = made.decision_log.recovered(analysis)
    assert [found.state_of(uid) for uid in own] == [ReviewState.DEFERRED, ReviewState.ACCEPTED]
    again, message = made.decision_log.review_of(analysis)
    assert again.events == found.events
    assert message == "", "they are not of an earlier session"
    made.release()


def unaided(folder, reader="", session=0):
    key = ReadKey("a", reader, session, Arm.UNAIDED if session else Arm.MAPS)
    return ExpectedRead(open_worklist_database(folder), key, unaided_first=True)


@contextmanager
def opened(analysis, turn):  # noqa: F811
    """Open a study unaided, as a window does."""
    session = ReviewSession()
    controller = ReadController(session)
    controller.expected = turn
    session.open(analysis.study)
    yield controller
    controller.release()


@pytest.mark.parametrize("first", ["no list", "another list", "preliminary"])
def test_an_unaided_read_states_that_its_reader_saw_the_analysis_anywhere(
    analysis,  # noqa: F811
    own,
    tmp_path,
    first,
):
    """A look without the list left no trace, and the read was recorded as unaided."""
    if first == "preliminary":
        with opened(analysis, None) as window:
            window.session.begin("Analysing")
            window.session.preliminary_arrived(PreliminaryFindings(None, None, ()))
    else:
        with shown(analysis, None if first == "no list" else listed(tmp_path / "other")):
            pass
    with opened(analysis, unaided(tmp_path / "list")) as window:
        day = window.read_session.shown_before
        assert day is not None
        assert f"It was not on {day}" in phase_text(window)
        window.name_reader("A. Reader")
        window.sign_unaided()
    with existing_worklist_database(tmp_path / "list") as database:
        read = database.read(ReadKey("a", "A. Reader"))
    assert read.unaided == f"nothing seen; opened on {day} with the analysis not hidden"


def test_an_unaided_read_states_nothing_where_nobody_saw_the_analysis(analysis, own, tmp_path):  # noqa: F811
    with opened(analysis, None):  # looked at the images alone
        pass
    with opened(analysis, unaided(tmp_path / "list")) as window:
        assert window.read_session.unaided_summary == "nothing seen"


def test_what_another_reader_saw_is_not_stated_of_this_one(analysis, own, tmp_path):  # noqa: F811
    other = replace(unaided(tmp_path / "other", "B. Reader"), unaided_first=False)
    with shown(analysis, other):
        pass
    with opened(analysis, unaided(tmp_path / "list", "A. Reader")) as window:
        assert window.read_session.shown_before is None
    with opened(analysis, unaided(tmp_path / "list", "B. Reader")) as window:
        assert window.read_session.shown_before is not None


def test_the_sessions_of_a_reader_study_do_not_count_as_looks_for_each_other(
    analysis,  # noqa: F811
    own,
    tmp_path,
):
    aided = ReadKey("a", "A. Reader", 1, Arm.MAPS)
    database = open_worklist_database(tmp_path / "list")
    with shown(analysis, ExpectedRead(database, aided, unaided_first=False)):
        pass
    with opened(analysis, unaided(tmp_path / "list", "A. Reader", session=2)) as window:
        assert window.read_session.shown_before is None
    with opened(analysis, unaided(tmp_path / "other", "A. Reader")) as window:
        assert window.read_session.shown_before is not None


def test_two_windows_on_one_study_lose_no_decision_of_each_other(analysis, own):  # noqa: F811
    """The second one's first decision replaced all that was decided, and signed, in the first."""
    with shown(analysis) as first, shown(analysis) as second:
        first.session.decide(ReviewState.ACCEPTED)
        second.session.go_to_candidate(2)
        second.session.decide(ReviewState.REJECTED)
        assert "also made in another window" in second.session.state.message
        assert first.saver.all_saved
        assert second.saver.all_saved
    with shown(analysis) as again:
        assert decided(again) == [ReviewState.ACCEPTED, ReviewState.REJECTED]


def test_a_list_hears_of_decisions_in_a_window_without_it(analysis, own, tmp_path):  # noqa: F811
    with shown(analysis, listed(tmp_path / "list")) as first, shown(analysis) as second:
        first.session.decide(ReviewState.ACCEPTED)
        second.session.go_to_candidate(2)
        second.session.decide(ReviewState.REJECTED)
        assert first.decision_log.decided_elsewhere(analysis)


def test_an_unaided_read_is_not_signed_over_marks_of_another_window(
    analysis,  # noqa: F811
    own,
    tmp_path,
):
    with opened(analysis, unaided(tmp_path / "list", "A. Reader")) as first:
        with opened(analysis, unaided(tmp_path / "list", "A. Reader")) as second:
            second.marking.mark(LEFT)
            first.sign_unaided()
            assert "another window" in first.session.state.message
            assert first.read_session.read.unaided is None
            second.sign_unaided()
            assert second.read_session.read.unaided.startswith("1 marked")
        first.sign_unaided()
        assert first.read_session.read.unaided is None, "signed twice"


def test_an_unaided_read_that_another_window_signed_takes_no_further_mark(
    analysis,  # noqa: F811
    own,
    tmp_path,
):
    """The signed read stated "nothing seen" and had a mark of the second window."""
    with opened(analysis, unaided(tmp_path / "list", "A. Reader")) as first:
        with opened(analysis, unaided(tmp_path / "list", "A. Reader")) as second:
            first.marking.mark(LEFT)
            second.marking.mark(LEFT)
            assert len(second.marking.marks) == 1
        with opened(analysis, unaided(tmp_path / "list", "A. Reader")) as second:
            second.sign_unaided()
            first.marking.mark(LEFT)
            first.marking.remove_mark()
            reason = "A signature of another window on this study. Open the study again."
            assert first.session.state.message == reason
    with opened(analysis, unaided(tmp_path / "list", "A. Reader")) as again:
        assert len(again.read_session.unaided_read().marks) == 2
        assert again.read_session.unaided_read().statement.startswith("2 marked")


DIAMETERS = (((1.23456789, 2, 3), (9, 8, 7.7654321)), ((1, 2, 3), (4, 5, 6.1234567)))


def test_a_study_that_another_window_signed_is_not_changed(analysis, own):  # noqa: F811
    """The second window's decision reopened it without a withdrawal."""
    with shown(analysis) as first, shown(analysis) as second:
        editor = SimpleNamespace(drawn=lambda: None)
        one = ReviewController(first.session, None, editor, first)
        other = ReviewController(second.session, None, editor, second)
        one.sign("nothing further seen", "A. Reader")
        other._decide(ReviewState.REJECTED)
        other.place_diameters(analysis.findings.candidates[0].tracking_uid, DIAMETERS)
        assert second.session.state.message == (
            "This study was signed in another window: withdraw the signature there, or open the "
            "study again to see it."
        )
        second.session.begin_edit()
        other.change("Keeping the outline", lambda _: None, lambda: None)
        assert "or discard what you are drawing" in second.session.state.message
        second.session.end_edit()
        assert second.session.state.review.events == ()
        one.withdraw("a mistake")
        assert other._decide(ReviewState.REJECTED)
    with shown(analysis) as again:
        assert decided(again)[-1] is ReviewState.REJECTED


def test_a_named_reader_signs_what_an_unnamed_one_began(analysis, own, monkeypatch):  # noqa: F811
    """The copied log is the reader's own, no other window's."""
    with shown(analysis) as window:
        window.session.decide(ReviewState.ACCEPTED)
        window.name_reader("A. Reader")
        assert not window.decision_log.decided_elsewhere(analysis)
        window.session.decide(ReviewState.REJECTED)
        assert not window.decision_log.decided_elsewhere(analysis)
        assert "another window" not in window.session.state.message


def test_no_study_is_signed_over_decisions_of_another_window(analysis, own):  # noqa: F811
    with shown(analysis) as first, shown(analysis) as second:
        signing = ReviewController(first.session, None, SimpleNamespace(), first)
        for at in (1, 2):
            first.session.go_to_candidate(at)
            first.session.decide(ReviewState.ACCEPTED)
        assert signing.statement_to_sign() == "nothing further seen"
        second.session.go_to_candidate(2)
        second.session.decide(ReviewState.REJECTED)
        assert signing.statement_to_sign() == ""
        assert "open it again to see them all, then sign" in first.session.state.message
    with shown(analysis) as again:
        assert decided(again)[-1] is ReviewState.REJECTED
        assert ReviewController(again.session, None, SimpleNamespace(), again).statement_to_sign()


SIGNED = SignedResponse(
    Response("SD"), "2026-01-06", "A. Reader", "2026-03-01T10:00:00Z",
    (SignedMeasure(0, "2.25.1", 12.345678, 0.1 + 0.2, 31.41592653, None),),
)  # fmt: skip
