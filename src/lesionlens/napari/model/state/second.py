"""A second result of the open study, beside the one that is reviewed: frozen, without Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lesionlens.analysis.evaluation.agreement import Agreement, Labels, agreement, outlined
from lesionlens.base.records.analysis import Analysis


@dataclass(frozen=True, slots=True, eq=False)
class SecondResult:
    """Another reader's result, or any, on the grid of the one that is open."""

    words: str
    """Whose it is."""
    labels: Labels
    """(I, J, K) uint8: on the native grid, without what its reader rejected."""
    agreement: Agreement
    """With the open one as it is reviewed now; the open one is the first."""

    @classmethod
    def of(cls, words: str, second: Analysis, first: Analysis) -> SecondResult:
        """Compare a result with the one that is open."""
        labels = outlined(second)
        grid, regions = first.volumes.labels.grid, first.prepared.regions
        return cls(words, labels, agreement(outlined(first), labels, grid, regions))

    def against(self, first: Analysis) -> SecondResult:
        """Return it compared with the open result as that is now."""
        grid, regions = first.volumes.labels.grid, first.prepared.regions
        return replace(self, agreement=agreement(outlined(first), self.labels, grid, regions))
