"""The view model, from which the window is painted, computed from the state: pure, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Study
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.overlays.maps import MapView, Overlays
from lesionlens.napari.model.screen.board import Board, board_of
from lesionlens.napari.model.screen.map_layers import ATTENTION, MapLayer
from lesionlens.napari.model.screen.screen import Screen, resolve
from lesionlens.napari.model.state.state import Activity, Query, State
from lesionlens.napari.model.wording.followup import ShownFollowup, shown_followup

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


@dataclass(frozen=True, slots=True, eq=False)
class ViewModel:
    """Content of the window; widgets and views receive this or a part of it, never the state."""

    screen: Screen = field(default_factory=Screen)
    board: Board = field(default_factory=Board)
    map: ShownMap = field(default_factory=ShownMap)
    followup: ShownFollowup | None = None
    study: Study | None = None
    suspended_study: Study | None = None
    """Study set aside while another one is opened."""
    query: Query | None = None
    """Decision needed to open a study."""

    @property
    def missing_evidence(self) -> MrSequence | None:
        """The sequence whose contribution map has yet to be computed."""
        awaited = (layer.evidence for layer in self.board.scene.maps if layer.view is None)
        return next(awaited, None)

    def at(self, activity: Activity | None) -> ViewModel:
        """Return the model with another progress."""
        return replace(self, screen=replace(self.screen, activity=activity))


def view_model_of(state: State, aside: Study | None = None) -> ViewModel:
    """Return the view model of a state; `aside` is the study set aside."""
    screen = resolve(state)
    return ViewModel(
        screen=screen,
        board=board_of(state, screen.scene),
        map=shown_map(screen, state.overlays),
        followup=None
        if state.analysis is None
        else shown_followup(state.analysis, state.choices.candidate),
        study=state.study,
        suspended_study=aside,
        query=state.query,
    )


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
