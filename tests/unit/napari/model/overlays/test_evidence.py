"""What a map adds to a contour: evidence by sequence, what was dismissed."""

from dataclasses import replace

import numpy as np
import pytest
from tests.helpers.analysed_head import FakeResult

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.attention import SequenceEvidence
from lesionlens.base.records.findings import Considered, Location
from lesionlens.base.records.prediction import PerturbedPrediction, Prediction
from lesionlens.base.records.review import Outline
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.evidence import evidence_view
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen.screen import resolve
from lesionlens.napari.model.screen.view_model import view_model_of
from lesionlens.napari.model.wording.candidates import considered_text
from lesionlens.results.result import Result
from lesionlens.results.review.log import ReviewLog

DISMISSED = Considered(
    0.07, Location("left", "insula"), (-38, 0, 4), (-38, 0, 5), 0.4, np.array([[12, 20, 18]])
)


@pytest.fixture
def asked(analysis):
    """The head where FLAIR alone speaks for the lesions and T1c against them."""
    grid = analysis.prepared.working
    there = (analysis.findings.components > 0).astype(np.float32)
    evidence = SequenceEvidence(
        {MrSequence.T1C: -0.1 * there, MrSequence.FLAIR: 0.6 * there},
        np.full(grid.shape, 0.05, np.float32),
        grid,
    )
    volumes = replace(analysis.volumes, evidence=evidence)
    findings = replace(analysis.findings, considered=(DISMISSED,))
    return FakeResult(replace(analysis, volumes=volumes, findings=findings))


@pytest.fixture
def session(asked):
    made = ReviewSession()
    made.open(asked.analysis.study)
    made.analysed(asked, overlays_of(asked.analysis))
    return made


def test_the_map_of_a_sequence_has_a_sign_and_says_what_was_measured(asked):
    view = evidence_view(asked.analysis, MrSequence.FLAIR)
    assert view.data.max() == pytest.approx(0.6)
    assert view.low == -view.top
    assert "candidates · 1: +0.60, 2: +0.60" in view.statistics
    assert evidence_view(asked.analysis, MrSequence.T1C).data.min() == pytest.approx(-0.1)
    with pytest.raises(UnusableInputError, match="T2"):
        evidence_view(asked.analysis, MrSequence.T2)


def test_evidence_of_a_result_with_edits_is_listed_by_the_numbers_of_the_network(asked):
    """Reopened after candidate 1 was merged into 2, it listed 1 with the evidence of 2."""
    first, second = asked.analysis.findings.candidates
    log = ReviewLog()
    log.decide(
        first.tracking_uid,
        ReviewState.EDITED,
        outline=Outline.of(first.tracking_uid, np.zeros((1, 1, 1), np.uint8), [0, 0, 0]),
    )
    edited = applied(replace(asked.analysis, review=log.review))
    assert [candidate.id for candidate in edited.findings.candidates] == [second.id]
    view = evidence_view(edited, MrSequence.FLAIR)
    assert "the network's candidates · 1: +0.60, 2: +0.60." in view.statistics


def test_one_key_shows_each_sequences_evidence_and_then_the_attention_again(session):
    acts = ViewActs(session)
    shown = []
    for _ in range(4):
        acts.next_evidence()
        shown.append(session.state.choices.evidence)
    assert shown == [MrSequence.T1C, MrSequence.FLAIR, None, MrSequence.T1C]
    assert session.state.choices.overlay is Overlay.MAP
    (layer,) = resolve(session.state).scene.maps
    assert (layer.evidence, layer.view) == (MrSequence.T1C, None)
    assert view_model_of(session.state).missing_evidence is MrSequence.T1C


def test_without_evidence_the_engine_of_a_fresh_result_is_asked_once(asked):
    """As a worker of the window asks it: the map of one sequence after the other."""
    prepared = asked.analysis.prepared
    volumes = replace(asked.analysis.volumes, evidence=None)
    analysis = replace(asked.analysis, volumes=volumes)

    class Engine:
        asked = 0

        def predict_subsets(self, study, inputs, *, context):
            Engine.asked += 1
            there = (analysis.findings.components > 0).astype(np.float32)
            maps = [there * (0.1 + 0.6 * item.keep[3]) for item in inputs]
            return PerturbedPrediction(np.stack(maps).astype(np.float32), prepared.working)

    prediction = Prediction({}, analysis.run.engine)
    result, session = Result(analysis, prediction, Engine()), ReviewSession()
    session.open(analysis.study)
    session.analysed(result, overlays_of(analysis))
    assert session.state.evidence_sequences == prepared.sequences
    for sequence in prepared.sequences:
        view = evidence_view(result.explain().analysis, sequence)
        expected = 0.6 * (sequence is MrSequence.FLAIR)
        assert view.data.max() == pytest.approx(expected, abs=1e-6)
    assert Engine.asked == 1
    assert result.explain().candidates[0].sequence_relevance["flair"] == pytest.approx(1)
    session.analysed(Result(analysis), overlays_of(analysis))
    assert session.state.evidence_sequences == ()


def test_a_map_that_failed_its_checks_does_not_withhold_the_evidence(session):
    checks = {r: replace(c, reliable=False) for r, c in session.state.analysis.maps.checks.items()}
    analysis = session.state.analysis
    analysis = replace(analysis, maps=replace(analysis.maps, checks=checks))
    session.analysed(FakeResult(analysis), session.state.overlays)
    session.choose_overlay(Overlay.MAP)
    assert resolve(session.state).scene.maps == ()
    session.choose_evidence(MrSequence.FLAIR)
    screen = resolve(session.state)
    assert len(screen.scene.maps) == 1
    assert "exact" in screen.maps.verdict.text


def test_what_was_dismissed_is_listed_and_not_counted(session):
    screen = resolve(session.state)
    listed = [(f"{c.score:.2f}", considered_text(c)) for c in screen.considered]
    assert listed == [("0.07", "left insula, 0.40 ml")]
    assert len(screen.candidates) == 2
    assert screen.conclusion == "2 candidate regions"
    acts = ViewActs(session)
    acts.go_to_point(screen.considered[0].peak_mm)
    assert acts.viewpoint.current.point_mm == (-38, 0, 5)
    assert session.state.choices.candidate is None
    acts.go_to_point((0, 0, 0))
    acts.next_considered()
    assert acts.viewpoint.current.point_mm == (-38, 0, 5)
    assert "Also considered, 1 of 1: left insula, 0.40 ml, score 0.07." in session.state.message


def test_dismissed_regions_are_visited_in_turn_from_the_first_wherever_the_reader_is(session):
    analysis = session.state.analysis
    places = [DISMISSED.peak_mm, (30.0, 0.0, 5.0), (0.0, 20.0, 5.0)]
    regions = tuple(replace(DISMISSED, peak_mm=place) for place in places)
    findings = replace(analysis.findings, considered=regions)
    session.analysed(FakeResult(replace(analysis, findings=findings)), session.state.overlays)
    acts, visited = ViewActs(session), []
    for _ in range(4):
        acts.next_considered()
        visited.append(acts.viewpoint.current.point_mm)
    assert visited == [*places, places[0]]
    acts.go_to_point(places[1])
    acts.next_considered()
    assert "Also considered, 3 of 3" in session.state.message
    acts.go_to_point((1.0, 1.0, 1.0))
    acts.next_considered()
    assert "Also considered, 1 of 3" in session.state.message
