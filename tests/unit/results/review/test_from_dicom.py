"""A review goes on from the archive alone: source images, Segmentation and report, ours or not."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, moved, write_study

from lesionlens.analysis.findings.edits import applied
from lesionlens.base import codes as own
from lesionlens.base.errors import ReadError
from lesionlens.base.labels import DrawingMethod, Label, MrSequence, Region, ReviewState, Source
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.review import WHOLE_STUDY, Outline, Review, ReviewEvent
from lesionlens.base.records.study import StudyKind
from lesionlens.base.run_context import SILENT
from lesionlens.results.export.caveats import limits
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.exporter import save
from lesionlens.results.export.page import Page
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.review.from_dicom import from_dicom
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import prepare_and_reopen, read_result, reopen_folder
from lesionlens.results.review.report_items import iter_items
from lesionlens.testing import Lesion, make_patient

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


def test_a_folder_without_a_result_is_refused(analysed, tmp_path):
    analysis = analysed()
    with pytest.raises(ReadError, match="no Segmentation of this study"):
        reopen_folder(tmp_path / "study", analysis.study, analysis.prepared)


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
        assert len(omitted) == again.run.omitted == rejected
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


def _items(item):
    for child in item.get("ContentSequence", []):
        yield child
        yield from _items(child)


def _concept(item):
    return str(item.ConceptNameCodeSequence[0].get("CodeValue", ""))


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
