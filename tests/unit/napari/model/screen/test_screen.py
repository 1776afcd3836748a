"""Preliminary candidates: there while the analysis runs, and not beside a result."""

from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen.screen import resolve


def test_a_first_pass_is_nothing_beside_a_result_or_without_a_run(analysis, result, first):
    session = ReviewSession()
    session.open(analysis.study)
    session.preliminary_arrived(first)
    assert session.state.preliminary is None
    session.begin("Analysing")
    session.preliminary_arrived(first)
    session.choose_overlay(Overlay.CONTOUR)
    screen = resolve(session.state)
    assert screen.preliminary
    assert screen.scene.outline.visible
    waits = (screen.decision_obstacle, screen.not_added, screen.not_merged)
    assert all(words.startswith("Preliminary") for words in waits)
    session.ended()
    session.analysed(result, overlays_of(result.analysis))
    session.begin("Analysing")
    session.preliminary_arrived(first)
    assert not resolve(session.state).preliminary
    session.ended()
    session.step(1)
    shown = resolve(session.state)
    assert (shown.decision_obstacle, shown.not_added, shown.not_merged) == ("", "", "")


def test_a_preliminary_candidate_stays_in_focus_when_the_threshold_moves(analysis, first):
    session = ReviewSession()
    session.open(analysis.study)
    session.begin("Analysing")
    session.preliminary_arrived(first)
    session.go_to_candidate(1)
    session.choose_threshold(0.5)
    assert session.state.choices.candidate == 1
    session.choose_threshold(0.95)
    assert session.state.choices.candidate is None
