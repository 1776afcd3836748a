"""What a map adds to a contour: evidence by sequence, the first layer, what was dismissed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.helpers.analysed_head import LEFT, RIGHT, FakeResult

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, Region, ReviewState
from lesionlens.base.records.evidence import SequenceEvidence
from lesionlens.base.records.findings import Considered, Location
from lesionlens.base.records.review import Outline
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.choices import LayerChoice, Overlay, SecondOpinion
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.overlays.on_demand import layer_view
from lesionlens.napari.model.screen.screen import resolve
from lesionlens.napari.model.wording.candidates import considered_text
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
    view = layer_view(
        asked, asked.analysis.prepared, LayerChoice(Region.ET, SecondOpinion.BY_FLAIR)
    )
    assert view.data.max() == pytest.approx(0.6)
    assert view.low == -view.top
    assert "candidates · 1: +0.60, 2: +0.60" in view.statistics
    against = layer_view(
        asked, asked.analysis.prepared, LayerChoice(Region.WT, SecondOpinion.BY_T1C)
    )
    assert against.data.min() == pytest.approx(-0.1)
    with pytest.raises(UnusableInputError, match="T2"):
        layer_view(asked, asked.analysis.prepared, LayerChoice(Region.WT, SecondOpinion.BY_T2))


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
    view = layer_view(
        FakeResult(edited), edited.prepared, LayerChoice(Region.WT, SecondOpinion.BY_FLAIR)
    )
    assert "the network's candidates · 1: +0.60, 2: +0.60." in view.statistics


def test_one_key_shows_each_sequences_evidence_and_then_the_attention_again(session):
    acts = ViewActs(session)
    shown = []
    for _ in range(4):
        acts.next_evidence()
        shown.append(session.state.choices.layer)
    assert shown == [SecondOpinion.BY_T1C, SecondOpinion.BY_FLAIR, None, SecondOpinion.BY_T1C]
    assert session.state.choices.overlay is Overlay.MAP
    (layer,) = resolve(session.state).scene.maps
    assert layer.choice == LayerChoice(Region.WT, SecondOpinion.BY_T1C)


def test_a_map_that_failed_its_checks_does_not_withhold_the_evidence(session):
    checks = {r: replace(c, reliable=False) for r, c in session.state.analysis.maps.checks.items()}
    analysis = session.state.analysis
    analysis = replace(analysis, maps=replace(analysis.maps, checks=checks))
    session.analysed(FakeResult(analysis), session.state.overlays)
    session.choose_overlay(Overlay.MAP)
    assert resolve(session.state).scene.maps == ()
    session.choose_layer(SecondOpinion.BY_FLAIR)
    screen = resolve(session.state)
    assert len(screen.scene.maps) == 1
    assert "exact" in screen.maps.verdict.text


def test_the_first_layer_reports_where_it_attended(session, asked):
    ViewActs(session).toggle_first_layer()
    assert session.state.choices.layer == 0
    view = layer_view(asked, asked.analysis.prepared, LayerChoice(Region.WT, 0))
    assert "First layer: 100% in candidates, 0% opposite them" in view.statistics
    ViewActs(session).toggle_first_layer()
    assert session.state.choices.layer is None


def test_a_result_that_was_reopened_without_them_says_how_to_get_them(session, analysis):
    reopened = SimpleNamespace(analysis=analysis, trace=None, engine=None)
    session.analysed(reopened, overlays_of(analysis))
    ViewActs(session).next_evidence()
    assert "Analyse again" in session.state.message
    session.notify("")
    ViewActs(session).toggle_first_layer()
    assert "Analyse again" in session.state.message
    session.notify("")
    bare = replace(overlays_of(analysis), attention={})
    session.analysed(reopened, bare)
    ViewActs(session).next_evidence()
    assert session.state.message == "", "an arm without maps says nothing of maps"


def test_a_key_of_a_map_that_is_not_there_says_so(session, analysis):
    """It was ignored in silence: without evidence or layers, and with preliminary candidates."""
    without = replace(analysis, volumes=replace(analysis.volumes, evidence=None))
    session.analysed(
        SimpleNamespace(analysis=without, trace=None, engine=object()), overlays_of(without)
    )
    for act in (ViewActs(session).next_evidence, ViewActs(session).toggle_first_layer):
        session.notify("")
        act()
        assert session.state.message == "The network that made this result has no such map."
    session.close()
    ViewActs(session).toggle_first_layer()
    assert session.state.message == "No study is open."


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


def test_attention_is_shared_out_among_places(analysis):
    from lesionlens.analysis.explain.search import masks_of, shares

    prepared = analysis.prepared
    grid = prepared.working
    at = [tuple(np.rint(grid.to_voxel(p)).astype(int)) for p in (LEFT, RIGHT)]
    marked, beside = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    marked[at[0]], beside[at[1]] = True, True
    masks = masks_of(prepared, marked, beside)
    weights = np.zeros(grid.shape, np.float32)
    weights[at[0]], weights[at[1]], weights[masks.opposite] = 6, 3, 1
    found = shares(weights, masks)
    assert (found.candidates, found.contralateral, found.dismissed) == pytest.approx(
        (0.6, 0.1, 0.3)
    )
    across = grid.to_mm(np.argwhere(masks.opposite)[0])
    assert across[0] == pytest.approx(-LEFT[0], abs=6)
    assert np.allclose(across[1:], grid.to_mm(at[0])[1:])
