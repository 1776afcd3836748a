"""An act that is not possible in a state of the window says so, and costs nothing."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication
from tests.gui.conftest import LEFT, FakeResult
from tests.gui.test_adding import settled
from tests.gui.window import at_rest, canvas, control, reads, wait
from tests.helpers import stored_drafts

from lesionlens.base.errors import ResourceError
from lesionlens.base.labels import Label, Region, ReviewState
from lesionlens.napari.controllers import review_controller
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.results.export import exporter
from lesionlens.site.worklist.read_session import ReadSession


@pytest.fixture
def drawing(reviewed):
    """The panel while the outline of the first candidate is drawn."""
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    return reviewed


@pytest.fixture
def measuring(drawing, monkeypatch):
    """The panel while a changed outline is measured, and what lets that end."""
    go_on, measure = threading.Event(), review_controller.reviewed

    def slowly(*of):
        go_on.wait()
        return measure(*of)

    erase(drawing)
    monkeypatch.setattr(review_controller, "reviewed", slowly)
    drawing.commands.run("finish_outline")
    yield drawing, go_on
    go_on.set()


def erase(panel):
    """Erase one label of the outline, as one stroke."""
    editor = panel.actions_.editor
    labels = editor.drawn()[1]
    assert editor.change(np.where(labels == Label.OEDEMA, 0, labels))


@pytest.mark.parametrize(
    "name",
    ["smooth", "fill_holes", "remove_islands", "interpolate", "split", "split_here"],
)
def test_a_tool_while_an_outline_is_measured_says_why_it_does_nothing(measuring, qtbot, name):
    """It did nothing without a word, and *split* stayed pressed in."""
    panel, go_on = measuring
    panel.commands.run(name)
    assert "An outline is being measured" in reads(panel)
    go_on.set()
    settled(panel, qtbot)
    assert "press it again" in panel.session.state.message


def test_an_edit_is_not_discarded_while_it_is_measured(measuring, qtbot):
    panel, go_on = measuring
    control(panel.candidates, "discard").click()
    assert "An outline is being measured" in reads(panel)
    go_on.set()
    settled(panel, qtbot)
    assert panel.session.state.review.events[-1].state is ReviewState.EDITED


def test_a_layer_that_is_deleted_while_it_is_measured_is_no_interrupted_drawing(measuring, qtbot):
    """The outline was kept, and the panel asked whether to continue its drawing."""
    panel, go_on = measuring
    panel.viewer.layers.remove(panel.actions_.editor._layer)
    go_on.set()
    settled(panel, qtbot)
    assert panel.session.state.review.events[-1].state is ReviewState.EDITED
    assert panel.session.state.draft is None
    assert stored_drafts.read(panel.session.state.analysis) is None


def test_a_study_that_cannot_be_closed_yet_goes_on_being_measured(measuring, qtbot):
    """*Close* was refused, and cancelled what *Done* had begun."""
    panel, go_on = measuring
    panel.commands.run("close")
    assert "An outline is being measured" in reads(panel)
    go_on.set()
    settled(panel, qtbot)
    assert panel.session.state.review.events[-1].state is ReviewState.EDITED


def test_a_study_with_unsaved_decisions_goes_on_being_analysed(
    reviewed, result, qtbot, monkeypatch
):
    """The disk was full: the study stayed, and its analysis of minutes had been cancelled."""
    go_on = threading.Event()

    def lens(study, *, context, first):
        while not go_on.wait(0.02):
            context.check("network")
        return result

    def full(*_):
        raise ResourceError(found="a full disk", expected="space", next_step="Free some space")

    monkeypatch.setattr(reviewed.actions_.loaded_lens, "load", lambda _: lens)
    reviewed.session.go_to_candidate(1)
    with monkeypatch.context() as patch:
        patch.setattr(ReadSession, "store_decisions", full)
        reviewed.commands.run("accept")
        reviewed.commands.run("analyse")
        assert "would be lost if the candidates change" in reads(reviewed)
        assert not reviewed.jobs.running, "the answer came after an analysis of minutes"
        reviewed.commands.run("analyse")
        reviewed.commands.run("close")
    assert "Unsaved decisions would be lost: remove" in reads(reviewed)
    assert not reviewed.session.state.activity.stopping
    go_on.set()
    wait(qtbot, reviewed)
    assert reviewed.session.state.result is result


def test_unsaved_decisions_that_a_new_result_continues_need_not_be_made_again(
    reviewed, result, qtbot, monkeypatch
):
    """ "Decide again" was said of decisions that were still shown."""

    def full(*_):
        raise ResourceError(found="a full disk", expected="space", next_step="Free some space")

    new = FakeResult(result.analysis)
    monkeypatch.setattr(reviewed.actions_.loaded_lens, "load", lambda _: lambda *_, **__: new)
    reviewed.session.go_to_candidate(1)
    with monkeypatch.context() as patch:
        patch.setattr(ReadSession, "store_decisions", full)
        reviewed.commands.run("accept")
        reviewed.commands.run("analyse")
        reviewed.commands.run("analyse")
        wait(qtbot, reviewed)
        assert reviewed.session.state.result is new
        assert reviewed.session.state.review.events
        assert "saved with your next decision" in reads(reviewed)
    reviewed.commands.run("undo")


def test_a_stroke_that_is_stored_does_not_hide_that_a_decision_is_not(reviewed, monkeypatch):
    """Drafts are in the user's own folder: its room says nothing of the list's."""

    def full(*_):
        raise ResourceError(found="a full disk", expected="space", next_step="Free some space")

    reviewed.session.go_to_candidate(1)
    with monkeypatch.context() as patch:
        patch.setattr(ReadSession, "store_decisions", full)
        reviewed.commands.run("accept")
        reviewed.commands.run("edit_outline")
        erase(reviewed)
        assert stored_drafts.read(reviewed.session.state.analysis) is not None
        assert "This action was not saved" in reads(reviewed)
    reviewed.commands.run("discard_edit")


def test_where_no_stroke_was_drawn_none_is_undone(drawing):
    """Nothing was said, and a draft of nothing was stored, which a crash would offer."""
    analysis = drawing.session.state.analysis
    for name in ("undo", "redo"):
        drawing.commands.run(name)
        assert f"There is no stroke to {name}." in reads(drawing)
    assert stored_drafts.read(analysis) is None
    erase(drawing)
    drawing.commands.run("undo")
    assert drawing.session.state.message == ""
    drawing.commands.run("undo")
    assert "There is no stroke to undo." in reads(drawing)
    drawing.commands.run("redo")
    assert drawing.session.state.message == ""
    assert drawing.actions_.editor.drawn().are_changed


@pytest.mark.parametrize("name", ["next_overlay", "toggle_first_layer"])
def test_no_map_is_chosen_while_an_outline_is_drawn(drawing, name):
    """It was chosen, shown nowhere, and came up once the outline was done."""
    drawing.commands.run(name)
    assert drawing.session.state.choices.overlay is not Overlay.MAP
    assert drawing.session.state.message


def test_the_block_of_the_maps_says_that_they_are_hidden_while_an_outline_is_drawn(drawing):
    """It said how to probe, which showed nothing; *uncertainty* let itself not be ticked."""
    names = ("map", "uncertainty")
    assert "Maps are hidden while an outline is drawn." in reads(drawing.attention)
    assert not any(control(drawing.attention, name).isEnabled() for name in names)
    assert not drawing.actions_.probe(LEFT)
    assert "An outline is being drawn" in reads(drawing)
    drawing.commands.run("discard_edit")
    assert "Shift-click a voxel" in reads(drawing.attention)
    assert all(control(drawing.attention, name).isEnabled() for name in names)


def test_no_probe_is_closed_where_none_is_shown(reviewed):
    reviewed.commands.run("end_probe")
    assert "No probe is shown." in reads(reviewed)


def test_where_there_is_no_second_result_none_is_adopted_and_drawing_goes_on(drawing):
    """F8 ended the edit, and named a key that then said that there is none."""
    drawing.commands.run("take_second")
    assert "There is no second result yet" in reads(drawing)
    assert drawing.session.state.editing == 1


@pytest.mark.parametrize("name", ["copy_sentence", "copy_study_sentence", "add_layers"])
def test_what_is_copied_while_an_outline_is_drawn_has_what_is_drawn(drawing, qtbot, name):
    """The sentence had the size from before the edit, beside an outline of another size."""
    copied = []
    drawing.actions_.dialogs.copy_text = copied.append
    before = drawing.session.state.focused.volume_ml[Region.WT]
    erase(drawing)
    drawing.commands.run(name)
    settled(drawing, qtbot)
    assert drawing.session.state.editing is None
    after = drawing.session.state.focused.volume_ml[Region.WT]
    assert after < before
    if name == "add_layers":
        layer = drawing.viewer.layers["segmentation"]
        analysis = drawing.session.state.analysis
        np.testing.assert_array_equal(layer.data, analysis.volumes.labels.data)
    else:
        assert f"{after:.1f} ml" in copied[0]


@pytest.mark.parametrize("waiting", ["prompt", "split"])
def test_a_click_in_three_dimensions_is_no_prompt_and_no_half(drawing, qtbot, waiting):
    drawing.actions_.show_layout(Layout.SINGLE)
    drawing.viewer.window.show()
    at_rest(qtbot, canvas())
    drawing.viewer.dims.ndisplay = 3
    drawing.viewer.scene.camera.zoom = 0.2  # without a GPU, each pixel of a volume takes long
    if waiting == "prompt":
        drawing.commands.run("hold_prompt", True)
    else:
        drawing.commands.run("split")
    QApplication.processEvents()
    middle = QPoint(canvas().width() // 2, canvas().height() // 2)
    qtbot.mouseClick(canvas(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, middle)
    assert "A click in 3-D has no depth" in reads(drawing)
    assert not drawing.session.state.tools.points
    assert not drawing.actions_.editor.rounds
    drawing.viewer.dims.ndisplay = 2
    if waiting == "prompt":
        drawing.commands.run("hold_prompt", False)
    drawing.commands.run("discard_edit")


def test_layers_that_are_hidden_during_an_unaided_read_are_not_missing(
    panel, loaded, prefer, result
):
    """The study was to be analysed first, and had been."""
    prefer(unaided_first=True)
    study = panel.session.state.study
    panel.session.close()
    panel.session.open(study)
    panel.actions_.show_result(result, overlays_of(result.analysis))
    panel.commands.run("add_layers")
    assert "The analysis is hidden during your own read" in panel.session.state.message


@pytest.fixture
def interrupted(drawing):
    """The panel while it offers to continue a stroke on the first candidate."""
    erase(drawing)
    drawing.viewer.layers.remove(drawing.actions_.editor._layer)
    return drawing


@pytest.mark.parametrize("name", ["merge", "undo"])
def test_no_other_act_changes_outlines_from_which_interrupted_strokes_began(
    interrupted, qtbot, name
):
    """Continued after a merge, the strokes removed what had been merged."""
    panel = interrupted
    if name == "undo":
        draft = panel.session.state.draft
        panel.session.offer(None)
        panel.commands.run("merge")
        settled(panel, qtbot)
        panel.session.offer(draft)
    events = events_of(panel)
    panel.commands.run(name)
    assert not panel.jobs.running
    assert "was interrupted: continue it (Shift+E) or discard it first" in reads(panel)
    assert events_of(panel) == events
    panel.commands.run("discard_edit")
    panel.commands.run(name)
    settled(panel, qtbot)
    assert events_of(panel) != events


def test_strokes_are_continued_on_an_outline_that_another_window_merged(interrupted, qtbot):
    """Continuing them removed the candidate that had been merged into it."""
    panel, draft = interrupted, interrupted.session.state.draft
    before = panel.session.state.overlays
    erased = (before.components == 1) & (before.labels == Label.OEDEMA)
    panel.session.offer(None)
    panel.commands.run("merge")
    settled(panel, qtbot)
    panel.session.offer(draft)
    panel.commands.run("edit_outline")
    labels = panel.actions_.editor.drawn().current
    assert labels[before.components == 2].all()
    assert not labels[erased].any()
    panel.commands.run("discard_edit")


def events_of(panel):
    """Return the acts of the review that is shown."""
    return panel.session.state.review.events


def test_a_study_is_signed_when_interrupted_strokes_are_continued_or_discarded(interrupted):
    """They could not be kept afterwards, and the signature said nothing of them."""
    panel = interrupted
    for candidate in (1, 2):
        panel.session.go_to_candidate(candidate)
        panel.commands.run("accept")
    panel.commands.run("sign")
    assert not panel.signing.isVisible()
    assert "Drawing candidate 1 was interrupted: continue it" in reads(panel)
    panel.commands.run("discard_edit")
    panel.commands.run("sign")
    assert panel.signing.isVisible()
    panel.signing.reject()


def test_an_export_states_that_it_lacks_interrupted_strokes(interrupted, qtbot, tmp_path):
    interrupted.actions_.export(tmp_path / "out")
    wait(qtbot, interrupted)
    assert "It does not contain the interrupted drawing of candidate 1." in reads(interrupted)
    interrupted.commands.run("discard_edit")
    interrupted.actions_.export(tmp_path / "out")
    wait(qtbot, interrupted)
    assert "interrupted" not in interrupted.session.state.message


@pytest.mark.parametrize("way", ["close", "window"])
def test_a_reason_that_no_decision_took_is_not_lost_without_a_word(reviewed, way):
    """The study was left, and the reason with it."""
    leave = {"close": lambda: reviewed.commands.run("close"), "window": reviewed._may_close}[way]
    reviewed.session.go_to_candidate(2)
    reviewed.candidates.reason.setCurrentText("dural tail")
    assert not leave()
    assert "Reason without a decision: 2." in reads(reviewed)
    assert reviewed.session.state.study is not None
    reviewed.candidates.reason.setCurrentText("dural tail, not certain")
    assert not leave(), "it was asked about another text"
    reviewed.commands.run("reject")
    assert events_of(reviewed)[-1].reason == "dural tail, not certain"
    assert leave()


def test_a_reason_without_a_decision_is_discarded_by_leaving_once_more(reviewed):
    reviewed.session.go_to_candidate(2)
    reviewed.candidates.reason.setCurrentText("dural tail")
    assert not reviewed._may_close()
    assert reviewed._may_close()
    reviewed.candidates.reason.setCurrentText(" ")
    assert reviewed._may_close(), "a blank is no reason"
    reviewed.candidates.reason.setCurrentText("vessel")
    reviewed.commands.run("reject")
    reviewed.candidates.reason.setCurrentText("vessel ")
    assert reviewed._may_close(), "the decision has this reason"


def test_a_window_does_not_close_during_an_export_without_a_word(
    reviewed, qtbot, monkeypatch, tmp_path
):
    """The export was stopped, and no window was left to say so."""
    go_on, save = threading.Event(), exporter.save

    def slowly(analysis, folder, *, context):
        while not go_on.wait(0.02):
            context.check("saving")
        return save(analysis, folder, context=context)

    monkeypatch.setattr(exporter, "save", slowly)
    for _ in range(2):
        reviewed.actions_.export(tmp_path / "out")
        assert not reviewed._may_close()
        assert "The result is being exported" in reads(reviewed)
        assert reviewed._may_close(), "closing once more was refused too"
        reviewed.jobs.stop()
        wait(qtbot, reviewed)
    reviewed.actions_.export(tmp_path / "out")
    go_on.set()
    wait(qtbot, reviewed)
    assert reviewed._may_close()
    assert reviewed.session.state.message == "Saved in out."
