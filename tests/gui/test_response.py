"""The response as a draft in the window: proposed anew at each change, signed by the reader."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from qtpy.QtGui import QFontMetricsF
from qtpy.QtWidgets import QComboBox, QLineEdit, QPushButton
from tests.gui.conftest import FakeResult
from tests.gui.window import answer, control, reads, wait

from lesionlens.analysis.followup.compare import ORDER_UNKNOWN
from lesionlens.base.labels import Label, ReviewAct, ReviewState
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.response import Response
from lesionlens.napari.controllers.sign_acts import STUDY_CHANGED
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.preferences import read_preferences, store_reader
from lesionlens.napari.widgets.parts import small_font

LEVEL = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture
def compared(reviewed):
    """The analysed study beside an examination at which the first lesion was half as large."""
    session = reviewed.session
    analysis = session.state.analysis
    now = tuple(LesionMeasurement.of(one) for one in analysis.findings.candidates)
    before = tuple(replace(one, perpendicular_mm=one.perpendicular_mm / 2) for one in now)
    found = Comparison(
        (TimePoint("2025-01-01", None, before, True), TimePoint("2025-06-01", None, now, True)),
        tuple(map(Change, before, now)),
        Alignment(LEVEL, 0.0, 0.0, False, "T1c"),
    )
    session.settle(session.log(), replace(analysis, followup=found), session.state.overlays)
    return reviewed


def test_every_lesion_has_a_curve_in_the_panel_and_the_one_in_focus_stands_out(compared):
    compared.session.go_to_candidate(1)
    plot = compared.followup.curves
    assert not plot.isHidden()
    number = len(compared.session.state.analysis.findings.candidates)
    assert [len(curve.points) for curve in plot.curves.lines] == [2] * number
    painted = plot.grab().toImage()
    colours = {
        painted.pixelColor(x, y).name()
        for x in range(painted.width())
        for y in range(painted.height())
    }
    assert plot.curves.lines[0].colour.lower() in colours


def test_no_curve_is_drawn_over_the_name_of_a_level(compared):
    plot = compared.followup.curves
    plot.resize(200, 120)
    metrics = QFontMetricsF(small_font(plot))
    widest = max(metrics.horizontalAdvance(level) for _, level in plot.curves.levels)
    assert widest > 20
    starts = [plot._at(x, y).x() for curve in plot.curves.lines for x, y in curve.points]
    assert min(starts) > widest
    assert max(starts) < plot.width()


def test_no_day_is_drawn_over_another_below_the_curves(compared):
    """The days before and after surgery, in a series of years, lay on each other."""
    plot = compared.followup.curves
    ticks = ((46.0, "2025-01-01"), (47.0, "2025-01-03"), (300.0, "2025-09-01"), (530.0, "now"))
    plot.show_curves(replace(plot.curves, ticks=ticks), None)
    plot.resize(200, 120)
    metrics = QFontMetricsF(small_font(plot))
    edges = sorted((left, left + metrics.horizontalAdvance(day)) for left, day in plot.days)
    assert all(a[1] < b[0] for a, b in pairwise(edges))
    assert {"2025-01-01", "now"} <= {day for _, day in plot.days}
    assert edges[-1][1] <= plot.width() + 1


def test_the_reader_enters_and_signs(compared):
    compared.commands.run("assess_response")
    dialog = compared.response
    boxes = {box.accessibleName(): box for box in dialog.findChildren(QComboBox)}
    sign = next(b for b in dialog.findChildren(QPushButton) if b.text() == "Sign")
    boxes["Steroids, now compared with then"].setCurrentText("same")
    dialog.findChildren(QLineEdit)[-1].setText("A. Reader")
    assert not sign.isEnabled()  # nothing is signed that the reader did not choose
    boxes["Your category"].setCurrentText("PD")
    sign.click()
    (signed,) = compared.session.state.review.responses
    assert (signed.category, signed.reader) == (Response.PROGRESSION, "A. Reader")
    assert "limit +25%" in " ".join(signed.steps)


def test_the_draft_says_where_the_order_of_the_examinations_is_unknown(compared):
    """Of two examinations of one day, progression was proposed, and may have been response."""
    session, analysis = compared.session, compared.session.state.analysis
    run = replace(analysis.run, notices=(*analysis.run.notices, ORDER_UNKNOWN))
    session.settle(session.log(), replace(analysis, run=run), session.state.overlays)
    compared.commands.run("assess_response")
    assert "every change has the wrong sign" in reads(compared.response)
    compared.response.reject()


def test_the_name_typed_for_a_response_is_kept_as_for_a_signature(compared):
    """The response was signed by a reader, and the decisions that followed by nobody."""
    compared.commands.run("assess_response")
    dialog = compared.response
    boxes = {box.accessibleName(): box for box in dialog.findChildren(QComboBox)}
    boxes["Your category"].setCurrentText("SD")
    name = dialog.findChildren(QLineEdit)[-1]
    name.setText(" A. Reader ")
    dialog.accept()
    assert read_preferences().reader_name == "A. Reader"
    assert "Response signed by A. Reader: SD." in compared.session.state.message
    compared.session.go_to_candidate(1)
    compared.commands.run("accept")
    assert compared.session.state.review.events[-1].reader == "A. Reader"
    compared.commands.run("assess_response")
    assert name.text() == "A. Reader"
    assert name.isReadOnly(), "the reader of the study signs"
    assert name.isEnabled(), "the name of the signature was dim"
    dialog.reject()


def test_a_nadir_before_the_baseline_is_not_signed(compared):
    found = compared.session.state.analysis.followup
    between = replace(found.points[0], date="2025-03-01")
    found = replace(found, points=(found.points[0], between, found.points[1]))
    dialog, signed = compared.response, []
    identity = compared.session.state.identity
    dialog.ask(found, (), identity, "A. Reader", lambda *draft: signed.append(draft))
    boxes = {box.accessibleName(): box for box in dialog.findChildren(QComboBox)}
    sign = next(b for b in dialog.findChildren(QPushButton) if b.text() == "Sign")
    boxes["Your category"].setCurrentText("SD")
    assert sign.isEnabled()
    boxes["Nadir (progression)"].setCurrentText("2025-01-01")
    boxes["Baseline (response)"].setCurrentText("2025-03-01")
    assert not sign.isEnabled()
    dialog.accept()
    assert not signed
    boxes["Nadir (progression)"].setCurrentText("2025-03-01")
    assert sign.isEnabled()
    dialog.reject()


def sign_stable(compared):
    compared.commands.run("assess_response")
    boxes = {box.accessibleName(): box for box in compared.response.findChildren(QComboBox)}
    boxes["Your category"].setCurrentText("SD")
    compared.response.findChildren(QLineEdit)[-1].setText("A. Reader")
    compared.response.accept()


def test_a_response_is_withdrawn_under_a_reader_s_name(compared):
    session = compared.session
    sign_stable(compared)
    store_reader("")
    compared.commands.run("withdraw_response")
    assert "Enter your name in the preferences first" in session.state.message
    assert session.state.review.response is not None
    store_reader("B. Reader")
    compared.commands.run("withdraw_response")
    assert "A. Reader, as B. Reader." in reads(compared.signing)
    answer(compared, "wrong baseline")
    last = session.state.review.events[-1]
    assert session.state.review.response is None
    assert (last.act, last.reader) == (ReviewAct.WITHDRAW_RESPONSE, "B. Reader")


def test_a_response_that_is_gone_is_not_withdrawn_again(compared):
    session = compared.session
    sign_stable(compared)
    store_reader("A. Reader")
    compared.commands.run("withdraw_response")
    compared.actions_.review_controller.withdraw_response("wrong nadir")
    events = session.state.review.events
    answer(compared, "wrong baseline")
    assert session.state.review.events == events
    assert "while the dialog was open: nothing was withdrawn" in session.state.message


def test_no_signature_is_withdrawn_by_nobody(compared):
    """Reopened where no name is entered, another reader's signature was withdrawn without one."""
    session = compared.session
    log = session.log()
    log.sign("nothing further seen", reader="A. Reader")
    session.settle(log, session.state.analysis, session.state.overlays)
    compared.commands.run("withdraw")
    assert not compared.signing.isVisible()
    assert "Enter your name in the preferences first" in session.state.message
    assert session.state.review.signed
    store_reader("B. Reader")
    compared.commands.run("assess_response")
    assert not compared.response.isVisible(), "a form that cannot be signed"
    assert "withdraw the signature before you change" in session.state.message
    compared.commands.run("withdraw")
    assert "A. Reader, as B. Reader." in reads(compared.signing)
    answer(compared, "seen again")
    last = session.state.review.events[-1]
    assert (last.act, last.reader) == (ReviewAct.WITHDRAW, "B. Reader")


def test_another_study_takes_no_signature(compared):
    compared.commands.run("assess_response")
    compared.session.close()
    dialog = compared.response
    boxes = {box.accessibleName(): box for box in dialog.findChildren(QComboBox)}
    boxes["Your category"].setCurrentText("SD")
    dialog.findChildren(QLineEdit)[-1].setText("A. Reader")
    dialog.accept()
    assert compared.session.state.review.responses == ()
    assert compared.session.state.message == STUDY_CHANGED


def test_a_response_to_a_comparison_that_was_replaced_is_not_signed(compared, analysis):
    """An analysis ended while the form was open: its result was signed with the sums before."""
    compared.commands.run("assess_response")
    dialog = compared.response
    control(dialog, "Your category").setCurrentText("SD")
    dialog._reader.setText("A. Reader")
    again = replace(analysis, run=replace(analysis.run))
    compared.actions_.show_result(FakeResult(again), overlays_of(again))
    dialog.accept()
    assert compared.session.state.review.responses == ()
    assert "while the dialog was open: nothing was signed" in compared.session.state.message


def test_strokes_are_kept_before_a_response_is_assessed(compared, qtbot):
    """Signing it ended the edit, and its strokes were gone."""
    compared.session.go_to_candidate(1)
    uid = compared.session.state.focused.tracking_uid
    compared.commands.run("edit_outline")
    editor = compared.actions_.editor
    assert editor.change(np.where(editor.drawn()[1] == Label.OEDEMA, 0, editor.drawn()[1]))
    compared.commands.run("assess_response")
    wait(qtbot, compared)
    assert compared.response.isVisible()
    compared.response.reject()
    assert compared.session.state.review.of(uid).state is ReviewState.EDITED
