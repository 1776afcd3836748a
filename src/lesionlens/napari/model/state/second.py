"""A second result of the open study: frozen, without Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lesionlens.analysis.evaluation.agreement import Agreement, accepted_labels, agreement
from lesionlens.base.geometry import Labels
from lesionlens.base.records.analysis import Analysis


@dataclass(frozen=True, slots=True, eq=False)
class SecondResult:
    """Another result on the grid of the open one."""

    name: str
    """Reader or folder of the result."""
    labels: Labels
    """(I, J, K) uint8: on the native grid, without rejected candidates."""
    agreement: Agreement
    """Agreement with the open result, which is the first, as reviewed now."""
    notices: tuple[str, ...] = ()
    """How a segmentation was read, and whether it may be of another study."""

    @classmethod
    def of(
        cls, name: str, second: Analysis, first: Analysis, notices: tuple[str, ...] = ()
    ) -> SecondResult:
        """Compare a result with the open one."""
        labels = accepted_labels(second)
        grid, regions = first.volumes.labels.grid, first.prepared.regions
        compared = agreement(accepted_labels(first), labels, grid, regions)
        return cls(name, labels, compared, notices)

    def against(self, first: Analysis) -> SecondResult:
        """Return the second result compared with a changed open result."""
        grid, regions = first.volumes.labels.grid, first.prepared.regions
        return replace(
            self, agreement=agreement(accepted_labels(first), self.labels, grid, regions)
        )
