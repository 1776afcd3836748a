"""Diameters and a response that a reader gave: kept, in every file, and back from the archive."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.findings.edits import applied, without_edits
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.followup import LesionMeasurement, TimePoint, measures_of
from lesionlens.base.records.response import (
    Response,
    SignedResponse,
)
from lesionlens.base.records.study import StudyKind
from lesionlens.cli.response import response
from lesionlens.napari.model.wording.followup import shown_followup
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.dicom.identity import is_unreviewed_description
from lesionlens.results.export.report import report_html
from lesionlens.results.review import report_items, store
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import reopen_folder
from lesionlens.testing import Lesion, make_patient

ENDS = (((-20.0, 8.0, 26.0), (1.0, 8.0, 26.0)), ((-10.0, 2.0, 26.0), (-10.0, 14.5, 26.0)))
SIGNED = SignedResponse(Response.STABLE, "2025-01-01", "A. Reader", "2026-01-05T10:15:00Z")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    patient = make_patient(spacing_mm=4.0, lesions=(Lesion(),))
    study = write_study(
        patient,
        tmp_path_factory.mktemp("measured") / "study",
        kind=StudyKind.DICOM,
        sequences=(MrSequence.T1C, MrSequence.FLAIR),
        how=Acquisition("LPS"),
    )
    return make_analysis(patient, study)


@pytest.fixture(scope="module")
def measured(plain: Analysis) -> Analysis:
    log = ReviewLog()
    log.place_diameters(plain.findings.candidates[0].tracking_uid, ENDS, reader="A. Reader")
    points = (
        TimePoint(
            "",
            None,
            tuple(
                map(
                    LesionMeasurement.of,
                    applied(replace(plain, review=log.review)).findings.candidates,
                )
            ),
        ),
    )
    log.sign_response(replace(SIGNED, measures=measures_of(points)))
    return applied(replace(plain, review=log.review))


def test_a_report_with_a_readers_response_or_diameters_is_not_rejected_as_unreviewed(
    measured: Analysis, plain: Analysis, tmp_path: Path
) -> None:
    """Another reader's `--supersede` named it in a rejection note."""
    log = ReviewLog()
    log.place_diameters(plain.findings.candidates[0].tracking_uid, ENDS, reader="A. Reader")
    nothing_flagged = replace(plain.findings, candidates=())
    for name, analysis, expected in (
        ("plain", plain, "not reviewed"),
        ("signed", measured, "response signed"),
        ("diameters", applied(replace(plain, review=log.review)), "0 of 1 reviewed"),
        ("nothing", replace(plain, findings=nothing_flagged), "no candidate"),
    ):
        (tmp_path / name).mkdir()
        DicomExporter().write(analysis, tmp_path / name)
        report = pydicom.dcmread(tmp_path / name / "dicom" / "sr.dcm")
        assert report.SeriesDescription == f"LesionLens measurements, {expected} (research)"
        assert is_unreviewed_description(report.SeriesDescription) is not report_items.is_reviewed(
            report
        )


def test_other_diameters_put_a_signed_response_out_of_date(
    plain: Analysis, measured: Analysis, tmp_path: Path
) -> None:
    assert not measured.response_outdated
    log = ReviewLog(measured.review)
    short = (ENDS[0], ((-10.0, 2.0, 26.0), (-10.0, 11.0, 26.0)))
    log.place_diameters(plain.findings.candidates[0].tracking_uid, short)
    later = applied(replace(plain, review=log.review))
    assert later.response_outdated
    assert "based on other measurements" in report_html(later)
    assert "more steroids" not in report_html(later)
    assert "based on other measurements or decisions: sign it again" in shown_followup(later).sums
    DicomExporter().write(later, tmp_path)
    report = pydicom.dcmread(tmp_path / "dicom" / "sr.dcm")
    assert report_items.response_of(report) is None
    assert (
        b"omitted: it was signed on other measurements"
        in (tmp_path / "dicom" / "sr.dcm").read_bytes()
    )


def test_a_decision_made_later_puts_a_signed_response_out_of_date(
    plain: Analysis, measured: Analysis, tmp_path: Path
) -> None:
    """The lesion was undecided when the response was signed, of which the proposal depends."""
    uid = plain.findings.candidates[0].tracking_uid
    log = ReviewLog(measured.review)
    log.decide(uid, ReviewState.ACCEPTED, reader="A. Reader")
    accepted = applied(replace(plain, review=log.review))
    assert accepted.response_outdated
    lesions = tuple(
        LesionMeasurement.of(c, ReviewState.ACCEPTED) for c in accepted.findings.candidates
    )
    log.sign_response(replace(SIGNED, measures=measures_of((TimePoint("", None, lesions),))))
    again = applied(replace(plain, review=log.review))
    assert not again.response_outdated
    DicomExporter().write(again, tmp_path)
    report = pydicom.dcmread(tmp_path / "dicom" / "sr.dcm")
    assert report_items.response_of(report) == again.review.response


def test_a_response_is_withdrawn_for_a_reason_and_signed_anew(
    measured: Analysis, tmp_path: Path
) -> None:
    store.save(measured, tmp_path)
    for name in ("findings.json", "run.json"):  # not read to withdraw
        (tmp_path / name).touch()
    with pytest.raises(UnusableInputError, match="no reason"):
        store.change_response(tmp_path, lambda log: log.withdraw_response(" ", reader="A"))
    for nobody in (None, " "):
        with pytest.raises(UnusableInputError, match="reader's name"):
            log = ReviewLog(measured.review)
            log.withdraw_response("wrong", reader=nobody)
    kept = (tmp_path / "review.json").read_bytes()
    with pytest.raises(UnusableInputError, match="--sign NAME"):
        response(tmp_path, withdraw="wrong")
    with pytest.raises(UnusableInputError):
        response(tmp_path, withdraw="wrong", sign=" ")
    assert (tmp_path / "review.json").read_bytes() == kept
    with pytest.raises(UnusableInputError, match="--sign NAME"):
        response(tmp_path, category=Response.STABLE)
    printed = response(tmp_path, withdraw="wrong", sign="B.  Reader").output
    assert any("do not state this yet" in str(line) for line in printed)
    assert store.load(tmp_path).events[-1].reader == "B. Reader"
    (tmp_path / "review.json").write_bytes(kept)
    store.change_response(tmp_path, lambda log: log.withdraw_response("wrong", reader="A"))
    with pytest.raises(UnusableInputError, match=r"no signed response.*nothing was changed"):
        response(tmp_path, withdraw="wrong", sign="A")
    back = store.load(tmp_path)
    assert (back.response, len(back.responses)) == (None, 1)
    assert (back.events[-1].act, back.events[-1].reason) == ("withdraw response", "wrong")
    again = replace(SIGNED, time="2026-02-05T10:15:00Z")
    store.change_response(tmp_path, lambda log: log.sign_response(again))
    assert store.load(tmp_path).response == again


def test_the_readers_diameters_take_the_place_of_those_measured(
    plain: Analysis, measured: Analysis
) -> None:
    (one,) = measured.findings.candidates
    assert (one.longest_axial_diameter_mm, one.perpendicular_diameter_mm) == (21.0, 12.5)
    assert (one.rano_measurable, one.diameters_by) == (True, Source.READER)
    assert without_edits(measured).findings.candidates == plain.findings.candidates
    short = (ENDS[0], ((-10.0, 2.0, 26.0), (-10.0, 11.0, 26.0)))
    log = ReviewLog(measured.review)
    log.place_diameters(one.tracking_uid, short)
    again = applied(replace(plain, review=log.review)).findings.candidates[0]
    assert again.rano_measurable is False


def test_decisions_and_undo_leave_the_diameters_that_held(plain: Analysis) -> None:
    uid = plain.findings.candidates[0].tracking_uid
    log = ReviewLog()
    log.decide(uid, ReviewState.ACCEPTED, reason="seen")
    log.place_diameters(uid, ENDS)
    assert (log.review.state_of(uid), log.review.of(uid).reason) == (ReviewState.ACCEPTED, "seen")
    log.decide(uid, ReviewState.REJECTED)
    assert log.review.diameters_of(uid) == ENDS
    log.undo()
    log.undo()
    assert log.review.diameters_of(uid) is None
    assert log.review.state_of(uid) is ReviewState.ACCEPTED


def test_both_lie_in_the_review_of_a_result(measured: Analysis, tmp_path: Path) -> None:
    store.save(measured, tmp_path)
    assert store.load(tmp_path) == measured.review
    second = replace(SIGNED, category=Response.PARTIAL)
    store.change_response(tmp_path, lambda log: log.sign_response(second))
    assert [one.category for one in store.load(tmp_path).responses] == ["SD", "PR"]


def test_both_come_back_from_the_archive(measured: Analysis, tmp_path: Path) -> None:
    study = archived(measured, tmp_path)
    report = pydicom.dcmread(study / "sr.dcm")
    assert report_items.response_of(report) == measured.review.response
    back = reopen_folder(study, measured.study, measured.prepared)
    (one,) = back.findings.candidates
    np.testing.assert_allclose(back.review.diameters_of(one.tracking_uid), ENDS, atol=1e-3)
    assert one.longest_axial_diameter_mm == pytest.approx(21.0, abs=1e-3)
    assert back.review.responses == measured.review.responses
    assert not back.response_outdated


def archived(measured: Analysis, folder: Path) -> Path:
    """Return a folder with the images of a study and the objects of its result."""
    DicomExporter().write(measured, folder)
    shutil.copytree(measured.study.root, folder / "study")
    for path in (folder / "dicom").iterdir():
        shutil.copy(path, folder / "study" / path.name)
    return folder / "study"
