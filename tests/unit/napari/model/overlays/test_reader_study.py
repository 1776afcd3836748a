"""What an arm of a reader study hides, and what it leaves possible."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.findings import MapAgreement
from lesionlens.base.records.review import Outline, Review
from lesionlens.engines import engine as engines
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.overlays.reader_study import shown_in
from lesionlens.results import result as results
from lesionlens.results.result import Result
from lesionlens.results.review.log import ReviewLog
from lesionlens.site.database.records import Arm


def test_an_arm_with_candidates_only_shows_no_maps_but_still_answers_prompts(analysis, monkeypatch):
    """Ctrl-click and F2 failed there as a defect: what was shown was no complete result."""
    whole = Result(analysis, engine=SimpleNamespace())
    shown, overlays = shown_in(Arm.CANDIDATES, whole, overlays_of(analysis))
    assert (shown.engine, shown.trace, overlays.attention) == (None, None, {})
    assert not shown.analysis.volumes.attention
    monkeypatch.setattr(results, "_local_prompts", lambda: "the shipped network")
    monkeypatch.setattr(engines, "prompt", lambda *given, context: given)
    network, _, request, _ = shown.answer_prompts("a request")
    assert (network, request) == ("the shipped network", "a request")


@pytest.mark.parametrize("edited", [False, True])
def test_an_arm_with_candidates_only_keeps_them_and_hides_what_speaks_for_them(analysis, edited):
    """Of a result with a redrawn outline the window showed the hidden figures of the network's."""
    first = analysis.findings.candidates[0]
    assert first.attention.mass_inside is not None
    if edited:
        log = ReviewLog()
        drawn = np.where(analysis.findings.components == first.id, np.uint8(2), np.uint8(0))
        log.decide(
            first.tracking_uid, ReviewState.EDITED, outline=Outline.of(first.tracking_uid, drawn)
        )
        analysis = applied(replace(analysis, review=log.review))
        assert analysis.original is not None
    shown, overlays = shown_in(Arm.CANDIDATES, Result(analysis), overlays_of(analysis))
    session = ReviewSession()
    session.analysed(shown, overlays, Review())
    seen = session.state.analysis
    assert [c.tracking_uid for c in seen.findings.candidates] == [
        c.tracking_uid for c in analysis.findings.candidates
    ]
    hidden = ("uncertainty", "sequence_relevance", "dice_without", "class_probabilities")
    for candidate in seen.findings.candidates:
        assert candidate.attention == MapAgreement(None, None)
        assert [getattr(candidate, name) for name in hidden] == [None] * len(hidden)
    assert (seen.maps, seen.volumes.attention, seen.findings.considered) == (None, {}, ())


@pytest.mark.parametrize("arm", [Arm.UNAIDED, Arm.MAPS])
def test_other_arms_show_the_whole_result(analysis, arm):
    whole, overlays = Result(analysis), overlays_of(analysis)
    assert shown_in(arm, whole, overlays) == (whole, overlays)
