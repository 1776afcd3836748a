"""Measurement groups of the SR: one for each region of each candidate, and of the cavity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    ImageContentItem,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TimePointContext,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.value_types import ContentSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom_codes

from lesionlens.base import codes, geometry
from lesionlens.base.labels import DrawingMethod, Label, Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import (
    Candidate,
)
from lesionlens.base.records.followup import (
    PRODUCT_LIMITS,
    VOLUME_LIMITS,
    ChangeKind,
    change_text,
    name_of,
    percent,
)
from lesionlens.base.records.prompts import prompts_text
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.results.export.dicom import identity, values
from lesionlens.results.export.dicom.axis import Axis, axes_of, centre_of, coordinates
from lesionlens.results.export.dicom.content_items import (
    CONTAINS,
    reader_item,
    text_item,
    time_items,
)
from lesionlens.results.export.dicom.framed import FramedResult, Segment, SegmentMask
from lesionlens.results.export.dicom.refs import SourceFrames

_HIGHEST_PERCENT = 99.99
"""Highest score that is stated: in four digits a higher one would read 100%, which none is."""
SIDES = {"left": codes.LEFT, "right": codes.RIGHT, "both sides": codes.BILATERAL}


def groups_of(result: FramedResult, seg: Dataset | None, attention: Dataset | None) -> list[Any]:
    """Return the groups of every exported candidate; see `sr.build_sr` for the parameters.

    The region with measured diameters comes first, with all measurements; other groups have only
    the first of them. Candidates with more measurements precede those with fewer, and the resection
    cavity, which has a volume only, is last, unless no candidate has any. Therefore a table
    with the columns of the first group is correct, with empty cells for missing values. The score
    is text, not a measurement.
    """
    # Alternatives fail: highdicom (0.28) does not support items without a value; without a segment,
    # 3D Slicer shows diameters in the column of volumes; OHIF ignores measurements outside groups;
    # repeated diameters would be attributed to another region.
    groups: list[Any] = []
    analysis, sources = result.analysis, result.sources
    rows = [
        (candidate, _segments_of(candidate, result.regions))
        for candidate in identity.exported(analysis)
    ]
    for candidate, parts in sorted(rows, key=lambda row: -_measurement_count(*row)):
        if seg is None or not parts:
            groups.append(_without_outline(result, candidate))
            continue
        for index, part in enumerate(parts):
            group = _region_group(result, part, seg)
            if index == 0:
                _add_coordinates(group, axes_of(analysis, sources, candidate), sources)
                group[0].ContentSequence.extend(_remarks(result, candidate))
            _refer_to_attention(group, attention)
            groups.append(group)
    if seg is None:
        return groups
    cavities = result.segments[len(result.regions) :]
    cavity_groups = [_cavity_group(result, segment, seg) for segment in cavities]
    is_measured = any(_measurement_count(*row) for row in rows)
    return groups + cavity_groups if is_measured else cavity_groups + groups


def _segments_of(candidate: Candidate, segments: tuple[Segment, ...]) -> list[Segment]:
    """Return a candidate's segments, the region with measured diameters first."""
    own_segments = [segment for segment in segments if segment.candidate is candidate]
    return sorted(own_segments, key=lambda segment: segment.region is not candidate.measured_part)


def _measurement_count(candidate: Candidate, parts: list[Segment]) -> int:
    """Count the measurements of a candidate's first group."""
    return len(_measurements(candidate, parts[0].region if parts else Region.WT))


def _region_group(result: FramedResult, part: Segment, seg: Dataset) -> Any:
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=_referenced_segment(result.sources, part, seg),
        **_statements(result.analysis, part.candidate, part.region),
    )


def _statements(analysis: Analysis, candidate: Candidate, region: Region | None) -> dict[str, Any]:
    """Return what a group states of one region of a candidate, or of one without an outline."""
    finding = codes.LESION_OF_BRAIN if region is None else codes.REGION_TYPES[region]
    return {
        "tracking_identifier": TrackingIdentifier(
            uid=candidate.tracking_uid, identifier=identity.tracking_id(candidate, region)
        ),
        "finding_category": identity.concept(codes.ABNORMAL_STRUCTURE),
        "finding_type": identity.concept(finding),
        "algorithm_id": _algorithm_of(analysis, candidate),
        "finding_sites": _finding_sites(candidate),
        "measurements": _measurements(candidate, region or Region.WT),
        "qualitative_evaluations": _qualitative_evaluations(analysis, candidate),
        "time_point_context": _time_point_context(analysis),
    }


def _cavity_group(result: FramedResult, segment: SegmentMask, seg: Dataset) -> Any:
    """Return the group of the resection cavity: its volume, and a point to jump to.

    The cavity is not a candidate and has neither review state nor score.
    """
    analysis, sources = result.analysis, result.sources
    volume_ml = round(analysis.volumes.cavity_ml or 0.0, 4)
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=segment.tracking_uid, identifier=Label.CAVITY.display_name
        ),
        referenced_segment=_referenced_segment(sources, segment, seg),
        finding_category=identity.concept(codes.ABNORMAL_STRUCTURE),
        finding_type=identity.concept(codes.LABEL_TYPES[Label.CAVITY]),
        algorithm_id=_algorithm(analysis, analysis.outline_source),
        finding_sites=[FindingSite(anatomic_location=identity.concept(codes.BRAIN))],
        measurements=[
            Measurement(
                identity.concept(codes.VOLUME), volume_ml, identity.concept(codes.CUBIC_CENTIMETRE)
            )
        ],
        time_point_context=_time_point_context(analysis),
    )
    _add_coordinates(group, {codes.VOLUME.value: centre_of(segment)}, sources)
    return group


def _referenced_segment(
    sources: SourceFrames, segment: SegmentMask, seg: Dataset
) -> ReferencedSegment:
    return ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=segment.number,
        source_series=SourceSeriesForSegmentation(sources.datasets[0].SeriesInstanceUID),
    )


def _time_point_context(analysis: Analysis) -> TimePointContext | None:
    """Return the name of this examination, if earlier ones are known (TID 1502).

    The type (before or after which treatment) is unknown. The order is omitted: as a number, dcmqi
    and 3D Slicer would list it among the measurements; examinations of one day have it beside the
    date.
    """
    comparison = analysis.compared
    if comparison is None:
        return None
    return TimePointContext(name_of(comparison.points, len(comparison.points) - 1))


def _change_text(analysis: Analysis, candidate: Candidate) -> str:
    """Describe how a candidate changed since the prior examination; empty without a prior."""
    comparison = analysis.compared
    if comparison is None:
        return ""
    change = comparison.change_of(candidate.tracking_uid)
    prior_index = len(comparison.points) - 2
    prior_name = "the prior examination"
    if comparison.points[prior_index].date:
        prior_name = name_of(comparison.points, prior_index)
    if comparison.is_doubtful:
        prior_name += " (doubtful comparison)"
    if change is None or change.before is None:
        if change is not None and change.kind is ChangeKind.SPLIT:
            return f"; split from a region of {prior_name}"
        return f"; not flagged on {prior_name}"
    linked_ml = comparison.linked_total_ml(change) or (None, None)
    items = [
        f"{name} {change_text(value, limits[value > 0])}%"
        for name, value, limits in (
            ("volume", change.volume_percent, VOLUME_LIMITS),
            ("product of diameters", change.product_percent, PRODUCT_LIMITS),
            ("volume including merged and split regions", percent(*linked_ml), VOLUME_LIMITS),
        )
        if value is not None
    ]
    return f"; since {prior_name}: {', '.join(items)}" if items else ""


def _measurements(candidate: Candidate, region: Region) -> list[Measurement]:
    """Return the measurements of a region in a fixed order; unknown ones are omitted.

    A region without voxels has no group; its volume of 0 ml is in the first group, innermost first,
    so that a table column has the same region for every candidate.
    """
    volumes_ml = candidate.volume_ml
    ml = identity.concept(codes.CUBIC_CENTIMETRE)
    is_first = region is candidate.measured_part
    name = codes.VOLUME if is_first else _volume_of(region)
    rows: list[Any] = [(name, volumes_ml.get(region), 4, ml)]
    if is_first:
        rows += [
            (codes.LONG_AXIS, candidate.longest_axial_diameter_mm, 3, dicom_codes.UCUM.Millimeter),
            (codes.SHORT_AXIS, candidate.perpendicular_diameter_mm, 3, dicom_codes.UCUM.Millimeter),
        ]
        empty = (other for other in reversed(Region) if volumes_ml.get(other) == 0)
        rows += [
            (codes.ABSENT_VOLUMES[other], 0.0, 4, ml) for other in empty if other is not region
        ]
    return [
        Measurement(identity.concept(name), round(value, digits), unit)
        for name, value, digits, unit in rows
        if value is not None
    ]


def _volume_of(region: Region) -> codes.Code:
    """Return the code of a volume, whose meaning names its region.

    Viewers that merge all groups of a tracking UID (OHIF 3.13) list measurements by these meanings
    below the finding of the first group. The first group's own volume needs no region name, and 3D
    Slicer uses it as a column heading.
    """
    return codes.VOLUME._replace(meaning=f"{region.display_name.capitalize()} volume")


def _add_coordinates(group: Any, axes: Mapping[str, Axis], sources: SourceFrames) -> None:
    """Add the image coordinates of measurements, by code.

    highdicom does not accept them when it builds the group.
    """
    for item in group[0].ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeValue
        if item.ValueType == "NUM" and name in axes:
            coordinates_item = coordinates(axes[name], sources)
            item.ContentSequence = ContentSequence([coordinates_item], is_root=False)


def _refer_to_attention(group: Any, attention: Dataset | None) -> None:
    """Refer to the attention map as a visual explanation."""
    if attention is not None:
        group[0].ContentSequence.append(
            ImageContentItem(
                identity.concept(codes.VISUAL_EXPLANATION),
                attention.SOPClassUID,
                attention.SOPInstanceUID,
                relationship_type=CONTAINS,
            )
        )


def _without_outline(result: FramedResult, candidate: Candidate) -> Any:
    """Return the group of a candidate without an outline (TID 1501), on its best image."""
    dataset, numbers = result.sources.reference(result.best_frame(candidate))
    image = SourceImageForMeasurementGroup(dataset.SOPClassUID, dataset.SOPInstanceUID, numbers)
    return MeasurementsAndQualitativeEvaluations(
        source_images=[image], **_statements(result.analysis, candidate, None)
    )


def _algorithm_of(analysis: Analysis, candidate: Candidate) -> AlgorithmIdentification | None:
    """Return the algorithm that outlined a candidate; None for a manual outline."""
    if candidate.drawn is DrawingMethod.MANUAL:
        return None
    return _algorithm(analysis, candidate.source)


def _algorithm(analysis: Analysis, source: Source) -> AlgorithmIdentification:
    """Return the engine, or the program that an imported segmentation is from."""
    engine = analysis.run.engine
    if source is Source.SEGMENTATION:
        name = identity.algorithm_name(analysis, source)
        return AlgorithmIdentification(name=name, version=engine.version or "unknown")
    digest = engine.weights_sha256
    return AlgorithmIdentification(
        name=identity.algorithm_name(analysis),
        version=engine.version or "unknown",
        parameters=[f"weights SHA-256 {digest}"] if digest else None,
        family=identity.concept(codes.ARTIFICIAL_INTELLIGENCE),
        manufacturer=codes.MANUFACTURER,
    )


def _finding_sites(candidate: Candidate) -> list[FindingSite]:
    """Return the coded locations of a candidate; brain if none is certain."""
    side = SIDES.get(candidate.location.side or "")
    names = (candidate.location.region or "").split(" and ")
    anatomic_codes = [codes.PLACES[name] for name in names if name in codes.PLACES] or [codes.BRAIN]
    return [
        FindingSite(
            anatomic_location=identity.concept(anatomic_code),
            laterality=None if side is None else identity.concept(side),
        )
        for anatomic_code in anatomic_codes
    ]


def _qualitative_evaluations(
    analysis: Analysis, candidate: Candidate
) -> list[QualitativeEvaluation]:
    """Return the review state, and the source if not the engine."""
    state = analysis.review.state_of(candidate.tracking_uid)
    evaluations = [(codes.REVIEW_STATE, codes.REVIEW_STATES[state])]
    if candidate.source is not Source.NETWORK:
        evaluations.append((codes.SOURCE, codes.SOURCES[candidate.source]))
    return [QualitativeEvaluation(identity.concept(n), identity.concept(v)) for n, v in evaluations]


def _remarks(result: FramedResult, candidate: Candidate) -> list[Any]:
    """Return location and state as text, the score, and reader, time and reason of the decision."""
    items: list[Any]
    analysis = result.analysis
    event = analysis.review.decision_of(candidate.tracking_uid)
    state = analysis.review.state_of(candidate.tracking_uid)
    score = codes.PROBABILITY if analysis.run.engine.calibrated else codes.CERTAINTY
    compared = f"{_change_text(analysis, candidate)}; research use only"
    location = candidate.location.text
    if candidate.score is None:
        comment = f"{location}; {candidate.score_text}; {state.value}{compared}"
        items = [text_item(codes.COMMENT, comment)]
    else:
        percent = f"{min(100 * candidate.score, _HIGHEST_PERCENT):.4g}%"
        comment = f"{location}; score {percent}; {state.value}{compared}"
        items = [text_item(codes.COMMENT, comment), text_item(score, percent)]
    items.append(text_item(codes.SENTENCE, result.sentences.of(candidate)))
    items += _reader_diameters(analysis.review, candidate)
    prompt_text = prompts_text(analysis.review.prompts_of(candidate.tracking_uid))
    if prompt_text:
        items.append(text_item(codes.PROMPTED, prompt_text))
    return items if event is None else items + reader_items(event, codes.REVIEW_REASON)


def _reader_diameters(review: Review, candidate: Candidate) -> list[Any]:
    """Return a reader's diameters as coordinates, in DICOM's LPS millimetres."""
    diameters = review.diameters_of(candidate.tracking_uid)
    if diameters is None:
        return []
    ends = geometry.points_lps_from_ras([point for line in diameters for point in line])
    text = "; ".join(", ".join(f"{value:z.3f}" for value in point) for point in ends)
    return [text_item(codes.READER_DIAMETERS, text)]


def reader_items(event: ReviewEvent, reason: codes.Code) -> list[Any]:
    """Return reader and time of an event, and its reason under the concept `reason`."""
    items: list[Any] = []
    name = identity.reader_name(event.reader or "")
    if name:
        items.append(reader_item(name))
    items += time_items(event.time)
    text = values.BY_VR["UT"](event.reason or "")
    if text:
        items.append(text_item(reason, text))
    return items
