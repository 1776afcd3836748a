"""What a report says of limits, readers, places and names; and that DCMTK reads it."""

import shutil
import subprocess
from dataclasses import replace

import nrrd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from lesionlens.base import codes as own
from lesionlens.base.labels import Label, MrSequence, Region, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.findings import Location
from lesionlens.base.records.review import WHOLE_STUDY, Review, ReviewEvent
from lesionlens.base.records.study import QualityCheck
from lesionlens.results.export import bids
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.slicer import SlicerExporter
from lesionlens.results.review.report_items import iter_items, signed_of

TIME = "2026-01-05T10:00:00Z"


def decided(analysis, *states, rest=True):
    events = tuple(
        ReviewEvent(candidate.tracking_uid, state, "A. Reader", TIME, "seen before")
        for candidate, state in zip(analysis.findings.candidates, states, strict=True)
    )
    return replace(analysis, review=Review(events), options=ExportOptions(include_unaccepted=rest))


def objects(analysis, folder):
    DicomExporter().write(analysis, folder)
    return {p.stem: pydicom.dcmread(p) for p in (folder / "dicom").iterdir()}


def named(node, code):
    return [
        item for item in iter_items(node) if item.ConceptNameCodeSequence[0].CodeValue == code.value
    ]


def test_a_signature_on_no_candidate_is_a_review(make, tmp_path):
    signed = ReviewEvent(WHOLE_STUDY, ReviewState.ACCEPTED, "A. Reader", TIME, "Nothing seen")
    analysis = replace(make(dicom=True, lesions=()), review=Review((signed,)))
    written = objects(analysis, tmp_path)
    assert set(written) == {"sr"}  # nothing to draw
    report = written["sr"]
    assert report.SeriesDescription == "LesionLens measurements, no candidate, signed (research)"
    texts = [item.TextValue for item in iter_items(report) if "TextValue" in item]
    assert any("Signed by a reader: Nothing seen, A. Reader." in text for text in texts)
    assert not any("Nobody has reviewed" in text for text in texts)
    assert signed_of(report) == signed


@pytest.fixture
def reviewed(make):
    return decided(make(dicom=True), ReviewState.ACCEPTED, ReviewState.REJECTED)


@pytest.mark.parametrize("tool", ["dsrdump", "dsr2html"])
def test_dcmtk_reads_a_reviewed_report(reviewed, tmp_path, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (package dcmtk)")
    objects(reviewed, tmp_path)
    done = subprocess.run(
        [tool, tmp_path / "dicom" / "sr.dcm"], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert b"E: " not in done.stderr
    assert b"A. Reader" in done.stdout


def test_what_limits_a_result_travels_in_report_and_segmentation(make, tmp_path):
    analysis = make(dicom=True, sequences=(MrSequence.FLAIR,))
    thick = QualityCheck("spacing", passed=False, message="FLAIR has slices of 6 mm.")
    findings = replace(analysis.findings, quality=(*analysis.findings.quality, thick))
    written = objects(replace(analysis, findings=findings), tmp_path)
    said = [item.TextValue for item in named(written["sr"], own.LIMIT)]
    assert "T1c is missing." in said
    assert thick.message in said
    assert set(findings.notices) <= set(said)
    assert "The whole brain is in the field of view." not in said
    assert "without T1, T1c, T2" in written["seg"].ContentDescription
    assert len(written["seg"].ContentDescription) <= 64


@pytest.mark.parametrize("contrast", [True, False])
def test_zero_and_unknown_differ_in_the_report(make, tmp_path, contrast):
    sequences = (MrSequence.T1C, MrSequence.FLAIR) if contrast else (MrSequence.FLAIR,)
    analysis = make(dicom=True, sequences=sequences)
    labels = analysis.volumes.labels
    plain = np.where(labels.data == Label.ENHANCING, np.uint8(Label.CORE), labels.data)
    candidates = tuple(
        replace(c, volume_ml={**c.volume_ml, Region.ET: 0.0 if contrast else None})
        for c in analysis.findings.candidates
    )
    volumes = replace(analysis.volumes, labels=Volume(plain, labels.grid))
    findings = replace(analysis.findings, candidates=candidates)
    written = objects(replace(analysis, volumes=volumes, findings=findings), tmp_path)
    found = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in named(written["sr"], own.ABSENT_VOLUMES[Region.ET])
    ]
    assert found == ([0.0] * len(candidates) if contrast else [])


def test_the_last_reader_is_an_observer_beside_the_device(reviewed, make, tmp_path):
    for name in ("reviewed", "unread"):
        (tmp_path / name).mkdir()
    earlier = replace(reviewed.review.events[0], reader="B. Before")
    review = replace(reviewed.review, events=(earlier, *reviewed.review.events))
    report = objects(replace(reviewed, review=review), tmp_path / "reviewed")["sr"]
    kinds = {i.ConceptCodeSequence[0].CodeMeaning for i in named(report, codes.DCM.ObserverType)}
    assert kinds == {"Person", "Device"}
    (person,) = named(report, codes.DCM.PersonObserverName)
    assert str(person.PersonName) == "A. Reader"
    unread = objects(make(dicom=True), tmp_path / "unread")["sr"]
    assert not named(unread, codes.DCM.PersonObserverName)


PLACES = (
    (
        ("left", "frontal lobe", ["Frontal lobe"], {"Left"}),
        ("both sides", "temporal lobe and insula", ["Temporal lobe", "Insula"], {"Right and left"}),
    ),
    (("right", "parietal lobe (uncertain)", ["Brain"], {"Right"}), (None, None, ["Brain"], set())),
)
"""Side and region of the two candidates, their sites and what is stated of each site's side."""


@pytest.mark.parametrize("places", PLACES)
def test_lobe_and_side_are_coded_and_an_unknown_side_is_not(make, tmp_path, places):
    analysis = make(dicom=True)
    candidates = tuple(
        replace(candidate, location=Location(side, region))
        for candidate, (side, region, *_) in zip(analysis.findings.candidates, places, strict=True)
    )
    findings = replace(analysis.findings, candidates=candidates)
    written = objects(replace(analysis, findings=findings), tmp_path)["sr"]
    for candidate, (*_, sites, sides) in zip(candidates, places, strict=True):
        groups = (
            i for i in named(written, own.MEASUREMENT_GROUP) if _uid(i) == candidate.tracking_uid
        )
        for group in groups:
            found = named(group, codes.SCT.FindingSite)
            assert [site.ConceptCodeSequence[0].CodeMeaning for site in found] == sites
            coded = (item for site in found for item in named(site, codes.SCT.Laterality))
            assert {item.ConceptCodeSequence[0].CodeMeaning for item in coded} == sides


def _uid(group):
    return next(item.UID for item in iter_items(group) if item.ValueType == "UIDREF")


def test_both_diameters_are_drawn_and_cross_at_right_angles(make, tmp_path):
    written = objects(make(dicom=True), tmp_path)["sr"]
    directions = []
    for code in (own.LONG_AXIS, own.SHORT_AXIS):
        (line,) = named(written, code)[0].ContentSequence
        start, end = np.array(line.GraphicData, float).reshape(2, 2)
        directions.append((end - start) / np.linalg.norm(end - start))
    assert abs(directions[0] @ directions[1]) < 0.05


def test_what_a_reader_rejected_is_marked_wherever_it_is_named(reviewed, tmp_path):
    written = objects(reviewed, tmp_path)
    labels = [str(segment.SegmentLabel) for segment in written["seg"].SegmentSequence]
    assert {label.endswith("(rejected)") for label in labels if label.startswith("2 ")} == {True}
    assert not any("(" in label for label in labels if label.startswith("1 "))
    (path,) = SlicerExporter().write(reviewed, tmp_path)
    header = nrrd.read_header(str(path))
    names = [value for key, value in header.items() if key.endswith("_Name")]
    assert {name.endswith("(rejected)") for name in names if name.startswith("2 ")} == {True}
    tags = [value for key, value in header.items() if key.endswith("_Tags")]
    assert any("LesionLens_Review:rejected|" in tag for tag in tags)


def test_a_bids_mask_leaves_out_what_a_reader_deferred(make, tmp_path, monkeypatch):
    analysis = decided(make(), ReviewState.DEFERRED, ReviewState.ACCEPTED)
    kept = {}
    monkeypatch.setattr(bids, "write_volume", lambda path, volume, **_: kept.update(mask=volume))
    bids._write_mask(analysis, tmp_path / "sub-1")
    components = analysis.findings.components
    np.testing.assert_array_equal(kept["mask"].data > 0, components == 2)
