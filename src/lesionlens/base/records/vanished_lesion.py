"""A lesion of an earlier examination that is not flagged in a later one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from lesionlens.base.geometry import Affine, apply
from lesionlens.base.model import STRICT
from lesionlens.base.records.findings import Length, Point


@dataclass(frozen=True, slots=True)
class VanishedLesion:
    """Position of a lesion that is no longer flagged, for matching if it is flagged again."""

    __pydantic_config__: ClassVar = STRICT

    tracking_uid: str
    at_mm: Point
    """(3,): where its centroid would lie in the examination that does not show it, RAS+ mm."""
    radius_mm: Length
    """Radius of a ball of the lesion's volume."""

    def moved(self, transform: Affine) -> Self:
        """Return the lesion in RAS+ mm of another examination."""
        x, y, z = apply(transform, self.at_mm).tolist()
        return replace(self, at_mm=(x, y, z))


def ball_mm(volume_ml: float) -> float:
    """Return the diameter of a ball.

    Examples
    --------
    >>> round(ball_mm(4.18879))
    20
    """
    return 10 * math.cbrt(6 / math.pi * volume_ml)
