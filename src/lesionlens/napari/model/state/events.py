"""What happens once and is no state: each event is emitted after the change it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.choices.views import Window


@dataclass(frozen=True, slots=True)
class CandidateVisited:
    """The reader went to a candidate: the views go there, however near they are already."""

    point_mm: Point
    """(3,): its middle, RAS+."""
    box_mm: tuple[Point, Point]


@dataclass(frozen=True, slots=True)
class WindowChosen:
    """The reader requested a preset of brightness, for every sequence."""

    window: Window


Event = CandidateVisited | WindowChosen
