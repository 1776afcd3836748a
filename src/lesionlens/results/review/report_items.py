"""Read review and scores of candidates from an SR (TID 1500), by tracking UID."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from pydicom.dataset import Dataset

from lesionlens.base import codes, geometry
from lesionlens.base.labels import Label, Region, ReviewState, Source
from lesionlens.base.records.findings import MAX_DISTANCE_MM
from lesionlens.base.records.response import SignedResponse
from lesionlens.base.records.review import WHOLE_STUDY, DrawnDiameters, ReviewEvent

TRACKING_ID, TRACKING_UID = "112039", "112040"
TIME_POINT = "C2348792"
"""NCI Thesaurus code of the time point of a group whose measurements are compared."""
FINDING = "121071"
_NUMBER = re.compile(r"Candidate ([1-9]\d{0,3})(,|$)")
_UNDECIDED = ReviewEvent("", ReviewState.UNREVIEWED, reader=None, time="")
SCORES = (codes.PROBABILITY.value, codes.CERTAINTY.value)


@dataclass(frozen=True, slots=True)
class ReportedCandidate:
    """Statements of a report on one candidate; None if missing."""

    decision: ReviewEvent = _UNDECIDED
    """The reader's, with diameters that the reader placed; unreviewed without one."""
    score: float | None = None
    source: Source = Source.NETWORK
    number: int | None = None
    absent: frozenset[Region] = frozenset()
    """Regions of which the report states that the candidate has none."""

    @property
    def decided(self) -> bool:
        """Whether a reader decided."""
        decision = self.decision
        return decision.state is not ReviewState.UNREVIEWED or decision.diameters is not None


def candidates_in(report: Dataset) -> dict[str, ReportedCandidate]:
    """Return the statements of a report by tracking UID; groups of one candidate are merged.

    The group of a resection cavity is omitted.
    """
    children_by_uid: dict[str, dict[str, Dataset]] = {}
    for item in iter_items(report):
        if _name(item) == codes.MEASUREMENT_GROUP.value:
            children = {_name(child): child for child in item.get("ContentSequence", [])}
            cavity = _code(children.get(FINDING)) == codes.LABEL_TYPES[Label.CAVITY].value
            if TRACKING_UID in children and not cavity:
                uid = str(children[TRACKING_UID].get("UID", ""))
                children_by_uid.setdefault(uid, {}).update(children)
    return {uid: _candidate_in(uid, items) for uid, items in children_by_uid.items()}


def signed_of(report: Dataset) -> ReviewEvent | None:
    """Return the signed statement on the whole study; None if unsigned."""
    for item in report.get("ContentSequence", []):
        children = {_name(child): child for child in item.get("ContentSequence", [])}
        if codes.REVIEW_SIGNED.value in children:
            reader, time = (children.get(c.value) for c in (codes.REVIEW_READER, codes.REVIEW_TIME))
            return ReviewEvent(
                WHOLE_STUDY,
                ReviewState.ACCEPTED,
                reader=_text(reader, "PersonName") or None,
                time=utc(_text(time, "DateTime")),
                reason=_text(children[codes.REVIEW_SIGNED.value]),
            )
    return None


def response_of(report: Dataset) -> SignedResponse | None:
    """Return the signed response; None if missing or unreadable."""
    responses = (item for item in iter_items(report) if _name(item) == codes.RESPONSE.value)
    item = next(responses, None)
    if item is None:
        return None
    children = item.get("ContentSequence", [])
    items = {_name(child): child for child in children if not _code(child)}
    basis = _text(items.get(codes.RESPONSE_BASIS.value))
    measures = items.get(codes.RESPONSE_MEASURES.value)
    value = _code(item)
    fields: dict[str, Any] = {
        "category": next((r for r, code in codes.RESPONSES.items() if code.value == value), None),
        "baseline": basis.removeprefix("baseline="),
        "reader": _text(items.get(codes.REVIEW_READER.value), "PersonName"),
        "time": utc(_text(items.get(codes.REVIEW_TIME.value), "DateTime")),
    }
    try:
        fields["measures"] = [] if measures is None else json.loads(_text(measures))
        return TypeAdapter(SignedResponse).validate_python(fields, strict=False)
    except ValueError:
        return None


def unreadable_statements(report: Dataset) -> list[str]:
    """Return notices about a reader's response and diameters that cannot be read."""
    drawn = [item for item in iter_items(report) if _name(item) == codes.READER_DIAMETERS.value]
    notices = []
    if has(report, codes.RESPONSE.value) and response_of(report) is None:
        notices.append("The signed response in the report cannot be read and is left out")
    if any(_diameters(item) is None for item in drawn):
        notices.append("Diameters of a reader in the report cannot be read and are left out")
    return notices


def has(report: Dataset, code: str) -> bool:
    """Return whether a report has an item whose concept name has this code value."""
    return any(_name(item) == code for item in iter_items(report))


def is_builtin(report: Dataset) -> bool:
    """Return whether a report was written by LesionLens."""
    return has(report, codes.REVIEW.value)


def is_reviewed(report: Dataset) -> bool:
    """Return whether a LesionLens report states decisions, diameters or a response of a reader."""
    states = {_code(item) for item in iter_items(report) if _name(item) == codes.REVIEW.value}
    return not states.isdisjoint((codes.REVIEW_DONE.value, codes.REVIEW_BEGUN.value)) or any(
        has(report, code.value) for code in (codes.RESPONSE, codes.READER_DIAMETERS)
    )


def is_without_accepted(report: Dataset) -> bool:
    """Return whether a reader accepted none of the candidates."""
    concepts = (item.get("ConceptCodeSequence") or [Dataset()] for item in iter_items(report))
    return any(
        codes.NONE_ACCEPTED.value == str(concept[0].get("CodeValue")) for concept in concepts
    )


def omitted_count(report: Dataset) -> int:
    """Return how many candidates a LesionLens report omits because no reader accepted them.

    Those that the objects omitted of which its own result was made are included.
    """
    return _count(report, codes.OMITTED)


def omitted_decided_count(report: Dataset) -> int:
    """Return how many of the candidates that a report omits a reader had decided on."""
    return min(_count(report, codes.OMITTED_DECIDED), omitted_count(report))


def _count(report: Dataset, name: codes.Code) -> int:
    """Return a number of the whole report; 0 if missing or unreadable."""
    for item in iter_items(report):
        values = item.get("MeasuredValueSequence")
        if _name(item) == name.value and values:
            match = re.fullmatch(r"(\d{1,6})(\.0*)?", str(values[0].get("NumericValue", "")))
            return int(match[1]) if match else 0
    return 0


def limitations_in(report: Dataset) -> list[str]:
    """Return the limitations that a LesionLens report states of its result."""
    texts = (_text(item) for item in iter_items(report) if _name(item) == codes.LIMIT.value)
    return list(filter(None, texts))


def iso(moment: str) -> str:
    """Convert a DICOM time to ISO 8601; empty if invalid.

    Examples
    --------
    >>> iso("20260105101500.25+0000"), iso("***")
    ('2026-01-05T10:15:00.25Z', '')
    """
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\.\d+)?([+-]\d{4})?", moment)
    if match is None:
        return ""
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    suffix = "Z" if zone == "+0000" else ""
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}{fraction or ''}{suffix}"


def utc(moment: str) -> str:
    """Convert a decision's time to ISO 8601; empty if invalid.

    Examples
    --------
    >>> utc("20260105101500"), utc("***")
    ('2026-01-05T10:15:00Z', '')
    """
    timestamp = iso(moment)
    return timestamp if not timestamp or timestamp.endswith("Z") else f"{timestamp}Z"


def _candidate_in(uid: str, items: dict[str, Dataset]) -> ReportedCandidate:
    state, source_code = (_code(items.get(c.value)) for c in (codes.REVIEW_STATE, codes.SOURCE))
    number = _NUMBER.match(_text(items.get(TRACKING_ID)))
    return ReportedCandidate(
        decision=ReviewEvent(
            uid,
            ReviewState(state) if state in set(ReviewState) else ReviewState.UNREVIEWED,
            reader=_text(items.get(codes.REVIEW_READER.value), "PersonName") or None,
            time=utc(_text(items.get(codes.REVIEW_TIME.value), "DateTime")),
            reason=_text(items.get(codes.REVIEW_REASON.value)) or None,
            diameters=_diameters(items.get(codes.READER_DIAMETERS.value)),
        ),
        source=next(
            (s for s, c in codes.SOURCES.items() if c.value == source_code), Source.NETWORK
        ),
        number=None if number is None else int(number[1]),
        absent=frozenset(r for r, code in codes.ABSENT_VOLUMES.items() if code.value in items),
        score=next((s for s in map(_score, (items.get(c) for c in SCORES)) if s is not None), None),
    )


def _code(item: Dataset | None) -> str:
    """Return the code of an item's value; empty without one."""
    concepts = None if item is None else item.get("ConceptCodeSequence")
    return str(concepts[0].get("CodeValue", "")) if concepts else ""


def _text(item: Dataset | None, keyword: str = "TextValue") -> str:
    """Return an item's value as text; empty without one."""
    return "" if item is None else str(item.get(keyword) or "")


def _diameters(item: Dataset | None) -> DrawnDiameters | None:
    """Return a reader's diameters, RAS+ mm; None if unreadable."""
    rows = [part.split(",") for part in _text(item).split(";")]
    try:
        points = np.array(rows, np.float64)
    except ValueError:
        return None
    if points.shape != (4, 3) or not (np.abs(points) < MAX_DISTANCE_MM).all():
        return None
    ends = geometry.points_lps_from_ras(points).tolist()  # the same flip both ways
    a, b, c, d = ((float(x), float(y), float(z)) for x, y, z in ends)
    return (a, b), (c, d)


def _score(item: Dataset | None) -> float | None:
    """Return a score from 0 to 1 from a percentage, as text or as a measurement."""
    if item is None:
        return None
    number = item.get("MeasuredValueSequence")
    text = _text(number[0], "NumericValue") if number else _text(item)
    match = re.match(r"\s*(\d+(\.\d+)?)", text)
    score = float(match[1]) / 100 if match else None
    return score if score is not None and 0 <= score <= 1 else None


def iter_items(item: Dataset) -> Iterator[Dataset]:
    """Yield the content items below a report or an item, depth first."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from iter_items(child)


def _name(item: Dataset) -> str:
    concepts = item.get("ConceptNameCodeSequence")
    return str(concepts[0].get("CodeValue", "")) if concepts else ""
