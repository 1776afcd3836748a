"""Contours and key slices on request: valid, and equal to what was drawn."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ImageDraw
from tests.helpers.dicom_files import edited_dicom

from lesionlens.base.codes import OWN_SCHEME
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Extra, MrSequence, ReviewState
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.engines.testing.simple import Lesion
from lesionlens.results.export.dicom import refs
from lesionlens.results.export.dicom.contours import fill_contours, masks_of, outlines
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.dicom.framed import FramedResult
from lesionlens.results.export.dicom.ko import rejection_of

EVERY = ExportOptions(also=frozenset(Extra))
NAMES = ("contours", "key_slices")


def written(analysis, folder):
    done = DicomExporter().write(replace(analysis, options=EVERY), folder)
    assert not done.left_out
    return {p.stem: pydicom.dcmread(p) for p in (folder / "dicom").iterdir()}


@settings(max_examples=200)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outlines_of_any_mask_fill_to_the_same_mask(mask):
    lines = outlines(mask)
    found = np.zeros(mask.shape, bool)
    for line in lines:
        one = fill_contours([line], mask.shape)
        assert not (found & one).any()
        found |= one
    np.testing.assert_array_equal(found, mask)


def test_an_outline_runs_midway_between_pixels():
    mask = np.zeros((6, 7), bool)
    mask[2:5, 1:4] = True
    (line,) = outlines(mask)
    low, high = np.min(line, axis=0), np.max(line, axis=0)
    assert {tuple(low), tuple(high)} in ({(1.5, 0.5), (4.5, 3.5)}, {(0.5, 1.5), (3.5, 4.5)})


@pytest.mark.parametrize(("orientation", "tilt"), [("LPS", 0), ("PIR", 11), ("LIP", 23)])
def test_contours_fill_to_the_regions_on_their_images(make, tmp_path, orientation, tilt):
    how = {"orientation": orientation, "spacing_mm": (3.0, 4.0, 6.0), "tilt_deg": tilt}
    analysis = make(dicom=True, **how)
    found = written(analysis, tmp_path)["contours"]
    sources = refs.read_sources(analysis.study.series[MrSequence.T1C])
    segments = FramedResult(analysis, sources).regions
    assert [str(roi.ROIName) for roi in found.StructureSetROISequence] == [
        f"{one.candidate.id} {one.region.display_name}" for one in segments
    ]
    for item, segment in zip(found.ROIContourSequence, segments, strict=True):
        masks = masks_of(item, sources)
        for frame in range(len(sources.placements)):
            meant = segment.frame(frame, sources.rows, sources.columns)
            np.testing.assert_array_equal(masks.get(frame, np.zeros_like(meant)), meant)
    assert {str(one.RTROIInterpretedType) for one in found.RTROIObservationsSequence} == {""}
    assert {
        c.ContourGeometricType for i in found.ROIContourSequence for c in i.ContourSequence
    } == {"CLOSED_PLANAR"}


def test_key_slices_are_one_picture_a_candidate_with_the_notice_burned_in(make, tmp_path):
    analysis = make(dicom=True)
    found = written(analysis, tmp_path)["key_slices"]
    assert found.BurnedInAnnotation == "YES"
    pixels = found.pixel_array
    assert pixels.shape[0] == len(analysis.findings.candidates)
    assert max(pixels.shape[1:3]) >= 512
    for picture, segment_colour in zip(pixels, [(0, 158, 115)] * 2, strict=True):
        assert (picture == segment_colour).all(axis=-1).any()  # the outline of the whole tumour
        assert (picture[:26] == 255).all(axis=-1).sum() > 100  # words
    assert list(found.FrameLabelVector) == ["Candidate 1", "Candidate 2"]


def test_key_slices_of_a_lossy_source_state_its_compression(make, tmp_path):
    """A program that shows them beside the scan would otherwise call them lossless."""
    analysis = make(dicom=True)
    assert written(analysis, tmp_path)["key_slices"].LossyImageCompression == "00"
    for path in filter(Path.is_file, analysis.study.root.rglob("*")):
        with edited_dicom(path) as image:
            image.LossyImageCompression, image.LossyImageCompressionRatio = "01", "10"
            image.LossyImageCompressionMethod = "ISO_15444_1"
    (tmp_path / "lossy").mkdir()
    objects = written(analysis, tmp_path / "lossy")
    for name in ("key_slices", "seg", "attention"):
        found = objects[name]
        assert (found.LossyImageCompression, found.LossyImageCompressionRatio) == ("01", 10), name
        assert found.LossyImageCompressionMethod == "ISO_15444_1", name


def test_the_burned_in_words_name_the_candidate_and_what_a_reader_made_of_it(
    make, tmp_path, monkeypatch
):
    analysis = make(dicom=True)
    events = tuple(
        ReviewEvent(candidate.tracking_uid, state, "A", "2026-01-05T10:00:00Z")
        for candidate, state in zip(
            analysis.findings.candidates, (ReviewState.ACCEPTED, ReviewState.REJECTED), strict=True
        )
    )
    words = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda _, xy, text, **__: words.append(text))
    options = ExportOptions(include_unaccepted=True, also=frozenset(Extra))
    DicomExporter().write(replace(analysis, review=Review(events), options=options), tmp_path)
    assert words == [
        "RESEARCH USE ONLY - candidate 1",
        "RESEARCH USE ONLY - candidate 2 (rejected)",
    ]


def test_contours_identify_the_scheme_of_their_own_codes_as_the_segmentation_does(make, tmp_path):
    found = written(make(dicom=True), tmp_path)
    used = {
        item.RTROIIdentificationCodeSequence[0].CodingSchemeDesignator
        for item in found["contours"].RTROIObservationsSequence
    }
    assert OWN_SCHEME in used
    schemes = found["contours"].CodingSchemeIdentificationSequence
    assert schemes == found["seg"].CodingSchemeIdentificationSequence
    assert [one.CodingSchemeDesignator for one in schemes] == [OWN_SCHEME]


def test_neither_is_written_unless_asked_for(make, tmp_path):
    DicomExporter().write(make(dicom=True), tmp_path)
    assert not {p.stem for p in (tmp_path / "dicom").iterdir()} & set(NAMES)


@pytest.mark.parametrize("lesions", [None, (Lesion(),)])
def test_a_validator_finds_no_error_in_either(make, tmp_path, lesions):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (package dicom3tools)")
    written(make(dicom=True, lesions=lesions), tmp_path)
    for name in NAMES:
        done = subprocess.run(
            ["dciodvfy", tmp_path / "dicom" / f"{name}.dcm"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        lines = (done.stdout + done.stderr).splitlines()
        assert [line for line in lines if line.startswith("Error")] == []


def test_a_rejection_note_names_every_object_of_the_earlier_result(make, tmp_path):
    earlier = written(make(dicom=True), tmp_path)
    note = rejection_of(list(earlier.values()))
    named = {str(e.value) for e in note.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    assert named == {str(one.SOPInstanceUID) for one in earlier.values()}
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert note.StudyInstanceUID == earlier["seg"].StudyInstanceUID
    path = tmp_path / "note.dcm"
    note.save_as(path)
    if shutil.which("dciodvfy"):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "Error" not in done.stdout + done.stderr


def test_a_rejection_note_rejects_nothing_of_others(make, tmp_path):
    earlier = written(make(dicom=True), tmp_path)["seg"]
    earlier.Manufacturer = "Another"
    with pytest.raises(UnusableInputError, match="not by LesionLens"):
        rejection_of([earlier])
