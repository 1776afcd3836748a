"""The maps over the image: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.labels import Region
from lesionlens.base.records.findings import Candidate
from lesionlens.napari.model.choices.choices import Choices, LayerChoice, Overlay, SecondOpinion
from lesionlens.napari.model.overlays.maps import ATTENTION_MAP, MapView, Overlays, map_name
from lesionlens.napari.model.state.state import State, compared_now
from lesionlens.napari.model.wording.map_checks import withheld

ATTENTION, UNCERTAINTY, PROBE, EVIDENCE = "attention", "uncertainty", "probe", "evidence"
"""Roles, which select the colours."""


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A map over the image."""

    role: str
    title: str
    view: MapView | None
    """None until it is computed."""
    choice: LayerChoice | None = None
    """Layer of the attention, or second opinion; None for all layers combined."""
    candidate: int | None = None
    """The candidate that it is limited to; None for all."""


def map_layers(state: State) -> tuple[MapLayer, ...]:
    """Return the maps, topmost first; none over another image or while an outline is drawn.

    A rollout starts from the peak of the candidate in focus, else of the first.
    """
    choices, overlays, focus = state.choices, state.overlays, state.focused
    is_own_image = compared_now(state) is None
    if overlays is None or choices.hidden or state.editing is not None or not is_own_image:
        return ()
    if overlays.probe is not None:
        return (MapLayer(PROBE, "Probe", overlays.probe),)
    layers = []
    if choices.overlay is Overlay.MAP and not withheld(state):
        start = focus or next(iter(state.listed), None)
        name = ATTENTION_MAP if state.analysis is None else map_name(state.analysis)
        layers += _attention(choices, overlays, focus, _layer_choice(choices, start), name)
    shows_uncertainty = choices.uncertainty and choices.overlay is not Overlay.OFF
    if shows_uncertainty and overlays.uncertainty is not None:
        layers.append(MapLayer(UNCERTAINTY, "Uncertainty", overlays.uncertainty))
    return tuple(layers)


def _attention(
    choices: Choices,
    overlays: Overlays,
    focus: Candidate | None,
    choice: LayerChoice | None,
    name: str,
) -> list[MapLayer]:
    """Return the region's map called `name`, or that of one layer; empty if there is none."""
    view = overlays.attention_of(choices.region, choice)
    if view is None and choice is None:
        return []
    only = focus.id if choices.only_focused and focus is not None else None
    part = "" if only is None else f" · candidate {only}"
    title = map_title(choices.region, choice, name) + part
    return [MapLayer(ATTENTION if view is None else view.role, title, view, choice, only)]


def _layer_choice(choices: Choices, candidate: Candidate | None) -> LayerChoice | None:
    if choices.layer is None:
        return None
    rollout = choices.layer is SecondOpinion.ROLLOUT and candidate is not None
    at_mm = candidate.peak_mm if rollout and candidate is not None else None
    return LayerChoice(choices.region, choices.layer, choices.head, at_mm)


def map_title(region: Region, layer_choice: LayerChoice | None, name: str = ATTENTION_MAP) -> str:
    """Return the title of a region's map called `name`; layers are counted from 1.

    Examples
    --------
    >>> map_title(Region.ET, LayerChoice(Region.ET, 0, 1))
    'Attention · enhancing tumour · layer 1, head 2'
    >>> map_title(Region.WT, LayerChoice(Region.WT, SecondOpinion.GRADIENTS))
    'Grad-CAM · whole tumour'
    >>> map_title(Region.ET, LayerChoice(Region.ET, SecondOpinion.BY_FLAIR))
    'Evidence of FLAIR · whole tumour'
    """
    if layer_choice is None:
        return f"{name} · {region.display_name}"
    if isinstance(layer_choice.layer, SecondOpinion):
        if layer_choice.layer.sequence is not None:
            return (
                f"Evidence of {layer_choice.layer.sequence.display_name} · {Region.WT.display_name}"
            )
        return f"{layer_choice.layer.display_name} · {region.display_name}"
    head = "" if layer_choice.head is None else f", head {layer_choice.head + 1}"
    return f"Attention · {region.display_name} · layer {layer_choice.layer + 1}{head}"
