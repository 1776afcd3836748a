"""Keeps napari's world in millimetres beside layers in other units.

napari measures its world in the smallest unit of length of any layer. Beside an image in
micrometres, a position in millimetres would lie near the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lesionlens.napari.loading import KEY


class Millimetres:
    """Sets the units of a viewer's world while it shows a study."""

    def __init__(self, viewer: Any) -> None:
        self._layers, self._dims = viewer.layers, viewer.dims
        self._set_units: tuple[Any, ...] | None = None
        self._point: tuple[float, ...] = ()

    def connect(self) -> None:
        """Keep the world in millimetres from now on."""
        for event, callback in self._events():
            event.connect(callback)
        self._update_units()

    def release(self) -> None:
        """Leave the units to napari."""
        for event, callback in self._events():
            event.disconnect(callback)
        if self._set_units is not None:
            self._set_units = self._layers.units = None

    def _events(self) -> tuple[tuple[Any, Callable[[Any], None]], ...]:
        events = self._layers.events
        return (
            (events.inserting, self._before_change),
            (events.removing, self._before_change),
            (events.inserted, self._on_inserted),
            (events.removed, self._on_changed),
            *((layer.events.units, self._update_units) for layer in self._layers),
        )

    def _before_change(self, _: Any) -> None:
        """Store the position and reset the units: napari cannot convert those of every layer."""
        self._point = tuple(self._dims.point)
        if self._set_units is not None:
            with self._layers.events.units.blocker():
                self._layers.units = None

    def _on_inserted(self, event: Any) -> None:
        event.value.events.units.connect(self._update_units)
        self._on_changed(event)

    def _on_changed(self, _: Any) -> None:
        """Set the units again, after napari has set its own."""
        previous, point = self._set_units, self._point
        self._update_units()
        ndim = self._dims.ndim
        if (previous or self._set_units) and point:
            common = min(len(point), ndim)
            self._dims.set_point(range(ndim - common, ndim), point[-common:])

    def _update_units(self, _: Any = None) -> None:
        """Choose the units that napari would, but millimetres for lengths.

        Without common units, as with a layer in pixels, napari uses none: every layer is shown in
        its own units, a study in millimetres.
        """
        layers = self._layers
        own_layer = next((layer for layer in layers if KEY in layer.metadata), None)
        with layers.events.units.blocker():
            previous, self._set_units, layers.units = self._set_units, None, None
            default_units = layers.extent.units
            if own_layer is not None and default_units is not None:
                mm = own_layer.units[-1]
                are_lengths = [unit.dimensionality == mm.dimensionality for unit in default_units]
                units = tuple(
                    mm if is_length else unit
                    for unit, is_length in zip(default_units, are_lengths, strict=True)
                )
                if units != tuple(default_units):
                    self._set_units = layers.units = units
        if previous or self._set_units:
            layers.events.units(value=layers.units)
