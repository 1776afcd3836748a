"""The response in the window: sums, and the category that a reader chooses and signs."""

from dataclasses import replace

import pytest
from tests.gui.window import answer, control, reads

from lesionlens.base.labels import ReviewAct
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.response import Response
from lesionlens.napari.controllers.sign_acts import STUDY_CHANGED

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


def choose(panel, category="PD (progressive disease)"):
    panel.commands.run("assess_response")
    assert "(limit +25%)" in reads(panel.response)
    control(panel.response, "Your category").setCurrentText(category)
    panel.response._reader.setText("A. Reader")


def test_a_category_is_chosen_signed_and_withdrawn_by_a_reader(compared):
    choose(compared, "choose")
    compared.response.accept()  # nothing is signed that the reader did not choose
    assert not compared.session.state.review.responses
    compared.response.reject()
    choose(compared)
    compared.response.accept()
    signed = compared.session.state.review.response
    assert (signed.category, signed.reader) == (Response.PROGRESSION, "A. Reader")
    assert signed.baseline == "2025-01-01"
    compared.commands.run("withdraw_response")
    answer(compared, "wrong baseline")
    assert compared.session.state.review.response is None
    assert compared.session.state.review.events[-1].act is ReviewAct.WITHDRAW_RESPONSE


def test_another_study_takes_no_signature(compared):
    choose(compared)
    compared.session.close()
    compared.response.accept()
    assert compared.session.state.review.responses == ()
    assert compared.session.state.message == STUDY_CHANGED
