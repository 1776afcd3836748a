"""What a quick first look at a study found, before the analysis is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import Point


@dataclass(frozen=True, slots=True)
class PreliminaryCandidate:
    """A region that a first look flags: where it is and about how large."""

    id: int
    """From 1, by falling score; the final candidates may be others, in another order."""
    score: float
    """0 to 1."""
    volume_ml: float
    """Of the whole region."""
    centroid_mm: Point
    """(3,): RAS+."""
    bounding_box_mm: tuple[Point, Point]
    """((3,), (3,)): RAS+, by the outer edges of its voxels."""


@dataclass(frozen=True, slots=True, eq=False)
class PreliminaryFindings:
    """What a first look flags. To be shown and replaced: never measured, reviewed or exported."""

    candidates: tuple[PreliminaryCandidate, ...]
    """By falling score."""
    components: NDArray[np.int32]
    """(I, J, K) int32: candidate id of each voxel, 0 elsewhere."""
    grid: Grid
    """Native grid of the reference, on which `components` lie."""
