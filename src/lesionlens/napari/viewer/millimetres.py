"""Keeps napari's world in millimetres beside layers in other units.

napari measures its world in the smallest unit of length of any layer. Beside an image in
micrometres, a position in mm would be a place near the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lesionlens.napari.loading import KEY


class Millimetres:
    """Sets the units of a viewer's world while it shows a study."""

    def __init__(self, viewer: Any) -> None:
        self._layers, self._dims = viewer.layers, viewer.dims
        self._set: tuple[Any, ...] | None = None
        self._point: tuple[float, ...] = ()

    def keep(self) -> None:
        """Keep the world in millimetres from now on."""
        for event, callback in self._events():
            event.connect(callback)
        self._choose()

    def release(self) -> None:
        """Leave the units to napari."""
        for event, callback in self._events():
            event.disconnect(callback)
        if self._set is not None:
            self._set = self._layers.units = None

    def _events(self) -> tuple[tuple[Any, Callable[[Any], None]], ...]:
        events = self._layers.events
        return (
            (events.inserting, self._on_changing),
            (events.removing, self._on_changing),
            (events.inserted, self._on_inserted),
            (events.removed, self._on_changed),
            *((layer.events.units, self._choose) for layer in self._layers),
        )

    def _on_changing(self, _: Any) -> None:
        """Note the position, and drop the units: napari cannot convert those of every layer."""
        self._point = tuple(self._dims.point)
        if self._set is not None:
            with self._layers.events.units.blocker():
                self._layers.units = None

    def _on_inserted(self, event: Any) -> None:
        event.value.events.units.connect(self._choose)
        self._on_changed(event)

    def _on_changed(self, _: Any) -> None:
        """Set the units again, after napari has set its own."""
        before, point = self._set, self._point
        self._choose()
        shown = self._dims.ndim
        if (before or self._set) and point:
            known = min(len(point), shown)
            self._dims.set_point(range(shown - known, shown), point[-known:])

    def _choose(self, _: Any = None) -> None:
        """Choose the units that napari would, but millimetres for lengths.

        Where layers have no common units, as with one in pixels, napari uses none: every layer lies
        at its own numbers, those of a study at its millimetres.
        """
        layers = self._layers
        own = next((one for one in layers if KEY in one.metadata), None)
        with layers.events.units.blocker():
            before, self._set, layers.units = self._set, None, None
            usual = layers.extent.units
            if own is not None and usual is not None:
                mm = own.units[-1]
                lengths = [one.dimensionality == mm.dimensionality for one in usual]
                wanted = tuple(
                    mm if is_length else one for one, is_length in zip(usual, lengths, strict=True)
                )
                if wanted != tuple(usual):
                    self._set = layers.units = wanted
        if before or self._set:
            layers.events.units(value=layers.units)
