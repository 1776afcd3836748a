"""Response to treatment by RANO 2.0: what a reader enters, what is proposed, what is signed.

A proposal is arithmetic on what was measured. It is no assessment until a reader signs one, and the
reader's category is the reader's, whatever was proposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from lesionlens.base.file_fields import STRICT


class Criterion(StrEnum):
    """What is compared; the value is the word in files."""

    BIDIMENSIONAL = "bidimensional"
    """Sum of the products of two diameters."""
    VOLUMETRIC = "volumetric"


class Disease(StrEnum):
    """Of which disease; the value is the word in files."""

    ENHANCING = "enhancing"
    """Measured on T1c."""
    NON_ENHANCING = "non-enhancing"
    """The whole region, measured on FLAIR or T2."""
    MIXED = "mixed"
    """Both, each by targets and sums of its own: beside the enhancing part, what is left of it."""


class Steroids(StrEnum):
    """Corticosteroids now beside the examination that is compared with."""

    UNKNOWN = "unknown"
    NONE = "none"
    """None, or a physiological dose, at both."""
    STOPPED = "stopped"
    LOWER = "lower"
    SAME = "same"
    HIGHER = "higher"


class Clinical(StrEnum):
    """The patient's state now beside the examination that is compared with."""

    UNKNOWN = "unknown"
    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    """And nothing else explains it."""


class Response(StrEnum):
    """A category; the value is its abbreviation."""

    COMPLETE = "CR"
    PARTIAL = "PR"
    STABLE = "SD"
    PROGRESSION = "PD"
    NOT_ASSESSABLE = "NE"

    @property
    def words(self) -> str:
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
    """What a reader enters; examinations by their number from 0, the oldest first."""

    baseline: int = 0
    """What a response is compared with."""
    nadir: int | None = None
    """What progression is compared with; None for the smallest sum from the baseline on."""
    criterion: Criterion = Criterion.BIDIMENSIONAL
    disease: Disease = Disease.ENHANCING
    steroids: Steroids = Steroids.UNKNOWN
    clinical: Clinical = Clinical.UNKNOWN


@dataclass(frozen=True, slots=True)
class ResponseDraft:
    """A proposal: nobody's assessment until a reader signs."""

    choices: ResponseChoices
    category: Response | None
    """None if what the reader must enter is missing."""
    steps: tuple[str, ...]
    """The arithmetic and the rules in words, in their order."""
    nadir: int | None
    """Which examination progression was compared with."""
    missing: tuple[str, ...] = ()
    """What a reader must enter before anything is proposed."""

    @property
    def words(self) -> str:
        """The proposal in words.

        Examples
        --------
        >>> ResponseDraft(ResponseChoices(), Response.STABLE, (), 0).words
        'Proposed: SD (stable disease), a draft until a reader signs'
        >>> ResponseDraft(ResponseChoices(), None, (), 0, ("steroids",)).words
        'Nothing proposed: enter steroids'
        """
        if self.category is None:
            return f"Nothing proposed: enter {' and '.join(self.missing)}"
        return f"Proposed: {self.category} ({self.category.words}), a draft until a reader signs"


RESPONSE_BASIS_FIELDS = (
    "criterion", "disease", "steroids", "clinical", "baseline", "nadir", "proposed",
)  # fmt: skip
"""What of a signed response a report states by the names of the record."""


SAME_WITHIN = 0.002
"""ml or mm that files may round away."""


@dataclass(frozen=True, slots=True)
class SignedMeasure:
    """What was measured of a lesion that counted when a response was signed; None: unknown."""

    __pydantic_config__: ClassVar = STRICT

    ago: int
    """Examinations before the one that was assessed; 0 for that one."""
    tracking_uid: str
    whole_ml: float | None
    enhancing_ml: float | None
    longest_mm: float | None
    perpendicular_mm: float | None

    def same(self, other: SignedMeasure) -> bool:
        """Whether the other one is of the same lesion and has the same figures."""
        if (self.ago, self.tracking_uid) != (other.ago, other.tracking_uid):
            return False
        return all(
            a == b if a is None or b is None else abs(a - b) <= SAME_WITHIN
            for a, b in zip(self.figures, other.figures, strict=True)
        )

    @property
    def figures(self) -> tuple[float | None, ...]:
        """Both volumes and both diameters."""
        return self.whole_ml, self.enhancing_ml, self.longest_mm, self.perpendicular_mm


@dataclass(frozen=True, slots=True)
class SignedResponse:
    """What a reader signed of the response."""

    __pydantic_config__: ClassVar = STRICT

    category: Response
    """The reader's."""
    proposed: Response | None
    """What the arithmetic came to."""
    criterion: Criterion
    disease: Disease
    steroids: Steroids
    clinical: Clinical
    baseline: str
    nadir: str
    """Day of the examinations compared with, or which it is."""
    steps: tuple[str, ...]
    """The arithmetic as it was signed."""
    reader: str
    """Who."""
    time: str
    """ISO 8601, UTC."""
    measures: tuple[SignedMeasure, ...] = ()
    """What it was computed from; on other measures it does not hold."""
