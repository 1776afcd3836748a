"""The map over the image: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.labels import MrSequence, Region
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.maps import ATTENTION_MAP, MapView, map_name
from lesionlens.napari.model.state.state import State, compared_now
from lesionlens.napari.model.wording.map_checks import withheld

ATTENTION, EVIDENCE = "attention", "evidence"
"""Roles, which select the colours."""


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A map over the image."""

    role: str
    title: str
    view: MapView | None
    """None until it is computed."""
    evidence: MrSequence | None = None
    """Sequence whose contribution it is; None for the attention."""


def map_layers(state: State) -> tuple[MapLayer, ...]:
    """Return the map over the image; none over another image or while an outline is drawn."""
    choices, overlays = state.choices, state.overlays
    is_own_image = compared_now(state) is None
    if overlays is None or choices.hidden or state.editing is not None or not is_own_image:
        return ()
    if choices.overlay is not Overlay.MAP or withheld(state):
        return ()
    if choices.evidence is not None:
        loaded = overlays.evidence
        view = loaded[1] if loaded is not None and loaded[0] is choices.evidence else None
        title = f"Evidence of {choices.evidence.display_name} · {Region.WT.display_name}"
        return (MapLayer(EVIDENCE, title, view, choices.evidence),)
    attention = overlays.attention.get(choices.region)
    if attention is None:
        return ()
    name = ATTENTION_MAP if state.analysis is None else map_name(state.analysis)
    return (MapLayer(ATTENTION, f"{name} · {choices.region.display_name}", attention),)
