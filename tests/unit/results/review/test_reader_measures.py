"""Diameters and a response that a reader gave: kept, in every file, and back from the archive."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests.helpers.dicom_files import edited_dicom
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.findings.edits import applied, without_edits
from lesionlens.base import codes
from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.labels import Identity, Label, MrSequence, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.followup import LesionMeasurement, TimePoint
from lesionlens.base.records.response import (
    Response,
    SignedMeasure,
    SignedResponse,
)
from lesionlens.base.records.review import CAVITY, Outline, Review
from lesionlens.base.records.signed_measures import measures_of
from lesionlens.base.records.study import StudyKind
from lesionlens.cli.response import response
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.napari.model.wording.followup import shown_followup
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.dicom.identity import is_unreviewed_description
from lesionlens.results.export.report import report_html
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.review import report_items, store
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import reopen_folder

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


def test_placed_diameters_have_the_same_lengths_when_they_are_read_again(plain, tmp_path):
    """The ends were rounded on the disk alone: 6.015 mm was exported, and reopened as 6.014 mm."""
    log, uid = ReviewLog(), plain.findings.candidates[0].tracking_uid
    longest = ((-11.804515, -0.461828, 26.0), (-17.812274, -0.175857, 26.0))
    log.place_diameters(uid, (longest, ((-12.0, 0.0, 26.0), (-12.0, 3.0004, 26.0))), reader="A")
    live = applied(replace(plain, review=log.review))
    store.save(live, tmp_path)
    again = applied(replace(plain, review=store.load(tmp_path)))
    assert again.findings.candidates == live.findings.candidates
    assert again.review.events == live.review.events


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


def test_a_report_whose_response_alone_was_signed_says_so(
    measured: Analysis, plain: Analysis, tmp_path: Path
) -> None:
    """It said that nobody had reviewed the result, below the reader's signature."""
    for name, analysis, expected in (
        ("plain", plain, b"Nobody has reviewed this result."),
        ("signed", measured, b"Nobody has reviewed this result; a reader signed the response"),
    ):
        (tmp_path / name).mkdir()
        DicomExporter().write(analysis, tmp_path / name)
        report = tmp_path / name / "dicom" / "sr.dcm"
        assert expected in report.read_bytes()
        assert report_items.is_reviewed(pydicom.dcmread(report)) is (name == "signed")


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


def test_a_cavity_outlined_later_puts_a_signed_response_out_of_date(
    plain: Analysis, measured: Analysis, tmp_path: Path
) -> None:
    """What is gone may have been removed: no response is proposed then."""
    log = ReviewLog(measured.review)
    labels = np.full((2, 2, 2), Label.CAVITY, np.uint8)
    log.decide(
        CAVITY, ReviewState.EDITED, reader="A. Reader", outline=Outline(CAVITY, (1, 1, 1), labels)
    )
    after = applied(replace(plain, review=log.review))
    assert after.volumes.cavity_ml
    assert after.response_outdated
    lesions = tuple(map(LesionMeasurement.of, after.findings.candidates))
    points = (TimePoint("", None, lesions, cavity_ml=after.volumes.cavity_ml),)
    log.sign_response(replace(SIGNED, measures=measures_of(points)))
    again = applied(replace(plain, review=log.review))
    assert not again.response_outdated
    DicomExporter().write(again, tmp_path)
    report = pydicom.dcmread(tmp_path / "dicom" / "sr.dcm")
    assert report_items.response_of(report) == again.review.response
    study = tmp_path / "study"
    shutil.copytree(measured.study.root, study)
    for path in (tmp_path / "dicom").iterdir():
        shutil.copy(path, study / path.name)
    assert not reopen_folder(study, measured.study, measured.prepared).response_outdated


@pytest.mark.parametrize("words", [{}, {"withdraw": "wrong", "sign": "A. Reader"}])
def test_a_folder_without_a_result_has_no_response(tmp_path: Path, words: dict[str, str]) -> None:
    """A mistyped folder was told to analyse the study again, or to move its review.json away."""
    with pytest.raises(ReadError, match=r"no result in 'nothere'.*Check the path"):
        response(tmp_path / "nothere", **words)  # type: ignore[arg-type]


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
    with pytest.raises(UnusableInputError, match="empty name"):
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


@pytest.mark.parametrize("perpendicular_mm", [9.0, 11.0])
def test_diameters_do_not_make_a_lesion_of_one_slice_measurable(
    plain: Analysis, perpendicular_mm: float
) -> None:
    """That its own diameters suffice shows that it is not measurable for another reason."""
    (one,) = plain.findings.candidates
    thin = replace(one, perpendicular_diameter_mm=perpendicular_mm, rano_measurable=False)
    drawn = thin.with_diameters(21.0, 12.5)
    assert drawn.perpendicular_diameter_mm == 12.5
    assert drawn.rano_measurable is (perpendicular_mm < 10)


def test_the_sentence_names_the_slice_of_the_readers_diameters(
    plain: Analysis, measured: Analysis
) -> None:
    (one,), grid = plain.findings.candidates, plain.volumes.labels.grid
    slices = {}
    for up_mm in (0.0, 8.0, -8.0):
        moved = tuple(tuple((x, y, z + up_mm) for x, y, z in line) for line in ENDS)
        log = ReviewLog()
        log.place_diameters(one.tracking_uid, moved)
        drawn = applied(replace(plain, review=log.review))
        words = Sentences(drawn).of(drawn.findings.candidates[0])
        slices[up_mm] = int(re.search(r"axial slice (\d+) of", words)[1])
    steps = {up: slices[up] - slices[0.0] for up in slices}
    assert steps == {up: round(up / float(grid.spacing_mm[2])) for up in slices}


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


def test_a_signed_study_takes_no_response() -> None:
    log = ReviewLog()
    log.sign("nothing further seen", reader="A. Reader")
    with pytest.raises(UnusableInputError, match="signed"):
        log.sign_response(SIGNED)


def test_both_lie_in_the_review_of_a_result(measured: Analysis, tmp_path: Path) -> None:
    store.save(measured, tmp_path)
    assert store.load(tmp_path) == measured.review
    second = replace(SIGNED, category=Response.PARTIAL)
    store.change_response(tmp_path, lambda log: log.sign_response(second))
    assert [one.category for one in store.load(tmp_path).responses] == ["SD", "PR"]


def test_the_report_states_the_reader_s_category(measured: Analysis) -> None:
    page = report_html(measured)
    assert "SD (stable disease), signed by A. Reader" in page
    assert "Baseline: 2025-01-01." in page


def test_a_hidden_time_leaves_no_gap_behind_the_reader_s_name(measured: Analysis) -> None:
    options = ExportOptions(hidden=frozenset({Identity.DATE}))
    page = report_html(replace(measured, options=options))
    assert "signed by A. Reader.<" in page


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


@pytest.mark.parametrize(
    ("code", "keyword", "value", "notice"),
    [
        (codes.RESPONSE_MEASURES, "TextValue", "[{", "signed response"),
        (codes.RESPONSE_MEASURES, "TextValue", "3", "signed response"),
        (codes.RESPONSE_MEASURES, "TextValue", None, "signed response"),
        (codes.RESPONSE, "ConceptCodeSequence", None, "signed response"),
        (codes.READER_DIAMETERS, "TextValue", "1,2,3;4,5,6", "Diameters of a reader"),
        (codes.READER_DIAMETERS, "TextValue", "1,2,x;1,2,3;1,2,3;1,2,3", "Diameters of a reader"),
        (codes.READER_DIAMETERS, "TextValue", "1e9,2,3;1,2,3;1,2,3;1,2,3", "Diameters of a reader"),
        (codes.REVIEW_READER, "PersonName", None, None),
        (codes.REVIEW_TIME, "DateTime", None, None),
    ],
)
def test_what_a_reader_stated_is_never_lost_in_silence(
    measured: Analysis, tmp_path: Path, code, keyword, value, notice
) -> None:
    """Objects that another program changed: nothing was said, or the study did not open."""
    study = archived(measured, tmp_path)
    with edited_dicom(study / "sr.dcm") as report:
        for item in report_items.iter_items(report):
            if item.ConceptNameCodeSequence[0].CodeValue == code.value:
                item.pop(keyword, None)
                if value is not None:
                    setattr(item, keyword, value)
    review, warnings = _reopened(study, measured)
    said = [text for text in warnings if "cannot be read" in text]
    assert len(said) == (notice is not None)
    assert all(text.startswith(f"{'The ' if notice[0] == 's' else ''}{notice}") for text in said)
    assert (review.response is None) == (notice == "signed response")
    (one,) = measured.findings.candidates
    assert (review.diameters_of(one.tracking_uid) is None) == (notice == "Diameters of a reader")


def _reopened(study: Path, measured: Analysis) -> tuple[Review, tuple[str, ...]]:
    back = reopen_folder(study, measured.study, measured.prepared)
    return back.review, back.warnings


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("share", [0.075, 0.3, 0.4, 0.7, 0.9, 0.999])
def test_a_report_that_ends_early_is_refused(measured: Analysis, tmp_path: Path, share) -> None:
    """It was read as a shorter one: decisions and response were missing without a word."""
    report = archived(measured, tmp_path) / "sr.dcm"
    report.write_bytes(report.read_bytes()[: int(report.stat().st_size * share)])
    with pytest.raises(ReadError, match=r"'sr\.dcm', which cannot be read completely"):
        reopen_folder(report.parent, measured.study, measured.prepared)


def test_a_response_holds_where_a_deferred_lesion_was_not_sent(tmp_path: Path) -> None:
    """It counted the lesion, and was called outdated when the objects were opened and sent."""
    patient = make_patient(spacing_mm=4.0, lesions=(Lesion(), Lesion((30.0, -40.0, 12.0), 12.0)))
    sequences, how = (MrSequence.T1C, MrSequence.FLAIR), Acquisition("LPS")
    place = tmp_path / "study"
    study = write_study(patient, place, kind=StudyKind.DICOM, sequences=sequences, how=how)
    plain, log = make_analysis(patient, study), ReviewLog()
    first, second = (candidate.tracking_uid for candidate in plain.findings.candidates)
    log.decide(first, ReviewState.ACCEPTED, reader="A. Reader")
    log.place_diameters(first, ENDS, reader="A. Reader")
    log.decide(second, ReviewState.DEFERRED, reader="A. Reader")
    lesions = tuple(
        LesionMeasurement.of(c, log.review.state_of(c.tracking_uid))
        for c in applied(replace(plain, review=log.review)).findings.candidates
    )
    log.sign_response(replace(SIGNED, measures=measures_of((TimePoint("", None, lesions),))))
    signed = applied(replace(plain, review=log.review))
    assert not signed.response_outdated
    DicomExporter().write(signed, tmp_path)
    shutil.copytree(tmp_path / "dicom", study.root / "result")
    back = reopen_folder(study.root, study, plain.prepared)
    assert [c.tracking_uid for c in back.findings.candidates] == [first]
    assert not back.response_outdated
    later = ReviewLog(back.review)
    later.decide(first, ReviewState.REJECTED, reader="A. Reader")
    assert applied(replace(back, review=later.review)).response_outdated


def test_a_response_holds_where_the_result_is_opened_without_its_comparison(
    measured: Analysis,
) -> None:
    """It was signed under the UIDs of the prior's lesions, and was called outdated."""
    signed = measured.review.response
    assert signed is not None
    others = tuple(replace(one, tracking_uid="2.25.1", ago=0) for one in signed.measures)
    earlier = tuple(replace(one, ago=1, whole_ml=9.0) for one in others)

    def outdated(measures: tuple[SignedMeasure, ...]) -> bool:
        responses = (replace(signed, measures=measures),)
        review = replace(measured.review, responses=responses)
        return replace(measured, review=review).response_outdated

    assert not outdated((*earlier, *others))
    assert outdated((*earlier, *others, *others))
    assert outdated((replace(others[0], longest_mm=(others[0].longest_mm or 0.0) + 1),))
    unknown = replace(others[0], longest_mm=None)
    assert outdated((unknown,))
