"""What DICOM objects state of each lesion, in the report and by its segments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lesionlens.base.labels import DrawingMethod, Region, Source
from lesionlens.base.records.findings import LESION_PARTS, Candidate
from lesionlens.results.review.report_items import ReportedCandidate
from lesionlens.results.review.segments import Part, ReadSegment

_NUMBER = re.compile(r"([1-9]\d{0,3}) ")


@dataclass(frozen=True, slots=True)
class StatedLesion:
    """Statements on one lesion."""

    reported: ReportedCandidate | None = None
    """Of the report; None if it does not mention the lesion."""
    source: Source = Source.SEGMENTATION
    """Who flagged it; that of another program unless the objects are of LesionLens."""
    method: DrawingMethod | None = None
    """How it was outlined; None if its segments do not say, or differ."""
    unknown: frozenset[Region] = frozenset()
    """Regions that the objects do not distinguish."""
    number: int | None = None

    @property
    def is_redrawn(self) -> bool:
        """Whether a reader redrew the network's outline."""
        return self.source is Source.NETWORK and self.method is DrawingMethod.SEMIAUTOMATIC

    def with_origin(self, candidate: Candidate) -> Candidate:
        """Return a candidate with its source and its method."""
        if self.source is Source.READER:
            by_hand = self.method is DrawingMethod.MANUAL
            drawn = DrawingMethod.MANUAL if by_hand else DrawingMethod.SEMIAUTOMATIC
            return replace(candidate, source=self.source, drawn=drawn)
        drawn_by_others = None if self.source is Source.NETWORK else self.method
        return replace(candidate, source=self.source, drawn=drawn_by_others)


class StatedLesions(dict[str | None, StatedLesion]):
    """Lesions by tracking UID; under None, and for any other UID, those without their own."""

    def __missing__(self, uid: str | None) -> StatedLesion:
        return self[None]


def stated_lesions(
    segments: Sequence[ReadSegment],
    reported: Mapping[str, ReportedCandidate],
    *,
    own_segments: bool,
    own_report: bool,
) -> StatedLesions:
    """Collect the statements on each tracking UID of segments.

    Parameters
    ----------
    own_segments, own_report : bool
        Whether the Segmentation, and the report, are of LesionLens: these alone state who flagged a
        candidate, and its number. Segments of other programs tell the parts of all lesions, those
        of LesionLens of their own.
    """
    of_none = _of(segments, None) if own_segments else segments
    others = StatedLesion(method=_method_of(segments), unknown=_unknown_parts(of_none, None))
    lesions = StatedLesions({None: others})
    for uid in dict.fromkeys(s.tracking_uid for s in segments if s.tracking_uid is not None):
        own, statement = _of(segments, uid), reported.get(uid)
        numbers = [int(m[1]) for s in own if own_segments and (m := _NUMBER.match(s.label))]
        if own_report and statement is not None and statement.number is not None:
            numbers.append(statement.number)
        lesions[uid] = StatedLesion(
            reported=statement,
            source=_source_of(own, statement) if own_segments or own_report else others.source,
            method=_method_of(own),
            unknown=_unknown_parts(own if own_segments else segments, statement),
            number=numbers[-1] if numbers else None,
        )
    return lesions


def _of(segments: Sequence[ReadSegment], uid: str | None) -> list[ReadSegment]:
    return [segment for segment in segments if segment.tracking_uid == uid]


def _source_of(own: Sequence[ReadSegment], statement: ReportedCandidate | None) -> Source:
    """Return who flagged a candidate of LesionLens objects, by the report or else its segments.

    Segments state only whether the network alone outlined it.
    """
    if statement is not None:
        return statement.source
    is_networks = any(segment.is_networks for segment in own)
    return Source.NETWORK if is_networks else Source.SEGMENTATION


def _method_of(segments: Sequence[ReadSegment]) -> DrawingMethod | None:
    methods = {segment.drawing_method for segment in segments}
    return methods.pop() if len(methods) == 1 else None


def _unknown_parts(
    segments: Sequence[ReadSegment], statement: ReportedCandidate | None
) -> frozenset[Region]:
    """Return the regions that the objects do not distinguish.

    The enhancing part is distinguished by a segment of it, or by a report that there is none; the
    core by a segment of either.
    """
    parts = {segment.part for segment in segments}
    absent = frozenset() if statement is None else statement.absent
    if Part.ENHANCING in parts or Region.ET in absent:
        return frozenset()
    has_core = Part.CORE in parts or Region.TC in absent
    return frozenset({Region.ET}) if has_core else LESION_PARTS
