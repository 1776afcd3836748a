"""What the objects of one result state of a candidate agrees, read by pydicom alone."""

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from lesionlens.base import codes as own
from lesionlens.base.labels import MrSequence
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.review.report_items import iter_items


@pytest.fixture(params=[("LPS", 0.0), ("PIR", 11.0)], ids=["axial", "tilted sagittal"])
def result(request, make, tmp_path):
    """An analysis, its source images in the order of the slices, and its objects."""
    orientation, tilt_deg = request.param
    how = {"orientation": orientation, "tilt_deg": tilt_deg, "spacing_mm": (3.0, 4.0, 6.0)}
    analysis = make(dicom=True, **how)
    assert not DicomExporter().write(analysis, tmp_path).left_out
    images = [pydicom.dcmread(f.path) for f in analysis.study.series[MrSequence.T1C].files]
    return analysis, images, {p.stem: pydicom.dcmread(p) for p in (tmp_path / "dicom").iterdir()}


def _plane(position, orientation, spacing):
    """Return the map of (row, column, 1) to LPS+ mm, (3, 3)."""
    cosines, (row_mm, column_mm) = np.array(orientation, float), map(float, spacing)
    return np.stack([cosines[3:] * row_mm, cosines[:3] * column_mm, np.array(position, float)], 1)


def _segment_points(seg):
    """Return the LPS mm of every marked pixel by segment number."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    points = {}
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        plane = _plane(groups.PlanePositionSequence[0].ImagePositionPatient, orientation, spacing)
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        pixels = np.argwhere(frame)
        lps = np.column_stack([pixels, np.ones(len(pixels))]) @ plane.T
        points[number] = np.concatenate([points.get(number, np.empty((0, 3))), lps])
    return points


def _children(item, concept):
    return [i for i in iter_items(item) if i.ConceptNameCodeSequence[0].CodeValue == concept.value]


def test_side_contours_and_measurements_are_those_of_the_segments(result):
    """The patient's left is towards positive x in DICOM."""
    _, _, objects = result
    points = _segment_points(objects["seg"])
    uids = {int(s.SegmentNumber): str(s.TrackingUID) for s in objects["seg"].SegmentSequence}
    sides = {}
    for group in _children(objects["sr"], own.MEASUREMENT_GROUP):
        (pointer,) = _children(group, codes.DCM.ReferencedSegment)
        reference = pointer.ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == objects["seg"].SOPInstanceUID
        number = int(reference.ReferencedSegmentNumber)
        (uid,) = _children(group, codes.DCM.TrackingUniqueIdentifier)
        assert str(uid.UID) == uids[number]
        (side,) = _children(group, codes.SCT.Laterality)
        sides[number] = side.ConceptCodeSequence[0].CodeMeaning
    assert sides == {n: "Left" if (p[:, 0] > 0).all() else "Right" for n, p in points.items()}
    assert set(sides.values()) == {"Left", "Right"}
