"""Lengths in patient coordinates: both diameters of a candidate, and what a reader measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from lesionlens.analysis.findings.measure import diameters_of_region
from lesionlens.base.geometry import as_vec3
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point

NEAR_MM = 2.5
"""Maximum distance of a slice on which a ruler is drawn, mm; on its own slice it always is."""
MIN_MM = 0.5
"""Minimum length, mm; a shorter measurement was clicked and waits for its second point."""
_STORED_MM = 0.01
"""Ends are rounded when they are stored, by less than this."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """A line between two points of the patient (RAS+ mm)."""

    start: Point
    end: Point
    """(3,): its ends."""
    moved: bool = False
    """Whether the reader dragged an end, so that it differs from the report."""

    @property
    def length_mm(self) -> float:
        """Length, mm."""
        return float(np.linalg.norm(np.subtract(self.end, self.start)))

    @property
    def text(self) -> str:
        """Text beside the ruler.

        Examples
        --------
        >>> Ruler((0.0, 0.0, 0.0), (3.0, 4.0, 0.0), moved=True).text
        '5.0 mm, by hand'
        """
        return f"{self.length_mm:.1f} mm" + (", by hand" if self.moved else "")

    def with_end(self, index: int, point: Point, through: ArrayLike) -> Ruler:
        """Return the ruler with its start (0) or end (1) moved, on the axial plane of the other.

        Parameters
        ----------
        point : (3,) float
            A point of a slice near that plane, RAS+ mm.
        through : (3,) float
            Direction through that slice (RAS+), along which the point is moved onto the plane.
        """
        direction, up_mm = np.asarray(through), (self.end, self.start)[index][2] - point[2]
        end = as_vec3(point + direction * (up_mm / direction[2]))
        return replace(self, moved=True, **{("start", "end")[index]: end})


def rulers_of(analysis: Analysis, candidate: Candidate) -> tuple[Ruler, ...]:
    """Return both diameters as in the report; empty if there are none.

    These are the ones placed by a reader, otherwise of the enhancing part if it was measured,
    otherwise of the whole, on one axial plane of the patient.
    """
    labels, region = analysis.volumes.labels, candidate.measured_part
    measured = diameters_of_region(analysis.findings, labels, candidate, region)
    computed = () if measured is None else (measured.ends_mm, measured.across_mm)
    placed = analysis.review.diameters_of(candidate.tracking_uid)
    if placed is not None:
        return tuple(Ruler(*line, moved=not _is_one_of(line, computed)) for line in placed)
    if candidate.longest_axial_diameter_mm is None:
        return ()
    return tuple(Ruler(*line) for line in computed)


def _is_one_of(line: ArrayLike, computed: Sequence[ArrayLike]) -> bool:
    """Whether a line was left as computed; the ends of both are stored when one is dragged."""
    return any(np.allclose(line, other, rtol=0.0, atol=_STORED_MM) for other in computed)


@dataclass(frozen=True, slots=True)
class Measure:
    """One length in patient coordinates; never part of a result."""

    points: tuple[Point, Point]
    """Both ends, RAS+ mm."""

    @property
    def empty(self) -> bool:
        """Whether both ends coincide."""
        return math.dist(*self.points) < MIN_MM

    def with_point(self, index: int, point: Point) -> Measure:
        """Return the measurement with one end moved."""
        return Measure((point, self.points[1]) if index == 0 else (self.points[0], point))

    @property
    def text(self) -> str:
        """Its length; empty until both ends are set.

        Examples
        --------
        >>> Measure(((0.0, 0.0, 0.0), (3.0, 4.0, 0.0))).text
        '5.0 mm'
        """
        return "" if self.empty else f"{math.dist(*self.points):.1f} mm"
