"""What is typed, counted and said belongs to the candidate and the map that it is about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QInputDialog
from tests.gui.conftest import FakeResult
from tests.gui.window import answer, control, reads, sign, wait

from lesionlens.base.labels import ReviewAct, ReviewState
from lesionlens.base.records.review import WHOLE_STUDY
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.preferences import Preferences
from lesionlens.results.export.report import report_html


@pytest.fixture(autouse=True)
def reader(monkeypatch):
    """Preferences that forget: what is kept in one test is not there in the next."""
    kept = {"name": None}
    monkeypatch.setattr(
        "lesionlens.napari.controllers.current_read.read_preferences",
        lambda: Preferences(reader_name=kept["name"]),
    )
    monkeypatch.setattr(
        "lesionlens.napari.controllers.sign_acts.store_reader",
        lambda name: kept.update(name=name),
    )
    return kept


def events(panel):
    ids = {c.tracking_uid: c.id for c in panel.session.state.analysis.findings.candidates}
    reported = panel.session.state.review.events
    return [(ids[e.tracking_uid], e.state.value, e.reason) for e in reported]


def reason(panel):
    return control(panel.candidates, "Reason for the decision")


def type_into(panel, qtbot, words):
    line = reason(panel).lineEdit()
    line.clear()
    qtbot.keyClicks(line, words)


def test_a_reason_belongs_to_the_candidate_it_was_typed_for(reviewed, qtbot):
    """Typed for the first, then N and Reject: the second has none, the first still has its own."""
    reviewed.session.go_to_candidate(1)
    type_into(reviewed, qtbot, "vessel")
    reviewed.commands.run("next_candidate")
    assert reason(reviewed).currentText() == ""
    reviewed.commands.run("reject")
    assert events(reviewed) == [(2, "rejected", None)]
    reviewed.commands.run("previous_candidate")
    assert reason(reviewed).currentText() == "vessel"
    control(reviewed.candidates, "Reject").click()
    assert events(reviewed)[1:] == [(1, "rejected", "vessel")]


def test_a_reason_typed_after_the_decision_is_added_to_it(reviewed, qtbot):
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("reject")
    type_into(reviewed, qtbot, "artefact")
    qtbot.keyClick(reason(reviewed).lineEdit(), Qt.Key.Key_Return)
    assert events(reviewed)[-1] == (1, "rejected", "artefact")
    type_into(reviewed, qtbot, "dura")
    reviewed.commands.run("next_candidate")
    assert events(reviewed)[-1] == (1, "rejected", "dura")
    assert reason(reviewed).currentText() == ""


@pytest.mark.parametrize("way", ["added", "threshold"])
def test_a_reason_typed_after_the_decision_is_kept_whatever_takes_the_focus(reviewed, qtbot, way):
    """Only a reason of the candidate in focus was stored; the others were lost on closing."""
    session, acts, saved = (
        reviewed.session,
        reviewed.actions_,
        reviewed.session.state.result.analysis,
    )
    session.go_to_candidate(1)
    reviewed.commands.run("reject")
    uid = session.state.focused.tracking_uid
    type_into(reviewed, qtbot, "artefact")
    if way == "added":
        acts.add_lesion_at((0.0, 20.0, 30.0))
        wait(qtbot, reviewed)
    else:
        session.choose_threshold(0.9999)
    assert session.state.choices.candidate != 1
    acts.close()
    recovered = acts.read_controller.decision_log.recovered(saved)[0].of(uid)
    assert (recovered.state, recovered.reason) == (ReviewState.REJECTED, "artefact")


def test_deferred_is_not_reviewed(reviewed, analysis):
    for number, act in ((1, "defer"), (2, "accept")):
        reviewed.session.go_to_candidate(number)
        reviewed.commands.run(act)
    assert "1 of 2 reviewed · 1 deferred" in reads(reviewed)
    assert control(reviewed, "Export").property("role") != "primary"
    page = report_html(replace(analysis, review=reviewed.session.state.review))
    assert "1 of 2 reviewed. 1 deferred." in page
    assert [s for s in ReviewState if s.decided] == ["accepted", "rejected", "edited"]


def test_nothing_further_is_signed_once_all_is_decided(reviewed, analysis):
    """The signature is kept on disk; nothing is changed below it, and undo does not end it."""
    session = reviewed.session
    session.go_to_candidate(1)
    reviewed.commands.run("accept")
    control(reviewed, "Nothing further").click()
    assert session.state.review.signed is None
    assert "Not decided yet: 2. Accept or reject" in session.state.message
    session.go_to_candidate(2)
    reviewed.commands.run("reject")
    control(reviewed, "Nothing further").click()
    assert session.state.review.signed is None  # asked first
    answer(reviewed, "A. Reader")
    assert "signed: nothing further seen, A. Reader" in reads(reviewed)
    kept = reviewed.actions_.read_controller.decision_log.recovered(analysis)[0]
    assert kept.signed == session.state.review.signed
    page = report_html(replace(analysis, review=session.state.review))
    assert "Signed by A. Reader: nothing further seen." in page
    signed = session.state.review
    for name in ("undo", "redo", "defer", "edit_outline", "merge", "draw_lesion"):
        reviewed.commands.run(name)
        assert session.state.review == signed
        assert session.state.editing is None
        assert "withdraw the signature" in session.state.message
        session.notify("")


def test_a_signature_is_withdrawn_for_a_reason_and_recorded_as_that(reviewed):
    session = reviewed.session
    for number in (1, 2):
        session.go_to_candidate(number)
        reviewed.commands.run("accept")
    sign(reviewed, "A. Reader")
    control(reviewed, "Withdraw…").click()
    reviewed.signing.accept()
    assert session.state.review.signed  # no reason, no withdrawal
    answer(reviewed, "wrong side")
    last = session.state.review.events[-1]
    assert session.state.review.signed is None
    assert (last.act, last.reason, last.reader) == (ReviewAct.WITHDRAW, "wrong side", "A. Reader")
    reviewed.commands.run("undo")  # the last decision, not the withdrawal
    assert session.state.review.events[-1].tracking_uid != WHOLE_STUDY
    assert session.state.review.signed is None
    reviewed.commands.run("accept")
    sign(reviewed)  # the name is known now, so that the button had the focus
    assert session.state.review.signed
    control(reviewed, "Withdraw…").click()
    answer(reviewed, "again")
    assert session.state.review.signed is None, "Enter cancelled"


def test_a_study_without_a_candidate_is_signed_as_nothing_seen(loaded, analysis):
    none = replace(analysis.findings, candidates=(), conclusion="no candidate region")
    empty = replace(none, components=np.zeros_like(none.components))
    own = replace(analysis, findings=empty, study=loaded.session.state.study)
    loaded.actions_.show_result(FakeResult(own), overlays_of(own))
    assert control(loaded, "Nothing seen").isVisibleTo(loaded)
    control(loaded, "Nothing seen").click()
    answer(loaded, "A. Reader")
    assert "signed: nothing seen" in reads(loaded)


def test_the_name_is_asked_for_once_at_the_first_decision(reviewed, reader):
    reviewed.actions_.review_controller.has_asked_name = False
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("accept")
    assert not reviewed.session.state.review.events
    dialog = reviewed.findChild(QInputDialog)
    dialog.setTextValue("A. Reader")
    dialog.accept()
    reviewed.commands.run("reject")
    assert reader["name"] == "A. Reader"
    acts = [(event.state.value, event.reader) for event in reviewed.session.state.review.events]
    assert acts == [("accepted", "A. Reader"), ("rejected", "A. Reader")]
