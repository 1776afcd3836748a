"""Response to treatment by RANO 2.0: the reader's input, the proposal and the signed response.

A proposal is computed from measurements. It becomes an assessment when a reader signs, and the
reader's category may differ from the proposed one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from lesionlens.base.files.file_fields import STRICT


class Criterion(StrEnum):
    """The quantity that is compared; the value is the key in files."""

    BIDIMENSIONAL = "bidimensional"
    """Sum of the products of two diameters."""
    VOLUMETRIC = "volumetric"


class Disease(StrEnum):
    """Which disease is assessed; the value is the key in files."""

    ENHANCING = "enhancing"
    """Measured on T1c."""
    NON_ENHANCING = "non-enhancing"
    """The whole region, measured on FLAIR or T2."""
    MIXED = "mixed"
    """Both, each with its own targets and sums: the enhancing part, and the remaining non-enhancing
    part.
    """


class Steroids(StrEnum):
    """Corticosteroids now compared with the baseline examination."""

    UNKNOWN = "unknown"
    NONE = "none"
    """None, or a physiological dose, at both examinations."""
    STOPPED = "stopped"
    LOWER = "lower"
    SAME = "same"
    HIGHER = "higher"


class Clinical(StrEnum):
    """The patient's clinical status now compared with the baseline examination."""

    UNKNOWN = "unknown"
    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    """Worse, without another explanation."""


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


@dataclass(frozen=True, slots=True)
class ResponseChoices:
    """The reader's input; examinations are numbered from 0, oldest first."""

    baseline: int = 0
    """The examination a response is compared with."""
    nadir: int | None = None
    """The examination progression is compared with; None for the smallest sum since the baseline.
    """
    criterion: Criterion = Criterion.BIDIMENSIONAL
    disease: Disease = Disease.ENHANCING
    steroids: Steroids = Steroids.UNKNOWN
    clinical: Clinical = Clinical.UNKNOWN

    @property
    def in_order(self) -> bool:
        """Whether the nadir is not before the baseline."""
        return self.nadir is None or self.baseline <= self.nadir


@dataclass(frozen=True, slots=True)
class ResponseDraft:
    """A proposed response, not an assessment until a reader signs."""

    choices: ResponseChoices
    category: Response | None
    """None if required input is missing."""
    steps: tuple[str, ...]
    """Computation and rules in words, in order."""
    nadir: int | None
    """The examination progression was compared with."""
    missing: tuple[str, ...] = ()
    """Input that the reader must enter before there is a proposal."""

    @property
    def text(self) -> str:
        """The proposal in words.

        Examples
        --------
        >>> ResponseDraft(ResponseChoices(), Response.STABLE, (), 0).text
        'Proposed: SD (stable disease), a draft until a reader signs'
        >>> ResponseDraft(ResponseChoices(), None, (), 0, ("steroids",)).text
        'Nothing proposed: enter steroids'
        """
        if self.category is None:
            return f"Nothing proposed: enter {' and '.join(self.missing)}"
        category = f"{self.category} ({self.category.display_name})"
        return f"Proposed: {category}, a draft until a reader signs"


RESPONSE_BASIS_FIELDS = (
    "criterion", "disease", "steroids", "clinical", "baseline", "nadir", "proposed",
)  # fmt: skip
"""Fields of a signed response that a report states."""


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
    """A response that a reader signed."""

    __pydantic_config__: ClassVar = STRICT

    category: Response
    """The reader's category."""
    proposed: Response | None
    """The computed category."""
    criterion: Criterion
    disease: Disease
    steroids: Steroids
    clinical: Clinical
    baseline: str
    nadir: str
    """Dates of the reference examinations, or their ordinal."""
    steps: tuple[str, ...]
    """The computation as it was signed."""
    reader: str
    time: str
    """ISO 8601, UTC."""
    measures: tuple[SignedMeasure, ...] = ()
    """The measurements it was computed from; if they change, it is outdated."""
