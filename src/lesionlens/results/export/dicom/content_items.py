"""Content items of reports and selections, under coded concepts."""

from __future__ import annotations

from highdicom.sr import (
    CodeContentItem,
    DateTimeContentItem,
    NumContentItem,
    PnameContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from lesionlens.base.codes import REVIEW_READER, REVIEW_TIME, Code
from lesionlens.results.export.dicom.identity import concept

CONTAINS = RelationshipTypeValues.CONTAINS
"""Relationship of all direct items of a container or group."""
HAS_PROPERTIES = RelationshipTypeValues.HAS_PROPERTIES


def text_item(
    name: Code, text: str, relationship: RelationshipTypeValues = CONTAINS
) -> TextContentItem:
    """Return a text under a concept."""
    return TextContentItem(concept(name), text, relationship)


def code_item(
    name: Code, value: Code, relationship: RelationshipTypeValues = CONTAINS
) -> CodeContentItem:
    """Return a coded value under a concept."""
    return CodeContentItem(concept(name), concept(value), relationship)


def number_item(name: Code, count: int) -> NumContentItem:
    """Return a count under a concept."""
    return NumContentItem(concept(name), count, codes.UCUM.NoUnits, relationship_type=CONTAINS)


def reader_item(name: str, relationship: RelationshipTypeValues = CONTAINS) -> PnameContentItem:
    """Return the name (PN) of the reader who decided or signed."""
    return PnameContentItem(concept(REVIEW_READER), name, relationship)


def time_items(
    time: str, relationship: RelationshipTypeValues = CONTAINS
) -> list[DateTimeContentItem]:
    """Return the ISO 8601 UTC time of a decision or signature; empty if it is invalid."""
    text = _dicom_datetime(time)
    return [DateTimeContentItem(concept(REVIEW_TIME), text, relationship)] if text else []


def mark_separate(content: Dataset) -> None:
    """Mark every container of a content tree, root included, as SEPARATE; in place.

    highdicom (0.28) marks them as CONTINUOUS, one running text, in which DCMTK shows values without
    their names; TID 2010 requires SEPARATE.
    """
    if content.ValueType == "CONTAINER":
        content.ContinuityOfContent = "SEPARATE"
    for item in content.get("ContentSequence", ()):
        mark_separate(item)


def _dicom_datetime(time: str) -> str:
    """Return an ISO 8601 UTC time as a DICOM DT; empty if invalid.

    Without "+0000", because DCMTK up to 3.6.7 then refuses the whole report; the item's name states
    UTC.
    """
    digits = time.replace("-", "").replace(":", "").replace("T", "").rstrip("Z")
    all_digits = digits.replace(".", "", 1)
    return digits if all_digits.isdecimal() and len(digits.split(".")[0]) == 14 else ""
