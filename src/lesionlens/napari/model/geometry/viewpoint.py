"""Viewpoint shared by all views: crosshair, centre and zoom, in patient millimetres."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psygnal import Signal

from lesionlens.base.records.findings import Point

MAX_ZOOM, MIN_ZOOM = 80.0, 0.2
"""Maximum and minimum zoom, pixels per millimetre."""


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """Viewpoint of the views."""

    point_mm: Point = (0.0, 0.0, 0.0)
    """(3,): crosshair, RAS+; every view shows the slice through it."""
    centre_mm: Point = (0.0, 0.0, 0.0)
    """(3,): centre of every view, RAS+."""
    zoom: float = 1.0
    """Pixels per millimetre."""


class SharedViewpoint:
    """The viewpoint of all views; a move without a change emits nothing."""

    changed = Signal(Viewpoint)

    def __init__(self) -> None:
        self._current = Viewpoint()

    @property
    def current(self) -> Viewpoint:
        """The current viewpoint."""
        return self._current

    def move(
        self,
        *,
        point_mm: Point | None = None,
        centre_mm: Point | None = None,
        zoom: float | None = None,
    ) -> None:
        """Move; arguments that are None are unchanged."""
        current = self._current
        moved = replace(
            current,
            point_mm=current.point_mm if point_mm is None else point_mm,
            centre_mm=current.centre_mm if centre_mm is None else centre_mm,
            zoom=current.zoom if zoom is None else min(max(zoom, MIN_ZOOM), MAX_ZOOM),
        )
        if moved != current:
            self._current = moved
            self.changed.emit(moved)
