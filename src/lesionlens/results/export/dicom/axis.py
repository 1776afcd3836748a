"""Position of both diameters on a source image, for display in viewers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from highdicom.sr import (
    CoordinatesForMeasurement,
    CoordinatesForMeasurement3D,
    GraphicTypeValues,
    GraphicTypeValues3D,
    SourceImageForRegion,
)
from numpy.typing import NDArray

from lesionlens.analysis.findings.measure import diameters_of_region
from lesionlens.base import geometry
from lesionlens.base.codes import LONG_AXIS, SHORT_AXIS
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.results.export.dicom.framed import SegmentMask
from lesionlens.results.export.dicom.refs import SourceFrames

MIN_PROJECTED_FRACTION = 0.99
"""Minimum fraction of a line's length that its projection onto a source image must have. Diameters
are measured on axial planes; on a tilted image a line would be shorter than its value.
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """A line, or a point, on a source image."""

    frame: int
    """Index of the source frame."""
    points: NDArray[np.float64]
    """(N, 2) float64: column and row of its two ends, or of its centre only if the frame does not
    show the whole length; the corner of the first pixel is (0, 0).
    """


def axes_of(analysis: Analysis, sources: SourceFrames, candidate: Candidate) -> dict[str, Axis]:
    """Return the positions of a candidate's diameters by code; empty if it has none.

    Parameters
    ----------
    candidate : Candidate
        The candidate; its diameters are of the enhancing part if there is one, else of the whole.
    """
    reader_diameters = analysis.review.diameters_of(candidate.tracking_uid)
    if reader_diameters is not None:
        lines = sorted(
            reader_diameters, key=lambda line: -float(np.linalg.norm(np.subtract(*line)))
        )
        names = (LONG_AXIS, SHORT_AXIS)
        return {c.value: _axis(sources, ends) for c, ends in zip(names, lines, strict=True)}
    labels, region = analysis.volumes.labels, candidate.measured_part
    computed = diameters_of_region(analysis.findings, labels, candidate, region)
    if computed is None or candidate.longest_axial_diameter_mm is None:
        return {}
    measured = ((LONG_AXIS, computed.ends_mm), (SHORT_AXIS, computed.across_mm))
    return {code.value: _axis(sources, ends_mm) for code, ends_mm in measured}


def _axis(sources: SourceFrames, ends_mm: tuple[Point, Point]) -> Axis:
    """Project a line, patient RAS+ mm, to the source image nearest to its centre.

    A line whose projection is shorter by more than 1% becomes its centre.
    """
    ends = geometry.points_lps_from_ras(ends_mm)
    centre = ends.mean(axis=0)
    frame = int(np.abs((sources.positions - centre) @ sources.normal).argmin())
    steps, origin = sources.planes[frame, :, :2], sources.positions[frame]
    pixels = (ends - origin) @ np.linalg.pinv(steps).T + 0.5
    pixels = np.clip(pixels, 0.0, (sources.columns, sources.rows))
    projected_mm = np.linalg.norm(steps @ (pixels[1] - pixels[0]))
    is_in_plane = projected_mm >= MIN_PROJECTED_FRACTION * np.linalg.norm(ends[1] - ends[0])
    return Axis(frame, pixels if is_in_plane else pixels.mean(axis=0, keepdims=True))


def centre_of(segment: SegmentMask) -> Axis:
    """Return the centre of a segment on the frame that has most of its pixels."""
    frame_index = int(np.count_nonzero(segment.mask, axis=(1, 2)).argmax())
    row, column = np.argwhere(segment.mask[frame_index]).mean(axis=0) + 0.5
    _, rows, columns = segment.box
    point = np.array([[column + columns.start, row + rows.start]])
    return Axis(segment.box[0].start + frame_index, point)


def coordinates(
    axis: Axis, sources: SourceFrames
) -> CoordinatesForMeasurement | CoordinatesForMeasurement3D:
    """Return an axis as a DICOM coordinates item for a length measurement.

    It is on the source image, or in the patient (LPS+ mm) where pixels are not square: there OHIF
    3.13 swaps the spacings of rows and columns, and drew it beside the lesion.
    """
    dataset, numbers = sources.reference(axis.frame)
    is_line = len(axis.points) > 1
    if not sources.has_square_pixels:
        pixels = np.column_stack((axis.points - 0.5, np.ones(len(axis.points))))
        return CoordinatesForMeasurement3D(
            graphic_type=GraphicTypeValues3D.POLYLINE if is_line else GraphicTypeValues3D.POINT,
            graphic_data=pixels @ sources.planes[axis.frame].T,
            frame_of_reference_uid=dataset.FrameOfReferenceUID,
        )
    return CoordinatesForMeasurement(
        graphic_type=GraphicTypeValues.POLYLINE if is_line else GraphicTypeValues.POINT,
        graphic_data=axis.points,
        source_image=SourceImageForRegion(dataset.SOPClassUID, dataset.SOPInstanceUID, numbers),
    )
