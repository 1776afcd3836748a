"""A second result of the open study: frozen, without Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lesionlens.analysis.evaluation.agreement import (
    Agreement,
    accepted_labels,
    agreement,
    known_regions,
    only_side,
)
from lesionlens.base.geometry import Labels
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis


@dataclass(frozen=True, slots=True, eq=False)
class SecondResult:
    """Another result on the grid of the open one."""

    name: str
    """Reader or folder of the result."""
    labels: Labels
    """(I, J, K) uint8: on the native grid, without rejected candidates."""
    regions: tuple[Region, ...]
    """The regions that it distinguishes."""
    agreement: Agreement
    """Agreement with the open result, which is the first, as reviewed now."""
    notices: tuple[str, ...] = ()
    """How a segmentation was read, and whether it may be of another study."""
    side: str = ""
    first_side: str = ""
    """The side of all its candidates, and of those of the open result; empty if there is none."""

    @classmethod
    def of(
        cls, name: str, second: Analysis, first: Analysis, notices: tuple[str, ...] = ()
    ) -> SecondResult:
        """Compare a result with the open one."""
        labels, regions = accepted_labels(second), known_regions(second)
        compared = _compared(first, labels, regions)
        return cls(name, labels, regions, compared, notices, only_side(second), only_side(first))

    def against(self, first: Analysis) -> SecondResult:
        """Return the second result compared with a changed open result."""
        compared = _compared(first, self.labels, self.regions)
        return replace(self, agreement=compared, first_side=only_side(first))


def _compared(first: Analysis, labels: Labels, regions: tuple[Region, ...]) -> Agreement:
    """Compare the open result with second labels, in the regions that both distinguish."""
    in_both = tuple(region for region in known_regions(first) if region in regions)
    return agreement(accepted_labels(first), labels, first.volumes.labels.grid, in_both)
