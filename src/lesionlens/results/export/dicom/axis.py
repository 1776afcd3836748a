"""Where both diameters lie on a source image, for viewers to jump to and draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from highdicom.sr import CoordinatesForMeasurement, GraphicTypeValues, SourceImageForRegion
from numpy.typing import NDArray

from lesionlens.analysis.findings.measure import diameters
from lesionlens.base import geometry
from lesionlens.base.codes import LONG_AXIS, SHORT_AXIS
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.results.export.dicom.refs import SourceFrames

AXIAL = 0.94
"""Least cosine between the frames' normal and the patient's axis: 20 degrees. Diameters are
measured on axial planes; on others a line would be shorter than its figure."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A line on a source image."""

    frame: int
    """Which frame of the sources."""
    points: NDArray[np.float64]
    """(N, 2) float64: column and row of its two ends, or of its middle alone where the frames are
    not axial; the corner of the first pixel is (0, 0)."""


def axes_of(analysis: Analysis, sources: SourceFrames, candidate: Candidate) -> dict[str, Axis]:
    """Return where a candidate's diameters lie, by the code of each; empty if it has none.

    Parameters
    ----------
    analysis : Analysis
        With labels of the candidate.
    sources : SourceFrames
        Of the reference series.
    candidate : Candidate
        Whose diameters are those of its enhancing part, else of the whole.
    """
    placed = analysis.review.diameters_of(candidate.tracking_uid)
    if placed is not None:
        lines = sorted(placed, key=lambda line: -float(np.linalg.norm(np.subtract(*line))))
        names = (LONG_AXIS, SHORT_AXIS)
        return {c.value: _axis(sources, ends) for c, ends in zip(names, lines, strict=True)}
    labels = analysis.volumes.labels
    region = measured_region(candidate)
    mask = analysis.findings.components == candidate.id
    box = geometry.bounding_box(mask)
    if box is not None:
        mask[box] &= np.isin(labels.data[box], region.labels)
    found = diameters(mask, labels.grid)
    if found is None or candidate.longest_axial_diameter_mm is None:
        return {}
    measured = ((LONG_AXIS, found.ends_mm), (SHORT_AXIS, found.across_mm))
    return {code.value: _axis(sources, ends_mm) for code, ends_mm in measured}


def _axis(sources: SourceFrames, ends_mm: tuple[Point, Point]) -> Axis:
    """Lay a line, patient RAS+ mm, onto the source image nearest to its middle."""
    ends = geometry.points_lps_from_ras(ends_mm)
    middle = ends.mean(axis=0)
    frame = int(np.abs((sources.positions - middle) @ sources.normal).argmin())
    steps, origin = sources.planes[frame, :, :2], sources.positions[frame]
    pixels = (ends - origin) @ np.linalg.pinv(steps).T + 0.5
    pixels = np.clip(pixels, 0.0, (sources.columns, sources.rows))
    axial = abs(sources.normal[2]) >= AXIAL
    return Axis(frame, pixels if axial else pixels.mean(axis=0, keepdims=True))


def measured_region(candidate: Candidate) -> Region:
    """Return the region whose diameters a candidate's are."""
    return Region.ET if candidate.has_enhancing else Region.WT


def coordinates(axis: Axis, sources: SourceFrames) -> CoordinatesForMeasurement:
    """Return an axis as the item that a length is inferred from."""
    dataset, numbers = sources.reference(axis.frame)
    return CoordinatesForMeasurement(
        graphic_type=GraphicTypeValues.POLYLINE
        if len(axis.points) > 1
        else GraphicTypeValues.POINT,
        graphic_data=axis.points,
        source_image=SourceImageForRegion(dataset.SOPClassUID, dataset.SOPInstanceUID, numbers),
    )
