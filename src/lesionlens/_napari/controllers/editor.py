"""The layer in which a reader redraws one candidate with napari's own brush, fill and eraser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from lesionlens._napari.loading import KEY
from lesionlens._napari.model.display import geometry_keywords
from lesionlens._napari.model.state import State
from lesionlens._napari.viewer.colours import label_colours
from lesionlens.base.labels import Label, Region

if TYPE_CHECKING:
    from napari.components import ViewerModel

_PAINT, _BRUSH_VOX = "paint", 6
_FIRST_LABEL = {Region.WT: Label.OEDEMA, Region.TC: Label.CORE, Region.ET: Label.ENHANCING}

Sides = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class OutlineEditor:
    """Holds the layer in which a candidate is redrawn; only that candidate is in it."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Any = None
        self._before: Any = None
        self._tool = _PAINT
        self._shown: NDArray[np.uint8] = np.zeros((0, 0, 0), np.uint8)

    def apply(self, old: State, new: State) -> None:
        """Make the layer when an edit begins, take it away when it ends."""
        if new.editing != old.editing:
            self._end()
            if new.editing is not None and new.overlays is not None:
                self._begin(new, new.editing)
        if self._there() and self._layer.visible == new.choices.hidden:
            self._show(not new.choices.hidden)

    def drawn(self) -> Sides | None:
        """Return the candidate's labels on the working grid, before and after; None without it."""
        if not self._there():
            return None
        return self._shown, np.asarray(self._layer.data).astype(np.uint8)

    def undo(self) -> None:
        """Take the last stroke back."""
        if self._there():
            self._layer.undo()

    def redo(self) -> None:
        """Repeat it."""
        if self._there():
            self._layer.redo()

    def lock(self, locked: bool) -> None:
        """Take the tool out of the hand while what was drawn is kept, and give it back."""
        if self._there() and self._layer.editable is locked:
            if locked:
                self._tool = self._layer.mode
            self._layer.editable = not locked
            if not locked:
                self._layer.mode = self._tool

    def _there(self) -> bool:
        return self._layer is not None and self._layer in self._viewer.layers

    def _show(self, visible: bool) -> None:
        """Hide or show the layer; napari lays its tool down with it, which is taken up again."""
        if not visible:
            self._tool = self._layer.mode
        self._layer.visible = visible
        if visible:
            self._layer.mode = self._tool

    def _begin(self, state: State, candidate: int) -> None:
        overlays = state.overlays
        if overlays is None:
            return
        mine = overlays.components == candidate
        self._shown = np.where(mine, overlays.labels, 0).astype(np.uint8)
        layer = Labels(
            self._shown.copy(),
            name=f"Outline of candidate {candidate}",
            opacity=0.5,
            colormap=label_colours({int(label): label.colour for label in Label if label}),
            metadata={KEY: {"study": state.study, "role": "edit"}},
            **geometry_keywords(overlays.grid),
        )
        layer.brush_size = _BRUSH_VOX
        layer.selected_label = int(_FIRST_LABEL[state.choices.region])
        self._before = self._viewer.layers.selection.active
        self._viewer.layers.append(layer)
        self._viewer.layers.selection.active = layer
        layer.mode = _PAINT
        self._layer = layer

    def _end(self) -> None:
        if self._there():
            self._viewer.layers.remove(self._layer)
            if self._before in self._viewer.layers:
                self._viewer.layers.selection.active = self._before
        self._layer = self._before = None
        self._shown = np.zeros((0, 0, 0), np.uint8)
