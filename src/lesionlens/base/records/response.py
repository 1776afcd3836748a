"""Response to treatment by RANO 2.0: the category that a reader chose and signed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from lesionlens.base.model import STRICT


class Response(StrEnum):
    """A response category; the value is its abbreviation."""

    COMPLETE = "CR"
    PARTIAL = "PR"
    STABLE = "SD"
    PROGRESSION = "PD"
    NOT_ASSESSABLE = "NE"

    @property
    def display_name(self) -> str:
        """In words."""
        return {
            "CR": "complete response",
            "PR": "partial response",
            "SD": "stable disease",
            "PD": "progressive disease",
            "NE": "not assessable",
        }[self.value]


TOLERANCE = 0.002
"""Tolerance for rounding in files, ml or mm."""


@dataclass(frozen=True, slots=True)
class SignedMeasure:
    """Measurements of a counted lesion, or of the resection cavity, when a response was signed.

    None if unknown, or not measured of a cavity.
    """

    __pydantic_config__: ClassVar = STRICT

    ago: int
    """How many examinations before the assessed one; 0 for the assessed one."""
    tracking_uid: str
    """The lesion's, or `records.review.CAVITY`."""
    whole_ml: float | None
    enhancing_ml: float | None
    longest_mm: float | None
    perpendicular_mm: float | None
    decided: bool | None = None
    """Whether a reader had accepted or edited the lesion; None of a cavity, or if not stored."""

    def same(self, other: SignedMeasure) -> bool:
        """Return whether both are of the same lesion with the same figures, decided alike."""
        if (self.ago, self.tracking_uid) != (other.ago, other.tracking_uid):
            return False
        if None not in (self.decided, other.decided) and self.decided is not other.decided:
            return False
        return all(
            a == b if a is None or b is None else abs(a - b) <= TOLERANCE
            for a, b in zip(self.figures, other.figures, strict=True)
        )

    @property
    def figures(self) -> tuple[float | None, ...]:
        """Both volumes and both diameters."""
        return self.whole_ml, self.enhancing_ml, self.longest_mm, self.perpendicular_mm


def in_order(measures: Iterable[SignedMeasure]) -> tuple[SignedMeasure, ...]:
    """Return measurements in the order in which they are stored and compared."""
    return tuple(sorted(measures, key=lambda measure: (-measure.ago, measure.tracking_uid)))


@dataclass(frozen=True, slots=True)
class SignedResponse:
    """A category that a reader chose and signed."""

    __pydantic_config__: ClassVar = STRICT

    category: Response
    baseline: str
    """Date of the baseline examination, or its ordinal."""
    reader: str
    time: str
    """ISO 8601, UTC."""
    measures: tuple[SignedMeasure, ...] = ()
    """The measurements at that time; if they change, it is outdated."""
