"""All that the window is painted from, computed from the state: pure, frozen, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lesionlens.base.records.study import Study
from lesionlens.napari.model.choices.choices import LayerChoice
from lesionlens.napari.model.overlays.maps import Overlays
from lesionlens.napari.model.screen.board import Board, board_of
from lesionlens.napari.model.screen.preliminary import with_preliminary
from lesionlens.napari.model.screen.screen import Screen, resolve
from lesionlens.napari.model.screen.shown_map import ShownMap, shown_map
from lesionlens.napari.model.state.state import Activity, Query, State
from lesionlens.napari.model.wording.followup import ShownFollowup, shown_followup
from lesionlens.napari.model.wording.second import ShownSecond, shown_second


@dataclass(frozen=True, slots=True, eq=False)
class ViewModel:
    """All that is painted: widgets and views are handed this or a part of it, never the state."""

    screen: Screen = field(default_factory=Screen)
    """Words and rows of the panel."""
    board: Board = field(default_factory=Board)
    """What is seen in the views."""
    map: ShownMap = field(default_factory=ShownMap)
    """The map that the legend explains."""
    followup: ShownFollowup | None = None
    """What changed since an earlier examination."""
    second: ShownSecond | None = None
    """How a second result of the study agrees."""
    study: Study | None = None
    """Whose series can be named, and whose layers lie in the viewer."""
    aside: Study | None = None
    """Out of reach while another one is opened; its pictures come back if none is."""
    query: Query | None = None
    """What the reader must say before a study can be opened."""

    @property
    def overlays(self) -> Overlays | None:
        """What can lie over the image."""
        return self.board.overlays

    @property
    def missing_map(self) -> LayerChoice | None:
        """The single layer that is chosen, and has to be computed before it can be shown."""
        scene = self.board.scene
        if scene.attention is None or scene.layer_choice is None or self.overlays is None:
            return None
        there = self.overlays.attended(scene.attention, scene.layer_choice)
        return scene.layer_choice if there is None else None

    def at(self, activity: Activity | None) -> ViewModel:
        """Return it with what runs this far on."""
        return replace(self, screen=replace(self.screen, activity=activity))


def view_model_of(state: State, aside: Study | None = None) -> ViewModel:
    """Return all that is painted in a state, while a study is set aside or none is."""
    screen = with_preliminary(resolve(state), state)
    return ViewModel(
        screen=screen,
        board=board_of(state, screen.scene),
        map=shown_map(screen, state.overlays),
        followup=None
        if state.analysis is None
        else shown_followup(state.analysis, state.choices.candidate),
        second=None if state.second is None else shown_second(state.second),
        study=state.study,
        aside=aside,
        query=state.query,
    )
