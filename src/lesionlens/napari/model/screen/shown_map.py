"""The map of the legend, and the hint below it: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.napari.model.choices.choices import Overlay, SecondOpinion
from lesionlens.napari.model.overlays.maps import MapView, Overlays
from lesionlens.napari.model.screen.map_layers import ATTENTION, PROBE, MapLayer
from lesionlens.napari.model.screen.screen import Screen

_SECOND_OPINIONS = {
    SecondOpinion.GRADIENTS: (
        "Grad-CAM: features that led to the region (gradients, not attention)."
    ),
    SecondOpinion.ROLLOUT: "Rollout: where the candidate's peak attended, through all layers.",
}


_AWAITED = "Being computed; the previous map is shown meanwhile."


@dataclass(frozen=True, slots=True, eq=False)
class ShownMap:
    """The topmost map."""

    role: str = "attention"
    """Role, which selects the colours."""
    view: MapView | None = None
    """None if no map is shown."""
    hint: str = ""
    """Explanation or hint; may be empty."""


def shown_map(screen: Screen, overlays: Overlays | None) -> ShownMap:
    """Return the topmost shown map; until it is computed, that of all layers."""
    layer = next(iter(screen.scene.maps), None)
    if layer is None:
        return ShownMap(hint=_usage_hint(screen))
    if layer.view is None and layer.choice is not None:
        previous = None if overlays is None else overlays.attention.get(layer.choice.region)
        return ShownMap(layer.role, previous, _AWAITED)
    return ShownMap(layer.role, layer.view, _hint(screen, layer))


def _hint(screen: Screen, layer: MapLayer) -> str:
    if layer.role == PROBE:
        return screen.maps.probed
    if layer.view is not None and layer.view.statistics:
        return layer.view.statistics
    if layer.choice is not None and isinstance(layer.choice.layer, SecondOpinion):
        return _SECOND_OPINIONS[layer.choice.layer]
    usage = _usage_hint(screen)
    if layer.role == ATTENTION and layer.choice is None and screen.maps.other_method:
        return f"{screen.maps.other_method}. {usage}".strip()
    return usage


def _usage_hint(screen: Screen) -> str:
    if screen.choices.overlay is Overlay.OFF and screen.candidates:
        return "Overlay off: read the images yourself, then press T."
    if screen.editing:
        return "Maps are hidden while an outline is drawn."
    if screen.maps.reopened:
        return "Reopened from files: analyse again to use the probe or see single layers."
    if screen.maps.can_probe:
        return "Shift-click a voxel (or point and press Q) to see what it attended to."
    return ""
