"""The resection cavity has a measurement group of its own, and is no candidate when read back."""

import shutil
from dataclasses import replace

import highdicom
import numpy as np
import pytest
from pydicom.sr.codedict import codes

from lesionlens.analysis.findings.edits import applied
from lesionlens.base import codes as own
from lesionlens.base.labels import Label, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.review import CAVITY, Outline
from lesionlens.results.review import report_items
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import reopen_folder

MEASURES = {own.VOLUME.value, own.LONG_AXIS.value, own.SHORT_AXIS.value}


def _with_cavity(analysis):
    """Return the analysis with a cavity of 5 x 6 x 4 voxels in the right half of the head."""
    labels = analysis.volumes.labels
    inside = np.zeros(labels.data.shape, bool)
    i, j, k = (n // 2 for n in labels.data.shape)
    inside[i + 2 : i + 7, j - 3 : j + 3, k - 2 : k + 2] = True
    inside &= labels.data == 0
    assert inside.any()
    return replace(analysis, volumes=replace(analysis.volumes, cavity=Volume(inside, labels.grid)))


def _groups(report):
    return [
        {i.ConceptNameCodeSequence[0].CodeValue: i for i in one.ContentSequence}
        for container in report.ContentSequence
        for one in container.get("ContentSequence", ())
        if one.ConceptNameCodeSequence[0].CodeValue == own.MEASUREMENT_GROUP.value
    ]


@pytest.mark.parametrize("lesions", [None, ()], ids=["two candidates", "no candidate"])
def test_the_last_group_is_of_the_cavity_and_references_its_segment(
    make, read_objects, tmp_path, lesions
):
    analysis = _with_cavity(make(dicom=True, lesions=lesions))
    written = read_objects(analysis)
    segments = written["seg"].SegmentSequence
    groups = _groups(written["sr"])
    assert len(groups) == len(segments)
    cavity, segment = groups[-1], segments[-1]
    assert segment.TrackingUID == cavity["112040"].UID
    assert cavity["112039"].TextValue == segment.TrackingID == Label.CAVITY.display_name
    reference = cavity["121191"].ReferencedSOPSequence[0]
    assert reference.ReferencedSegmentNumber == segment.SegmentNumber
    assert cavity["276214006"].ConceptCodeSequence == segment.SegmentedPropertyCategoryCodeSequence
    assert cavity["121071"].ConceptCodeSequence == segment.SegmentedPropertyTypeCodeSequence
    site = cavity[codes.SCT.FindingSite.value].ConceptCodeSequence[0]
    assert site.CodeValue == own.BRAIN.value
    volume = float(cavity[own.VOLUME.value].MeasuredValueSequence[0].NumericValue)
    assert volume == pytest.approx(analysis.volumes.cavity_ml, abs=1e-4)
    names = set(cavity)
    (named,) = segment.SegmentationAlgorithmIdentificationSequence
    assert cavity["111001"].TextValue == named.AlgorithmName == segment.SegmentAlgorithmName
    assert names & MEASURES == {own.VOLUME.value}
    judged = (own.REVIEW_STATE, own.PROBABILITY, own.CERTAINTY, own.SOURCE, own.SENTENCE)
    assert not names & {code.value for code in judged}
    read = highdicom.sr.srread(tmp_path / "dicom" / "sr.dcm").content
    assert len(read.get_volumetric_roi_measurement_groups()) == len(segments)


@pytest.mark.parametrize("lesions", [None, ()], ids=["two candidates", "no candidate"])
def test_reopened_from_dicom_it_is_a_cavity_and_no_candidate(make, read_objects, tmp_path, lesions):
    analysis = _with_cavity(make(dicom=True, lesions=lesions))
    report = read_objects(analysis)["sr"]
    wanted = [c.tracking_uid for c in analysis.findings.candidates]
    assert set(report_items.candidates_in(report)) == set(wanted)
    again = reopen_folder(tmp_path / "dicom", analysis.study, analysis.prepared)
    assert [c.tracking_uid for c in again.findings.candidates] == wanted
    np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)
    np.testing.assert_array_equal(again.volumes.cavity.data, analysis.volumes.cavity.data)
    assert not again.review.events, "the network outlined it, and no reader"


def test_a_cavity_that_a_reader_drew_stays_drawn_by_a_reader_when_reopened(
    make, read_objects, tmp_path
):
    """Sent again it was called the network's, AUTOMATIC."""
    analysis = make(dicom=True)
    log = ReviewLog()
    drawn = np.full((3, 4, 2), Label.CAVITY, np.uint8)
    outline = Outline(CAVITY, (2, 2, 2), drawn)
    log.decide(CAVITY, ReviewState.EDITED, reader="A. Reader", outline=outline)
    analysis = applied(replace(analysis, review=log.review))
    sent = read_objects(analysis)["seg"].SegmentSequence[-1]
    again = reopen_folder(tmp_path / "dicom", analysis.study, analysis.prepared)
    assert again.review.outline_of(CAVITY) == outline
    np.testing.assert_array_equal(again.volumes.cavity.data, analysis.volumes.cavity.data)
    shutil.rmtree(tmp_path / "dicom")
    back = read_objects(again)["seg"].SegmentSequence[-1]
    assert sent.SegmentAlgorithmType == back.SegmentAlgorithmType == "SEMIAUTOMATIC"
