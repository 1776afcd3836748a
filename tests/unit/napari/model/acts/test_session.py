"""Session and Screen without a window: what follows from what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.helpers.analysed_head import FakeResult

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import MrSequence, Region, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.findings import Findings, conclusion_of
from lesionlens.base.records.review import Outline
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.choices import Choices, Overlay
from lesionlens.napari.model.choices.views import ComparisonImages
from lesionlens.napari.model.overlays import maps as display
from lesionlens.napari.model.screen.map_layers import ATTENTION
from lesionlens.napari.model.screen.screen import resolve
from lesionlens.napari.model.state.events import PositionVisited
from lesionlens.napari.model.state.state import Problem
from lesionlens.results.result import Result
from lesionlens.results.review.drafts import OutlineDraft
from lesionlens.results.review.log import ReviewLog


@pytest.fixture
def session(result):
    made = ReviewSession(reader="A. Reader")
    made.open(result.analysis.study)
    made.analysed(result, display.overlays_of(result.analysis))
    return made


def screen(session):
    return resolve(session.state)


def roles(session):
    return [layer.role for layer in screen(session).scene.maps]


def test_a_study_opens_without_overlay_and_on_its_reference(analysis):
    session = ReviewSession()
    session.open(analysis.study)
    shown = screen(session)
    assert shown.choices.overlay is Overlay.OFF
    assert shown.scene.sequence is MrSequence.T1C
    assert shown.can_analyse
    assert not shown.analysed


def test_nothing_is_shown_over_the_image_before_the_reader_asks(session):
    scene = screen(session).scene
    assert not scene.outline.visible
    assert scene.maps == ()


def test_going_to_a_candidate_shows_its_contour_once(session):
    session.go_to_candidate(2)
    assert session.state.choices.overlay is Overlay.CONTOUR
    session.choose_overlay(Overlay.OFF)
    session.go_to_candidate(1)
    assert session.state.choices.overlay is Overlay.OFF


def test_steps_go_round(session):
    seen = []
    for _ in range(3):
        session.step(1)
        seen.append(session.state.choices.candidate)
    assert seen == [1, 2, 1]
    session.step(-1)
    assert session.state.choices.candidate == 2


@pytest.mark.parametrize("edited", [False, True])
def test_a_result_with_an_outline_that_was_withdrawn_shows_that_of_the_network(analysis, edited):
    """Undone after it was saved, or of another reader's session, it stayed on the images."""
    first, log = analysis.findings.candidates[0], ReviewLog()
    drawn = np.where(analysis.findings.components == first.id, np.uint8(2), np.uint8(0))
    drawn[:, :, np.argwhere(drawn)[:, 2].min()] = 0
    log.decide(
        first.tracking_uid, ReviewState.EDITED, outline=Outline.of(first.tracking_uid, drawn)
    )
    saved = applied(replace(analysis, review=log.review))
    if not edited:
        log.undo()
    session = ReviewSession()
    session.analysed(Result(saved), display.overlays_of(saved), log.review)
    current = saved if edited else analysis
    shown, own = session.state.overlays, display.overlays_of(current)
    assert session.state.analysis.findings.candidates == current.findings.candidates
    np.testing.assert_array_equal(shown.components, own.components)
    np.testing.assert_array_equal(shown.labels, own.labels)
    assert (own.components != display.overlays_of(analysis).components).any() == edited


def test_the_threshold_hides_and_says_how_many(session):
    session.go_to_candidate(2)
    session.choose_threshold(0.95)
    shown = screen(session)
    assert [row.id for row in shown.candidates] == [1]
    assert shown.threshold.n_below == 1
    assert session.state.focused is None
    assert [label for label, _ in shown.scene.outline.colours] == [1]


def test_a_decision_keeps_reader_and_reason_and_leaves_the_findings_alone(session):
    before = session.state.analysis.findings
    session.go_to_candidate(1)
    session.type_reason("vessel")
    session.decide(ReviewState.REJECTED)
    event = session.state.review.of(before.candidates[0].tracking_uid)
    assert (event.reader, event.reason) == ("A. Reader", "vessel")
    assert session.state.analysis.findings is before
    assert session.state.analysis.review == session.state.review


def test_a_reason_entered_before_another_decision_goes_with_that_one(session):
    """Entered by Enter, it belonged to the earlier decision alone, and the next had none."""
    uid = session.state.analysis.findings.candidates[0].tracking_uid
    session.go_to_candidate(1)
    session.decide(ReviewState.ACCEPTED)
    session.type_reason("vessel")
    session.decide(ReviewState.ACCEPTED)  # as Enter does
    session.decide(ReviewState.REJECTED)
    assert session.state.review.of(uid).reason == "vessel"
    session.decide(ReviewState.ACCEPTED)
    assert session.state.review.of(uid).reason is None


def test_the_reason_of_a_decision_stays_when_it_is_repeated(session):
    uid = session.state.analysis.findings.candidates[0].tracking_uid
    session.go_to_candidate(1)
    session.type_reason("vessel")
    session.decide(ReviewState.REJECTED)
    session.go_to_candidate(2)
    session.decide(ReviewState.ACCEPTED)
    session.go_to_candidate(1)
    session.decide(ReviewState.REJECTED)
    assert session.state.review.of(uid).reason == "vessel"


def test_what_is_typed_and_drawn_follows_a_candidate_to_its_uid_in_a_comparison(session):
    """A comparison gives a candidate the tracking UID of the prior's lesion."""
    first, second = (c.tracking_uid for c in session.state.analysis.findings.candidates)
    session.go_to_candidate(1)
    session.type_reason("vessel")
    session.offer(OutlineDraft(first, np.ones(session.state.overlays.grid.shape, np.uint8)))
    state = session.state
    session.settle(session.log(), state.analysis, state.overlays, {first: "2.25.7"})
    assert session.state.draft.tracking_uid == "2.25.7"
    assert session.state.typed == {"2.25.7": "vessel"}
    assert session.state.reason_of(second) == ""


def test_interrupted_strokes_go_on_where_they_lie(session):
    """The views stayed at the middle of the head, where nothing was drawn."""
    visited = []
    session.happened.connect(visited.append)
    grid = session.state.overlays.grid
    drawn = np.zeros(grid.shape, np.uint8)
    drawn[5:8, 6:9, 7:10] = 1
    session.offer(OutlineDraft("2.25.1", drawn))
    session.resume()
    assert visited == [PositionVisited(tuple(grid.to_mm((6, 7, 8)).tolist()))]


def test_strokes_on_a_candidate_merged_away_are_continued_on_the_merged_one(session):
    """They were offered as a new candidate of the painted voxels alone."""
    overlays = session.state.overlays
    first = session.state.analysis.findings.candidates[0]
    outline = overlays.components == first.id
    painted = np.zeros(outline.shape, bool)
    painted[0, 0, 0] = True
    drawn = np.where(outline | painted, np.uint8(2), np.uint8(0))
    session.offer(OutlineDraft("2.25.9", drawn, changed=painted))
    assert "Drawing candidate 1 was interrupted" in screen(session).draft_text
    session.resume()
    assert session.state.edit.tracking_uid == first.tracking_uid
    assert session.state.edit.candidate == first.id


def test_decisions_keep_the_map_that_was_requested_meanwhile(session):
    """The overlays of a decision are computed for a while."""
    computed = session.state.overlays
    session.evidence_arrived(replace(computed, evidence="of a sequence"))
    session.settle(session.log(), session.state.analysis, replace(computed))
    assert session.state.overlays.evidence == "of a sequence"


def test_a_failure_keeps_study_analysis_and_review(session):
    session.go_to_candidate(1)
    session.decide(ReviewState.ACCEPTED)
    session.begin("Exporting")
    session.decline("A job is still running.")
    kept = session.state
    session.failed(Problem("Failed", "nothing"))
    assert session.state.message == "", "no job is running"
    assert session.state.analysis is kept.analysis
    assert session.state.review == kept.review
    session.dismiss()
    assert session.state.problem is None


def test_another_study_starts_anew(session, analysis):
    session.go_to_candidate(1)
    session.open(replace(analysis.study, name="another"))
    assert session.state.analysis is None
    assert session.state.choices == replace(Choices(), sequence=MrSequence.T1C)
    assert session.state.result is None


def test_a_closed_study_leaves_the_preferences_and_no_study_to_come_back(analysis):
    session = ReviewSession(defaults=Choices(opacity=0.3))
    session.open(analysis.study)
    session.choose_opacity(0.9)
    session.suspend()
    session.close()
    assert session.state.choices == Choices(opacity=0.3)
    session.restore_suspended()
    assert session.state.study is None


def test_a_study_is_set_aside_with_the_progress_of_opening_the_next(session):
    study = session.state.study
    session.begin("Opening b")
    session.suspend()
    assert session.state.activity.name == "Opening b"
    assert session.state.study is None
    assert session.suspended_study is study


def test_a_study_that_comes_back_has_its_decisions_which_can_be_undone(session):
    session.go_to_candidate(1)
    session.decide(ReviewState.ACCEPTED)
    before = session.state
    session.suspend()
    assert session.log().review.events == ()
    session.restore_suspended()
    assert session.state.result is before.result
    assert session.log().review is session.state.review is before.review
    assert screen(session).can_undo


def test_no_candidate_is_never_called_normal(analysis):
    none = replace(
        analysis,
        findings=Findings((), np.zeros_like(analysis.findings.components), (), conclusion_of(())),
    )
    session = ReviewSession()
    session.analysed(FakeResult(none), display.overlays_of(none))
    shown = screen(session)
    assert shown.conclusion == "no candidate region"
    assert shown.decision_obstacle == "No candidate is listed"
    assert not shown.not_added
    session.step(1)
    assert session.state.choices.candidate is None


def test_signals_come_only_with_a_change(session):
    heard = []
    session.changed.connect(lambda old, new: heard.append(new))
    session.choose_region(Region.WT)
    session.hold_hidden(hidden=False)
    assert heard == []
    session.choose_region(Region.TC)
    assert len(heard) == 1


def test_a_map_that_failed_its_checks_is_shown_only_when_asked(session, analysis):
    trust = MapChecks(False, 0.1, 0.1, reliable=False, verdict="The peak lies outside.")
    maps = replace(analysis.maps, checks={Region.WT: trust})
    failed = replace(analysis, maps=maps)
    session.analysed(FakeResult(failed), display.overlays_of(failed))
    session.choose_overlay(Overlay.MAP)
    shown = screen(session)
    assert shown.maps.withheld
    assert shown.scene.maps == ()
    assert shown.scene.outline.visible
    assert shown.maps.verdict.good is False
    session.choose_unreliable(visible=True)
    assert roles(session) == [ATTENTION]


def test_the_threshold_begins_where_the_network_stops_flagging(session, analysis):
    engine = replace(analysis.run.engine, floor=0.25)
    known = replace(analysis, run=replace(analysis.run, engine=engine))
    session.analysed(FakeResult(known), display.overlays_of(known))
    shown = screen(session)
    assert (shown.choices.threshold, shown.threshold.floor) == (0.25, 0.25)
    assert shown.threshold.text == "score ≥ 0.25"
    assert "Below 0.25 nothing is flagged" in shown.threshold.source
    session.choose_threshold(0.6)
    session.analysed(FakeResult(known), display.overlays_of(known))
    assert screen(session).choices.threshold == 0.6


def test_a_sequence_that_the_prior_lacks_is_named_while_the_prior_is_held(session):
    """This examination was shown for the earlier one, without a word."""
    overlays, shown = session.state.overlays, session.state.choices.sequence
    image = Volume(overlays.images[shown], overlays.grid)
    session.choose_views(compared=ComparisonImages("prior", {shown: image}))
    lacking = next(s for s in session.state.study.series if s is not shown)
    words = f"The earlier examination has no {lacking.display_name}. Show one that both have"
    for held in (True, False):
        session.choose_views(swapped=held)
        session.choose_sequence(lacking)
        assert (words in session.state.message) is held
        session.choose_sequence(shown)
        assert not session.state.message


def test_a_change_made_by_a_subscriber_reaches_the_others_after_the_one_that_it_answers(session):
    """Later subscribers were given (new, newer) before (old, new)."""

    def answer(_, new):
        if new.message == "asked":
            session.notify("answered")

    seen = []
    session.changed.connect(answer)
    session.changed.connect(lambda old, new: seen.append((old.message, new.message)))
    session.notify("asked")
    assert seen == [("", "asked"), ("asked", "answered")]
    assert session.state.message == "answered"
