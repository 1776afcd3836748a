"""The panel's blocks on the candidate in focus and on the signature."""

from dataclasses import replace

from lesionlens.base.labels import ReviewState, Source
from lesionlens.napari.model.screen.panel_blocks import (
    ShownFocus,
    shown_focus,
    shown_signature,
)
from lesionlens.napari.model.state.state import Activity, OccludedResult


def test_the_network_s_view_of_a_masked_candidate_is_shown_beside_that_one_alone(session):
    analysis = session.state.analysis
    first, second = analysis.findings.candidates
    state = replace(session.state, occluded_result=OccludedResult(first.id, "it sees nothing else"))
    assert shown_focus(state, analysis, first).occluded_result == "it sees nothing else"
    assert shown_focus(state, analysis, second).occluded_result == ""
    assert shown_focus(state, analysis, None) == ShownFocus()
    assert shown_focus(state, analysis, second).title.startswith("2 · ")


def test_a_candidate_is_masked_if_the_network_flagged_it_and_nothing_runs(session):
    state, analysis = session.state, session.state.analysis
    first = analysis.findings.candidates[0]
    assert shown_focus(state, analysis, first).can_occlude
    busy = replace(state, activity=Activity("Comparing"))
    assert not shown_focus(busy, analysis, first).can_occlude
    assert not shown_focus(state, analysis, replace(first, source=Source.READER)).can_occlude


def test_all_is_reviewed_once_each_candidate_was_decided_on(session):
    assert not shown_signature(session.state, session.state.analysis).all_reviewed
    for number in (1, 2):
        session.go_to_candidate(number)
        session.decide(ReviewState.ACCEPTED)
        shown = shown_signature(session.state, session.state.analysis)
        assert shown.all_reviewed is (number == 2)
    analysis = session.state.analysis
    nothing = replace(analysis, findings=replace(analysis.findings, candidates=()))
    assert not shown_signature(session.state, nothing).all_reviewed
