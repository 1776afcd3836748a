"""All that is painted follows from the state; what widgets and views import says so."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from tests.helpers.analysed_head import FakeResult
from tests.helpers.file_search import files_below

import lesionlens.napari
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Original
from lesionlens.base.records.study import QualityCheck
from lesionlens.engines.bundle import ATTENTION, GRAD_CAM
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.overlays.maps import map_name, overlays_of
from lesionlens.napari.model.screen.view_model import view_model_of
from lesionlens.napari.model.state.events import PositionVisited
from lesionlens.napari.model.state.state import State

HANDED_MODELS = ("widgets", "viewer")


def files():
    root = Path(lesionlens.napari.__file__).parent
    return [path for name in HANDED_MODELS for path in files_below(root / name, "*.py")]


def test_what_paints_is_handed_models_and_never_the_state():
    for path in files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert "State" not in {alias.name for one in imports for alias in one.names}, path.name


def test_an_empty_state_paints_no_view():
    model = view_model_of(State())
    assert not model.board.opened
    assert model.board.tiles == ()
    assert model.board.slices(model.board.scene.choices.plane) is None


def test_views_and_panel_follow_from_one_state(session):
    session.choose_views(layout=Layout.FOUR)
    session.go_to_candidate(2)
    model = view_model_of(session.state)
    assert {tile.sequence for tile in model.board.tiles} == set(session.state.study.series)
    assert model.board.scene is model.screen.scene
    assert model.board.scene.focus is session.state.focused
    shown = session.state.study.series[MrSequence.T1C]
    assert model.board.series[MrSequence.T1C] == shown.description


def test_notices_of_the_analysis_are_shown_once_it_is(result):
    """'Is it a mask of this study?' stood in the report alone, which is written after signing."""
    made, analysis = ReviewSession(reader="A. Reader"), result.analysis
    failed = QualityCheck("motion", passed=False, message="Slices jump")
    quality = (*analysis.findings.quality, failed)
    mine = replace(analysis.findings, notices=("Candidate 1 was redrawn by a reader",))
    found = replace(analysis.findings, notices=("4 ml may enhance",), quality=quality)
    run = replace(analysis.run, notices=("Is it a mask of this study?", "Slices jump"))
    study = replace(
        analysis.study, notices=("name it with --t2 FILE or in the sequence list of the panel",)
    )
    analysis = replace(analysis, study=study, findings=mine, run=run)
    analysis = replace(analysis, original=Original(analysis.volumes.labels, found))
    made.open(study)
    read = study.notices
    assert view_model_of(made.state).screen.study.notices == read
    made.analysed(FakeResult(analysis), overlays_of(analysis))
    told = (*read, *analysis.prepared.notices, "Is it a mask of this study?", "4 ml may enhance")
    assert view_model_of(made.state).screen.study.notices == told


def test_going_to_the_same_candidate_again_happens_again(session):
    seen = []
    session.happened.connect(seen.append)
    session.go_to_candidate(2)
    session.go_to_candidate(2)
    two = session.state.focused
    assert seen == [PositionVisited(two.centroid_mm, two.bounding_box_mm)] * 2


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("cross-attention in the last layer", "Attention"),
        ("", "Attention"),
        (ATTENTION, "Attention"),
        (GRAD_CAM, "Grad-CAM"),
        ("occlusion", "Map"),
    ],
)
def test_a_map_is_called_by_what_its_engine_states(analysis, method, name):
    assert map_name(replace(analysis, maps=replace(analysis.maps, method=method))) == name
    assert map_name(replace(analysis, maps=None)) == "Attention"


def test_a_map_that_is_not_attention_is_labelled_with_its_method(session, analysis):
    """Maps of a bundle without attention, which are Grad-CAM, were shown as attention."""
    session.choose_overlay(Overlay.MAP)
    assert "Grad-CAM" not in view_model_of(session.state).map.hint
    method = GRAD_CAM
    made = replace(analysis, maps=replace(analysis.maps, method=method))
    session.analysed(FakeResult(made), overlays_of(made))
    session.choose_overlay(Overlay.MAP)
    shown = view_model_of(session.state)
    assert shown.map.hint.startswith(f"{method}.")
    assert [layer.title for layer in shown.board.scene.maps] == ["Grad-CAM · whole tumour"]
    assert "attention" not in shown.map.view.meaning
    session.go_to_candidate(1)
    facts = view_model_of(session.state).screen.focus.facts
    assert "Grad-CAM peaks inside" in [fact.text for fact in facts]
    session.choose_overlay(Overlay.CONTOUR)
    assert method not in view_model_of(session.state).map.hint
