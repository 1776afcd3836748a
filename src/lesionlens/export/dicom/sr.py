"""Structured report: Comprehensive 3D SR by TID 1500, unverified until a reader verifies it.

Each candidate is one measurement group for each region that was measured (whole tumour, core,
enhancing part), all with the candidate's tracking UID; a group points at exactly the segments that
make up its region, so that a volume is never read as that of another part.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from lesionlens.base import codes as own
from lesionlens.base.errors import ExportError
from lesionlens.base.labels import Region
from lesionlens.export.dicom import identity
from lesionlens.export.dicom.ko import best_frame
from lesionlens.export.dicom.refs import SourceFrames
from lesionlens.export.dicom.seg import Segment
from lesionlens.records.analysis import Analysis
from lesionlens.records.findings import Candidate

FINDINGS = {
    Region.WT: own.LESION_OF_BRAIN,
    Region.TC: own.TUMOUR_CORE,
    Region.ET: own.LABEL_TYPES[Region.ET.labels[0]],
}
"""What each region of a candidate is called; a neoplasm would be a person's verdict."""
TRACKING_UID = "112040"
"""DICOM's code of the name under which a group gives its tracking UID."""
SIDES = {"left": own.LEFT, "right": own.RIGHT, "both sides": own.BILATERAL}


def build_sr(
    analysis: Analysis,
    sources: SourceFrames,
    segments: tuple[Segment, ...],
    seg: Dataset | None,
) -> Comprehensive3DSR:
    """Build the report.

    Parameters
    ----------
    analysis : Analysis
        With or without candidates.
    sources : SourceFrames
        Of the reference series.
    segments : tuple of Segment
        What the Segmentation holds.
    seg : Dataset or None
        The Segmentation; None without an outlined candidate. Without any candidate the report
        says so.
    """
    groups: list[Any] = [
        group
        for candidate in identity.exported(analysis)
        for group in _candidate_groups(analysis, sources, candidate, segments, seg)
    ]
    if not groups:
        groups = [_nothing_flagged(analysis, sources)]
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=identity.observer(analysis)),
        procedure_reported=identity.concept(own.BRAIN_MRI),
        imaging_measurements=groups,
    )
    evidence = [*sources.datasets] + ([seg] if seg is not None else [])
    return Comprehensive3DSR(
        evidence=evidence,
        content=report[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        **identity.of_new_object(analysis, "sr"),
    )


def _algorithm(analysis: Analysis) -> AlgorithmIdentification:
    engine = analysis.run.engine
    digest = engine.weights_sha256
    return AlgorithmIdentification(
        name=identity.algorithm_name(analysis),
        version=engine.version or "unknown",
        parameters=[f"weights SHA-256 {digest}"] if digest else None,
        family=identity.concept(own.ARTIFICIAL_INTELLIGENCE),
        manufacturer=identity.MANUFACTURER,
    )


def _nothing_flagged(
    analysis: Analysis, sources: SourceFrames
) -> MeasurementsAndQualitativeEvaluations:
    """Say that no candidate was found: a group on the source images, without a measurement."""
    dataset, numbers = sources.reference(len(sources.places) // 2)
    said = QualitativeEvaluation(
        identity.concept(own.CONCLUSION), identity.concept(own.NO_CANDIDATE)
    )
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=generate_uid(), identifier="LesionLens whole study"
        ),
        algorithm_id=_algorithm(analysis),
        finding_sites=[FindingSite(identity.concept(own.BRAIN))],
        qualitative_evaluations=[said],
        source_images=[
            SourceImageForMeasurementGroup(dataset.SOPClassUID, dataset.SOPInstanceUID, numbers)
        ],
    )


def _candidate_groups(
    analysis: Analysis,
    sources: SourceFrames,
    candidate: Candidate,
    segments: tuple[Segment, ...],
    seg: Dataset | None,
) -> list[Any]:
    """Return one group for each region of a candidate that has voxels and a measured volume."""
    measured = _measures(analysis, candidate)
    if not any(s.candidate is candidate for s in segments):
        every = [measure for measures in measured.values() for measure in measures]
        return [_boxed_group(analysis, sources, candidate, every)]
    groups: list[Any] = []
    for region, measures in measured.items():
        parts = [s for s in segments if s.candidate is candidate and s.label in region.labels]
        if not parts or seg is None:
            continue
        whole = region is Region.WT
        groups.append(
            VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(
                    uid=candidate.tracking_uid, identifier=identity.tracking_id(candidate)
                ),
                referenced_segment=_referenced(sources, parts, seg),
                finding_category=identity.concept(own.ABNORMAL_STRUCTURE),
                finding_type=identity.concept(FINDINGS[region]),
                algorithm_id=_algorithm(analysis),
                finding_sites=[_site(candidate)],
                measurements=measures,
                qualitative_evaluations=_reviewed(analysis, candidate) if whole else None,
            )
        )
    return groups


def _boxed_group(
    analysis: Analysis, sources: SourceFrames, candidate: Candidate, measures: list[Measurement]
) -> MeasurementsAndQualitativeEvaluations:
    """Return the group of a candidate that a detector gave without an outline (TID 1501)."""
    best = best_frame(analysis, sources, candidate)
    dataset, numbers = sources.reference(best)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=candidate.tracking_uid, identifier=identity.tracking_id(candidate)
        ),
        finding_category=identity.concept(own.ABNORMAL_STRUCTURE),
        finding_type=identity.concept(own.LESION_OF_BRAIN),
        algorithm_id=_algorithm(analysis),
        finding_sites=[_site(candidate)],
        measurements=measures,
        qualitative_evaluations=_reviewed(analysis, candidate),
        source_images=[
            SourceImageForMeasurementGroup(dataset.SOPClassUID, dataset.SOPInstanceUID, numbers)
        ],
    )


def _measures(analysis: Analysis, candidate: Candidate) -> Mapping[Region, list[Measurement]]:
    """Return what was measured of each region; what is not known is left out."""
    found: dict[Region, list[Measurement]] = {}
    for region in Region:
        volume = candidate.volume_ml.get(region)
        if volume is not None:
            cubic_centimetre = identity.concept(own.CUBIC_CENTIMETRE)
            found[region] = [_measure(own.VOLUME, round(volume, 4), cubic_centimetre)]
    measured = Region.ET if candidate.has_enhancing else Region.WT
    rows = (
        (own.LONG_AXIS, candidate.longest_axial_diameter_mm),
        (own.SHORT_AXIS, candidate.perpendicular_diameter_mm),
    )
    lengths = [_measure(c, round(v, 3), codes.UCUM.Millimeter) for c, v in rows if v is not None]
    found.setdefault(measured, []).extend(lengths)
    calibrated = analysis.run.engine.calibrated
    score = _measure(
        own.PROBABILITY if calibrated else own.CERTAINTY,
        round(100 * candidate.score, 4),
        codes.UCUM.Percent,
    )
    found.setdefault(Region.WT, []).append(score)
    return found


def _measure(code: own.Code, value: float, unit: Any) -> Measurement:
    return Measurement(name=identity.concept(code), value=value, unit=unit)


def _referenced(sources: SourceFrames, parts: list[Segment], seg: Dataset) -> ReferencedSegment:
    """Point at the segments of a region and at their source series."""
    numbers = [part.number for part in parts]
    return ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=numbers if len(numbers) > 1 else numbers[0],
        source_series=SourceSeriesForSegmentation(sources.datasets[0].SeriesInstanceUID),
    )


def _site(candidate: Candidate) -> FindingSite:
    side = SIDES.get(candidate.location.side or "")
    return FindingSite(
        anatomic_location=identity.concept(own.BRAIN),
        laterality=None if side is None else identity.concept(side),
    )


def _reviewed(analysis: Analysis, candidate: Candidate) -> list[QualitativeEvaluation]:
    state = analysis.review.state_of(candidate.tracking_uid)
    return [
        QualitativeEvaluation(
            identity.concept(own.REVIEW_STATE), identity.concept(own.REVIEW_STATES[state])
        )
    ]


def check_sr(path: Path, analysis: Analysis) -> None:
    """Read a report back and compare its candidates with those meant.

    Raises
    ------
    ExportError
        Its candidates are others.
    """
    read = pydicom.dcmread(path)
    found = {
        str(item.UID)
        for content in read.iterall()
        if content.keyword == "ContentSequence"
        for item in content.value
        if item.get("ValueType") == "UIDREF"
        and item.ConceptNameCodeSequence[0].CodeValue == TRACKING_UID
    }
    wanted = {c.tracking_uid for c in identity.exported(analysis)}
    if not wanted <= found or len(found) != max(len(wanted), 1):  # one of the whole study
        raise ExportError(
            found="other candidates in sr.dcm, read back, than in the result",
            expected="what was meant to be written",
            next_step="Report this as a defect; nothing was saved",
        )
