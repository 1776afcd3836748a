"""What happens once and is no state: each event is emitted after the change it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.choices.views import Window


@dataclass(frozen=True, slots=True)
class PlaceVisited:
    """The reader went to a place: the views go there, however near they are already."""

    point_mm: Point
    """(3,): its middle, RAS+."""
    box_mm: tuple[Point, Point] | None = None
    """Of a candidate: corners that are to be in view."""


@dataclass(frozen=True, slots=True)
class WindowChosen:
    """The reader requested a preset of brightness, for every sequence."""

    window: Window


Event = PlaceVisited | WindowChosen
