"""A review goes on from the archive alone: source images, Segmentation and report, ours or not."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, moved, write_study

from lesionlens.analysis.findings.edits import applied
from lesionlens.base import codes as own
from lesionlens.base.errors import ReadError
from lesionlens.base.labels import DrawingMethod, Label, MrSequence, Region, ReviewState, Source
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.attention import AttentionMaps
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.review import WHOLE_STUDY, Outline, Review, ReviewEvent
from lesionlens.base.records.study import StudyKind
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.imaging.reading.dicom.documents import newest_document
from lesionlens.imaging.reading.readers import REPORTED, open_study
from lesionlens.results.export.caveats import limits
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.exporter import save
from lesionlens.results.export.page import Page
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.review.from_dicom import from_dicom
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import prepare_and_reopen, read_result, reopen_folder
from lesionlens.results.review.report_items import iter_items

OWN_SOURCE = own.SOURCE.value
BIN = str(Path(sys.executable).parent)
DCMQI = shutil.which("itkimage2segimage", path=os.pathsep.join((BIN, os.environ["PATH"])))
BOTH = (MrSequence.T1C, MrSequence.FLAIR)
AXIAL = Acquisition("LPS", (4.0, 4.0, 8.0))
"""Half as many files, which take most of the time."""
TWO = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))


@pytest.fixture(scope="module")
def patient():
    return make_patient(spacing_mm=4.0, lesions=TWO)


@pytest.fixture(scope="module")
def made():
    """The analyses that were made before."""
    return {}


@pytest.fixture
def analysed(tmp_path, patient, made, tmp_path_factory):
    """`analysed(Acquisition("PIR", …))`: a DICOM study of the test's own, and its analysis."""

    def build(how=AXIAL):
        if how not in made:
            place = tmp_path_factory.mktemp("made") / "study"
            study = write_study(patient, place, kind=StudyKind.DICOM, sequences=BOTH, how=how)
            made[how] = make_analysis(patient, study)
        return replace(made[how], study=moved(made[how].study, tmp_path / "study"))

    return build


@pytest.fixture
def flair_series(patient, tmp_path):
    """`flair_series((2, 2, 5))`: the analysis of a FLAIR of the same head, of other voxels."""

    def build(spacing_mm):
        how = {"sequences": (MrSequence.FLAIR,), "how": Acquisition("LPS", spacing_mm)}
        study = write_study(patient, tmp_path / "flair", kind=StudyKind.DICOM, **how)
        return make_analysis(patient, study)

    return build


def _sent(analysis, folder):
    """Write the objects among the source images, as an archive gives them back."""
    DicomExporter().write(analysis, folder)
    for path in (folder / "dicom").iterdir():
        shutil.move(path, folder / "study" / path.name)
    (folder / "dicom").rmdir()
    return folder / "study"


def _name_earlier(folder):
    """Give Segmentation and report other names, so that the next ones lie beside them."""
    for name in ("seg", "sr"):
        shutil.move(folder / f"{name}.dcm", folder / f"earlier_{name}.dcm")


def _back(analysis, folder):
    """Return what an archive that got the objects gives back."""
    return reopen_folder(_sent(analysis, folder), analysis.study, analysis.prepared)


def _reviewed(analysis, *states):
    events = tuple(
        ReviewEvent(c.tracking_uid, state, "A. Reader", "2026-01-05T10:00:00.500Z", "as seen")
        for c, state in zip(analysis.findings.candidates, states, strict=True)
    )
    return replace(analysis, review=Review(events), options=ExportOptions(include_unaccepted=True))


def test_a_report_among_a_studys_files_is_known_and_no_limit_of_its_own_review(analysed, tmp_path):
    analysis = _reviewed(analysed(), ReviewState.ACCEPTED, ReviewState.REJECTED)
    assert not open_study(tmp_path / "study").has_report
    folder = _sent(analysis, tmp_path)
    study = open_study(folder)
    assert study.has_report
    again = prepare_and_reopen(folder, study, SILENT)
    assert again.study is study  # as the window expects
    assert REPORTED not in again.warnings
    report = pydicom.dcmread(folder / "sr.dcm")
    report.StudyInstanceUID = generate_uid()
    report.save_as(folder / "sr.dcm")
    assert not open_study(folder).has_report


@pytest.mark.parametrize(
    "how", [Acquisition("LPS"), Acquisition("PIR", (3.0, 4.0, 6.0), 11.0), Acquisition("RAI")]
)
def test_what_was_sent_comes_back_voxel_for_voxel(analysed, tmp_path, how):
    analysis = _reviewed(analysed(how), ReviewState.ACCEPTED, ReviewState.REJECTED)
    again = _back(analysis, tmp_path)
    np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)
    was = {c.tracking_uid: c for c in analysis.findings.candidates}
    found = {c.tracking_uid: c for c in again.findings.candidates}
    assert set(found) == set(was)
    grid = analysis.volumes.labels.grid
    for uid, candidate in found.items():
        ours = again.findings.components == candidate.id
        np.testing.assert_array_equal(ours, analysis.findings.components == was[uid].id)
        assert candidate.score == pytest.approx(was[uid].score, abs=1e-3)
        assert candidate.volume_ml[Region.WT] == pytest.approx(grid.volume_ml(ours))
        assert again.review.of(uid).state is analysis.review.of(uid).state
        assert again.review.of(uid).reader == "A. Reader"
        assert again.review.of(uid).reason == "as seen"
        assert again.review.of(uid).time == "2026-01-05T10:00:00.500Z"
    for region, volume in analysis.volumes.attention.items():
        back = again.volumes.attention[region].data
        assert np.abs(back - volume.data).max() <= 1 / 256


@pytest.mark.parametrize("how", [AXIAL, Acquisition("PIR", (3.0, 4.0, 6.0), 11.0)])
def test_objects_of_a_series_with_rounded_positions_are_written_and_read(analysed, tmp_path, how):
    """As an archive rounds them: to tenths of a millimetre, a fifth of a small pixel."""
    analysis = _reviewed(analysed(how), ReviewState.ACCEPTED, ReviewState.REJECTED)
    series = analysis.study.series[analysis.prepared.reference]
    for number, file in enumerate(series.files[1:-1]):
        ds = pydicom.dcmread(file.path)
        right = np.array(ds.ImageOrientationPatient[:3]) * ds.PixelSpacing[1]
        moved_lps = np.array(ds.ImagePositionPatient) + (-1) ** number * 0.2 * right
        ds.ImagePositionPatient = [f"{value:.4f}" for value in moved_lps]
        ds.save_as(file.path)
    again = _back(analysis, tmp_path)
    np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)
    assert set(again.volumes.attention) == set(analysis.volumes.attention)
    assert not [text for text in again.warnings if "grid" in text]


@pytest.mark.parametrize(("clock", "known"), [("101500.5", True), ("", False)])
def test_when_objects_were_written_is_told_in_utc(analysed, tmp_path, clock, known):
    """Content Time is of the local zone: without one it could not be compared with decisions."""
    folder = _sent(analysed(AXIAL), tmp_path)
    seg = pydicom.dcmread(folder / "seg.dcm")
    seg.ContentDate, seg.ContentTime = "20260105", clock
    seg.save_as(folder / "seg.dcm")
    again = reopen_folder(folder, analysed(AXIAL).study, analysed(AXIAL).prepared)
    local = datetime(2026, 1, 5, 10, 15, 0, 500_000).astimezone()
    assert again.run.started == (local.astimezone(UTC).isoformat() if known else "")


@pytest.mark.parametrize("drawn", [DrawingMethod.MANUAL, DrawingMethod.SEMIAUTOMATIC])
def test_what_a_reader_added_and_signed_comes_back_from_the_archive(analysed, tmp_path, drawn):
    """By hand no algorithm may be named, though the network is still known by its own segments."""
    analysis = analysed()
    log = ReviewLog()
    for candidate in analysis.findings.candidates:
        log.decide(candidate.tracking_uid, ReviewState.ACCEPTED, reader="A. Reader")
    mine = Outline("2.25.77", (3, 4, 5), np.full((2, 3, 2), Label.ENHANCING, np.uint8))
    log.add(mine, drawn, reader="A. Reader", reason="missed")
    log.decide(WHOLE_STUDY, ReviewState.ACCEPTED, reader="A. Reader", reason="nothing further seen")
    analysis = applied(replace(analysis, review=log.review))
    again = _back(analysis, tmp_path)
    np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)
    (back,) = (c for c in again.findings.candidates if c.tracking_uid == "2.25.77")
    assert (back.source, back.drawn, back.score) == (Source.READER, drawn, None)
    where = np.argwhere(again.findings.components == back.id)
    np.testing.assert_array_equal(where.min(axis=0), (3, 4, 5))
    assert len(where) == 12
    assert again.review.of("2.25.77").reason == "missed"
    assert again.review.signed == analysis.review.signed == "nothing further seen, A. Reader"
    assert again.findings.conclusion == "2 candidate regions; added by a reader: 1"
    segments = pydicom.dcmread(tmp_path / "study/seg.dcm").SegmentSequence
    kinds = {(str(s.TrackingUID), str(s.SegmentAlgorithmType)) for s in segments}
    assert ("2.25.77", drawn.value.upper()) in kinds
    assert sum(kind == "AUTOMATIC" for _, kind in kinds) == 2
    assert again.run.engine.name == analysis.run.engine.name
    log = ReviewLog(again.review)
    log.withdraw("a correction", reader="A. Reader")
    smaller = Outline("2.25.77", (3, 4, 5), mine.labels[:1])
    log.decide("2.25.77", ReviewState.EDITED, reader="A. Reader", outline=smaller)
    edited = applied(replace(again, review=log.review)).findings
    (corrected,) = (c for c in edited.candidates if c.tracking_uid == "2.25.77")
    assert (corrected.source, corrected.drawn) == (Source.READER, drawn)  # not the network's now
    (said,) = (words for words in edited.notices if "redrawn" in words)
    assert "network" not in said
    assert edited.conclusion == "2 candidate regions; added by a reader: 1"


def test_it_leaves_again_as_it_came(analysed, tmp_path):
    analysis = _reviewed(analysed(), ReviewState.EDITED, ReviewState.ACCEPTED)
    again = _back(analysis, tmp_path)
    (tmp_path / "second").mkdir()
    done = DicomExporter().write(again, tmp_path / "second")
    assert done.left_out == {}
    first, second = (
        pydicom.dcmread(p) for p in (tmp_path / "study/seg.dcm", tmp_path / "second/dicom/seg.dcm")
    )
    assert second.PixelData == first.PixelData
    for before, after in zip(first.SegmentSequence, second.SegmentSequence, strict=True):
        assert after.TrackingUID == before.TrackingUID
        assert after.SegmentLabel == before.SegmentLabel
        assert after.SegmentAlgorithmType == before.SegmentAlgorithmType
    report = pydicom.dcmread(tmp_path / "second/dicom/sr.dcm")
    named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    former = pydicom.dcmread(tmp_path / "study/sr.dcm")
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == former.SOPInstanceUID


def test_an_outline_that_was_sent_edited_is_not_said_to_be_what_the_network_drew(
    analysed, tmp_path
):
    analysis = analysed()
    candidate = analysis.findings.candidates[0]
    labels = np.where(
        analysis.findings.components == candidate.id, analysis.volumes.labels.data, np.uint8(0)
    )
    notices = []
    for n in range(2):
        labels[tuple(np.argwhere(labels)[:3].T)] = 0
        log = ReviewLog(analysis.review)
        outline = Outline(candidate.tracking_uid, (0, 0, 0), labels.copy())
        log.decide(candidate.tracking_uid, ReviewState.EDITED, reader="A. Reader", outline=outline)
        edited = applied(replace(analysis, review=log.review))
        notices += [words for words in edited.findings.notices if "redrawn" in words]
        if n == 0:
            analysis = reopen_folder(_sent(edited, tmp_path), edited.study, edited.prepared)
    first, second = notices
    drew = f", {candidate.volume_ml[Region.WT]:.1f} ml"
    assert first == second + drew


@pytest.mark.parametrize("then", [None, *(s for s in ReviewState if s is not ReviewState.EDITED)])
def test_a_redrawn_outline_never_becomes_the_networks(analysed, tmp_path, then):
    """Whatever a reader decides after the edit, and however often it is sent and reopened."""
    analysis = analysed()
    edited, untouched = analysis.findings.candidates
    labels = np.where(
        analysis.findings.components == edited.id, analysis.volumes.labels.data, np.uint8(0)
    )
    labels[tuple(np.argwhere(labels)[:3].T)] = 0
    log = ReviewLog()
    outline = Outline(edited.tracking_uid, (0, 0, 0), labels)
    log.decide(edited.tracking_uid, ReviewState.EDITED, reader="A. Reader", outline=outline)
    if then is not None:
        log.decide(edited.tracking_uid, then, reader="B. Reader", reason="as seen")
    options = ExportOptions(include_unaccepted=True)
    analysis = applied(replace(analysis, review=log.review, options=options))
    for _ in range(2):
        found = analysis.review.of(edited.tracking_uid)
        assert found.state is (then or ReviewState.EDITED)
        assert analysis.review.is_redrawn(edited.tracking_uid)
        assert not analysis.review.is_redrawn(untouched.tracking_uid)
        (caveat,) = (words for words in limits(analysis) if "was redrawn by a reader" in words)
        assert caveat.startswith(f"Candidate {edited.id} ")
        folder = _sent(analysis, tmp_path)
        kinds = {
            str(s.TrackingUID): str(s.SegmentAlgorithmType)
            for s in pydicom.dcmread(folder / "seg.dcm").SegmentSequence
        }
        assert kinds == {edited.tracking_uid: "SEMIAUTOMATIC", untouched.tracking_uid: "AUTOMATIC"}
        analysis = reopen_folder(folder, analysis.study, analysis.prepared)
        analysis = replace(analysis, options=options)
        assert analysis.review.state_of(untouched.tracking_uid) is ReviewState.UNREVIEWED


def test_candidates_keep_their_numbers(analysed, tmp_path):
    """Of three, the first was rejected and is not sent; the reader's own has no score."""
    analysis = analysed()
    first, second = analysis.findings.candidates
    log = ReviewLog()
    log.decide(first.tracking_uid, ReviewState.REJECTED, reader="A. Reader")
    log.decide(second.tracking_uid, ReviewState.ACCEPTED, reader="A. Reader")
    mine = Outline("2.25.77", (3, 4, 5), np.full((2, 3, 2), Label.OEDEMA, np.uint8))
    log.add(mine, DrawingMethod.MANUAL, reader="A. Reader", reason="missed")
    analysis = applied(replace(analysis, review=log.review))
    again = _back(analysis, tmp_path)
    assert [(c.id, c.tracking_uid) for c in again.findings.candidates] == [
        (2, second.tracking_uid),
        (3, "2.25.77"),
    ]
    assert set(np.unique(again.findings.components)) == {0, 2, 3}
    (tmp_path / "study" / "sr.dcm").unlink()
    alone = reopen_folder(tmp_path / "study", analysis.study, analysis.prepared)
    assert {c.tracking_uid: c.id for c in alone.findings.candidates} == {
        second.tracking_uid: 2,
        "2.25.77": 3,
    }


def test_an_object_beyond_all_sizes_is_refused(analysed, tmp_path, monkeypatch):
    analysis = analysed()
    folder = _sent(analysis, tmp_path)
    monkeypatch.setattr("lesionlens.results.review.sent_objects.MAX_BYTES", 1000)
    with pytest.raises(ReadError, match=r"more than 0 MiB in '(seg|sr|attention).dcm'"):
        from_dicom(folder, analysis.study, analysis.prepared)


def test_the_newest_of_several_is_taken(analysed, tmp_path):
    analysis = analysed()
    first = _sent(analysis, tmp_path)
    _name_earlier(first)
    _sent(_reviewed(analysis, ReviewState.ACCEPTED, ReviewState.DEFERRED), tmp_path)
    again = reopen_folder(first, analysis.study, analysis.prepared)
    states = {again.review.state_of(c.tracking_uid) for c in again.findings.candidates}
    assert states == {ReviewState.ACCEPTED, ReviewState.DEFERRED}


def test_a_report_replaces_its_predecessor_whatever_the_clocks_say(analysed, tmp_path):
    """A server wrote the first in UTC, a reader's machine the second five hours behind it."""
    analysis = analysed()
    first = _sent(analysis, tmp_path)
    for name in ("seg", "sr"):
        ahead = pydicom.dcmread(first / f"{name}.dcm")
        ahead.SeriesDate = ahead.ContentDate = "29990101"
        ahead.save_as(first / f"earlier_{name}.dcm")
    earlier = newest_document(first / "earlier_sr.dcm", analysis.study.uid)
    reviewed = _reviewed(analysis, ReviewState.ACCEPTED, ReviewState.DEFERRED)
    known = replace(reviewed.run, documents=(earlier,))
    _sent(replace(reviewed, run=known), tmp_path)
    again = reopen_folder(first, analysis.study, analysis.prepared)
    states = {again.review.state_of(c.tracking_uid) for c in again.findings.candidates}
    assert states == {ReviewState.ACCEPTED, ReviewState.DEFERRED}
    second = pydicom.dcmread(first / "sr.dcm")
    assert newest_document(first, analysis.study.uid).sop_instance_uid == second.SOPInstanceUID


@pytest.mark.parametrize(("replaces", "count"), [(True, 0), (False, 1)])
def test_a_reviewed_report_that_no_other_one_replaces_is_named_as_unused(
    analysed, tmp_path, replaces, count
):
    """Two machines continued one review: the later report hid the decisions in the other one."""
    analysis = _reviewed(analysed(), ReviewState.ACCEPTED, ReviewState.REJECTED)
    first = _sent(analysis, tmp_path)
    _name_earlier(first)
    shutil.copy(first / "earlier_sr.dcm", first / "copy_of_earlier_sr.dcm")
    earlier = newest_document(first / "earlier_sr.dcm", analysis.study.uid)
    second = _reviewed(analysed(), ReviewState.ACCEPTED, ReviewState.ACCEPTED)
    known = replace(second.run, documents=(earlier,) if replaces else ())
    again = _back(replace(second, run=known), tmp_path)
    assert {again.review.state_of(c.tracking_uid) for c in again.findings.candidates} == {
        ReviewState.ACCEPTED
    }
    unused = [text for text in again.run.notices if "reviewed ones" in text]
    assert [text[-4:] for text in unused] == [f" ({count})"] * count


def test_an_unreviewed_report_is_not_named_as_unused(analysed, tmp_path):
    analysis = analysed()
    first = _sent(analysis, tmp_path)
    _name_earlier(first)
    reviewed = _reviewed(analysis, ReviewState.ACCEPTED, ReviewState.ACCEPTED)
    again = _back(reviewed, tmp_path)
    assert not any("reviewed ones" in text for text in again.run.notices)


def test_decisions_that_belong_to_no_segment_are_not_lost_in_silence(analysed, tmp_path):
    """As after a program that replaces UIDs in the Segmentation, but not in the report."""
    states = ReviewState.ACCEPTED, ReviewState.UNREVIEWED
    analysis = _reviewed(analysed(), *states)
    folder, notice = _sent(analysis, tmp_path), "does not contain were left out: 1"
    again = reopen_folder(folder, analysis.study, analysis.prepared)
    assert not any(notice in text for text in again.run.notices)
    seg = pydicom.dcmread(folder / "seg.dcm")
    for number, segment in enumerate(seg.SegmentSequence):
        segment.TrackingUID = f"1.2.3.{number}"
    seg.save_as(folder / "seg.dcm")
    again = reopen_folder(folder, analysis.study, analysis.prepared)
    assert {again.review.state_of(c.tracking_uid) for c in again.findings.candidates} == {
        ReviewState.UNREVIEWED
    }
    assert any(notice in text for text in again.run.notices)


def test_a_later_report_of_another_program_does_not_hide_the_decisions(analysed, tmp_path):
    """Its evidence lists every object of the study."""
    analysis = _reviewed(analysed(), ReviewState.ACCEPTED, ReviewState.REJECTED)
    folder = _sent(analysis, tmp_path)
    theirs = pydicom.dcmread(folder / "sr.dcm")
    theirs.SOPInstanceUID = theirs.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    theirs.SeriesDate = theirs.ContentDate = "29990101"
    theirs.Manufacturer = "Another program"
    theirs.ContentSequence = theirs.ContentSequence[:1]
    theirs.save_as(folder / "theirs.dcm")
    again = reopen_folder(folder, analysis.study, analysis.prepared)
    assert {again.review.state_of(c.tracking_uid) for c in again.findings.candidates} == {
        ReviewState.ACCEPTED,
        ReviewState.REJECTED,
    }


def test_what_a_later_report_accepts_no_more_does_not_come_back(analysed, tmp_path):
    """The archive keeps the Segmentation of a candidate that was accepted first, then rejected."""
    analysis = analysed()
    accepted = _reviewed(analysis, ReviewState.ACCEPTED, ReviewState.ACCEPTED)
    first = _sent(replace(accepted, options=ExportOptions()), tmp_path)
    _name_earlier(first)
    rejected = _reviewed(analysis, ReviewState.REJECTED, ReviewState.REJECTED)
    _sent(replace(rejected, options=ExportOptions()), tmp_path)
    assert not (first / "seg.dcm").exists()
    with pytest.raises(ReadError, match=r"the newest: .* no candidate\. There is 1 other reviewed"):
        reopen_folder(first, analysis.study, analysis.prepared)
    shutil.move(first / "earlier_sr.dcm", tmp_path / "sr.dcm")
    with pytest.raises(ReadError, match=r"a reader accepted no candidate\. Expected"):
        reopen_folder(first, analysis.study, analysis.prepared)
    shutil.move(tmp_path / "sr.dcm", first / "earlier_sr.dcm")
    (first / "sr.dcm").unlink()
    again = reopen_folder(first, analysis.study, analysis.prepared)
    assert len(again.findings.candidates) == 2


@pytest.mark.parametrize("alone", [True, False])
def test_a_report_on_candidates_without_its_segmentation_is_no_result_without_a_candidate(
    analysed, tmp_path, alone
):
    """It opened as "no candidate region", without a word."""
    analysis = analysed()
    folder = _sent(analysis, tmp_path)
    place = folder / "sr.dcm"
    if not alone:
        (folder / "seg.dcm").unlink()
        place = tmp_path / "study"
    with pytest.raises(ReadError, match="on 2 candidate regions, without its Segmentation"):
        reopen_folder(place, analysis.study, analysis.prepared)


def test_a_study_without_a_candidate_reopens_without_one(tmp_path):
    nobody = make_patient(spacing_mm=4.0, lesions=())
    study = write_study(nobody, tmp_path / "study", kind=StudyKind.DICOM, sequences=BOTH)
    analysis = make_analysis(nobody, study)
    again = reopen_folder(_sent(analysis, tmp_path), study, analysis.prepared)
    assert again.findings.candidates == ()
    assert again.findings.conclusion == "no candidate region"


def test_objects_of_a_head_with_its_skull_keep_sides_on_another_computer(tmp_path):
    head = make_patient(spacing_mm=4.0, skull=True)
    place = tmp_path / "study"
    study = write_study(head, place, kind=StudyKind.DICOM, sequences=BOTH, how=AXIAL)
    analysis = _reviewed(make_analysis(head, study), ReviewState.ACCEPTED)
    again = prepare_and_reopen(_sent(analysis, tmp_path), study, SILENT)
    sides = [candidate.location.side for candidate in analysis.findings.candidates]
    assert [candidate.location.side for candidate in again.findings.candidates] == sides
    assert None not in sides
    assert again.prepared.knows_brain
    assert not any("flat plane" in text for text in again.warnings)


def test_a_report_whose_predecessor_is_named_in_part_still_opens(analysed, tmp_path):
    """Another program may drop what it does not know."""
    analysis = _reviewed(analysed(), ReviewState.ACCEPTED, ReviewState.REJECTED)
    folder = _sent(analysis, tmp_path)
    report = pydicom.dcmread(folder / "sr.dcm")
    report.PredecessorDocumentsSequence = [Dataset()]
    report.PredecessorDocumentsSequence[0].StudyInstanceUID = report.StudyInstanceUID
    report.save_as(folder / "sr.dcm")
    again = reopen_folder(folder, analysis.study, analysis.prepared)
    assert [one.sop_instance_uid for one in again.run.documents] == [report.SOPInstanceUID]


def test_a_folder_without_a_result_is_refused(analysed, tmp_path):
    analysis = analysed()
    with pytest.raises(ReadError, match="no Segmentation of this study"):
        reopen_folder(tmp_path / "study", analysis.study, analysis.prepared)


@pytest.mark.parametrize("name", ["mask.seg.nrrd", "mask.mha", "lesion.stl", "mask"])
def test_a_file_that_is_not_read_is_called_so_before_anything_is_prepared(analysed, tmp_path, name):
    """It was called a lack of Segmentations of this study, which were to be fetched again."""
    file, stages = tmp_path / name, []
    file.write_bytes(b"NRRD0004\n" * 50)
    with pytest.raises(ReadError, match=r"not read.*NIfTI mask.*DICOM Segmentation.*Export it"):
        prepare_and_reopen(file, analysed().study, RunContext(lambda *stage: stages.append(stage)))
    assert not stages


# ------------------------------------------------------------------ objects of other programs

PARTS = {
    Label.CORE: codes.SCT.Necrosis,
    Label.OEDEMA: codes.SCT.Edema,
    Label.ENHANCING: codes.cid7169.EnhancingLesion,
}


def _segment(number, label, kind, category=codes.SCT.MorphologicallyAbnormalStructure, **more):
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=category,
        segmented_property_type=kind,
        **{"algorithm_type": SegmentAlgorithmTypeValues.MANUAL, **more},
    )


def _other(analysis, segments, masks, path, kind="BINARY", sequence=MrSequence.T1C):
    """Write a Segmentation as another program that uses highdicom does (MONAI Deploy, too)."""
    sources = [pydicom.dcmread(f.path) for f in analysis.study.series[sequence].files]
    frames = [np.stack([mask[:, :, k].T for k in range(mask.shape[2])]) for mask in masks]
    pixels = np.stack(frames, axis=-1).astype(np.uint8)
    if kind == "LABELMAP":
        pixels = (pixels * np.arange(1, len(masks) + 1, dtype=np.uint8)).max(axis=-1)
    elif kind == "FRACTIONAL":
        pixels = pixels.astype(np.float32)
    made = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=50,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Somebody",
        manufacturer_model_name="Other",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(path)


def _masks(analysis, *labels):
    return [analysis.volumes.labels.data == label for label in labels]


def test_parts_of_lesions_with_identifiers_of_their_own_become_whole_candidates(analysed, tmp_path):
    """As highdicom and dcmqi write them: core, oedema and enhancing part, each for all lesions."""
    analysis = analysed()
    segments = [
        _segment(
            n, label.display_name, code, tracking_uid=generate_uid(), tracking_id=label.display_name
        )
        for n, (label, code) in enumerate(PARTS.items(), 1)
    ]
    _other(analysis, segments, _masks(analysis, *PARTS), tmp_path / "study" / "other.dcm")
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)
    assert len(again.findings.candidates) == 2
    assert all(
        again.review.state_of(c.tracking_uid) is ReviewState.UNREVIEWED
        for c in again.findings.candidates
    )
    told = " ".join(again.run.notices)
    for unknown in (
        "no score",
        "no attention map",
        "uncertainty",
        "contributions",
        "checks of the attention maps",
    ):
        assert unknown in told


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_one_segment_of_all_tumours_becomes_a_candidate_for_each(analysed, tmp_path, kind):
    """As MONAI Deploy's and TotalSegmentator's writers do."""
    analysis = analysed()
    whole = analysis.volumes.labels.data > 0
    segments = [_segment(1, "Tumor", codes.SCT.Neoplasm)]
    _other(analysis, segments, [whole], tmp_path / "study" / "other.dcm", kind)
    again = from_dicom(tmp_path / "study" / "other.dcm", analysis.study, analysis.prepared)
    np.testing.assert_array_equal(again.findings.components > 0, whole)
    assert len(again.findings.candidates) == 2


WHOLE = (Label.CORE, Label.OEDEMA, Label.ENHANCING)
TC, ET = Region.TC, Region.ET


@pytest.mark.parametrize(
    ("outlined", "known"),
    [
        ({"Tumor": (Label.CORE, Label.ENHANCING), "Edema": (Label.OEDEMA,)}, set()),
        ({"FLAIR hyperintensity": WHOLE}, set()),
        ({"Whole tumor": WHOLE, "Tumor core": (Label.CORE, Label.ENHANCING)}, {TC}),
        ({"Whole tumor": WHOLE, "Enhancing": (Label.ENHANCING,)}, {TC, ET}),
    ],
    ids=["tumour and oedema", "one part", "whole and core", "whole and enhancing"],
)
def test_a_part_without_a_segment_of_its_own_is_unknown_and_never_0_ml(
    analysed, tmp_path, outlined, known
):
    """Also after it was sent as ours, with and without the report, and opened again."""
    analysis = analysed()
    segments = [_segment(n, name, codes.SCT.Neoplasm) for n, name in enumerate(outlined, 1)]
    masks = [np.isin(analysis.volumes.labels.data, labels) for labels in outlined.values()]
    _other(analysis, segments, masks, tmp_path / "other.dcm")
    again = from_dicom(tmp_path / "other.dcm", analysis.study, analysis.prepared)
    DicomExporter().write(again, tmp_path)
    for path in (tmp_path / "other.dcm", tmp_path / "dicom", tmp_path / "dicom" / "seg.dcm"):
        opened = from_dicom(path, analysis.study, analysis.prepared)
        assert len(opened.findings.candidates) == 2
        for candidate in opened.findings.candidates:
            assert {r for r in (TC, ET) if candidate.volume_ml[r] is not None} == known
            assert (candidate.rano_measurable is None) is (ET not in known)
        told = [t for t in opened.findings.notices if "do not distinguish" in t]
        assert len(told) == (ET not in known)


@pytest.mark.parametrize("only", ["dicom", "dicom/seg.dcm"])
def test_the_release_that_outlined_is_that_of_the_objects(analysed, tmp_path, only):
    """It was that of the program that opened them, so that no comparison named the difference."""
    analysis = analysed()
    run = replace(analysis.run, versions={**analysis.run.versions, "lesionlens": "0.0.1"})
    DicomExporter().write(replace(analysis, run=run), tmp_path)
    again = from_dicom(tmp_path / only, analysis.study, analysis.prepared)
    assert again.run.made_by.endswith("LesionLens 0.0.1")
    assert again.run.made_by == run.made_by


@pytest.mark.parametrize("second", [ReviewState.ACCEPTED, ReviewState.REJECTED])
def test_what_depends_on_all_candidates_is_empty_if_some_were_not_sent(analysed, tmp_path, second):
    """The attention near a rejected candidate counted as outside the nearest other one."""
    analysis = replace(_reviewed(analysed(), ReviewState.ACCEPTED, second), options=ExportOptions())
    rejected = second is ReviewState.REJECTED
    for _ in range(3):  # sent again, a report counts only the candidates that it was made of
        again = _back(analysis, tmp_path)
        assert len(again.findings.candidates) == 2 - rejected
        for candidate in again.findings.candidates:
            agreement = candidate.attention
            assert (agreement.peak_inside is None) is (agreement.mass_inside is None) is rejected
        assert any("were not sent" in text for text in again.run.notices) is rejected
        omitted = [text for text in again.run.notices if "are not in the DICOM objects" in text]
        assert [text.rpartition(": ")[2] for text in omitted] == ["1"] * rejected
        analysis = again
    added = _with_added_lesion(again).findings.candidates[-1]
    assert added.id == 3  # that of the rejected one, 2, is not given again
    assert (added.attention.peak_inside is None) is rejected


def _with_added_lesion(analysis):
    """Return the analysis with a lesion that a reader added at the centre."""
    labels = np.zeros_like(analysis.volumes.labels.data)
    middle = tuple(slice(edge // 2 - 2, edge // 2 + 2) for edge in labels.shape)
    labels[middle] = np.where(analysis.findings.components[middle], 0, Label.OEDEMA)
    log = ReviewLog(analysis.review)
    log.add(Outline.of("2.25.1", labels), DrawingMethod.MANUAL)
    return applied(replace(analysis, review=log.review))


def test_a_lesion_that_a_reader_added_does_not_change_what_the_others_look_like(analysed, tmp_path):
    """It counted as one more lesion, and the attention near it was no longer theirs."""
    analysis = _reviewed(analysed(), ReviewState.ACCEPTED, ReviewState.ACCEPTED)
    flagged = _back(analysis, tmp_path)
    added = _with_added_lesion(flagged)
    again = _back(added, tmp_path)
    before, after = flagged.findings.candidates, again.findings.candidates
    assert len(after) == len(before) + 1
    for was, now in zip(before, after, strict=False):
        assert now.tracking_uid == was.tracking_uid
        assert now.attention == was.attention
    was, now = (a.findings.candidates[-1] for a in (added, again))
    assert now.attention == was.attention


def test_a_redrawn_lesion_was_measured_beside_the_added_one_and_is_again(analysed, tmp_path):
    analysis = _reviewed(analysed(), ReviewState.ACCEPTED, ReviewState.ACCEPTED)
    flagged = _back(analysis, tmp_path)
    first = flagged.findings.candidates[0]
    inside = flagged.findings.components == first.id
    inside[np.nonzero(inside)[0].min()] = False
    outline = Outline.of(first.tracking_uid, np.where(inside, flagged.volumes.labels.data, 0))
    log = ReviewLog(flagged.review)
    log.decide(first.tracking_uid, ReviewState.EDITED, reader="A. Reader", outline=outline)
    edited = _with_added_lesion(replace(flagged, review=log.review))
    again = _back(edited, tmp_path)
    was, now = (a.findings.candidates[0] for a in (edited, again))
    assert now.volume_ml == was.volume_ml
    assert now.attention == was.attention != first.attention


@pytest.mark.parametrize(
    ("second", "review", "words"),
    [
        (ReviewState.REJECTED, own.REVIEW_DONE, "2 of 2 reviewed"),
        (ReviewState.DEFERRED, own.REVIEW_BEGUN, "1 of 2 reviewed"),
        (ReviewState.UNREVIEWED, own.REVIEW_BEGUN, "1 of 2 reviewed"),
    ],
)
def test_a_review_is_as_complete_as_it_was_when_it_is_sent_again(
    analysed, tmp_path, second, review, words
):
    """The second report called the review complete: it knew only what had been sent."""
    analysis = replace(_reviewed(analysed(), ReviewState.ACCEPTED, second), options=ExportOptions())
    for _ in range(2):
        folder = _sent(analysis, tmp_path)
        report = pydicom.dcmread(folder / "sr.dcm")
        (item,) = (i for i in iter_items(report) if _named(i, own.REVIEW))
        assert item.ConceptCodeSequence[0].CodeValue == review.value
        assert words in report.SeriesDescription
        texts = [str(i.get("TextValue", "")) for i in iter_items(report)]
        assert any(f"Reviewed: {words[:6]}; sent here: 1." in text for text in texts)
        analysis = reopen_folder(folder, analysis.study, analysis.prepared)
        save(analysis, tmp_path / "saved")
        saved = read_result(tmp_path / "saved").run
        assert (saved.omitted, saved.omitted_decided) == (1, int(second is ReviewState.REJECTED))


def test_that_no_candidate_was_accepted_is_still_said_when_only_the_cavity_was_sent(
    analysed, tmp_path
):
    """The report said "Nothing is flagged", the second SR that there is no candidate."""
    analysis = _reviewed(analysed(), ReviewState.REJECTED, ReviewState.DEFERRED)
    labels = analysis.volumes.labels
    free = np.zeros(labels.data.shape, bool)
    free[labels.data.shape[0] // 2, labels.data.shape[1] // 2, :] = True
    cavity = Volume(free & (labels.data == 0), labels.grid)
    volumes = replace(analysis.volumes, cavity=cavity)
    analysis = replace(analysis, volumes=volumes, options=ExportOptions())
    besides = "No candidate region flagged, besides 2 that the earlier objects omit."
    for flagged in ("2 candidate regions flagged.", besides, besides):
        folder = _sent(analysis, tmp_path)
        items = list(iter_items(pydicom.dcmread(folder / "sr.dcm")))
        (comment,) = (str(i.TextValue) for i in items if _named(i, own.COMMENT))
        assert f" {flagged} Reviewed: 1 of 2; sent here: 0." in comment
        (conclusion,) = (i for i in items if _named(i, own.CONCLUSION))
        assert conclusion.ConceptCodeSequence[0].CodeValue == own.NONE_ACCEPTED.value
        analysis = reopen_folder(folder, analysis.study, analysis.prepared)
        assert not analysis.findings.candidates
        save(analysis, tmp_path / "saved")
        page = Page(analysis)
        not_accepted = (
            "No candidate region. Not accepted by a reader: 2; this does not exclude disease."
        )
        assert page.conclusion.startswith(not_accepted)
        assert page.sentence.startswith(not_accepted)
        assert "1 of 2 reviewed." in page.impression[0]
        assert Sentences(read_result(tmp_path / "saved")).of_study() == page.sentence


def _named(item, code):
    return item.ConceptNameCodeSequence[0].CodeValue == code.value


def test_that_nothing_enhances_comes_back_from_the_report(analysed, tmp_path):
    analysis = analysed()
    labels = np.minimum(analysis.volumes.labels.data, Label.OEDEMA)
    volumes_ml = {Region.WT: 1.0, TC: 1.0, ET: 0.0}
    candidates = (replace(c, volume_ml=volumes_ml) for c in analysis.findings.candidates)
    analysis = replace(
        analysis,
        volumes=replace(analysis.volumes, labels=Volume(labels, analysis.prepared.native)),
        findings=replace(analysis.findings, candidates=tuple(candidates)),
    )
    again = _back(analysis, tmp_path)
    assert [c.volume_ml[ET] for c in again.findings.candidates] == [0.0, 0.0]


@pytest.mark.parametrize("method", SegmentAlgorithmTypeValues)
def test_what_others_outlined_never_leaves_as_ours(analysed, tmp_path, method):
    analysis = analysed()
    theirs = AlgorithmIdentificationSequence("Their program", codes.cid7162.EdgeDetection, "7")
    named = None if method is SegmentAlgorithmTypeValues.MANUAL else theirs
    whole = analysis.volumes.labels.data > 0
    about = {"algorithm_type": method, "algorithm_identification": named}
    segments = [_segment(1, "Tumor", codes.SCT.Neoplasm, **about)]
    _other(analysis, segments, [whole], tmp_path / "study" / "other.dcm")
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    drawn = DrawingMethod(method.value.lower())
    said = [(Source.SEGMENTATION, drawn)] * 2
    assert [(c.source, c.drawn) for c in again.findings.candidates] == said
    DicomExporter().write(again, tmp_path)
    seg, sr = (pydicom.dcmread(tmp_path / "dicom" / f"{name}.dcm") for name in ("seg", "sr"))
    for segment in seg.SegmentSequence:
        assert segment.SegmentAlgorithmType == method.value
        assert segment.get("SegmentAlgorithmName") == (named and "Their program")
        assert "SegmentationAlgorithmIdentificationSequence" not in segment
    groups = [i for i in _items(sr) if _concept(i) == "125007"]
    assert groups
    for group in groups:
        items = {_concept(i): i for i in group.ContentSequence}
        assert items[OWN_SOURCE].ConceptCodeSequence[0].CodeValue == "source-others"
        assert ("111001" in items) is (named is not None)
        assert not {"111000", "122405"} & set(items)  # algorithm family, its manufacturer
    for sent in (tmp_path / "dicom", tmp_path / "dicom" / "seg.dcm"):  # without the report, too
        back = from_dicom(sent, analysis.study, analysis.prepared)
        assert [(c.source, c.drawn) for c in back.findings.candidates] == said


def test_a_segmentation_without_its_report_says_what_the_network_did_not_outline(
    analysed, tmp_path
):
    """Sent again, a reader's and another program's outlines were AUTOMATIC and the network's."""
    analysis = analysed()
    network, edited = analysis.findings.candidates
    hand = Outline("2.25.1", (1, 1, 1), np.full((2, 2, 2), Label.OEDEMA, np.uint8))
    log = ReviewLog()
    log.decide(network.tracking_uid, ReviewState.ACCEPTED, reader="A. Reader")
    log.decide(edited.tracking_uid, ReviewState.EDITED, reader="A. Reader")
    log.add(hand, DrawingMethod.MANUAL, reader="A. Reader")
    DicomExporter().write(applied(replace(analysis, review=log.review)), tmp_path)
    sent = tmp_path / "dicom" / "seg.dcm"
    again = from_dicom(sent, analysis.study, analysis.prepared)
    assert {c.tracking_uid: (c.source, c.drawn) for c in again.findings.candidates} == {
        network.tracking_uid: (Source.NETWORK, None),
        edited.tracking_uid: (Source.SEGMENTATION, DrawingMethod.SEMIAUTOMATIC),
        "2.25.1": (Source.SEGMENTATION, DrawingMethod.MANUAL),
    }
    (tmp_path / "second").mkdir()
    DicomExporter().write(again, tmp_path / "second")
    types = [
        {s.TrackingUID: s.SegmentAlgorithmType for s in pydicom.dcmread(path).SegmentSequence}
        for path in (sent, tmp_path / "second" / "dicom" / "seg.dcm")
    ]
    assert types[0] == types[1]


def _items(item):
    for child in item.get("ContentSequence", []):
        yield child
        yield from _items(child)


def _concept(item):
    return str(item.ConceptNameCodeSequence[0].get("CodeValue", ""))


def test_a_comparison_that_was_not_sent_is_missed_in_words(analysed, tmp_path):
    analysis = analysed()
    first, second = (LesionMeasurement.of(c) for c in analysis.findings.candidates)
    compared = Comparison(
        (
            TimePoint("2026-01-05", "1.2.3", (first,)),
            TimePoint("2026-03-05", None, (first, second)),
        ),
        (Change(first, first), Change(None, second)),
        Alignment(tuple(map(tuple, np.eye(4).tolist())), 1.0, 2.0, False, "T1c"),
    )
    for followup in (None, compared):
        sent = _sent(replace(analysis, followup=followup), tmp_path)
        again = reopen_folder(sent, analysis.study, analysis.prepared)
        missed = [n for n in again.run.notices if "contain no comparison with an earlier" in n]
        assert bool(missed) is (followup is not None)


def test_limitations_of_a_result_are_still_stated_when_it_is_reopened_and_sent_again(
    analysed, tmp_path
):
    """What the second import could not find out anew, such as doubt about a patient, was gone."""
    doubt = "The Segmentation is on another grid than the reference: it was resampled"
    analysis = analysed()
    known = (*analysis.prepared.notices, *analysis.study.notices)
    sent = replace(analysis, run=replace(analysis.run, notices=(doubt, *known)))
    stated = f"Stated in the report that was opened: {doubt}"
    for _ in range(2):
        sent = reopen_folder(_sent(sent, tmp_path), analysis.study, analysis.prepared)
        assert [text for text in sent.run.notices if "Stated" in text] == [stated]


def test_a_map_on_other_voxels_is_named_as_not_shown(analysed, tmp_path):
    """It vanished: the attention of that region seemed never to have been sent."""
    analysis = analysed()
    folder = _sent(analysis, tmp_path)
    ds = pydicom.dcmread(folder / "attention_tc.dcm")
    for groups in ds.PerFrameFunctionalGroupsSequence:
        position = groups.PlanePositionSequence[0]
        x, y, z = map(float, position.ImagePositionPatient)
        position.ImagePositionPatient = [x + 1.5, y, z]
    ds.save_as(folder / "attention_tc.dcm")
    again = reopen_folder(folder, analysis.study, analysis.prepared)
    assert set(again.volumes.attention) == set(analysis.volumes.attention) - {Region.TC}
    said = "Attention maps on another grid than the reference are not shown: tumour core"
    assert said in again.run.notices


def test_a_map_of_every_other_slice_is_named_as_not_shown(analysed, tmp_path):
    """Its voxels lie on the reference's; between them it would be 0."""
    analysis = analysed()
    folder = _sent(analysis, tmp_path)
    ds = pydicom.dcmread(folder / "attention_tc.dcm")
    ds.FloatPixelData = np.ascontiguousarray(ds.pixel_array[::2]).tobytes()
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[::2]
    ds.NumberOfFrames = len(ds.PerFrameFunctionalGroupsSequence)
    ds.save_as(folder / "attention_tc.dcm")
    again = reopen_folder(folder, analysis.study, analysis.prepared)
    assert set(again.volumes.attention) == set(analysis.volumes.attention) - {Region.TC}


def test_anatomy_beside_a_lesion_is_not_taken(analysed, tmp_path):
    """As TotalSegmentator writes organs."""
    analysis = analysed()
    whole = analysis.volumes.labels.data > 0
    brain = ~whole
    segments = [
        _segment(1, "brain", codes.SCT.Brain, codes.SCT.AnatomicalStructure),
        _segment(2, "lesion", codes.SCT.Lesion),
    ]
    _other(analysis, segments, [brain, whole], tmp_path / "study" / "other.dcm")
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    np.testing.assert_array_equal(again.findings.components > 0, whole)
    assert any("brain" in text for text in again.run.notices)


@pytest.mark.parametrize(("name", "is_core"), [("Tumor core", True), ("Tumor", False)])
def test_a_segmentation_of_the_core_alone_is_said_not_to_show_the_whole_tumour(
    analysed, tmp_path, name, is_core
):
    analysis = analysed()
    segments = [_segment(1, name, codes.SCT.Neoplasm)]
    masks = [analysis.volumes.labels.data > 0]
    _other(analysis, segments, masks, tmp_path / "study" / "other.dcm")
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    assert any("is that of the core" in text for text in again.run.notices) == is_core


def test_segments_that_do_not_say_what_they_are_are_taken_as_drawn(analysed, tmp_path):
    """As 3D Slicer writes them: tissue, Segment_1 and Segment_2."""
    analysis = analysed()
    first, second = (analysis.findings.components == n for n in (1, 2))
    segments = [_segment(n, f"Segment_{n}", codes.SCT.Tissue, codes.SCT.Tissue) for n in (1, 2)]
    _other(analysis, segments, [first, second], tmp_path / "study" / "other.dcm")
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    assert len(again.findings.candidates) == 2
    assert any("No segment is labelled" in text for text in again.run.notices)


def test_a_segmentation_of_another_series_is_brought_onto_the_reference(
    analysed, flair_series, tmp_path
):
    analysis = analysed()
    fine = flair_series((2.0, 2.0, 5.0))
    tumour = [_segment(1, "Tumor", codes.SCT.Neoplasm)]
    place, masks = tmp_path / "study" / "other.dcm", [fine.volumes.labels.data > 0]
    _other(fine, tumour, masks, place, sequence=MrSequence.FLAIR)
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    found, meant = again.findings.components > 0, analysis.volumes.labels.data > 0
    dice = 2 * (found & meant).sum() / (found.sum() + meant.sum())
    assert dice > 0.85
    assert any("resampled" in text for text in again.run.notices)
    assert not any("outside" in text for text in again.run.notices)


def test_a_voxel_of_two_lesions_is_the_part_that_the_first_of_them_has_there(analysed, tmp_path):
    """It was the first one's, and enhancing as the second one is there."""
    analysis, uids = analysed(), [generate_uid(), generate_uid()]
    first, second = (analysis.findings.components == n for n in (1, 2))
    oedema, core, enhancing = (PARTS[n] for n in (Label.OEDEMA, Label.CORE, Label.ENHANCING))
    segments = [
        _segment(n, f"Lesion {n}", code, tracking_uid=uid, tracking_id=f"Lesion {uid}")
        for n, (code, uid) in enumerate(
            [(oedema, uids[0]), (core, uids[0]), (oedema, uids[1]), (enhancing, uids[1])], 1
        )
    ]
    shared = first.copy()
    shared[:, :, : np.argwhere(first)[:, 2].mean().astype(int)] = False
    masks = [first, first & ~shared, second, second | shared]
    _other(analysis, segments, masks, tmp_path / "study" / "other.dcm")
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    volumes = {c.tracking_uid: c.volume_ml for c in again.findings.candidates}
    assert volumes[uids[0]][Region.ET] == 0.0
    grid = analysis.volumes.labels.grid
    assert volumes[uids[1]][Region.ET] == pytest.approx(grid.volume_ml(second), rel=1e-3)


def test_a_segment_that_lies_between_the_voxels_is_named_as_left_out(
    analysed, flair_series, tmp_path
):
    """It vanished without a word: no candidate, and no notice but that others were resampled."""
    analysis = analysed()
    fine = flair_series((1.0, 1.0, 4.0))
    drawn, dot = fine.volumes.labels.data > 0, np.zeros(fine.volumes.labels.data.shape, bool)
    dot[tuple(np.array(dot.shape) // 2)] = True
    segments = [_segment(n, f"Lesion {n}", codes.SCT.Neoplasm) for n in (1, 2)]
    place, masks = tmp_path / "study" / "other.dcm", [drawn, dot & ~drawn]
    _other(fine, segments, masks, place, sequence=MrSequence.FLAIR)
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    assert any(text.endswith("were left out: Lesion 2") for text in again.run.notices)


@pytest.mark.parametrize(
    ("slices", "pixel_mm"), [((4,), 2.0), ((3, 5), 2.0), ((4,), 4.0), ((3, 4, 5), 4.0)]
)
def test_a_segment_on_few_slices_of_another_series_keeps_its_volume(
    analysed, flair_series, tmp_path, slices, pixel_mm
):
    """Also if the centres of its larger voxels are centres of the reference's (4 mm)."""
    analysis = analysed(Acquisition("LPS"))
    coarse = flair_series((pixel_mm, pixel_mm, 12.0))
    mask = np.zeros(coarse.volumes.labels.data.shape, bool)
    low, high = (round(mm / pixel_mm) for mm in (60, 96))
    mask[low:high, low:high, list(slices)] = True
    tumour, place = [_segment(1, "Tumor", codes.SCT.Neoplasm)], tmp_path / "study" / "other.dcm"
    _other(coarse, tumour, [mask], place, sequence=MrSequence.FLAIR)
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    found_ml = (again.findings.components > 0).sum() * again.prepared.native.voxel_ml
    assert found_ml == pytest.approx(mask.sum() * coarse.volumes.labels.grid.voxel_ml, rel=0.15)


def test_a_segment_of_larger_pixels_keeps_its_volume(analysed, tmp_path):
    analysis, path = analysed(), tmp_path / "study" / "other.dcm"
    marked = np.zeros(analysis.volumes.labels.data.shape, bool)
    marked[5:9, 6:10, 20:26] = True
    _other(analysis, [_segment(1, "Tumor", codes.SCT.Neoplasm)], [marked], path)
    larger = pydicom.dcmread(path)
    shared = larger.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [12.0, 12.0]
    larger.save_as(path)
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    found = np.count_nonzero(again.findings.components)
    assert found == pytest.approx(9 * np.count_nonzero(marked), rel=0.15)


def test_what_of_a_segmentation_lies_outside_the_reference_is_said(analysed, tmp_path):
    analysis = analysed()
    marked = analysis.volumes.labels.data > 0
    path = tmp_path / "study" / "other.dcm"
    _other(analysis, [_segment(1, "Tumor", codes.SCT.Neoplasm)], [marked], path)
    moved = pydicom.dcmread(path)
    for frame in moved.PerFrameFunctionalGroupsSequence:
        where = frame.PlanePositionSequence[0]
        x, y, z = (float(v) for v in where.ImagePositionPatient)
        where.ImagePositionPatient = [x + 90.0, y, z]
    moved.save_as(path)
    again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    assert any("outside the reference" in text for text in again.run.notices)


def _code(value, meaning):
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


@pytest.mark.skipif(DCMQI is None, reason="dcmqi is not installed")
def test_what_dcmqi_writes_reopens(analysed, tmp_path):
    import nibabel as nib

    analysis = analysed()
    labels = analysis.volumes.labels
    for number in (1, 2):
        mask = (analysis.findings.components == number).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, labels.affine), tmp_path / f"{number}.nii.gz")
    kind = _code("52988006", "Lesion")
    category = _code("49755003", "Morphologically Abnormal Structure")
    about = {
        "ContentCreatorName": "Reader1",
        "ClinicalTrialSeriesID": "1",
        "ClinicalTrialTimePointID": "1",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [
            [
                {
                    "labelID": 1,
                    "SegmentDescription": f"lesion {n}",
                    "SegmentAlgorithmType": "MANUAL",
                    "SegmentedPropertyCategoryCodeSequence": category,
                    "SegmentedPropertyTypeCodeSequence": kind,
                    "recommendedDisplayRGBValue": [255, 0, 0],
                }
            ]
            for n in (1, 2)
        ],
    }
    (tmp_path / "about.json").write_text(json.dumps(about))
    folder = analysis.study.series[MrSequence.T1C].files[0].path.parent
    subprocess.run(
        [DCMQI, "--inputImageList", f"{tmp_path}/1.nii.gz,{tmp_path}/2.nii.gz",
         "--inputDICOMDirectory", folder, "--inputMetadata", tmp_path / "about.json",
         "--outputDICOM", tmp_path / "study" / "dcmqi.dcm", "--skip"],
        check=True, capture_output=True,
    )  # fmt: skip
    with warnings.catch_warnings(action="ignore"):
        again = from_dicom(tmp_path / "study", analysis.study, analysis.prepared)
    np.testing.assert_array_equal(again.findings.components > 0, labels.data > 0)
    assert len(again.findings.candidates) == 2


def test_maps_that_are_no_attention_are_not_called_attention_when_reopened(analysed, tmp_path):
    """Grad-CAM of a bundle came back, and was sent again, as attention."""
    analysis = analysed()
    attention = replace(analysis, maps=AttentionMaps({}, {}, "cross-attention of the query", ()))
    assert _back(attention, tmp_path).maps is None
    method = "Grad-CAM of the bundle's network at a quarter of its resolution: not attention"
    sent = replace(analysis, maps=AttentionMaps({}, {}, method, ()))
    for _ in range(2):
        folder = _sent(sent, tmp_path)
        for name in ("attention.dcm", "attention_tc.dcm"):
            assert "Attention" not in pydicom.dcmread(folder / name).ContentDescription
        sent = reopen_folder(folder, analysis.study, analysis.prepared)
        assert sent.maps is not None
        assert not sent.maps.is_attention
        assert sent.maps.method == "Grad-CAM of the bundle's network at a quarter of"
        assert set(sent.volumes.attention) == set(analysis.volumes.attention)
