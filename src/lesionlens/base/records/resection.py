"""How much of an enhancing tumour was removed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resection:
    """Enhancing volume at the last examination without a cavity, and the residual volume."""

    before: str
    """Date of the examination without a cavity; empty if unknown."""
    before_ml: float
    residual_ml: float

    @property
    def percent(self) -> float:
        """Extent of resection: 1 - residual / preoperative volume; negative after growth."""
        return 100 * (1 - self.residual_ml / self.before_ml)
