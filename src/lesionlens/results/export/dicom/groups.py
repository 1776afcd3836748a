"""Measurement groups of the SR: one for each region of each candidate, and of the cavity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    DateTimeContentItem,
    FindingSite,
    ImageContentItem,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PnameContentItem,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TextContentItem,
    TimePointContext,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.value_types import ContentSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from lesionlens.analysis.followup.response_case import name_of
from lesionlens.base import codes as own
from lesionlens.base import geometry
from lesionlens.base.labels import DrawingMethod, Label, Region, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import PROBABLY_NOT_TUMOUR, Candidate, DoubtfulPart
from lesionlens.base.records.followup import ChangeKind, percent
from lesionlens.base.records.prompts import prompts_in_words
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.base.text import millilitres
from lesionlens.results.export.dicom import identity
from lesionlens.results.export.dicom.axis import (
    Axis,
    axes_of,
    centre_of,
    coordinates,
    measured_region,
)
from lesionlens.results.export.dicom.ko import best_frame
from lesionlens.results.export.dicom.refs import SourceFrames
from lesionlens.results.export.dicom.seg import Segment, SegmentMask
from lesionlens.results.export.followup import is_doubtful
from lesionlens.results.export.sentence import Sentences

SIDES = {"left": own.LEFT, "right": own.RIGHT, "both sides": own.BILATERAL}
CONTAINS = RelationshipTypeValues.CONTAINS
"""Relationship of all direct items of a group."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferencedObjects:
    """Objects of the same result that the report refers to."""

    seg: Dataset | None
    """The Segmentation; None if there is no segment."""
    attention: Dataset | None
    """`attention.dcm`, normally of the whole tumour."""

    @property
    def every(self) -> list[Dataset]:
        """The objects that exist."""
        return [one for one in (self.attention, self.seg) if one is not None]


def groups_of(
    analysis: Analysis,
    sources: SourceFrames,
    segments: tuple[SegmentMask, ...],
    pointed_at: ReferencedObjects,
) -> list[Any]:
    """Return the groups of every exported candidate; see `sr.build_sr` for the parameters.

    The region with measured diameters comes first, with all measurements; other groups have only
    the first of them. Candidates with more measurements precede those with fewer, and the resection
    cavity, which has a volume only, is last, unless no candidate has any. Therefore a table
    with the columns of the first group is correct, with empty cells for missing values. The score
    is text, not a measurement. Alternatives fail: highdicom (0.28) does not support items without a
    value; without a segment, 3D Slicer shows diameters in the column of volumes, and OHIF ignores
    measurements outside groups; repeated diameters would be attributed to another region.
    """
    found: list[Any] = []
    sentences = Sentences(analysis)  # the report is in English
    of_candidates = tuple(one for one in segments if isinstance(one, Segment))
    rows = [(one, _parts(one, of_candidates)) for one in identity.exported(analysis)]
    for candidate, parts in sorted(rows, key=lambda row: -_known(*row)):
        if pointed_at.seg is None or not parts:
            found.append(_without_outline(analysis, sources, candidate))
            continue
        for index, part in enumerate(parts):
            group = _group(analysis, sources, part, pointed_at.seg)
            if index == 0:
                _draw(group, axes_of(analysis, sources, candidate), sources)
                group[0].ContentSequence.extend(_remarks(analysis, candidate, sentences))
            _explain(group, pointed_at.attention)
            found.append(group)
    if pointed_at.seg is None:
        return found
    others = (one for one in segments if not isinstance(one, Segment))
    cavity = [_cavity(analysis, sources, one, pointed_at.seg) for one in others]
    return found + cavity if any(_known(*row) for row in rows) else cavity + found


def _parts(candidate: Candidate, segments: tuple[Segment, ...]) -> list[Segment]:
    """Return a candidate's segments, the region with measured diameters first."""
    mine = [segment for segment in segments if segment.candidate is candidate]
    return sorted(mine, key=lambda part: part.region is not measured_region(candidate))


def _known(candidate: Candidate, parts: list[Segment]) -> int:
    """Count the measurements of a candidate's first group."""
    return len(_measures(candidate, parts[0].region if parts else Region.WT))


def _group(analysis: Analysis, sources: SourceFrames, part: Segment, seg: Dataset) -> Any:
    candidate = part.candidate
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=candidate.tracking_uid, identifier=identity.tracking_id(candidate, part.region)
        ),
        referenced_segment=_referenced(sources, part, seg),
        finding_category=identity.concept(own.ABNORMAL_STRUCTURE),
        finding_type=identity.concept(own.REGION_TYPES[part.region]),
        algorithm_id=_algorithm_of(analysis, candidate),
        finding_sites=_sites(candidate),
        measurements=_measures(candidate, part.region),
        qualitative_evaluations=_evaluations(analysis, candidate),
        time_point_context=_time_point(analysis),
    )


def _cavity(analysis: Analysis, sources: SourceFrames, segment: SegmentMask, seg: Dataset) -> Any:
    """Return the group of the resection cavity: its volume, and a point to jump to.

    It is no candidate: it has neither review state nor score.
    """
    millilitres = round(analysis.volumes.cavity_ml or 0.0, 4)
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=segment.tracking_uid, identifier=Label.CAVITY.display_name
        ),
        referenced_segment=_referenced(sources, segment, seg),
        finding_category=identity.concept(own.ABNORMAL_STRUCTURE),
        finding_type=identity.concept(own.LABEL_TYPES[Label.CAVITY]),
        algorithm_id=_algorithm(analysis, identity.source_of(analysis)),
        finding_sites=[FindingSite(anatomic_location=identity.concept(own.BRAIN))],
        measurements=[
            Measurement(
                identity.concept(own.VOLUME), millilitres, identity.concept(own.CUBIC_CENTIMETRE)
            )
        ],
        time_point_context=_time_point(analysis),
    )
    _draw(group, {own.VOLUME.value: centre_of(segment)}, sources)
    return group


def _referenced(sources: SourceFrames, segment: SegmentMask, seg: Dataset) -> ReferencedSegment:
    return ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=segment.number,
        source_series=SourceSeriesForSegmentation(sources.datasets[0].SeriesInstanceUID),
    )


def _time_point(analysis: Analysis) -> TimePointContext | None:
    """Return which examination this is, if earlier ones are known (TID 1502).

    The type (before or after which treatment) is unknown. The order is omitted: as a number, dcmqi
    and 3D Slicer would list it among the measurements; examinations of one day have it beside the
    date.
    """
    found = analysis.compared
    if found is None:
        return None
    return TimePointContext(name_of(found.points, len(found.points) - 1))


def _compared(analysis: Analysis, candidate: Candidate) -> str:
    """Describe how a candidate changed since the prior examination; empty without a prior."""
    found = analysis.compared
    uid = candidate.tracking_uid
    if found is None:
        return ""
    change = next((c for c in found.changes if c.now and c.now.tracking_uid == uid), None)
    then = len(found.points) - 2
    day = name_of(found.points, then) if found.points[then].date else "the prior examination"
    if is_doubtful(found):
        day += " (doubtful comparison)"
    if change is None or change.before is None:
        split = change is not None and change.kind is ChangeKind.SPLIT
        return f"; split from a region of {day}" if split else f"; not flagged on {day}"
    together = found.together(change) or (None, None)
    items = [
        f"{name} {value:+z.1f} %"
        for name, value in (
            ("volume", change.volume_percent),
            ("product of diameters", change.product_percent),
            ("volume with all that merged or split", percent(*together)),
        )
        if value is not None
    ]
    return f"; since {day}: {', '.join(items)}" if items else ""


def _measures(candidate: Candidate, region: Region) -> list[Measurement]:
    """Return the measurements of a region in a fixed order; unknown ones are omitted.

    A region without voxels has no group; its volume of 0 ml is in the first group, innermost first,
    so that a table column has the same region for every candidate.
    """
    known = candidate.volume_ml
    ml = identity.concept(own.CUBIC_CENTIMETRE)
    first = region is measured_region(candidate)
    name = own.VOLUME if first else _volume_of(region)
    rows: list[Any] = [(name, known.get(region), 4, ml)]
    if first:
        rows += [
            (own.LONG_AXIS, candidate.longest_axial_diameter_mm, 3, codes.UCUM.Millimeter),
            (own.SHORT_AXIS, candidate.perpendicular_diameter_mm, 3, codes.UCUM.Millimeter),
        ]
        empty = (other for other in reversed(Region) if known.get(other) == 0)
        rows += [(own.ABSENT_VOLUMES[other], 0.0, 4, ml) for other in empty if other is not region]
    return [
        Measurement(identity.concept(name), round(value, digits), unit)
        for name, value, digits, unit in rows
        if value is not None
    ]


def _volume_of(region: Region) -> own.Code:
    """Return the code of a volume, whose meaning names its region.

    Viewers that merge all groups of a tracking UID (OHIF 3.13) list measurements by these meanings
    below the finding of the first group. The first group's own volume needs no region name, and 3D
    Slicer uses it as a column heading.
    """
    return own.VOLUME._replace(meaning=f"{region.display_name.capitalize()} volume")


def _draw(group: Any, axes: Mapping[str, Axis], sources: SourceFrames) -> None:
    """Add the image coordinates of measurements, by code.

    highdicom does not accept them when it builds the group.
    """
    for item in group[0].ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeValue
        if item.ValueType == "NUM" and name in axes:
            found = coordinates(axes[name], sources)
            item.ContentSequence = ContentSequence([found], is_root=False)


def _explain(group: Any, attention: Dataset | None) -> None:
    """Add a reference to the attention map as a visual explanation."""
    if attention is not None:
        group[0].ContentSequence.append(
            ImageContentItem(
                identity.concept(own.VISUAL_EXPLANATION),
                attention.SOPClassUID,
                attention.SOPInstanceUID,
                relationship_type=CONTAINS,
            )
        )


def _without_outline(analysis: Analysis, sources: SourceFrames, candidate: Candidate) -> Any:
    """Return the group of a candidate without an outline (TID 1501), on its best image."""
    dataset, numbers = sources.reference(best_frame(analysis, sources, candidate))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=candidate.tracking_uid, identifier=identity.tracking_id(candidate)
        ),
        finding_category=identity.concept(own.ABNORMAL_STRUCTURE),
        finding_type=identity.concept(own.LESION_OF_BRAIN),
        algorithm_id=_algorithm_of(analysis, candidate),
        finding_sites=_sites(candidate),
        measurements=_measures(candidate, Region.WT),
        qualitative_evaluations=_evaluations(analysis, candidate),
        time_point_context=_time_point(analysis),
        source_images=[
            SourceImageForMeasurementGroup(dataset.SOPClassUID, dataset.SOPInstanceUID, numbers)
        ],
    )


def _algorithm_of(analysis: Analysis, candidate: Candidate) -> AlgorithmIdentification | None:
    """Return what outlined a candidate; None by hand."""
    if candidate.drawn is DrawingMethod.MANUAL:
        return None
    return _algorithm(analysis, candidate.source)


def _algorithm(analysis: Analysis, source: Source) -> AlgorithmIdentification:
    """Return the engine, or the program of others if the outline came from a segmentation."""
    engine = analysis.run.engine
    if source is Source.SEGMENTATION:
        name = identity.algorithm_name(analysis, source)
        return AlgorithmIdentification(name=name, version=engine.version or "unknown")
    digest = engine.weights_sha256
    return AlgorithmIdentification(
        name=identity.algorithm_name(analysis),
        version=engine.version or "unknown",
        parameters=[f"weights SHA-256 {digest}"] if digest else None,
        family=identity.concept(own.ARTIFICIAL_INTELLIGENCE),
        manufacturer=identity.MANUFACTURER,
    )


def _sites(candidate: Candidate) -> list[FindingSite]:
    """Return the coded locations of a candidate; brain if none is certain."""
    side = SIDES.get(candidate.location.side or "")
    names = (candidate.location.region or "").split(" and ")
    places = [own.PLACES[name] for name in names if name in own.PLACES] or [own.BRAIN]
    return [
        FindingSite(
            anatomic_location=identity.concept(place),
            laterality=None if side is None else identity.concept(side),
        )
        for place in places
    ]


def _evaluations(analysis: Analysis, candidate: Candidate) -> list[QualitativeEvaluation]:
    """Return the review state, the source if not the engine, listing apart, and appearance."""
    state = analysis.review.state_of(candidate.tracking_uid)
    codes = [(own.REVIEW_STATE, own.REVIEW_STATES[state])]
    if candidate.source is not Source.NETWORK:
        codes.append((own.SOURCE, own.SOURCES[candidate.source]))
    if candidate.apart:
        codes.append((own.LISTED, own.LISTED_APART))
    if candidate.kind is not None:
        looks_like = candidate.kind.looks_like
        codes.append((own.KIND, own.NO_KIND if looks_like is None else own.KINDS[looks_like]))
    return [QualitativeEvaluation(identity.concept(n), identity.concept(v)) for n, v in codes]


def _remarks(analysis: Analysis, candidate: Candidate, sentences: Sentences) -> list[Any]:
    """Return location and state in words, the score, and who decided when and why."""
    made: list[Any]
    event = analysis.review.decision_of(candidate.tracking_uid)
    state = analysis.review.state_of(candidate.tracking_uid)
    score = own.PROBABILITY if analysis.run.engine.calibrated else own.CERTAINTY
    compared = f"{_compared(analysis, candidate)}; research use only"
    place = candidate.location.text
    place += f"; {PROBABLY_NOT_TUMOUR} (listed apart)" if candidate.apart else ""
    if candidate.score is None:
        words = f"{place}; {candidate.score_text}; {state.value}{compared}"
        made = [TextContentItem(identity.concept(own.COMMENT), words, CONTAINS)]
    else:
        percent = f"{100 * candidate.score:.4g} %"
        words = f"{place}; score {percent}; {state.value}{compared}"
        made = [
            TextContentItem(identity.concept(own.COMMENT), words, CONTAINS),
            TextContentItem(identity.concept(score), percent, CONTAINS),
        ]
    sentence = sentences.of(candidate)
    made.append(TextContentItem(identity.concept(own.SENTENCE), sentence, CONTAINS))
    made += _placed(analysis.review, candidate)
    pointed = prompts_in_words(analysis.review.prompts_of(candidate.tracking_uid))
    if pointed:
        made.append(TextContentItem(identity.concept(own.PROMPTED), pointed, CONTAINS))
    made += [_doubt(part) for part in analysis.findings.doubtful_of(candidate)]
    return made if event is None else made + signed_by(event, own.REVIEW_REASON)


def _placed(review: Review, candidate: Candidate) -> list[Any]:
    """Return a reader's diameters as coordinates, in DICOM's LPS millimetres."""
    placed = review.diameters_of(candidate.tracking_uid)
    if placed is None:
        return []
    ends = geometry.points_lps_from_ras([point for line in placed for point in line])
    words = "; ".join(", ".join(f"{value:z.3f}" for value in point) for point in ends)
    return [TextContentItem(identity.concept(own.READER_DIAMETERS), words, CONTAINS)]


def _doubt(part: DoubtfulPart) -> TextContentItem:
    """Describe a doubtful part of an outline, in DICOM's LPS millimetres."""
    x, y, z = geometry.points_lps_from_ras([part.centroid_mm])[0]
    ml = millilitres(part.volume_ml)
    words = f"{ml} ml about {x:z.0f}, {y:z.0f}, {z:z.0f} mm (LPS): {part.reason}"
    return TextContentItem(identity.concept(own.DOUBTFUL_PART), words, CONTAINS)


def signed_by(event: ReviewEvent, reason: own.Code) -> list[Any]:
    """Return who decided, when, and the reader's words under the name `reason`."""
    made: list[Any] = []
    if event.reader:
        name = identity.reader_name(event.reader)
        made.append(PnameContentItem(identity.concept(own.REVIEW_READER), name, CONTAINS))
    when = moment(event.time)
    if when:
        made.append(DateTimeContentItem(identity.concept(own.REVIEW_TIME), when, CONTAINS))
    if event.reason:
        made.append(TextContentItem(identity.concept(reason), event.reason, CONTAINS))
    return made


def moment(time: str) -> str:
    """Return an ISO 8601 UTC time as a DICOM DT; empty if invalid.

    Without "+0000", because DCMTK up to 3.6.7 then refuses the whole report; the item's name states
    UTC.
    """
    digits = time.replace("-", "").replace(":", "").replace("T", "").rstrip("Z")
    whole = digits.replace(".", "", 1)
    return digits if whole.isdecimal() and len(digits.split(".")[0]) == 14 else ""
