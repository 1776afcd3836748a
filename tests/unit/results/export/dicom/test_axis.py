"""A diameter is drawn as a line only on an image that shows its full length."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.phantoms.acquire import AXIAL_SLICES
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.findings.measure import diameters
from lesionlens.base import codes as own
from lesionlens.base import geometry
from lesionlens.base.labels import Label, MrSequence, ReviewState
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.base.records.study import StudyKind
from lesionlens.results.export.dicom import refs
from lesionlens.results.export.dicom.axis import axes_of, centre_of, coordinates
from lesionlens.results.export.dicom.framed import SegmentMask

AXES = {own.LONG_AXIS.value, own.SHORT_AXIS.value}


@pytest.fixture(scope="module")
def head(tmp_path_factory, two_lesions):
    place = tmp_path_factory.mktemp("axis")
    sequences = (MrSequence.T1C,)
    study = write_study(
        two_lesions, place, kind=StudyKind.DICOM, sequences=sequences, how=AXIAL_SLICES
    )
    analysis = make_analysis(two_lesions, study)
    return analysis, refs.read_sources(analysis.study.series[MrSequence.T1C])


def _measured(analysis, lines):
    """Return the analysis with both diameters of its first candidate placed by a reader."""
    uid = analysis.findings.candidates[0].tracking_uid
    event = ReviewEvent(uid, ReviewState.ACCEPTED, "A", "2026-01-05T10:00:00Z", diameters=lines)
    return replace(analysis, review=Review((event,)))


def _turned(sources, rotation, stretch):
    """Return the source frames with wider columns, turned about the centre of the stack."""
    wide = sources.planes * (stretch, 1.0, 1.0)
    middle = (wide @ (sources.columns / 2, sources.rows / 2, 1.0)).mean(axis=0)
    planes = rotation.as_matrix() @ wide
    planes[:, :, 2] += middle - rotation.apply(middle)
    return replace(sources, planes=planes), middle


def _length_mm(axis, sources):
    steps = sources.planes[axis.frame][:, :2]
    return float(np.linalg.norm(steps @ (axis.points[1] - axis.points[0])))


@given(
    tilt_deg=st.floats(0, 90),
    about_deg=st.floats(0, 360),
    along_deg=st.floats(0, 360),
    half_mm=st.floats(2, 40),
    stretch=st.sampled_from((1.0, 1.5)),
)
def test_a_line_is_drawn_where_at_most_one_percent_of_it_is_lost_else_its_centre(
    head, tilt_deg, about_deg, along_deg, half_mm, stretch
):
    analysis, sources = head
    about = np.array([np.cos(np.deg2rad(about_deg)), np.sin(np.deg2rad(about_deg)), 0.0])
    turned, middle = _turned(sources, Rotation.from_rotvec(np.deg2rad(tilt_deg) * about), stretch)
    along = np.array([np.cos(np.deg2rad(along_deg)), np.sin(np.deg2rad(along_deg)), 0.0])
    across = np.array([-along[1], along[0], 0.0])
    halves = (half_mm * along, half_mm / 2 * across)
    ends = [geometry.points_lps_from_ras([middle - h, middle + h]).tolist() for h in halves]
    placed = tuple(tuple(map(tuple, line)) for line in ends)
    measured = _measured(analysis, placed)
    found = axes_of(measured, turned, analysis.findings.candidates[0])
    for code, half, line in zip((own.LONG_AXIS, own.SHORT_AXIS), halves, placed, strict=True):
        axis = found[code.value]
        whole = 2 * float(np.linalg.norm(half))
        shown = float(np.linalg.norm(half - (half @ turned.normal) * turned.normal)) * 2
        if abs(shown - 0.99 * whole) < 1e-6 * whole:
            continue
        lps = geometry.points_lps_from_ras(line)
        _check_place(axis, turned, lps if shown > 0.99 * whole else lps.mean(axis=0))
        if shown > 0.99 * whole:
            assert _length_mm(axis, turned) == pytest.approx(shown, rel=1e-6)
            off = np.abs((lps - turned.positions[axis.frame]) @ turned.normal)
            gap_mm = abs((turned.positions[1] - turned.positions[0]) @ turned.normal)
            assert (off <= gap_mm / 2 + 0.15 * whole / 2).all()
        else:
            assert axis.points.shape == (1, 2)


def _check_place(axis, sources, lps):
    """Assert that the points of an axis are those of the patient, seen along the normal."""
    centres = np.column_stack((axis.points - 0.5, np.ones(len(axis.points))))
    drawn = centres @ sources.planes[axis.frame].T
    np.testing.assert_allclose(np.cross(lps - drawn, sources.normal), 0.0, atol=1e-6)
    written = np.reshape(coordinates(axis, sources).GraphicData, (len(axis.points), -1))
    expected = axis.points if sources.has_square_pixels else drawn
    np.testing.assert_allclose(written, expected, atol=1e-4)


def test_the_centre_of_a_segment_is_that_of_its_pixels_on_its_fullest_frame():
    mask = np.zeros((3, 4, 6), bool)
    mask[0, 0, 0] = mask[1, 1:3, 2:6] = True
    place = centre_of(SegmentMask(1, "1.2.3", np.s_[7:10, 20:24, 30:36], mask))
    assert (place.frame, place.points.tolist()) == (8, [[34.0, 22.0]])


@pytest.mark.parametrize(
    ("orientation", "tilt_deg"),
    [("LPS", 0.0), ("LPS", 8.0), ("LPS", 17.0), ("LPS", 30.0), ("PIR", 0.0), ("LIP", 8.0)],
)
def test_no_line_of_a_report_contradicts_its_value(exported, orientation, tilt_deg):
    analysis, folder = exported(dicom=True, orientation=orientation, tilt_deg=tilt_deg)
    files = analysis.study.series[MrSequence.T1C].files
    sources = {f.sop_instance_uid: pydicom.dcmread(f.path) for f in files}
    items = [*_measures(pydicom.dcmread(folder / "sr.dcm"))]
    kinds = []
    for item, value in zip(items, _lengths_mm(analysis), strict=True):
        (place,) = item.ContentSequence
        kinds.append(place.GraphicType)
        if place.GraphicType == "POLYLINE":
            reference = place.ContentSequence[0].ReferencedSOPSequence[0]
            row_mm, column_mm = sources[reference.ReferencedSOPInstanceUID].PixelSpacing
            start, end = np.array(place.GraphicData, float).reshape(2, 2)
            drawn = np.linalg.norm((end - start) * (float(column_mm), float(row_mm)))
            assert 0.99 * value - 0.01 <= drawn <= value + 0.01
        else:
            assert len(place.GraphicData) == 2
    if orientation == "LPS" and tilt_deg < 8.1:
        assert set(kinds) == {"POLYLINE"}


def _lengths_mm(analysis):
    """Yield both diameters of each candidate, from its voxels."""
    labels, components = analysis.volumes.labels, analysis.findings.components
    for candidate in analysis.findings.candidates:
        mask = (components == candidate.id) & (labels.data == Label.ENHANCING)
        found = diameters(mask, labels.grid)
        yield from (found.longest_mm, found.perpendicular_mm)


def _measures(node):
    for item in node.get("ContentSequence", ()):
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue in AXES:
            yield item
        yield from _measures(item)
