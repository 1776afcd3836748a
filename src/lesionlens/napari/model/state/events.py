"""Events: one-time requests to the views, emitted after the change that caused them."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.records.findings import Point
from lesionlens.napari.model.choices.views import WindowPreset


@dataclass(frozen=True, slots=True)
class PositionVisited:
    """The reader went to a position; the views centre it."""

    point_mm: Point
    """(3,): centroid, RAS+."""
    box_mm: tuple[Point, Point] | None = None
    """Box of the candidate, which should be in view; None for another position."""


@dataclass(frozen=True, slots=True)
class WindowPresetChosen:
    """The reader chose a window preset for all sequences."""

    window: WindowPreset


@dataclass(frozen=True, slots=True)
class SlicesRequested:
    """Slices are to be shown, not 3-D: by a layout, or to compare outlines."""


Event = PositionVisited | WindowPresetChosen | SlicesRequested
