"""What was open last is found again, and a result of another study asks before this one goes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QMessageBox
from tests.gui.conftest import FakeResult
from tests.gui.window import PATIENCE_MS, control, wait

from lesionlens.base.labels import Label, ReviewState
from lesionlens.napari.controllers import reopening
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.studies import recent_paths
from lesionlens.napari.widgets.worklist_dock import WorklistDock
from lesionlens.results.review.log import ReviewLog


def test_the_list_is_there_again_after_a_crash(panel, listed, qtbot):
    assert listed.controller.open(listed.list_folder)
    again = WorklistDock(
        panel.viewer, panel.actions_, panel.commands
    )  # as another process would make it
    qtbot.waitUntil(
        lambda: again.session.state.folder == listed.list_folder.resolve(), timeout=PATIENCE_MS
    )
    assert len(again.model.rows) == len(listed.model.rows) > 0
    again.release()
    again.deleteLater()
    QApplication.sendPostedEvents(again, QEvent.Type.DeferredDelete.value)


def test_places_are_remembered_newest_first_and_gone_ones_left_out(panel, tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        recent_paths.remember(recent_paths.STUDIES, tmp_path / name)
    recent_paths.remember(recent_paths.STUDIES, tmp_path / "a")
    (tmp_path / "b").rmdir()
    assert [path.name for path in recent_paths.recall(recent_paths.STUDIES)] == ["a", "c"]
    assert recent_paths.recall(recent_paths.LISTS) == ()
    recent_paths.stored_file().write_text("{ damaged")
    assert recent_paths.recall(recent_paths.STUDIES) == ()


def test_a_result_of_another_study_asks_before_this_one_is_closed(loaded, monkeypatch, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(reopening, "is_result", lambda _: True)
    monkeypatch.setattr(reopening, "read_run", lambda _: SimpleNamespace(inputs=()))
    monkeypatch.setattr(reopening.study_locations, "recall", lambda _: (other, None))
    asked = []
    monkeypatch.setattr(loaded.actions_.opener, "open", lambda request, _: asked.append(request))
    study = loaded.session.state.study
    assert not loaded.actions_.reopen(tmp_path / "result")
    (box,) = loaded.findChildren(QMessageBox)
    assert "belongs to other" in box.text()
    assert not asked
    control(box, "Cancel").click()
    assert loaded.session.state.study is study
    loaded.actions_.reopen(tmp_path / "result")
    box = loaded.findChildren(QMessageBox)[-1]
    control(box, "Close and open").click()
    assert loaded.session.state.study is None
    assert [one.paths for one in asked] == [(other,)]


def drawn_on(panel):
    """Draw on the outline of the first candidate; return its tracking UID."""
    panel.session.go_to_candidate(1)
    panel.commands.run("edit_outline")
    editor = panel.actions_.editor
    assert editor.change(np.where(editor.drawn()[1] == Label.OEDEMA, 0, editor.drawn()[1]))
    return panel.session.state.focused.tracking_uid


def test_an_outline_is_kept_before_another_study_and_its_result_are_opened(
    reviewed, monkeypatch, tmp_path, qtbot
):
    """The question came a second time while the outline was being kept."""
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(reopening, "is_result", lambda _: True)
    monkeypatch.setattr(reopening, "read_run", lambda _: SimpleNamespace(inputs=()))
    found = (tmp_path / "other", None)
    monkeypatch.setattr(reopening.study_locations, "recall", lambda _: found)
    asked = []
    monkeypatch.setattr(reviewed.actions_.opener, "open", lambda request, _: asked.append(request))
    uid, shown = drawn_on(reviewed), reviewed.session.state.result.analysis
    reviewed.actions_.reopen(tmp_path / "result")
    (box,) = reviewed.findChildren(QMessageBox)
    control(box, "Close and open").click()
    wait(qtbot, reviewed)
    assert [one.paths for one in asked] == [(tmp_path / "other",)]
    assert all(not box.isVisible() for box in reviewed.findChildren(QMessageBox))
    kept, _ = reviewed.actions_.read_controller.decision_log.recovered(shown)
    assert kept.of(uid).state is ReviewState.EDITED


def test_an_outline_is_kept_before_a_result_of_the_same_study_is_shown(
    reviewed, monkeypatch, tmp_path, qtbot
):
    uid, states = drawn_on(reviewed), []
    monkeypatch.setattr(
        "lesionlens.napari.controllers.actions.reopen",
        lambda opener, *_: states.append(opener.session.state),
    )
    reviewed.actions_.reopen(tmp_path / "result")
    wait(qtbot, reviewed)
    (state,) = states
    assert state.editing is None
    assert state.review.of(uid).state is ReviewState.EDITED


def test_a_saved_result_comes_back_with_what_was_decided_since(loaded, analysis):
    """A crash after the save; the log goes on from the result's own review."""
    acts, session = loaded.actions_, loaded.session
    log = ReviewLog()
    log.decide(analysis.findings.candidates[0].tracking_uid, ReviewState.REJECTED)
    saved = replace(analysis, review=log.review)
    for number in (1, 2):
        study = session.state.study
        session.close()  # as a new window: nothing of the review is in memory
        session.open(study)
        acts.show_result(FakeResult(saved), overlays_of(saved))
        assert len(session.state.review.events) == number
        session.go_to_candidate(2)
        session.decide(ReviewState.ACCEPTED)
    assert acts.read_controller.saver.all_saved
