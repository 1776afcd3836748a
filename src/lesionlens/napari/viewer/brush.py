"""Protocol of the brush in linked views."""

from __future__ import annotations

from typing import Protocol

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.geometry.strokes import Slab
from lesionlens.napari.model.screen.drawing import DrawnOutline


class Brush(Protocol):
    """Handles the pointer while an outline is drawn."""

    @property
    def radius_mm(self) -> float | None:
        """Radius; None if the pointer does not draw."""

    @property
    def outline(self) -> DrawnOutline | None:
        """The outline being drawn, or None."""

    @property
    def takes_pointer(self) -> bool:
        """Whether a press draws, or sets a split point."""

    def press(self, point: Point, slab: Slab | None) -> bool:
        """Begin or continue a stroke at a point (RAS+ mm); False if the pointer does not draw.

        `slab` is None where a view shows no sequence of the study.
        """

    def interrupt(self) -> None:
        """Paint no more until the button is released."""

    def lift(self) -> None:
        """End the stroke."""
