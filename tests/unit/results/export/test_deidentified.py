"""A result that is handed on holds no name in any byte, and fits the de-identified study."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from dataclasses import replace
from datetime import date

import numpy as np
import pydicom
import pytest
from scipy import ndimage
from tests.helpers.dicom_files import edited_dicom
from tests.helpers.file_search import files_below
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens import Result, open_study
from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import (
    DrawingMethod,
    Extra,
    MrSequence,
    PromptKind,
    Region,
    ReviewAct,
    ReviewState,
)
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.prompts import PromptRound
from lesionlens.base.records.response import (
    Clinical,
    Criterion,
    Disease,
    Response,
    SignedResponse,
    Steroids,
)
from lesionlens.base.records.review import (
    WHOLE_STUDY,
    Outline,
    Review,
    ReviewEvent,
    UnaidedMark,
    UnaidedRead,
)
from lesionlens.base.records.signed_measures import measures_of
from lesionlens.base.records.study import PreparationStep, StepName, StudyKind
from lesionlens.base.records.vanished_lesion import VanishedLesion
from lesionlens.imaging.deidentification.folder import deidentify_folder
from lesionlens.imaging.deidentification.profile import Options
from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms
from lesionlens.results.export.deidentified import PICTURES_OF_THE_HEAD, deidentify
from lesionlens.results.export.exporter import save
from lesionlens.results.review import store
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import read_result, read_reviewed, reopen_folder

NAME = "Plantedname"
ADDED, MARK = "2.25.6464646464646464", "2.25.7575757575757575"
GONE, OWN, EARLIER_UID = "2.25.4242424242424242", "2.25.5353535353535353", "1.2.840.99.4711471147"
NAMES = Pseudonyms(b"k" * 32)


def inside(path):
    """Every byte of a file, packed ones unpacked."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content += gzip.decompress(content)
    if path.suffix == ".pdf":
        for packed in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
            try:
                content += zlib.decompress(packed)
            except zlib.error:
                continue
    return content + path.name.encode()


@pytest.fixture(params=[StudyKind.DICOM, StudyKind.NIFTI])
def analysis(request, tmp_path, two_lesions):
    """An analysis with names in headers, file names, warnings and review."""
    folder = tmp_path / f"{NAME} study"
    study = write_study(
        two_lesions, folder, kind=request.param, sequences=(MrSequence.T1C, MrSequence.FLAIR)
    )
    series = {}
    for key, one in study.series.items():
        files = []
        for number, file in enumerate(one.files):
            path = file.path.with_name(f"{NAME}_{number}_{file.path.name}")
            file.path.rename(path)
            if request.param is StudyKind.DICOM:
                with edited_dicom(path) as dataset:
                    dataset.PatientName = dataset.PatientID = f"{NAME}^Person"
                    dataset.StudyDescription = f"Brain of {NAME}"
                    dataset.StudyDate = "20260105"
            files.append(replace(file, path=path, name=f"{NAME}/{path.name}"))
        series[key] = replace(one, files=tuple(files), description=f"{NAME} {key}",
                              detected_by=f"SeriesDescription '{NAME} T1'")  # fmt: skip
    notice = f"{series[MrSequence.T1C].files[0].name!r}: odd"
    study = replace(study, name=f"{NAME} study", series=series, notices=(notice,))
    made = make_analysis(two_lesions, study)
    uid = made.findings.candidates[0].tracking_uid
    event = ReviewEvent(
        uid, ReviewState.ACCEPTED, f"Dr. {NAME}", "2026-01-05T10:00:00Z", f"{NAME} had surgery"
    )
    followup = earlier(made)
    response = SignedResponse(
        Response.STABLE, None, Criterion.VOLUMETRIC, Disease.ENHANCING, Steroids.SAME,
        Clinical.SAME, "2025-03-04", "2025-03-04", ("nadir 2025-03-04: 3.5 → 3.6 ml",),
        f"Prof. {NAME}", "2026-01-05T11:00:00Z", measures_of(followup.points),
    )  # fmt: skip
    withdrawn = replace(response, time="2026-01-05T10:30:00Z")
    act = ReviewEvent(
        WHOLE_STUDY, ReviewState.UNREVIEWED, f"Prof. {NAME}", "2026-01-05T10:40:00Z", "by mistake",
        ReviewAct.WITHDRAW_RESPONSE, response=withdrawn,
    )  # fmt: skip
    review = Review((event, act), responses=(withdrawn, response))
    return replace(made, review=review, followup=followup)


def earlier(made):
    """An examination of last year, with a lesion that is gone and one that split."""
    now = tuple(LesionMeasurement.of(c) for c in made.findings.candidates)
    gone = replace(now[0], tracking_uid=GONE)
    points = (
        TimePoint("2025-03-04", EARLIER_UID, (gone, *now), True, tangled=(GONE,)),
        TimePoint("2026-01-05", made.study.uid, now, True),
    )
    changes = (*(Change(one, one) for one in now), Change(gone, None))
    rows = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))
    alignment = Alignment(rows, 0.0, 0.0, False, "T1c")
    left = VanishedLesion(GONE, (1.0, 2.0, 3.0), 5.0)
    return Comparison(points, changes, alignment, {now[0].tracking_uid: OWN}, (left,))


def test_no_name_is_in_any_byte(analysis, tmp_path):
    nameless = deidentify(analysis, NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    files = files_below(tmp_path / "out")
    assert {"report.html", "run.json", "review.json"} <= {path.name for path in files}
    dicom = analysis.study.kind is StudyKind.DICOM
    assert any(path.suffix == ".dcm" for path in files) is dicom
    for path in files:
        held = inside(path).lower()
        assert NAME.lower().encode() not in held, path.name
        for candidate in analysis.findings.candidates:
            assert candidate.tracking_uid.encode() not in held, path.name
        assert b"2026-01-05" not in held, path.name
        assert b"20260105" not in held, path.name
        for earlier_day in (b"2025-03-04", b"20250304"):
            assert earlier_day not in held, path.name
        for uid in (GONE, EARLIER_UID, OWN):
            assert uid.encode() not in held, path.name
    reported = json.loads((tmp_path / "out" / "findings.json").read_text())
    first = reported["candidates"][0]
    assert first["review"]["state"] == "accepted"
    assert first["review"]["reader"] == "reader 1"
    then, now = json.loads((tmp_path / "out" / "followup.json").read_text())["points"]
    days = date.fromisoformat(now["date"]) - date.fromisoformat(then["date"])
    assert days == date(2026, 1, 5) - date(2025, 3, 4)
    assert then["study_uid"] == NAMES.uid(EARLIER_UID)
    review = store.load(tmp_path / "out")
    assert review.response.reader == "reader 2"
    assert review.response.steps == (f"nadir {then['date']}: 3.5 → 3.6 ml",)
    assert len(review.responses) == 2
    assert PICTURES_OF_THE_HEAD in reported["warnings"]
    assert not any("surface of the head" in warning for warning in reported["warnings"])


def outline_of(uid, labels):
    """An outline as the window makes it: the box of its voxels."""
    where = np.argwhere(labels > 0)
    corner, end = where.min(axis=0), where.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(corner, end, strict=True))
    return Outline(uid, tuple(int(a) for a in corner), labels[box].astype(np.uint8).copy())


def redrawn(analysis):
    """The analysis with a candidate shrunk, one rejected, and one added by prompts."""
    labels, ids = analysis.volumes.labels.data, analysis.findings.components
    first, second = analysis.findings.candidates
    smaller = np.where(ndimage.binary_erosion(ids == first.id), labels, 0)
    added = np.zeros_like(labels)
    added[2:5, 2:5, 2:5] = 2
    prompts = (PromptRound(PromptKind.POINT, ((3, 3, 3),), (), Region.WT, 2, 4.5),)
    log = ReviewLog(analysis.review)
    log.decide(first.tracking_uid, ReviewState.EDITED, reader=f"Dr. {NAME}",
             outline=outline_of(first.tracking_uid, smaller), prompts=prompts)  # fmt: skip
    log.decide(second.tracking_uid, ReviewState.REJECTED, reader=f"Dr. {NAME}", reason=NAME)
    log.add(
        outline_of(ADDED, added), DrawingMethod.SEMIAUTOMATIC, reader=f"Dr. {NAME}", prompts=prompts
    )
    read = UnaidedRead(
        f"Dr. {NAME}", "2026-01-05T09:00:00Z", "2026-01-05T09:10:00Z", 600.0, "1 marked",
        (UnaidedMark(MARK, (1.0, 2.0, 3.0), 50),),
    )  # fmt: skip
    notices = (f"the network skipped {NAME} {MrSequence.T1C}",)
    edited = replace(
        analysis,
        review=replace(log.review, unaided=(read,)),
        findings=replace(analysis.findings, notices=notices),
    )
    return applied(edited)


def test_a_result_with_outlines_of_readers_opens_with_the_same_voxels_and_states(
    analysis, tmp_path
):
    """An outline's file is named by a digest that includes its tracking UID."""
    edited = redrawn(analysis)
    nameless = deidentify(edited, NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    opened = Result.open(tmp_path / "out")
    assert opened.sentence().startswith("1 candidate region. Added by a reader: 1.")
    assert np.array_equal(opened.labels.data, edited.volumes.labels.data)
    held = edited.findings.candidates
    assert [c.tracking_uid for c in opened.candidates] == [NAMES.uid(c.tracking_uid) for c in held]
    saved = read_reviewed(tmp_path / "out")
    for one in held:
        new = NAMES.uid(one.tracking_uid)
        assert saved.review.state_of(new) is edited.review.state_of(one.tracking_uid)
        assert saved.review.prompts_of(new) == edited.review.prompts_of(one.tracking_uid)
    for uid, outline in edited.review.outlined.items():
        assert np.array_equal(saved.review.outlined[NAMES.uid(uid)].labels, outline.labels)
    assert saved.review.added == {NAMES.uid(ADDED): DrawingMethod.SEMIAUTOMATIC}
    assert saved.review.unaided[0].marks[0].uid == NAMES.uid(MARK)
    whole = read_result(tmp_path / "out")
    assert np.array_equal(whole.volumes.labels.data, edited.original.labels.data)
    assert saved.followup.own_uids == {
        NAMES.uid(now): NAMES.uid(own) for now, own in analysis.followup.own_uids.items()
    }
    assert len(saved.review.events) == len(edited.review.events)
    originals = (*(c.tracking_uid for c in held), ADDED, MARK, GONE, OWN, EARLIER_UID, NAME)
    for path in files_below(tmp_path / "out"):
        content = inside(path).lower()
        for word in originals:
            assert word.lower().encode() not in content, (path.name, word)


def test_objects_and_text_files_have_the_same_uids(analysis, tmp_path):
    if analysis.study.kind is not StudyKind.DICOM:
        pytest.skip("NIfTI has no objects")
    edited = redrawn(analysis)
    nameless = deidentify(edited, NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    reported = json.loads((tmp_path / "out" / "findings.json").read_text())
    sent = {c["tracking_uid"] for c in reported["candidates"] if c["review"]["state"] != "rejected"}
    segments = pydicom.dcmread(tmp_path / "out" / "dicom" / "seg.dcm").SegmentSequence
    assert {s.TrackingUID for s in segments} >= sent
    report = str(pydicom.dcmread(tmp_path / "out" / "dicom" / "sr.dcm"))
    assert all(uid in report for uid in sent)
    deidentify_folder(analysis.study.root, tmp_path / "study", NAMES, Options())
    study = open_study(tmp_path / "study")
    again = reopen_folder(tmp_path / "out" / "dicom", study, edited.prepared)
    assert sent <= {c.tracking_uid for c in again.findings.candidates}


def test_a_session_name_in_place_of_a_date_is_in_no_byte(analysis, tmp_path):
    """It was removed from the examinations, but stayed in a response that was signed on them."""
    session = f"{NAME}Baseline"
    first, last = analysis.followup.points
    points = (replace(first, date=session), replace(last, date=""))
    signed = replace(
        analysis.review.response,
        baseline=session, nadir=session, steps=(f"nadir {session}: 3.5 → 3.6 ml",), time="once",
    )  # fmt: skip
    review = replace(analysis.review, responses=(*analysis.review.responses, signed))
    named = replace(analysis, review=review, followup=replace(analysis.followup, points=points))
    nameless = deidentify(named, NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    for path in files_below(tmp_path / "out"):
        assert NAME.lower().encode() not in inside(path).lower(), path.name
    points = json.loads((tmp_path / "out" / "followup.json").read_text())["points"]
    assert [point["date"] for point in points] == ["", ""]
    response = store.load(tmp_path / "out").responses[-1]
    assert (response.baseline, response.nadir) == ("examination 1", "examination 1")
    assert response.steps == ("nadir examination 1: 3.5 → 3.6 ml",)
    assert response.time == ""


def test_days_in_sentences_are_shifted_like_all_others(analysis, tmp_path):
    """A warning and an unaided read told the day, and with it by how many days all are shifted."""
    days = "The series were acquired days apart (T1c 2026-01-05, FLAIR 2026-01-09)"
    read = UnaidedRead(
        "A. Reader", "2026-01-05T09:00:00Z", "2026-01-05T09:10:00Z", 600.0,
        "1 marked; opened on 2026-01-05 with the analysis not hidden",
    )  # fmt: skip
    told = replace(
        analysis,
        study=replace(analysis.study, notices=(days,)),
        review=replace(analysis.review, unaided=(read,)),
    )
    nameless = deidentify(told, NAMES, Options())
    assert "(T1c 2026-01-05, FLAIR" not in nameless.analysis.study.notices[1]
    assert nameless.analysis.study.notices[1].startswith(days[:40])
    (unaided,) = nameless.analysis.review.unaided
    assert unaided.statement == read.statement.replace("2026-01-05", unaided.time[:10])
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    for path in files_below(tmp_path / "out"):
        content = inside(path)
        assert not any(day in content for day in (b"2026-01-05", b"2026-01-09")), path.name
    dated = deidentify(told, NAMES, Options(full_dates=True)).analysis
    assert days in dated.study.notices


def test_notices_name_nothing_from_the_study(analysis):
    """Warnings kept the names of series without usable images, and words of file names."""
    notices = (
        f'Series "T2 {NAME} 12345678": no usable PixelSpacing.',
        f"Series \"T1 MPRAGE\" was set aside: '{NAME}/1.dcm' and 'O\\'{NAME}.dcm' differ.",
        f"The names of the files begin with different words ('{NAME.lower()}', 'ax').",
        "The patient's sequences' names are 'T1' and \"T2\".",
    )
    made = deidentify(
        replace(analysis, study=replace(analysis.study, notices=notices)), NAMES, Options()
    )
    assert made.analysis.study.notices[1:] == (
        'Series "REMOVED": no usable PixelSpacing.',
        'Series "T1 MPRAGE" was set aside: "REMOVED" and "REMOVED" differ.',
        "The names of the files begin with different words (\"REMOVED\", 'ax').",
        "The patient's sequences' names are 'T1' and \"T2\".",
    )


def test_the_stored_steps_of_a_preparation_name_nothing_from_the_study(analysis):
    steps = (PreparationStep(StepName.BRAIN, None, done=True, message=f'in "T1 {NAME}"'),)
    reopened = replace(analysis, run=replace(analysis.run, preparation=steps))
    (step,) = deidentify(reopened, NAMES, Options()).analysis.run.preparation
    assert (step.step, step.message) == (StepName.BRAIN, 'in "REMOVED"')


def test_checks_and_steps_name_nothing_from_the_study(analysis):
    """Each sentence of an analysis and of its preparation may quote a series or state a day."""
    told, cleaned = f'"T1 {NAME}" of 2026-01-05', '"REMOVED" of '
    check = replace(analysis.findings.quality[0], message=told)
    step = PreparationStep(StepName.BRAIN, None, done=True, message=told)
    named = replace(
        analysis,
        findings=replace(analysis.findings, quality=(check,)),
        prepared=replace(analysis.prepared, quality=(check,), steps=(step,)),
    )
    made = deidentify(named, NAMES, Options()).analysis
    records = (*made.findings.quality, *made.prepared.quality, *made.prepared.steps)
    assert len(records) == 3
    for record in records:
        assert record.message.startswith(cleaned)
        assert "2026-01-05" not in record.message


def test_a_signed_response_is_as_valid_as_it_was(analysis, tmp_path):
    """Its measurements are compared in the order of their UIDs."""
    signed = replace(analysis.review.responses[-1], measures=measures_of(analysis.compared.points))
    made = replace(analysis, review=replace(analysis.review, responses=(signed,)))
    assert not made.response_outdated
    assert not deidentify(made, NAMES, Options()).analysis.response_outdated


def test_contours_and_key_slices_keep_the_names_of_regions(analysis, tmp_path):
    """Contours had no names, and key slices were invalid without the labels of their frames."""
    if analysis.study.kind is not StudyKind.DICOM:
        pytest.skip("NIfTI has no DICOM objects")
    asked = replace(analysis.options, also=frozenset(Extra), include_unaccepted=True)
    analysis = replace(analysis, options=asked)
    nameless = deidentify(analysis, NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    contours, slices = (
        pydicom.dcmread(tmp_path / "out" / "dicom" / f"{name}.dcm")
        for name in ("contours", "key_slices")
    )
    assert contours.StructureSetROISequence[0].ROIName == "1 whole tumour"
    assert contours.SeriesDescription == "LesionLens contours, 1 of 2 reviewed (research)"
    assert slices.FrameLabelVector == ["Candidate 1", "Candidate 2"]


def test_without_it_the_names_are_there(analysis, tmp_path):
    save(analysis, tmp_path / "out")
    assert NAME.encode() in (tmp_path / "out" / "report.html").read_bytes()


def test_it_fits_the_deidentified_study(analysis, tmp_path):
    if analysis.study.kind is not StudyKind.DICOM:
        pytest.skip("NIfTI has no UIDs")
    nameless = deidentify(analysis, NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    deidentify_folder(analysis.study.root, tmp_path / "study", NAMES, Options())
    there = {
        str(pydicom.dcmread(p).SOPInstanceUID): pydicom.dcmread(p)
        for p in (tmp_path / "study").rglob("*.dcm")
    }
    segmentation = pydicom.dcmread(tmp_path / "out" / "dicom" / "seg.dcm")
    for source in segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
        one = there[source.ReferencedSOPInstanceUID]
        assert one.StudyInstanceUID == segmentation.StudyInstanceUID
        assert one.PatientID == segmentation.PatientID
        assert one.StudyDate == segmentation.StudyDate
    reported = json.loads((tmp_path / "out" / "findings.json").read_text())
    uids = {c["tracking_uid"] for c in reported["candidates"]}
    assert {s.TrackingUID for s in segmentation.SegmentSequence} <= uids
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["study_uid"] == segmentation.StudyInstanceUID
    assert run["inputs"] == []


@pytest.mark.parametrize(
    ("sequence", "stated"),
    [(MrSequence.T1, ""), (MrSequence.T1C, ""), (MrSequence.T1, "OTHER")],
)
def test_a_patient_whose_images_differ_in_the_id_has_one_pseudonym(
    two_lesions, tmp_path, sequence, stated
):
    """A reader had confirmed the patient; report, objects and images were of two."""
    folder = tmp_path / "study"
    written = write_study(
        two_lesions, folder, kind=StudyKind.DICOM, sequences=(MrSequence.T1, MrSequence.T1C)
    )
    for file in written.series[sequence].files:
        with edited_dicom(file.path) as dataset:
            dataset.PatientID = stated
    study = open_study(folder, same_patient=True)
    nameless = deidentify(make_analysis(two_lesions, study), NAMES, Options())
    save(nameless.analysis, tmp_path / "out", finish=nameless.finish)
    deidentify_folder(folder, tmp_path / "images", NAMES, Options(keep_faces=True))
    copies = tmp_path / "images" / NAMES.uid(study.series[MrSequence.T1C].uid)
    headers = [
        pydicom.dcmread(path, stop_before_pixels=True)
        for path in (*(tmp_path / "out" / "dicom").iterdir(), *copies.iterdir())
    ]
    assert {header.PatientID for header in headers} == {nameless.analysis.study.name}
    assert len({header.StudyDate for header in headers}) == 1
    shifted_days = date(2026, 1, 5) - date.fromisoformat(nameless.analysis.run.started[:10])
    assert shifted_days.days == NAMES.date_shift_days("SYNTHETIC-1")
