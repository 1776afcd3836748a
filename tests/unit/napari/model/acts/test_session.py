"""Session and Screen without a window: what follows from what."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.helpers.analysed_head import FakeResult

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import MrSequence, Region, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.findings import Findings, conclusion_of
from lesionlens.base.records.prediction import OperatingPoint
from lesionlens.base.records.review import Outline
from lesionlens.napari.model.acts.session import OPENING, ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.choices import Choices, LayerChoice, Overlay, SecondOpinion
from lesionlens.napari.model.choices.tools import Limit
from lesionlens.napari.model.choices.views import ComparisonImages, DraggedRulers
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.overlays import maps as display
from lesionlens.napari.model.screen.board import Tile
from lesionlens.napari.model.screen.drawing import TilePainter
from lesionlens.napari.model.screen.map_layers import ATTENTION, PROBE, UNCERTAINTY
from lesionlens.napari.model.screen.screen import resolve
from lesionlens.napari.model.screen.view_model import view_model_of
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


@pytest.mark.parametrize(
    ("threshold", "by", "candidate"), [(0.5, 1, 1), (0.5, -1, 2), (0.95, 1, 1), (0.95, -1, 1)]
)
def test_the_first_step_goes_to_the_first_or_the_last_that_is_listed(
    session, threshold, by, candidate
):
    session.choose_threshold(threshold)
    session.step(by)
    assert session.state.choices.candidate == candidate


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


def test_the_threshold_of_an_earlier_network_hides_nothing_of_a_later_one(session, analysis):
    """Its lowest score had become the reader's threshold."""

    def analysed_by(floor):
        engine = replace(analysis.run.engine, floor=floor)
        made = replace(analysis, run=replace(analysis.run, engine=engine))
        session.analysed(FakeResult(made), display.overlays_of(made))

    analysed_by(0.95)
    assert [row.id for row in screen(session).candidates] == [1]
    analysed_by(0.2)
    assert [row.id for row in screen(session).candidates] == [1, 2]
    session.choose_threshold(0.95)
    analysed_by(0.3)
    assert screen(session).choices.threshold == 0.95


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


def test_a_reason_that_an_undo_restored_is_not_that_of_another_decision(session):
    uid = session.state.analysis.findings.candidates[0].tracking_uid
    session.go_to_candidate(1)
    for reason in ("vessel", "clip"):
        session.type_reason(reason)
        session.decide(ReviewState.ACCEPTED)
    log = session.log()
    log.undo()
    session.settle(log, session.state.analysis, session.state.overlays)
    assert session.state.review.of(uid).reason == "vessel"
    session.decide(ReviewState.REJECTED)
    assert session.state.review.of(uid).reason is None


def test_a_reason_that_is_typed_while_an_outline_is_measured_is_kept(session):
    """The field was emptied below the reader's fingers, and the rest of the word was the reason."""
    session.step(1)
    candidate, log = session.state.focused, session.log()
    session.type_reason("ves")
    log.decide(candidate.tracking_uid, ReviewState.ACCEPTED, reason="ves")
    session.type_reason("vessel")
    session.settle(log, session.state.analysis, session.state.overlays)
    assert screen(session).reason == "vessel"
    session.decide(ReviewState.ACCEPTED)
    assert session.state.review.of(candidate.tracking_uid).reason == "vessel"
    assert not session.state.typed


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


def test_a_candidate_that_an_undo_removed_is_no_longer_in_focus(session, analysis):
    """The key of the diameters stated an empty reason, "."."""
    session.go_to_candidate(2)
    (kept, _) = analysis.findings.candidates
    without = replace(analysis, findings=replace(analysis.findings, candidates=(kept,)))
    session.settle(session.log(), without, session.state.overlays)
    assert session.state.choices.candidate is None
    ViewActs(session).toggle_rulers()
    assert session.state.message == "Go to a candidate first (N, or its row)."
    session.go_to_candidate(1)
    session.settle(session.log(), without, session.state.overlays)
    assert session.state.choices.candidate == 1


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


def test_the_views_go_to_the_interrupted_strokes_and_not_to_the_middle_of_the_outline(session):
    """In thick slices they showed a plane of the same slice on which nothing was drawn."""
    visited = []
    session.happened.connect(visited.append)
    grid = session.state.overlays.grid
    drawn, strokes = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, bool)
    drawn[5:8, 6:9, 7:10] = 1
    drawn[1, 2, 10] = 1
    strokes[1, 2, 10] = True
    uid = session.state.analysis.findings.candidates[0].tracking_uid
    session.offer(OutlineDraft(uid, drawn, changed=strokes))
    session.resume()
    assert visited == [PositionVisited(tuple(grid.to_mm((1, 2, 10)).tolist()))]


def test_interrupted_strokes_go_on_beside_the_outline_of_the_network(session):
    """The panel named a white outline that was not shown, nor any after Done."""
    candidate = session.state.analysis.findings.candidates[0]
    drawn = np.ones(session.state.overlays.grid.shape, np.uint8)
    session.offer(OutlineDraft(candidate.tracking_uid, drawn))
    session.resume()
    assert session.state.choices.candidate == candidate.id
    assert session.state.choices.overlay is Overlay.CONTOUR


def test_interrupted_strokes_wait_while_another_outline_is_drawn(session):
    drawn = np.ones(session.state.overlays.grid.shape, np.uint8)
    session.begin_new()
    session.offer(OutlineDraft("2.25.1", drawn))
    before = session.state
    session.resume()
    assert session.state is before


def test_the_brush_is_limited_to_a_range_in_either_order_while_an_outline_is_drawn(session):
    before = session.state.tools
    session.choose_range(5.0, 1.0)
    assert session.state.tools == before
    session.begin_new()
    for ends in ((5.0, 1.0), (1.0, 5.0)):
        session.choose_range(*ends)
        assert (session.state.tools.low, session.state.tools.high) == (1.0, 5.0)


def test_a_split_that_waits_for_its_points_goes_on_when_the_brush_is_limited(session):
    session.step(1)
    session.begin_edit()
    session.choose_tools(points=(), prompting=True, ball=True)
    session.choose_limit(Limit.INTENSITY)
    tools = session.state.tools
    assert (tools.points, tools.prompting, tools.ball) == ((), True, True)
    session.choose_limit(Limit.PROBABILITY)
    assert session.state.tools.sequence is None


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


def test_strokes_on_a_candidate_that_is_gone_are_continued_with_its_outline(session):
    """Its addition was undone in another window; only what was painted last remained."""
    outline = session.state.overlays.components == 0
    painted = np.zeros(outline.shape, bool)
    painted[0, 0, 0] = True
    drawn = outline.astype(np.uint8)
    session.offer(OutlineDraft("2.25.9", drawn, changed=painted))
    session.resume()
    assert session.state.edit.tracking_uid == "2.25.9"
    continued = session.state.draft.continued_from(np.zeros_like(drawn))
    np.testing.assert_array_equal(continued, drawn)


def test_strokes_of_a_new_candidate_remain_those_of_a_new_one(session):
    drawn = (session.state.overlays.components == 1).astype(np.uint8)
    draft = OutlineDraft("2.25.9", drawn, changed=drawn > 0)
    session.offer(draft)
    assert session.state.draft is draft


def test_interrupted_strokes_of_which_nothing_is_left_move_no_view(session):
    visited = []
    session.happened.connect(visited.append)
    session.offer(OutlineDraft("2.25.1", np.zeros(session.state.overlays.grid.shape, np.uint8)))
    session.resume()
    assert session.state.edit.continues_draft
    assert visited == []


def test_decisions_keep_the_maps_that_were_requested_meanwhile(session):
    """The overlays of a decision are computed for a while."""
    computed = session.state.overlays
    session.layer_arrived(replace(computed, layer_choice="of a layer", probe="of a voxel"))
    session.settle(session.log(), session.state.analysis, replace(computed))
    overlays = session.state.overlays
    assert (overlays.layer_choice, overlays.probe) == ("of a layer", "of a voxel")
    session.probe((1, 2, 3))
    assert (session.state.probed, session.state.overlays) == ((1, 2, 3), overlays)


def test_a_candidate_that_does_not_exist_is_not_said_to_be_below_the_threshold(session):
    assert not session.go_to_candidate(9)
    assert session.state.message == ""
    session.choose_threshold(0.95)
    assert not session.go_to_candidate(2)
    assert "below the threshold" in session.state.message


def test_a_decision_without_focus_does_nothing(session):
    old = session.state
    assert session.decide(ReviewState.ACCEPTED) is None
    assert session.state is old


def test_contribution_maps_follow_each_other_and_then_comes_the_attention(session):
    maps = (SecondOpinion.BY_T1C, SecondOpinion.BY_FLAIR)
    shares = {opinion.sequence: None for opinion in maps}
    volumes = SimpleNamespace(evidence=SimpleNamespace(shares=shares))
    analysis = SimpleNamespace(volumes=volumes, maps=None)
    session._set(result=SimpleNamespace(analysis=analysis, trace=None, engine=object()))
    acts, shown = ViewActs(session), []
    for _ in range(4):
        acts.next_evidence()
        shown.append(session.state.choices.layer)
    assert shown == [*maps, None, maps[0]]
    session.choose_overlay(Overlay.CONTOUR)
    acts.next_evidence()
    assert session.state.choices.layer == maps[0], "no map was shown"


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


def test_what_could_not_be_opened_is_put_away_once_the_reader_goes_on(session):
    session.failed(Problem("Failed", "no scan", cause=OPENING))
    session.go_to_candidate(1)
    assert session.state.problem is None
    session.failed(Problem("Failed", "the analysis"))
    session.step(1)
    assert session.state.problem is not None


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


def test_a_study_that_comes_back_has_no_key_or_button_held(session):
    """H released while the next study was opened: the overlays stayed hidden after its failure."""
    session.go_to_candidate(1)
    session.hold_hidden(hidden=True)
    session.choose_views(swapped=True, dragged=DraggedRulers(1, ()))
    session.suspend()
    session.hold_hidden(hidden=False)
    session.choose_views(swapped=False, dragged=None)
    session.restore_suspended()
    assert not session.state.choices.hidden
    assert not session.state.choices.views.swapped
    assert session.state.choices.views.dragged is None
    assert session.state.choices.candidate == 1


def test_analysing_again_keeps_what_the_reader_looks_at(session, result):
    session.choose_sequence(MrSequence.FLAIR)
    session.analysed(result, display.overlays_of(result.analysis))
    assert session.state.choices.sequence is MrSequence.FLAIR


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


def test_a_map_too_coarse_to_be_judged_is_shown_and_said_to_be(session, analysis):
    coarse = MapChecks(True, 0.6, 0.1, near=0.6, attainable=0.7, verdict="too coarse")
    maps = replace(analysis.maps, checks={Region.WT: coarse})
    shown = replace(analysis, maps=maps)
    session.analysed(FakeResult(shown), display.overlays_of(shown))
    session.choose_overlay(Overlay.MAP)
    assert not screen(session).maps.withheld
    assert screen(session).maps.verdict.text == "map too coarse to be judged"


def test_the_threshold_tells_what_it_costs_where_that_was_measured(session, analysis):
    assert screen(session).threshold.text == "all flagged"
    points = (OperatingPoint(0.1, 0.98, 1.2), OperatingPoint(0.5, 0.9, 0.24))
    engine = replace(analysis.run.engine, operating_points=points)
    known = replace(analysis, run=replace(analysis.run, engine=engine))
    session.analysed(FakeResult(known), display.overlays_of(known))
    session.choose_threshold(0.6)
    assert screen(session).threshold.text == "score ≥ 0.60"
    assert screen(session).threshold.costs == ""  # beyond what was measured
    session.choose_threshold(0.5)
    assert "0.2 false candidates per scan" in screen(session).threshold.costs
    assert "% of lesions" in screen(session).threshold.costs
    assert "synthetic" in screen(session).threshold.source
    session.choose_threshold(0.05)
    assert screen(session).threshold.text == "score ≥ 0.05"


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


def test_a_reopened_result_says_that_the_network_must_be_asked_anew(analysis):
    overlays, session = display.overlays_of(analysis), ReviewSession()
    session.analysed(SimpleNamespace(analysis=analysis, trace=None, engine=None), overlays)
    assert screen(session).maps.reopened
    session.analysed(SimpleNamespace(analysis=analysis, trace=None, engine=object()), overlays)
    assert not screen(session).maps.reopened


def test_a_layer_or_head_that_is_not_there_is_not_chosen(session):
    session.choose_overlay(Overlay.MAP)
    for chosen, expected in (
        ((0, 1), LayerChoice(Region.WT, 0, 1)),
        ((1, 1), LayerChoice(Region.WT, 1)),
        ((7,), None),
    ):
        session.choose_layer(*chosen)
        (layer,) = screen(session).scene.maps
        assert layer.choice == expected


def test_asking_for_uncertainty_switches_the_overlay_on(session):
    session.choose_uncertainty(visible=True)
    assert roles(session) == [UNCERTAINTY]
    assert screen(session).scene.outline.visible


def test_without_attention_the_uncertainty_has_legend_and_map(session):
    """Linked views and legend showed neither, which napari's canvas did."""
    session.choose_overlay(Overlay.MAP)
    session.choose_uncertainty(visible=True)
    bare = replace(session.state, overlays=replace(session.state.overlays, attention={}))
    model = view_model_of(bare)
    assert [layer.role for layer in model.board.scene.maps] == [UNCERTAINTY]
    assert (model.map.role, model.map.view) == (UNCERTAINTY, bare.overlays.uncertainty)


@pytest.fixture
def drawn_map(session, analysis):
    """Return a function that draws the map of a linked view, always by the same painter."""
    artist, tile = TilePainter({}), Tile(MrSequence.T1C, Plane.AXIAL)
    at_mm = analysis.findings.candidates[0].centroid_mm

    def draw():
        board = view_model_of(session.state).board
        return artist.draw(board, tile, Viewpoint(at_mm, at_mm)).map

    return draw


def test_linked_views_keep_the_previous_map_until_a_layer_is_computed(session, drawn_map):
    """The panel said so, and napari's canvas did; linked views showed none meanwhile."""
    session.choose_overlay(Overlay.MAP)
    before = drawn_map()
    session.choose_layer(0)
    assert view_model_of(session.state).missing_map == LayerChoice(Region.WT, 0)
    assert drawn_map().slice is before.slice
    session.choose_overlay(Overlay.CONTOUR)
    assert drawn_map() is None


@pytest.mark.parametrize("before", ["probe", "other analysis"])
def test_linked_views_keep_neither_a_closed_probe_nor_the_map_of_another_analysis(
    session, analysis, drawn_map, before
):
    """The map of a closed probe stayed, below the legend of the attention."""
    session.choose_overlay(Overlay.MAP)
    overlays = session.state.overlays
    probe = replace(overlays.attention[Region.WT], role=PROBE)
    if before == "probe":
        session.probe((0, 0, 0), replace(overlays, probe=probe))
        assert drawn_map().role == PROBE
        session.probe(None, overlays)
    else:
        assert drawn_map().role == ATTENTION
        session.analysed(FakeResult(analysis), display.overlays_of(analysis))
    session.choose_layer(0)
    assert view_model_of(session.state).missing_map == LayerChoice(Region.WT, 0)
    assert drawn_map() is None


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


def test_one_map_at_a_time_and_none_below_the_brush(session, analysis):
    session.choose_overlay(Overlay.MAP)
    session.choose_uncertainty(visible=True)
    session.go_to_candidate(1)
    assert roles(session) == [ATTENTION, UNCERTAINTY]
    overlays = session.state.overlays
    view = overlays.attention[Region.WT]
    grid = analysis.volumes.labels.grid
    voxel = tuple(int(v) for v in np.rint(grid.to_voxel(analysis.findings.candidates[0].peak_mm)))
    session.probe(voxel, replace(overlays, probe=view))
    assert roles(session) == [PROBE]
    assert "candidate 1 (" in screen(session).maps.probed
    session.probe((0, 0, 0))
    assert "not flagged" in screen(session).maps.probed
    session.probe(None, overlays)
    session.begin_edit()
    assert roles(session) == []
