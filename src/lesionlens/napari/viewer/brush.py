"""What takes the pointer over linked views while an outline is drawn."""

from __future__ import annotations

from typing import Protocol

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.geometry.strokes import Slab
from lesionlens.napari.model.screen.drawn_outline import DrawnOutline


class Brush(Protocol):
    """Takes the pointer while an outline is drawn."""

    @property
    def radius_mm(self) -> float | None:
        """How far it reaches; None where the pointer does not draw."""

    @property
    def outline(self) -> DrawnOutline | None:
        """What is drawn now; None while nothing is."""

    def press(self, at: Point, slab: Slab) -> bool:
        """Begin or go on at a point (RAS+ mm) of a slice; False where the pointer is free."""

    def lift(self) -> None:
        """End the stroke."""
