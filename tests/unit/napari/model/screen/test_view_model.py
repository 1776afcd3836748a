"""All that is painted follows from the state; what widgets and views import says so."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from tests.helpers.analysed_head import FakeResult
from tests.helpers.file_search import files_below

import lesionlens.napari
from lesionlens.base.labels import MrSequence, Source
from lesionlens.base.records.analysis import Original
from lesionlens.base.records.study import QualityCheck
from lesionlens.engines.bundle.engine import ATTENTION, GRAD_CAM, METHODS
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.choices import Overlay, SecondOpinion
from lesionlens.napari.model.choices.views import Layout, WindowPreset
from lesionlens.napari.model.overlays.maps import map_name, overlays_of
from lesionlens.napari.model.screen.view_model import view_model_of
from lesionlens.napari.model.state.events import PositionVisited, WindowPresetChosen
from lesionlens.napari.model.state.state import Edit, State
from lesionlens.napari.model.wording.edits import outline_text

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


def test_the_progress_names_candidates_that_imported_objects_omitted(session):
    """The report counted them, the panel did not: "2 of 2 reviewed" beside "2 of 5"."""
    assert view_model_of(session.state).screen.signature.progress == "0 of 2 reviewed"
    analysis = session.state.analysis
    imported = replace(
        session.state, analysis=replace(analysis, run=replace(analysis.run, omitted=3))
    )
    progress = view_model_of(imported).screen.signature.progress
    assert progress == "0 of 2 reviewed · 3 more not in the DICOM objects"


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
    read = ("name it under “change…”",)
    assert view_model_of(made.state).screen.study.notices == read
    made.analysed(FakeResult(analysis), overlays_of(analysis))
    told = (*read, *analysis.prepared.notices, "Is it a mask of this study?", "4 ml may enhance")
    assert view_model_of(made.state).screen.study.notices == told


def test_a_layer_that_is_chosen_and_not_there_is_missing(session):
    session.choose_overlay(Overlay.MAP)
    assert view_model_of(session.state).missing_map is None
    session.choose_layer(0)
    missing = view_model_of(session.state).missing_map
    assert missing is not None
    assert missing.layer == 0
    assert view_model_of(session.state).map.hint.startswith("Being computed")


def test_going_to_the_same_candidate_again_happens_again(session):
    seen = []
    session.happened.connect(seen.append)
    session.go_to_candidate(2)
    session.go_to_candidate(2)
    two = session.state.focused
    assert seen == [PositionVisited(two.centroid_mm, two.bounding_box_mm)] * 2


def test_the_same_preset_asked_for_again_happens_again(session):
    seen = []
    session.happened.connect(seen.append)
    acts = ViewActs(session)
    acts.apply_window_preset(WindowPreset.BRAIN)
    acts.apply_window_preset(WindowPreset.BRAIN)
    assert seen == [WindowPresetChosen(WindowPreset.BRAIN)] * 2


def test_a_check_of_the_sequences_is_called_so_where_none_is_missing(result):
    """The panel read "✓ missing"."""
    made, analysis = ReviewSession(reader="A. Reader"), result.analysis
    quality = (QualityCheck("missing", passed=True, message="All four sequences are present."),)
    findings = replace(analysis.findings, quality=quality)
    made.open(analysis.study)
    checked = replace(analysis, findings=findings)
    made.analysed(FakeResult(checked), overlays_of(checked))
    assert [one.text for one in view_model_of(made.state).screen.study.quality] == ["sequences"]


@pytest.mark.parametrize("source", [Source.NETWORK, Source.READER])
def test_the_networks_outline_is_named_where_there_is_one(session, source):
    """Of a candidate that a reader had added it was named too."""
    analysis = session.state.analysis
    first, *others = analysis.findings.candidates
    candidates = (replace(first, source=source), *others)
    findings = replace(analysis.findings, candidates=candidates)
    state = replace(session.state, edit=Edit(first.id, first.tracking_uid))
    words = outline_text(state, replace(analysis, findings=findings), first)
    assert ("White: the network's" in words) is (source is Source.NETWORK)
    assert "2 oedema" in words


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("cross-attention in the last layer", "Attention"),
        ("", "Attention"),
        (METHODS[ATTENTION], "Attention"),
        (METHODS[GRAD_CAM], "Grad-CAM"),
        ("occlusion", "Map"),
    ],
)
def test_a_map_is_called_by_what_its_engine_states(analysis, method, name):
    assert map_name(replace(analysis, maps=replace(analysis.maps, method=method))) == name
    assert map_name(replace(analysis, maps=None)) == "Attention"


def test_a_grad_cam_is_not_offered_as_the_second_opinion_on_itself(session, analysis):
    """The list of layers had the map that was shown once more."""
    assert SecondOpinion.GRADIENTS in session.state.second_opinions
    maps = replace(analysis.maps, method=METHODS[GRAD_CAM])
    made = replace(analysis, maps=maps)
    session.analysed(FakeResult(made), overlays_of(made))
    assert SecondOpinion.GRADIENTS not in session.state.second_opinions


def test_a_map_that_is_not_attention_is_labelled_with_its_method(session, analysis):
    """Maps of a bundle without attention, which are Grad-CAM, were shown as attention."""
    session.choose_overlay(Overlay.MAP)
    assert "Grad-CAM" not in view_model_of(session.state).map.hint
    method = METHODS[GRAD_CAM]
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
