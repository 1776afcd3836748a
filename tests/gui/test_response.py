"""The response as a draft in the window: proposed anew at each change, signed by the reader."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtWidgets import QComboBox, QLineEdit, QPushButton

from lesionlens.base.records.followup import Alignment, Change, Comparison, Measured, TimePoint
from lesionlens.base.records.response import Response

LEVEL = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture
def compared(reviewed):
    """The analysed study beside an examination at which the first lesion was half as large."""
    session = reviewed.session
    analysis = session.state.analysis
    now = tuple(Measured.of(one) for one in analysis.findings.candidates)
    before = tuple(replace(one, perpendicular_mm=one.perpendicular_mm / 2) for one in now)
    found = Comparison(
        (TimePoint("2025-01-01", None, before, True), TimePoint("2025-06-01", None, now, True)),
        tuple(map(Change, before, now)),
        Alignment(LEVEL, 0.0, 0.0, False, "T1c"),
    )
    session.settle(session.log(), replace(analysis, followup=found), session.state.overlays)
    return reviewed


def test_the_reader_enters_and_signs(compared):
    compared.commands.run("assess_response")
    dialog = compared.response
    boxes = {box.accessibleName(): box for box in dialog.findChildren(QComboBox)}
    sign = next(b for b in dialog.findChildren(QPushButton) if b.text() == "Sign")
    boxes["Steroids, now beside then"].setCurrentText("same")
    dialog.findChildren(QLineEdit)[-1].setText("A. Reader")
    assert not sign.isEnabled()  # nothing is signed that the reader did not choose
    boxes["your category"].setCurrentText("PD")
    sign.click()
    (signed,) = compared.session.state.review.responses
    assert (signed.category, signed.reader) == (Response.PROGRESSION, "A. Reader")
    assert "limit +25 %" in " ".join(signed.steps)


def test_another_study_takes_no_signature(compared):
    compared.commands.run("assess_response")
    compared.actions_._asked = None
    dialog = compared.response
    boxes = {box.accessibleName(): box for box in dialog.findChildren(QComboBox)}
    boxes["your category"].setCurrentText("SD")
    dialog.findChildren(QLineEdit)[-1].setText("A. Reader")
    dialog.accept()
    assert compared.session.state.review.responses == ()
