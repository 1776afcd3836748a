"""Change of a lesion's volume by one criterion for two examinations, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from lesionlens.base.files.file_fields import STRICT, Decimals


class Unmeasurable(StrEnum):
    """Reason why a change cannot be measured with one criterion; the value is the key in files."""

    PROBABILITIES = "no_probabilities"
    OUTLINES = "outlines_disagree"
    TISSUE = "little_tissue"
    INTENSITIES = "intensities_unmatched"
    FAINT = "faint"


_REASONS = {
    Unmeasurable.PROBABILITIES: "a result holds no probabilities",
    Unmeasurable.OUTLINES: "the outlines agree on too little",
    Unmeasurable.TISSUE: "there is too little lesion-free tissue around it",
    Unmeasurable.INTENSITIES: "the intensities of both examinations cannot be matched",
    Unmeasurable.FAINT: "it barely differs from the surrounding tissue",
}


@dataclass(frozen=True, slots=True)
class JointChange:
    """Change of a lesion's volume when one criterion is applied to both examinations together.

    For lesions that merged or split: of all of them together.
    """

    __pydantic_config__: ClassVar = STRICT

    percent: Annotated[float, Decimals(2)] | None
    """None if it cannot be measured."""
    plus_minus: Annotated[float, Decimals(2)] | None
    """Error margin in points of `percent`, from most synthetic pairs."""
    reason: Unmeasurable | None = None
    """Reason why `percent` is None."""

    @classmethod
    def unknown(cls, reason: Unmeasurable) -> JointChange:
        """Return a change that cannot be measured."""
        return cls(None, None, reason)

    @property
    def text(self) -> str:
        """The change with its error margin in words, or why it is unknown."""
        if self.reason is not None or self.percent is None or self.plus_minus is None:
            return f"not measurable ({_REASONS[self.reason] if self.reason else 'unknown'})"
        if abs(self.percent) <= self.plus_minus:
            return f"{self.percent:+z.0f}%, within ± {self.plus_minus:.0f}%"
        return f"{self.percent:+z.0f} ± {self.plus_minus:.0f}%"
