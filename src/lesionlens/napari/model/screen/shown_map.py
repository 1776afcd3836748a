"""The map of the legend, and the hint below it: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.napari.model.choices.choices import Overlay, SecondOpinion
from lesionlens.napari.model.overlays.maps import MapView, Overlays
from lesionlens.napari.model.screen.screen import Screen

_SECOND_OPINIONS = {
    SecondOpinion.GRADIENTS: (
        "Grad-CAM: features that led to the region (gradients, not attention)."
    ),
    SecondOpinion.ROLLOUT: "Rollout: where the candidate's peak attended, through all layers.",
}


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
    """Return the topmost shown map of the overlays."""
    role, view = _topmost(screen, overlays)
    return ShownMap(role, view, _hint(screen, overlays, view))


def _topmost(screen: Screen, overlays: Overlays | None) -> tuple[str, MapView | None]:
    scene = screen.scene
    if overlays is None:
        return "attention", None
    if scene.probe:
        return "probe", overlays.probe
    if scene.attention is not None:
        view = overlays.attention_of(scene.attention, scene.layer_choice)
        view = view or overlays.attention.get(scene.attention)
        return ("attention" if view is None else view.role), view
    return "uncertainty", overlays.uncertainty if scene.uncertainty else None


def _hint(screen: Screen, overlays: Overlays | None, view: MapView | None) -> str:
    if screen.scene.probe:
        return screen.maps.probed
    choice = screen.scene.layer_choice if screen.scene.attention is not None else None
    if (
        overlays is not None
        and choice is not None
        and overlays.attention_of(choice.region, choice) is None
    ):
        return "Being computed; the previous map is shown until then."
    if view is not None and view.statistics:
        return view.statistics
    if choice is not None and isinstance(choice.layer, SecondOpinion):
        return _SECOND_OPINIONS[choice.layer]
    return _usage_hint(screen)


def _usage_hint(screen: Screen) -> str:
    if screen.maps.overlay is Overlay.OFF and screen.candidates:
        return "Overlay off: read the images yourself, then press T."
    if screen.editing:
        return "Maps are hidden while an outline is drawn."
    if screen.maps.reopened:
        return "Reopened from files: analyse again to use the probe or see single layers."
    if screen.maps.can_probe:
        return "Shift-click a voxel (or point and press Q) to see what it attended to."
    return ""
