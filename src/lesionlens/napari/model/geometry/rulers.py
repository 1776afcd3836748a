"""The two diameters of a candidate as lines in the patient, equal to those of the report."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lesionlens.analysis.findings.measure import diameters
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point

NEAR_MM = 2.5
"""A ruler is drawn on slices no further from it."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """A line between two points of the patient (RAS+ mm)."""

    start: Point
    end: Point
    """(3,): its ends."""
    moved: bool = False
    """Whether the reader dragged an end, so that it is no longer the report's."""

    @property
    def length_mm(self) -> float:
        """Its length."""
        return float(np.linalg.norm(np.subtract(self.end, self.start)))

    @property
    def words(self) -> str:
        """As written beside it.

        Examples
        --------
        >>> Ruler((0.0, 0.0, 0.0), (3.0, 4.0, 0.0), moved=True).words
        '5.0 mm, by hand'
        """
        return f"{self.length_mm:.1f} mm" + (", by hand" if self.moved else "")

    def with_end(self, which: int, at: Point) -> Ruler:
        """Return it with its start (0) or its end (1) elsewhere."""
        return replace(self, moved=True, **{("start", "end")[which]: at})


def rulers_of(analysis: Analysis, candidate: Candidate) -> tuple[Ruler, ...]:
    """Return both diameters, as the report has them; empty if there are none.

    Those that a reader placed; else of the enhancing part if one was measured, else of the
    whole, on one plane that is axial in the patient.
    """
    placed = analysis.review.diameters_of(candidate.tracking_uid)
    if placed is not None:
        return Ruler(*placed[0], moved=True), Ruler(*placed[1], moved=True)
    labels = analysis.volumes.labels
    region = Region.ET if candidate.has_enhancing else Region.WT
    inside = np.isin(labels.data, [int(label) for label in region.labels])
    mask = (analysis.findings.components == candidate.id) & inside
    found = diameters(mask, labels.grid)
    if found is None or candidate.longest_axial_diameter_mm is None:
        return ()
    return Ruler(*found.ends_mm), Ruler(*found.across_mm)
