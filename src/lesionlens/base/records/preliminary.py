"""Preliminary candidates of the first pass, before the analysis is complete."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import Point


@dataclass(frozen=True, slots=True)
class PreliminaryCandidate:
    """A region flagged by the first pass: position and approximate size."""

    id: int
    """From 1, by descending score; the final candidates may differ in number and order."""
    score: float
    """0 to 1."""
    volume_ml: float
    """Volume of the whole region."""
    centroid_mm: Point
    """(3,): RAS+."""
    bounding_box_mm: tuple[Point, Point]
    """((3,), (3,)): RAS+, at the voxels' outer edges."""


@dataclass(frozen=True, slots=True, eq=False)
class PreliminaryFindings:
    """Candidates of the first pass: shown and replaced, never measured, reviewed or exported."""

    candidates: tuple[PreliminaryCandidate, ...]
    """By descending score."""
    components: NDArray[np.int32]
    """(I, J, K) int32: candidate id of each voxel, 0 elsewhere."""
    grid: Grid
    """Native grid of the reference sequence, on which `components` is defined."""
