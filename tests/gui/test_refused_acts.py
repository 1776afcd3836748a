"""An act that is not possible in a state of the window says so, and costs nothing."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.gui.test_adding import settled
from tests.gui.window import reads, wait
from tests.helpers import stored_drafts

from lesionlens.base.errors import ResourceError
from lesionlens.base.labels import Label, Region
from lesionlens.site.worklist.read_session import ReadSession


@pytest.fixture
def drawing(reviewed):
    """The panel while the outline of the first candidate is drawn."""
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    return reviewed


def erase(panel):
    """Erase one label of the outline, as one stroke."""
    editor = panel.actions_.editor
    labels = editor.drawn()[1]
    assert editor.change(np.where(labels == Label.OEDEMA, 0, labels))


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
