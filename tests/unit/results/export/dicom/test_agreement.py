"""What the objects of one result state of a candidate agrees, read by pydicom alone."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from scipy import ndimage

from lesionlens.base import codes as own
from lesionlens.base.labels import Extra, MrSequence, Region
from lesionlens.base.records.export import ExportOptions
from lesionlens.results.export import lookup
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.review.report_items import iter_items

TEXT_ROWS = 30
"""Rows of a key slice that hold its words."""


@pytest.fixture(params=[("LPS", 0.0), ("PIR", 11.0)], ids=["axial", "tilted sagittal"])
def result(request, make, tmp_path):
    """An analysis, its source images in the order of the slices, and its objects."""
    orientation, tilt_deg = request.param
    how = {"orientation": orientation, "tilt_deg": tilt_deg, "spacing_mm": (3.0, 4.0, 6.0)}
    analysis = make(dicom=True, **how)
    options = ExportOptions(also=frozenset(Extra))
    assert not DicomExporter().write(replace(analysis, options=options), tmp_path).left_out
    images = [pydicom.dcmread(f.path) for f in analysis.study.series[MrSequence.T1C].files]
    return analysis, images, {p.stem: pydicom.dcmread(p) for p in (tmp_path / "dicom").iterdir()}


def _plane(position, orientation, spacing):
    """Return the map of (row, column, 1) to LPS+ mm, (3, 3)."""
    cosines, (row_mm, column_mm) = np.array(orientation, float), map(float, spacing)
    return np.stack([cosines[3:] * row_mm, cosines[:3] * column_mm, np.array(position, float)], 1)


def _plane_of(image):
    return _plane(image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing)


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


def test_a_structure_set_has_the_segments_numbers_colours_and_places(result):
    _, images, objects = result
    found, points = objects["contours"], _segment_points(objects["seg"])
    descriptions = {int(s.SegmentNumber): s for s in objects["seg"].SegmentSequence}
    planes = {str(image.SOPInstanceUID): _plane_of(image) for image in images}
    rois = {int(roi.ROINumber): roi for roi in found.StructureSetROISequence}
    assert list(rois) == [int(i.ReferencedROINumber) for i in found.RTROIObservationsSequence]
    assert set(rois) == set(descriptions)
    for item in found.ROIContourSequence:
        number = int(item.ReferencedROINumber)
        assert rois[number].ROIName == descriptions[number].SegmentLabel
        assert str(descriptions[number].TrackingUID) in rois[number].ROIDescription
        assert rois[number].ROIGenerationAlgorithm == descriptions[number].SegmentAlgorithmType
        assert rois[number].ReferencedFrameOfReferenceUID == images[0].FrameOfReferenceUID
        region = next(r for r in Region if rois[number].ROIName.endswith(r.display_name))
        assert tuple(map(int, item.ROIDisplayColor)) == lookup.rgb(region.colour)
        vertices = []
        for contour in item.ContourSequence:
            lps = np.array(contour.ContourData, float).reshape(-1, 3)
            assert contour.NumberOfContourPoints == len(lps)
            plane = planes[str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)]
            normal = np.cross(plane[:, 0], plane[:, 1])
            off_mm = (lps - plane[:, 2]) @ (normal / np.linalg.norm(normal))
            assert np.abs(off_mm).max() < 1e-3
            vertices.append(lps)
        axes = np.linalg.inv(_plane_of(images[0])[:, :2].T @ _plane_of(images[0])[:, :2])
        steps = axes @ _plane_of(images[0])[:, :2].T
        drawn, marked = np.concatenate(vertices) @ steps.T, points[number] @ steps.T
        np.testing.assert_allclose(drawn.min(axis=0), marked.min(axis=0) - 0.5, atol=0.01)
        np.testing.assert_allclose(drawn.max(axis=0), marked.max(axis=0) + 0.5, atol=0.01)


def test_a_key_slice_is_the_slice_that_it_names_with_the_outline_in_its_place(result):
    analysis, images, objects = result
    found, keys = objects["key_slices"], objects["key_objects"]
    named = [str(i.ReferencedSOPInstanceUID) for i in found.SourceImageSequence]
    selected = [i for i in keys.ContentSequence if i.ValueType == "IMAGE"]
    assert named == [str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in selected]
    by_uid = {str(image.SOPInstanceUID): image for image in images}
    assert len(named) == len(analysis.findings.candidates)  # each on a slice of its own
    grid = analysis.volumes.labels.grid
    for picture, uid, candidate in zip(
        found.pixel_array, named, analysis.findings.candidates, strict=True
    ):
        image = by_uid[uid]
        shape, spacing = np.array([image.Rows, image.Columns]), np.array(image.PixelSpacing, float)
        scale = np.array(picture.shape[:2]) / shape
        np.testing.assert_allclose(scale / spacing, (scale / spacing).mean(), rtol=0.01)
        pixels = np.argwhere(np.ones(shape, bool))
        lps = np.column_stack([pixels, np.ones(len(pixels))]) @ _plane_of(image).T
        voxels = np.rint(grid.to_voxel(lps * (-1, -1, 1))).astype(int)
        mask = (analysis.findings.components[tuple(voxels.T)] == candidate.id).reshape(shape)
        coloured = np.ptp(picture.astype(int), axis=2) > 0
        held, drawn = np.argwhere(mask), np.argwhere(coloured)
        np.testing.assert_allclose(drawn.min(axis=0), held.min(axis=0) * scale, atol=1.01)
        np.testing.assert_allclose(drawn.max(axis=0) + 1, (held.max(axis=0) + 1) * scale, atol=1.01)
        centres = ((pixels + 0.5) * scale).astype(int)
        grey = picture[*centres.T, 0].reshape(shape)
        beside = ~ndimage.binary_dilation(mask, iterations=2)
        beside[: int(np.ceil(TEXT_ROWS / scale[0]))] = False
        assert np.corrcoef(grey[beside], image.pixel_array[beside])[0, 1] > 0.99
