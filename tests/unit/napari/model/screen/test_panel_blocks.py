"""The panel's blocks on the candidate in focus and on the signature."""

from dataclasses import replace

from lesionlens.base.labels import ReviewState
from lesionlens.napari.model.screen.panel_blocks import (
    shown_signature,
)


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
