"""Lengths measured by hand on a slice."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lesionlens.base.records.findings import Point

MIN_MM = 0.5
"""Minimum length, mm; a shorter measurement was clicked and waits for its second point."""


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
