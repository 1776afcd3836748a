"""The panel in a real viewer: what a reader does, and what must be seen then."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from napari import current_viewer
from napari.layers import Labels, Layer
from napari.settings import get_plugin_settings
from napari.utils.colormaps.standardize_color import transform_color
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSlider
from tests.gui.conftest import LEFT, RIGHT
from tests.gui.window import (
    PATIENCE_MS,
    answer,
    canvas,
    control,
    names,
    reads,
    visible,
    wait,
)
from tests.helpers.analysed_head import FakeResult
from tests.phantoms.analysis import make_analysis

from lesionlens.analysis.findings.edits import outline_of
from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, Region, ReviewState
from lesionlens.base.records.review import Review
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.reading.open import open_study
from lesionlens.napari.colours import BOX_COLOUR
from lesionlens.napari.commands.table import KEY_COMMANDS
from lesionlens.napari.controllers import current_read
from lesionlens.napari.loading import layers_of
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen.drawing import ORIGINAL_COLOUR
from lesionlens.napari.model.wording.reads import ON_PREVIOUS_RESULT
from lesionlens.napari.model.wording.review_signs import STATE_COLOURS
from lesionlens.napari.preferences import read_preferences, store_reader
from lesionlens.results.export.exporter import save
from lesionlens.results.review.reopen import read_result
from lesionlens.site.worklist import site_policy
from lesionlens.testing import make_patient

UNREVIEWED = STATE_COLOURS[ReviewState.UNREVIEWED]


def drawn(panel, colour):
    """Return the (N, 2) points of the lines of one colour on napari's canvas."""
    strokes = panel.views.lines.strokes
    if strokes is None:
        return np.zeros((0, 2))
    same = np.abs(strokes.colours - transform_color(colour)[0]).max(axis=1) < 1e-3
    return strokes.points[same]


def test_an_empty_panel_says_how_to_open_a_scan_and_a_worker_does_it(
    panel, analysis, qtbot, tmp_path: Path
):
    assert panel.empty.isVisibleTo(panel)
    assert not panel.study.isVisibleTo(panel)
    assert not panel.candidates.isVisibleTo(panel)
    panel.actions_.open(tmp_path)  # no study
    settled(panel, qtbot)
    assert panel.session.state.problem.next_step
    assert panel.actions_.open(analysis.study.root)
    assert panel.session.state.activity is not None
    settled(panel, qtbot)
    assert panel.session.state.problem is None
    assert names() == {"T1", "T2", "FLAIR", "T1c"}
    assert not panel.empty.isVisibleTo(panel)


def test_a_study_opens_with_its_sequences_one_key_away_and_no_overlay(loaded):
    viewer = current_viewer()
    assert [layer.name for layer in viewer.layers] == ["T1", "T2", "FLAIR", "T1c"]
    assert visible() == {"T1c"}
    assert loaded.study.isVisibleTo(loaded)
    assert not loaded.candidates.isVisibleTo(loaded)
    for layer in viewer.layers:
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
        assert layer.axis_labels == ("left–right", "back–front", "bottom–top")
    loaded.actions_.next_sequence()
    assert visible() == {"T2"}
    control(loaded.study, "FLAIR").click()
    assert visible() == {"FLAIR"}


def test_the_analysis_keeps_the_unaided_read_until_the_reader_asks(reviewed):
    assert reviewed.candidates.model.rowCount() == 2
    assert visible() == {"T1c"}
    reviewed.actions_.toggle_overlay()
    assert visible() == {"T1c"}
    reviewed.session.go_to_candidate(1)
    assert len(drawn(reviewed, UNREVIEWED))
    reviewed.actions_.next_overlay()
    assert visible() == {"T1c", "Attention · whole tumour"}
    reviewed.commands.run("hold_hidden", True)
    assert visible() == {"T1c"}
    reviewed.commands.run("hold_hidden", False)
    assert visible() == {"T1c", "Attention · whole tumour"}
    reviewed.actions_.toggle_overlay()
    assert visible() == {"T1c"}
    assert not len(drawn(reviewed, UNREVIEWED))


def test_a_click_on_a_row_goes_to_the_candidate(reviewed, analysis):
    second = analysis.findings.candidates[1]
    reviewed.candidates.table.setCurrentIndex(reviewed.candidates.model.index(1, 1))
    viewer = current_viewer()
    np.testing.assert_allclose(viewer.dims.point, second.centroid_mm, atol=4.0)
    assert reviewed.session.state.choices.candidate == second.id
    assert len(drawn(reviewed, BOX_COLOUR))


def test_axial_slices_show_the_patients_right_on_the_left(reviewed):
    viewer = current_viewer()
    camera = viewer.scene.camera
    assert tuple(viewer.dims.order) == (2, 1, 0)
    assert tuple(str(axis) for axis in camera.orientation) == ("away", "up", "left")
    texts = {
        name: viewer.canvas.overlays[name].text
        for name in viewer.canvas.overlays
        if name.startswith("lesionlens_")
    }
    assert texts["lesionlens_middle_left"] == "R"
    assert texts["lesionlens_top_center"] == "A"
    reviewed.session.choose_plane(Plane.SAGITTAL)
    assert viewer.canvas.overlays["lesionlens_middle_left"].text == "A"
    assert viewer.canvas.overlays["lesionlens_top_center"].text == "S"


def test_the_contour_lies_where_the_lesion_is(reviewed):
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("accept")
    for plane, axes in ((Plane.AXIAL, (0, 1)), (Plane.CORONAL, (0, 2)), (Plane.SAGITTAL, (1, 2))):
        reviewed.session.choose_plane(plane)
        around = drawn(reviewed, STATE_COLOURS[ReviewState.ACCEPTED])
        middle = (around.min(axis=0) + around.max(axis=0)) / 2
        np.testing.assert_allclose(middle, np.asarray(LEFT)[list(axes)], atol=3.0)


def test_decisions_are_shown_undone_and_counted(reviewed):
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("accept")
    assert reviewed.candidates.model.rows[0].state is ReviewState.ACCEPTED
    assert "1 of 2 reviewed" in reads(reviewed)
    reviewed.commands.run("undo")
    assert "0 of 2 reviewed" in reads(reviewed)
    reviewed.commands.run("redo")
    assert "1 of 2 reviewed" in reads(reviewed)


def test_region_and_opacity_reach_the_map(reviewed):
    reviewed.session.choose_overlay(Overlay.MAP)
    box = control(reviewed.attention, "Region whose outline")
    box.setCurrentIndex(box.findData(Region.ET))
    box.activated.emit(box.currentIndex())
    reviewed.attention.findChild(QSlider).setValue(35)
    layer = current_viewer().layers["Attention · enhancing tumour"]
    assert layer.opacity == pytest.approx(0.35)
    expected = reviewed.session.state.overlays.attention[Region.ET]
    assert layer.data is expected.data


def test_the_controls_of_maps_and_threshold_change_what_is_shown(reviewed):
    session, block = reviewed.session, reviewed.attention
    for name in ("contour", "map", "off"):
        control(block, name).click()
        assert session.state.choices.overlay is Overlay(name)
    control(block, "show it anyway").setChecked(False)
    control(block, "show it anyway").click()
    assert session.state.choices.unreliable
    slider = next(
        one
        for one in reviewed.candidates.findChildren(QSlider)
        if one.accessibleName().startswith("Threshold")
    )
    slider.setValue(100)
    assert session.state.choices.threshold == 1.0


def test_a_failure_is_reported_in_the_panel_and_loses_nothing(reviewed, qtbot, caplog):
    def task(context):
        raise UnusableInputError(found="no scan", expected="a scan", next_step="Choose another")

    def defect(context):
        raise ZeroDivisionError("by chance")

    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("reject")
    reviewed.jobs.start("Opening", task, lambda _: None)
    wait(qtbot, reviewed)
    assert reviewed.problem.isVisibleTo(reviewed)
    assert "no scan" in reads(reviewed)
    assert reviewed.candidates.model.rows[0].state is ReviewState.REJECTED
    control(reviewed.problem, "Back").click()
    assert not reviewed.problem.isVisibleTo(reviewed)
    reviewed.jobs.start("Opening", defect, lambda _: None)
    settled(reviewed, qtbot)
    assert "ZeroDivisionError" in reviewed.session.state.problem.details


def test_cancel_stops_between_steps_and_says_so(loaded, qtbot):
    begun = threading.Event()

    def task(context):
        begun.set()
        for _ in range(1000):
            context.check("a test")
            context.cancel.wait(0.01)

    loaded.jobs.start("Analysing", task, lambda _: None)
    assert begun.wait(PATIENCE_MS / 1000)
    control(loaded.run, "Cancel").click()
    assert loaded.session.state.activity.stopping
    wait(qtbot, loaded)
    assert "Nothing was changed" in loaded.session.state.message


def test_a_saved_result_is_shown_again_with_its_review(reviewed, analysis, qtbot, tmp_path: Path):
    reviewed.session.go_to_candidate(2)
    reviewed.commands.run("reject")
    out = tmp_path / "out"
    assert reviewed.actions_.export(out)
    wait(qtbot, reviewed)
    assert reviewed.session.state.problem is None
    assert "out" in reviewed.session.state.message
    saved = read_result(out)
    uid = analysis.findings.candidates[1].tracking_uid
    assert saved.review.state_of(uid) is ReviewState.REJECTED


def test_nothing_is_exported_into_the_study(reviewed, analysis, qtbot):
    root = analysis.study.root
    before = sorted(root.rglob("*"))
    assert reviewed.actions_.export(root / "out")
    wait(qtbot, reviewed)
    assert "within the study" in reviewed.session.state.problem.found
    assert "--out" not in reviewed.session.state.problem.next_step
    assert sorted(root.rglob("*")) == before


def test_an_export_replaces_no_result_of_another_study(reviewed, analysis, qtbot, tmp_path: Path):
    """Nothing told a reader who chose the last patient's folder again that it was replaced."""
    out = tmp_path / "out"
    other = replace(analysis, run=replace(analysis.run, inputs=(("t1c.nii.gz", "f" * 64),)))
    save(other, out)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert reviewed.actions_.export(out)
    wait(qtbot, reviewed)
    problem = reviewed.session.state.problem
    assert problem.found == "the result of another study named 'out' there"
    assert problem.next_step.startswith("Choose another folder")
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert reviewed.actions_.export(tmp_path / "new")
    wait(qtbot, reviewed)
    assert reviewed.session.state.problem is None
    assert reviewed.actions_.export(tmp_path / "new"), "the same study replaces its own"
    wait(qtbot, reviewed)
    assert reviewed.session.state.problem is None


def test_what_was_decided_during_an_export_is_reported_to_be_missing_from_it(
    reviewed, qtbot, tmp_path: Path
):
    """It said "Saved" as the signature was shown that the folder did not have."""
    reviewed.session.go_to_candidate(1)
    assert reviewed.actions_.export(tmp_path / "out")
    reviewed.commands.run("reject")
    wait(qtbot, reviewed)
    assert "does not contain your decisions since then" in reviewed.session.state.message
    assert reviewed.actions_.export(tmp_path / "out")
    wait(qtbot, reviewed)
    assert reviewed.session.state.message == "Saved in out."


def test_an_export_that_is_cancelled_writes_nothing(reviewed, qtbot, tmp_path: Path):
    assert reviewed.actions_.export(tmp_path / "out")
    reviewed.jobs.stop()
    wait(qtbot, reviewed)
    assert reviewed.session.state.message == "Stopped. Nothing was changed."
    assert not (tmp_path / "out").exists()


def test_what_an_export_left_out_is_reported_in_the_panel(
    reviewed, qtbot, tmp_path: Path, monkeypatch
):
    def build(*_):
        raise ValueError("no glyph of this name")

    monkeypatch.setattr("lesionlens.results.export.slicer.SlicerExporter.write", build)
    assert reviewed.actions_.export(tmp_path / "out")
    wait(qtbot, reviewed)
    reported = reviewed.session.state.message
    assert reviewed.session.state.problem is None
    assert "Saved in out." in reported
    assert "slicer was left out: " in reported


def test_a_result_without_its_study_says_to_open_it_first(panel, tmp_path: Path):
    assert not panel.actions_.reopen(tmp_path)
    assert "Open" in panel.session.state.problem.next_step


@pytest.fixture
def own_locations(tmp_path: Path, monkeypatch):
    """Where studies lie is remembered in the test's own folder."""
    monkeypatch.setattr(
        "lesionlens.analysis.followup.study_locations.location_file",
        lambda: tmp_path / "studies.json",
    )


def test_a_result_opens_with_its_study_where_that_is_remembered(
    panel, analysis, qtbot, tmp_path: Path, own_locations
):
    save(analysis, tmp_path / "out")
    study_locations.remember(analysis.run.inputs, analysis.study)
    panel.actions_.open_dropped((tmp_path / "out",))
    qtbot.waitUntil(lambda: panel.session.state.analysis is not None, timeout=PATIENCE_MS)
    assert panel.session.state.problem is None
    assert panel.session.state.result.engine is None
    assert panel.session.state.study.root == analysis.study.root
    found = panel.session.state.analysis.findings.candidates
    assert [one.tracking_uid for one in found] == [
        one.tracking_uid for one in analysis.findings.candidates
    ]


def test_a_reopened_result_shows_the_series_that_it_was_made_of(
    panel, analysis, qtbot, tmp_path: Path
):
    """With a T1c that was added later; the images are those acquired, not the prepared ones."""
    place = tmp_path / "study"
    shutil.copytree(analysis.study.root, place)
    whole = open_study(place)
    added = whole.series[MrSequence.T1C].files[0].path
    added.rename(tmp_path / "aside.nii.gz")
    less = open_study(place)
    save(make_analysis(make_patient(spacing_mm=4.0), less), tmp_path / "out")
    (tmp_path / "aside.nii.gz").rename(added)
    assert panel.actions_.open(place)
    wait(qtbot, panel)
    assert MrSequence.T1C in panel.session.state.study.series
    assert panel.actions_.reopen(tmp_path / "out")
    qtbot.waitUntil(lambda: panel.session.state.analysis is not None, timeout=PATIENCE_MS)
    state = panel.session.state
    assert set(state.study.series) == set(MrSequence) - {MrSequence.T1C}
    assert state.analysis.study is state.study
    assert state.problem is None
    shown = [layer.metadata.get("lesionlens", {}) for layer in panel.viewer.layers]
    owners = {one["sequence"]: one["study"] for one in shown if "sequence" in one}
    assert set(owners) == {sequence.value for sequence in state.study.series}
    assert all(study is state.study for study in owners.values())
    assert all("acquired" in one for one in shown if "sequence" in one)  # not resampled
    assert state.request is not None


def test_what_was_exported_in_the_window_opens_again_by_itself(
    reviewed, qtbot, tmp_path: Path, own_locations
):
    assert reviewed.actions_.export(tmp_path / "out")
    wait(qtbot, reviewed)
    study = reviewed.session.state.study
    inputs = reviewed.session.state.analysis.run.inputs
    assert study_locations.recall(inputs) == (study.root.absolute(), study.uid)


def test_opening_through_napari_shows_layers_and_the_panel(
    viewer, make_study, qtbot, monkeypatch, tmp_path
):
    """`viewer.open` returns the layers themselves; the panel follows when the window is idle."""
    layers = viewer.open(str(make_study(dicom=True)), plugin="lesionlens")
    assert {layer.name for layer in layers} == {"T1", "T1c", "T2", "FLAIR"}
    qtbot.waitUntil(lambda: bool(viewer.window.dock_widgets), timeout=PATIENCE_MS)
    widget = next(iter(viewer.window.dock_widgets.values()))
    assert widget.session.state.study.name == "study"


def test_keys_pressed_on_the_canvas_reach_the_review(reviewed, qtbot):
    qtbot.keyClick(canvas(), Qt.Key.Key_N)
    assert reviewed.session.state.choices.candidate == 1
    qtbot.keyClick(canvas(), Qt.Key.Key_D)
    assert reviewed.candidates.model.rows[0].state is ReviewState.DEFERRED
    qtbot.keyClick(canvas(), Qt.Key.Key_T)
    assert visible() == {"T1c"}


def test_closing_the_panel_leaves_the_viewer_as_a_plain_one(reviewed):
    viewer = current_viewer()
    viewer.window.remove_dock_widget(reviewed)
    ours = [c for c in viewer.mouse_drag_callbacks if c.__module__.startswith("lesionlens")]
    assert not ours
    assert not {str(key) for key in viewer.keymap} & {key.shown_key for key in KEY_COMMANDS}
    viewer.layers.clear()


@pytest.mark.slow
def test_three_dimensions_show_the_brain_and_two_the_slices_again(reviewed):
    reviewed.session.go_to_candidate(1)
    viewer = current_viewer()
    viewer.dims.ndisplay = 3
    assert visible() == {"Brain", "Candidates"}
    brain = np.asarray(viewer.layers["Brain"].data)
    assert not brain[~reviewed.session.state.overlays.brain].any()
    viewer.dims.ndisplay = 2
    assert visible() == {"T1c"}
    assert len(drawn(reviewed, UNREVIEWED))


def test_a_result_never_lands_on_another_study(loaded, analysis, result, qtbot, monkeypatch):
    go_on = threading.Event()

    def lens(study, *, context, first):
        go_on.wait(PATIENCE_MS / 1000)
        return result

    monkeypatch.setattr(loaded.actions_.loaded_lens, "load", lambda device: lens)
    assert loaded.actions_.analyse()
    other = replace(analysis.study, name="another")
    for data in layers_of(other, SILENT):
        current_viewer().layers.append(Layer.create(*data))
    go_on.set()
    wait(qtbot, loaded)
    assert loaded.session.state.study is other
    assert loaded.session.state.analysis is None
    assert "discarded" in loaded.session.state.message


def test_plain_layers_of_a_study_that_was_left_are_hidden_and_say_so(reviewed, analysis):
    """The segmentation of one patient lay beside the images of another, as *segmentation*."""
    reviewed.actions_.add_layers()
    reviewed.session.suspend()
    reviewed.session.restore_suspended()
    assert "segmentation" in visible()
    for data in layers_of(replace(analysis.study, name="another"), SILENT):
        current_viewer().layers.append(Layer.create(*data))
    assert "segmentation (earlier study)" in names()
    assert visible() == {"T1c"}


def test_what_a_user_drew_in_a_copy_of_an_image_is_never_removed(reviewed, analysis):
    """A duplicate that was converted to labels and painted went with the images of its study."""
    layers = current_viewer().layers
    data, keywords, _ = layers["T1c"].as_layer_data_tuple()
    plain = {key: keywords[key] for key in ("metadata", "scale", "translate", "axis_labels")}
    mine = Labels(np.zeros(data.shape, np.uint8), name="mine", **plain)
    layers.append(mine)
    mine.data[4:6, 4:6, 4:6] = 3
    for layer in layers_of(replace(analysis.study, name="another"), SILENT):
        layers.append(Layer.create(*layer))
    assert mine in layers
    assert mine.data.max() == 3
    assert not mine.visible
    assert "mine (earlier study)" in names()


def test_a_panel_that_is_closed_leaves_the_images_alone(reviewed):
    """The outline being drawn stayed, visible, and what was painted on it was never kept."""
    reviewed.session.choose_overlay(Overlay.MAP)
    reviewed.session.go_to_candidate(1)
    reviewed.views.settle()
    reviewed.commands.run("edit_outline")
    assert {layer.metadata["lesionlens"].get("role") for layer in current_viewer().layers} == {
        None, "attention", "edit",
    }  # fmt: skip
    reviewed.release()
    assert all("sequence" in layer.metadata["lesionlens"] for layer in current_viewer().layers)
    assert visible() == {"T1c"}


def test_a_sequence_made_visible_in_napari_is_the_one_that_is_named(reviewed):
    """The picture showed FLAIR and was named T1c."""
    layers = reviewed.viewer.layers
    layers["FLAIR"].visible = True
    assert reviewed.session.state.choices.sequence is MrSequence.FLAIR
    assert visible() == {"FLAIR"}
    reviewed.session.choose_views(swapped=True)
    assert visible() == {"T1c"}
    assert reviewed.session.state.choices.sequence is MrSequence.FLAIR
    reviewed.session.choose_views(swapped=False)
    assert visible() == {"FLAIR"}


def test_a_reason_is_kept_before_napari_opens_another_study(reviewed, analysis):
    reviewed.session.go_to_candidate(1)
    uid = reviewed.session.state.focused.tracking_uid
    reviewed.commands.run("accept")
    reviewed.session.type_reason("typed late")
    shown, other = reviewed.session.state.result.analysis, replace(analysis.study, name="another")
    for data in layers_of(other, SILENT):
        current_viewer().layers.append(Layer.create(*data))
    assert reviewed.session.state.study is other
    reads_ = reviewed.actions_.read_controller
    assert reads_.decision_log.recovered(shown)[0].of(uid).reason == "typed late"


def test_a_reason_that_is_typed_as_it_was_makes_no_decision(reviewed, monkeypatch):
    """Another reader's decision became that of the reader who had looked at its reason."""
    reviewed.session.go_to_candidate(1)
    uid = reviewed.session.state.focused.tracking_uid
    monkeypatch.setattr(current_read, "preferred_reader", lambda: "A. Reader")
    reviewed.session.type_reason("vessel")
    reviewed.commands.run("reject")
    events = reviewed.session.state.review.events
    monkeypatch.setattr(current_read, "preferred_reader", lambda: "B. Reader")
    for reason in ("vessels", "vessel "):
        reviewed.session.type_reason(reason)
    reviewed.commands.run("next_candidate")
    assert reviewed.session.state.review.events == events
    assert reviewed.session.state.review.decision_of(uid).reader == "A. Reader"
    reviewed.commands.run("previous_candidate")
    reviewed.session.type_reason("")
    reviewed.commands.run("next_candidate")
    assert reviewed.session.state.review.of(uid).reason is None


def test_a_measured_outline_never_lands_on_another_study(reviewed, analysis, qtbot):
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    editor = reviewed.actions_.editor
    assert editor.change(np.where(editor.drawn()[1] == 2, 0, editor.drawn()[1]))
    reviewed.commands.run("finish_outline")
    for thread in threading.enumerate():
        if thread.name == "lesionlens-job":
            thread.join()  # measured, and not shown yet
    other = replace(analysis.study, name="another")
    for data in layers_of(other, SILENT):
        current_viewer().layers.append(Layer.create(*data))
    wait(qtbot, reviewed)
    assert reviewed.session.state.study is other
    assert reviewed.session.state.analysis is None
    assert not reviewed.session.state.review.events


def test_preferences_changed_while_a_study_is_open_are_shown_at_once(loaded):
    settings = get_plugin_settings("lesionlens")
    settings.review.opacity = 0.3
    assert loaded.session.defaults.opacity == 0.3


def test_the_analysis_runs_in_a_worker_and_fills_the_table(loaded, result, qtbot, monkeypatch):
    here = threading.current_thread()
    ran = []

    def lens(study, *, context, first):
        ran.append(threading.current_thread())
        context.progress("focus", 0.5)
        return result

    monkeypatch.setattr(loaded.actions_.loaded_lens, "load", lambda device: lens)
    control(loaded.run, "Analyse").click()
    assert loaded.session.state.activity is not None
    wait(qtbot, loaded)
    assert ran
    assert ran[0] is not here
    assert loaded.candidates.model.rowCount() == 2
    assert visible() == {"T1c"}


def paint(panel, centre, label):
    layer = next(x for x in current_viewer().layers if x.name.startswith("Outline of candidate"))
    place = np.rint(layer.world_to_data(centre)).astype(int)
    layer.brush_size = 5
    layer.paint(tuple(place), label)
    return layer


def settled(panel, qtbot):
    wait(qtbot, panel)


def test_a_candidate_is_redrawn_measured_undone_and_kept(reviewed, qtbot):
    reviewed.session.go_to_candidate(1)
    before = reviewed.candidates.model.rows[0]
    components = reviewed.session.state.overlays.components
    reviewed.commands.run("edit_outline")
    layer = paint(reviewed, np.add(LEFT, [0, 40.0, 0]), 3)
    assert layer.mode == "paint"
    assert set(np.unique(np.asarray(layer.data)[components == 2])) == {0}
    reviewed.commands.run("edit_outline")
    settled(reviewed, qtbot)
    after = reviewed.candidates.model.rows[0]
    assert layer not in current_viewer().layers
    assert current_viewer().layers.selection.active.name == "T1c"
    assert (after.state, after.score) == (ReviewState.EDITED, before.score)
    assert after.volume != before.volume
    assert "network drew" in reads(reviewed.candidates)
    assert len(drawn(reviewed, ORIGINAL_COLOUR))
    now = reviewed.session.state.overlays.components
    assert np.count_nonzero(now == 1) > np.count_nonzero(components == 1)
    analysis = reviewed.session.state.analysis
    kept = reviewed.actions_.read_controller.decision_log.recovered(analysis)[0]
    assert kept.outline_of(analysis.findings.candidates[0].tracking_uid) is not None
    reviewed.commands.run("undo")
    settled(reviewed, qtbot)
    assert reviewed.candidates.model.rows[0].volume == before.volume
    assert not len(drawn(reviewed, ORIGINAL_COLOUR))
    reviewed.commands.run("redo")
    settled(reviewed, qtbot)
    assert reviewed.candidates.model.rows[0].volume == after.volume


def test_keeping_an_outline_leaves_the_window_alive_and_can_be_cancelled(
    reviewed, qtbot, monkeypatch
):
    """Nothing may happen twice meanwhile; a cancelled one goes on where it was."""
    go_on, threads = threading.Event(), []

    def slow(*given):
        threads.append(threading.current_thread())
        go_on.wait(PATIENCE_MS / 1000)
        return outline_of(*given)

    monkeypatch.setattr("lesionlens.napari.controllers.review_controller.outline_of", slow)
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    layer = paint(reviewed, np.add(LEFT, [0, 40.0, 0]), 3)
    drawn = np.asarray(layer.data).copy()
    review = reviewed.session.state.review
    reviewed.commands.run("edit_outline")
    assert reviewed.session.state.activity.name == "Keeping the outline"
    assert not layer.editable
    before = reviewed.session.state.choices.sequence
    reviewed.commands.run("next_sequence")  # the window is alive
    assert reviewed.session.state.choices.sequence is not before
    reviewed.commands.run("accept")
    reviewed.commands.run("undo")
    control(reviewed.run, "Cancel").click()
    go_on.set()
    settled(reviewed, qtbot)
    assert reviewed.session.state.review == review
    assert reviewed.session.state.editing == 1
    assert (layer.editable, layer.mode) == (True, "paint")
    np.testing.assert_array_equal(layer.data, drawn)
    reviewed.commands.run("accept")
    settled(reviewed, qtbot)
    assert reviewed.candidates.model.rows[0].state is ReviewState.ACCEPTED
    assert reviewed.session.state.editing is None
    assert threading.current_thread() not in threads


def test_strokes_that_cannot_be_stored_are_reported_until_they_can(reviewed, tmp_path):
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    drafts = tmp_path / "reviews"
    drafts.write_text("a file in place of the folder")
    layer = reviewed.viewer.layers.selection.active
    first, second = np.argwhere(np.asarray(layer.data) > 0)[:2]
    layer.data_setitem(tuple(first[:, None]), 0)
    assert "strokes cannot be saved" in reviewed.session.state.problem.found
    drafts.unlink()
    layer.data_setitem(tuple(second[:, None]), 0)
    assert reviewed.session.state.problem is None
    assert list(drafts.iterdir())
    reviewed.commands.run("discard_edit")


def test_an_edit_that_is_discarded_or_empty_changes_nothing(reviewed, qtbot):
    state = reviewed.session.state
    reviewed.session.go_to_candidate(2)
    reviewed.commands.run("edit_outline")
    paint(reviewed, RIGHT, 1)
    reviewed.commands.run("discard_edit")
    assert reviewed.session.state.review == state.review
    reviewed.commands.run("edit_outline")
    layer = paint(reviewed, RIGHT, 0)
    layer.data = np.zeros_like(layer.data)
    reviewed.commands.run("next_candidate")
    settled(reviewed, qtbot)
    assert reviewed.session.state.editing == 2
    assert "reject" in reviewed.session.state.problem.next_step.lower()
    assert reviewed.session.state.review == state.review


def test_strokes_are_taken_back_one_by_one_and_a_decision_ends_the_edit(reviewed, qtbot):
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    clean = np.asarray(reviewed.actions_.editor.drawn()[1]).copy()
    paint(reviewed, np.add(LEFT, [0, 40.0, 0]), 3)
    reviewed.commands.run("undo")
    np.testing.assert_array_equal(reviewed.actions_.editor.drawn()[1], clean)
    reviewed.commands.run("redo")
    reviewed.commands.run("accept")
    settled(reviewed, qtbot)
    row = reviewed.candidates.model.rows[0]
    assert row.state is ReviewState.ACCEPTED
    uid = reviewed.session.state.analysis.findings.candidates[0].tracking_uid
    assert reviewed.session.state.review.outline_of(uid) is not None


def test_analysing_again_keeps_what_was_decided_on_the_same_candidates(
    reviewed, result, monkeypatch
):
    monkeypatch.setattr(
        "lesionlens.site.worklist.reader_log.recover_review", lambda *_: pytest.fail("not needed")
    )
    reviewed.session.go_to_candidate(2)
    reviewed.session.decide(ReviewState.REJECTED)
    reviewed.actions_.show_result(result, overlays_of(result.analysis))
    assert reviewed.candidates.model.rows[1].state is ReviewState.REJECTED


def test_decisions_that_do_not_apply_to_the_result_of_another_network_are_mentioned(
    reviewed, result
):
    """They vanished without a word, and one thought to be rejected was unreviewed."""
    reviewed.session.go_to_candidate(1)
    reviewed.session.decide(ReviewState.REJECTED)
    reviewed.actions_.show_result(result, overlays_of(result.analysis))
    assert reviewed.session.state.message == "", "of the same network"
    found, run = result.analysis.findings, result.analysis.run
    others = tuple(replace(one, tracking_uid=f"2.25.{one.id}") for one in found.candidates)
    other = replace(
        result.analysis,
        findings=replace(found, candidates=others),
        run=replace(run, engine=replace(run.engine, weights_sha256="0" * 64)),
    )
    reviewed.actions_.show_result(FakeResult(other), overlays_of(other))
    state = reviewed.session.state
    assert state.review.events == ()
    assert state.message == ON_PREVIOUS_RESULT
    reviewed.actions_.show_result(result, overlays_of(result.analysis))
    assert ON_PREVIOUS_RESULT not in reviewed.session.state.message, "nothing was decided on it"
    assert reviewed.session.state.review.events


def with_only_the_first(analysis, **engine):
    """The analysis without its second candidate, by another network if one is given."""
    found, run = analysis.findings, analysis.run
    components = np.where(found.components == 1, found.components, 0)
    return replace(
        analysis,
        findings=replace(found, candidates=found.candidates[:1], components=components),
        run=replace(run, engine=replace(run.engine, **engine)),
    )


def test_a_signature_on_other_outlines_is_withdrawn_and_they_are_named(reviewed, result):
    """Analysed again with other options, what nobody had seen was accepted and signed."""
    first, second = result.analysis.findings.candidates
    for one in (first, second):
        reviewed.session.go_to_candidate(one.id)
        reviewed.session.decide(ReviewState.ACCEPTED)
    reviewed.actions_.review_controller.sign("nothing further seen", "A. Reader")
    reviewed.actions_.show_result(result, overlays_of(result.analysis))
    assert reviewed.session.state.review.signed is not None, "the same outlines"
    labels = result.analysis.volumes.labels
    data = labels.data.copy()
    data[tuple(np.argwhere(result.analysis.findings.components == first.id)[0])] ^= 3
    volumes = replace(result.analysis.volumes, labels=replace(labels, data=data))
    other = replace(result.analysis, volumes=volumes, review=Review())
    reviewed.actions_.show_result(FakeResult(other), overlays_of(other))
    state = reviewed.session.state
    assert state.review.signed is None
    assert {state.review.state_of(one.tracking_uid) for one in (first, second)} == {
        ReviewState.ACCEPTED
    }
    assert f"analysed again: {first.id}. Check it. The signature is withdrawn" in state.message
    reviewed.session.go_to_candidate(first.id)
    reviewed.session.decide(ReviewState.ACCEPTED)
    assert reviewed.actions_.review_controller.check_outlines() == ""


@pytest.mark.parametrize("act", ["sign", "withdraw"])
def test_nobody_signs_or_withdraws_under_the_name_of_another(reviewed, act):
    """The preferences were changed under the dialog: a signature lay in another reader's log."""
    for number in (1, 2):
        reviewed.session.go_to_candidate(number)
        reviewed.session.decide(ReviewState.ACCEPTED)
    store_reader("A. Reader")
    if act == "withdraw":
        reviewed.actions_.review_controller.sign("nothing further seen", "A. Reader")
    reviewed.commands.run(act)
    store_reader("B. Other")
    events = reviewed.session.state.review.events
    answer(reviewed, "wrong side" if act == "withdraw" else None)
    assert reviewed.session.state.review.events == events
    assert "name changed while the dialog was open: nothing was" in reviewed.session.state.message


def test_the_network_keeps_nothing_of_a_study_that_is_left(loaded):
    forgotten = []
    engine = SimpleNamespace(forget=lambda: forgotten.append(loaded.session.state.study))
    loaded.actions_.loaded_lens._lens = SimpleNamespace(engine=engine)
    loaded.session.choose_overlay(Overlay.CONTOUR)
    assert not forgotten
    loaded.actions_.close()
    assert forgotten == [None]


def test_a_site_whose_settings_cannot_be_read_has_its_panel_and_its_words(
    tmp_path, monkeypatch, panel
):
    monkeypatch.setattr(site_policy, "site_settings", lambda: tmp_path)
    (tmp_path / "settings.toml").write_text("[Reading]\nunaided_first = true\n")
    found = read_preferences()
    assert found.unaided_first
    panel.show_site_problem()
    assert "the name 'Reading'" in reads(panel)
    assert "every study is read unaided first" in reads(panel)
    (tmp_path / "settings.toml").write_text("[reading]\nunaided_first = false\n")
    panel.show_site_problem()
    assert "Reading" not in reads(panel)
    assert not read_preferences().unaided_first
