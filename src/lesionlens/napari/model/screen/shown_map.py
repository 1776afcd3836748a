"""The map of the legend, and the hint below it: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.maps import MapView, Overlays
from lesionlens.napari.model.screen.map_layers import ATTENTION, MapLayer
from lesionlens.napari.model.screen.screen import Screen

_AWAITED = "Being computed; the previous map is shown meanwhile."


@dataclass(frozen=True, slots=True, eq=False)
class ShownMap:
    """The map over the image."""

    role: str = "attention"
    """Role, which selects the colours."""
    view: MapView | None = None
    """None if no map is shown."""
    hint: str = ""
    """Explanation or hint; may be empty."""


def shown_map(screen: Screen, overlays: Overlays | None) -> ShownMap:
    """Return the shown map; until it is computed, the attention."""
    layer = next(iter(screen.scene.maps), None)
    if layer is None:
        return ShownMap(hint=_usage_hint(screen))
    if layer.view is None:
        previous = None if overlays is None else overlays.attention.get(screen.choices.region)
        return ShownMap(ATTENTION, previous, _AWAITED)
    return ShownMap(layer.role, layer.view, _hint(screen, layer))


def _hint(screen: Screen, layer: MapLayer) -> str:
    if layer.view is not None and layer.view.statistics:
        return layer.view.statistics
    return f"{screen.maps.other_method}." if screen.maps.other_method else ""


def _usage_hint(screen: Screen) -> str:
    if screen.choices.overlay is Overlay.OFF and screen.candidates:
        return "Overlay off: read the images yourself, then press T."
    if screen.editing:
        return "Maps are hidden while an outline is drawn."
    return ""
