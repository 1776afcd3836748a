"""Measurements by hand on a slice: length, angle, intensities of a region."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.geometry.contours import Line
from lesionlens.napari.model.geometry.planes import intensity_text
from lesionlens.napari.model.geometry.slices import Slice

_ELLIPSE_SEGMENTS = 72
MIN_MM = 0.5
"""Minimum length, mm; a shorter measurement was clicked and waits for its next point."""


class MeasureKind(StrEnum):
    """Kind of measurement."""

    RULER = "ruler"
    ANGLE = "angle"
    REGION = "region"
    """Intensities within an ellipse."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One measurement in patient coordinates; never part of a result."""

    kind: MeasureKind
    points: tuple[Point, ...]
    """Tuple of (3,). RAS+ mm: two ends, three points of an angle, or two corners around an
    ellipse."""

    @property
    def complete(self) -> bool:
        """Whether an angle has its second arm, which is drawn separately."""
        return self.kind is not MeasureKind.ANGLE or len(self.points) > 2

    @property
    def empty(self) -> bool:
        """Whether the last two points coincide."""
        return float(np.linalg.norm(np.subtract(self.points[-1], self.points[-2]))) < MIN_MM

    def with_point(self, index: int, point: Point) -> Measure:
        """Return the measurement with one point moved."""
        return replace(self, points=(*self.points[:index], point, *self.points[index + 1 :]))

    @property
    def text(self) -> str:
        """Its length or its angle; empty for a region, and until all its points are set.

        Examples
        --------
        >>> Measure(MeasureKind.RULER, ((0.0, 0.0, 0.0), (3.0, 4.0, 0.0))).text
        '5.0 mm'
        >>> Measure(MeasureKind.ANGLE, ((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 9.0, 0.0))).text
        '90°'
        """
        points = np.asarray(self.points)
        if self.empty:
            return ""
        if self.kind is MeasureKind.RULER:
            return f"{np.linalg.norm(points[1] - points[0]):.1f} mm"
        if self.kind is MeasureKind.ANGLE and self.complete:
            arms = points[0] - points[1], points[2] - points[1]
            lengths = np.linalg.norm(arms[0]) * np.linalg.norm(arms[1])
            cosine = float(np.clip(arms[0] @ arms[1] / max(lengths, 1e-9), -1.0, 1.0))
            return f"{np.degrees(np.arccos(cosine)):.0f}°"
        return ""


@dataclass(frozen=True, slots=True)
class RegionStatistics:
    """Intensities of the voxels of one slice whose centre lies in an ellipse.

    In a slice that is oblique to the voxels: of interpolated values, whose SD is smaller.
    """

    count: int
    """Number of voxels with a value."""
    mean: float
    sd: float
    """Sample standard deviation; 0 for one voxel."""
    minimum: float
    maximum: float
    area_mm2: float
    volume_ml: float
    """Volume of the ellipse times the slice thickness."""
    empty: int = 0
    """Number of voxels without a value, which are left out."""
    interpolated: bool = False

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines of text beside the ellipse."""
        size = f"{self.area_mm2:.0f} mm² · {self.volume_ml:.2f} ml"
        counted = "interpolated values" if self.interpolated else "voxels"
        left_out = (f"{self.empty} more without a value",) if self.empty else ()
        if not self.count:
            return size, "no value inside" if self.empty else "no voxel inside"
        return (
            f"mean {intensity_text(self.mean)} · SD {intensity_text(self.sd)}",
            f"min {intensity_text(self.minimum)} · max {intensity_text(self.maximum)}",
            f"{size} · {self.count} {counted}",
            *left_out,
        )


def statistics_of(part: Slice, corners: NDArray[np.float64]) -> RegionStatistics:
    """Return the intensities of a slice within an ellipse; voxels of NaN have none.

    Parameters
    ----------
    corners : (2, 2) float64
        Opposite corners around the ellipse, in millimetres on the screen.

    Examples
    --------
    >>> part = Slice(np.arange(16.0).reshape(4, 4), (0.0, 0.0), (4.0, 4.0), 1, 1, 5.0, False)
    >>> region = statistics_of(part, np.array([[1.0, 1.0], [3.0, 3.0]]))
    >>> region.count, region.mean, region.minimum, region.maximum, round(region.volume_ml, 4)
    (4, 7.5, 5.0, 10.0, 0.0157)
    """
    centre, half_size = corners.mean(axis=0), np.abs(corners[1] - corners[0]) / 2
    rows, columns = part.data.shape
    x = part.corner[0] + (np.arange(columns) + 0.5) * part.size[0] / columns
    y = part.corner[1] + (np.arange(rows) + 0.5) * part.size[1] / rows
    radii = np.maximum(half_size, 1e-9)
    inside = ((x - centre[0]) / radii[0])[None, :] ** 2 + ((y - centre[1]) / radii[1])[
        :, None
    ] ** 2 <= 1.0
    pixels = np.asarray(part.data[inside], np.float64)
    values = pixels[np.isfinite(pixels)]
    area = float(np.pi * half_size[0] * half_size[1])
    sample = values if values.size else np.zeros(1)
    return RegionStatistics(
        count=int(values.size),
        mean=float(sample.mean()),
        sd=float(sample.std(ddof=1)) if sample.size > 1 else 0.0,
        minimum=float(sample.min()),
        maximum=float(sample.max()),
        area_mm2=area,
        volume_ml=area * part.step_mm / 1000,
        empty=int(pixels.size - values.size),
        interpolated=part.interpolated,
    )


def ellipse(corners: NDArray[np.float64]) -> Line:
    """Return the closed line of the ellipse between two opposite corners, (2, 2)."""
    angles = np.linspace(0.0, 2 * np.pi, _ELLIPSE_SEGMENTS + 1)
    half_size = (corners[1] - corners[0]) / 2
    offsets = np.stack([np.cos(angles), np.sin(angles)], axis=1) * half_size
    return np.asarray(corners.mean(axis=0) + offsets)
