"""The layer in which a reader draws one candidate, with napari's brushes and further tools."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray

from lesionlens.analysis.findings.edit_tools import editable_tissue
from lesionlens.base.geometry import Labels, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import TUMOUR_LABELS, Label, Region
from lesionlens.base.records.findings import Point
from lesionlens.base.records.prompts import PromptRound
from lesionlens.napari.colours import label_colours
from lesionlens.napari.controllers.outline_layer import OutlineLayer
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.choices.tools import DRAWN_CAVITY, NEW, Limit, Tools
from lesionlens.napari.model.geometry.strokes import Slab, stroked_voxels
from lesionlens.napari.model.overlays.maps import Overlays, cavity_of, geometry_keywords
from lesionlens.napari.model.screen.drawing import DrawnOutline
from lesionlens.napari.model.state.state import Edit, State
from lesionlens.results.review.drafts import OutlineDraft

_PAINT, _ERASE, _BRUSH_VOX = "paint", "erase", 6
_PAN_ZOOM = "pan_zoom"
_MOVES = (_PAN_ZOOM, "transform")
_LOCKED, _HIDDEN, _POINTING = "locked", "hidden", "pointing"
_BY_HAND = 255
_NEW_LAYER_NAMES = {NEW: "New candidate", DRAWN_CAVITY: "Resection cavity"}
_FIRST_LABEL = {Region.WT: Label.OEDEMA, Region.TC: Label.CORE, Region.ET: Label.ENHANCING}


class EditedLabels(NamedTuple):
    """Labels of the edited candidate, (I, J, K) uint8 on the working grid, 0 elsewhere."""

    initial: Labels
    """Labels when the edit began."""
    current: Labels
    """Labels as drawn now."""
    by_hand: Mask
    """Voxels that a stroke painted or erased, (I, J, K)."""

    @property
    def are_changed(self) -> bool:
        """Whether any voxel differs."""
        return bool((self.initial != self.current).any())


class OutlineEditor:
    """The layer of the candidate being drawn."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._clear()
        self._labels, self._default_label = TUMOUR_LABELS, Label.OEDEMA
        self._uid = ""
        self.assisted = False
        self.on_stroke: Callable[[OutlineDraft], None] = lambda _: None
        """Called with the labels after each stroke."""
        self.on_labels_changed: Callable[[], None] = lambda: None
        """Called when the labels changed."""
        self.on_layer_added: Callable[[Any], None] = lambda _: None
        """Called with the layer."""
        self.on_layer_deleted: Callable[[], None] = lambda: None
        """Called when the layer was deleted in napari."""
        self.undo_requested: Callable[[], object] = self.undo
        self.redo_requested: Callable[[], object] = self.redo
        """Called by napari's own keys for undo and redo."""
        self._version = 0

    def _clear(self) -> None:
        """Forget the outline that was drawn."""
        self._layer: Any = None
        self._previous_layer: Any = None
        self._grid: Grid | None = None
        self._values: NDArray[np.float32] | None = None
        self._mode, self._tools = _PAINT, Tools()
        self._pauses: set[str] = set()
        """Why the pointer does not use the tool `_mode` now."""
        self._initial: Labels = np.zeros((0, 0, 0), np.uint8)
        self._computed = self._initial
        """What the outline would be without strokes; `_BY_HAND` where a draft has some."""
        self._paintable: NDArray[np.bool_] = np.zeros((0, 0, 0), bool)
        self.allowed = self._paintable
        """Mask of the voxels that prompts and tools may fill, on the working grid: tissue outside
        other candidates and the resection cavity, which a brush alone paints over."""
        self.rounds: list[PromptRound] = []
        """Prompts of the outline, oldest first."""
        self._steps: list[_Step] = []
        self._undone_steps: list[_Step] = []

    def apply(self, old: State, new: State) -> None:
        """Create the layer when an edit begins, remove it when it ends, apply the tools."""
        if new.editing != old.editing:
            self.release()
            if new.edit is not None and new.overlays is not None:
                self._begin(new, new.edit, new.overlays)
        if self._is_open() and self._layer.visible == new.choices.hidden:
            self._show(visible=not new.choices.hidden)
        if self._is_open() and (new.tools is not old.tools or new.editing != old.editing):
            self._apply_tools(new)

    def drawn(self) -> EditedLabels | None:
        """Return the labels of the candidate that is being edited; None if none is."""
        if not self._is_open():
            return None
        current = np.asarray(self._layer.data).astype(np.uint8)
        return EditedLabels(self._initial, current, self.by_hand)

    @property
    def label(self) -> Label:
        """The part that the brush paints."""
        selected = int(self._layer.selected_label) if self._is_open() else 0
        return Label(selected) if selected in self._labels else self._default_label

    def prompt_label(self, region: Region | None) -> Label:
        """Return the part that a prompt adds to: the reader's choice, else the region's usual."""
        is_chosen = self.label is not self._default_label or self._default_label is Label.CAVITY
        return self.label if is_chosen else _FIRST_LABEL[region or Region.WT]

    @property
    def by_hand(self) -> NDArray[np.bool_]:
        """Mask of the voxels that a stroke painted or erased, on the working grid."""
        return np.asarray(np.asarray(self._layer.data) != self._computed)

    def change(
        self, changed: Labels, prompt: PromptRound | None = None, *, by_hand: bool = False
    ) -> bool:
        """Replace the labels, as one stroke; False if nothing changes.

        Parameters
        ----------
        prompt : PromptRound or None
            The prompt that this is the response to; None for a tool.
        by_hand : bool
            Whether later prompts leave the changed voxels alone, as they do those of a brush.
        """
        if not self._is_open():
            return False
        current, before = np.asarray(self._layer.data), self._digest()
        indices = np.nonzero(current != changed)
        if not indices[0].size:
            return False
        self.assisted = True
        with self._layer.block_history():
            pass  # a stroke in progress ends here: this is a step of its own
        computed_before = self._computed[indices]
        computed_after = computed_before if by_hand else changed[indices]
        self._computed[indices] = computed_after
        self.rounds = self.rounds if prompt is None else [*self.rounds, prompt]
        with self._layer.block_history():  # one event at the end
            self._layer.data_setitem(indices, changed[indices].tolist())
        self._steps.append(
            _Step(
                prompt=prompt,
                before=before,
                after=self._digest(),
                indices=indices,
                computed_before=computed_before,
                computed_after=computed_after,
            )
        )
        self._undone_steps.clear()
        return True

    # --- the brush of linked views --------------------------------------------------------

    @property
    def outline(self) -> DrawnOutline | None:
        """The outline for linked views; None if there is none or it is hidden."""
        if not self._is_open() or self._grid is None or not self._layer.visible:
            return None
        colours = tuple((int(label), label.colour) for label in self._labels)
        return DrawnOutline(self._layer.data, self._grid, self._version, colours)

    @property
    def sets_split_points(self) -> bool:
        """Whether the pointer sets split points."""
        return self._is_open() and self._tools.points is not None

    @property
    def has_canvas_tool(self) -> bool:
        """Whether the selected tool works on napari's canvas only."""
        return self._is_open() and self._layer.mode not in (_PAINT, _ERASE, *_MOVES)

    @property
    def brush_mm(self) -> float | None:
        """Radius of brush or eraser; None if neither is selected."""
        if not self._is_open() or self._grid is None or not self._layer.editable:
            return None
        if self._layer.mode not in (_PAINT, _ERASE) or not self._layer.visible:
            return None
        return float(self._layer.brush_size / 2 * self._grid.spacing_mm.min())

    def one_stroke(self) -> AbstractContextManager[Any]:
        """Return a context whose strokes are one undo step."""
        history_block: AbstractContextManager[Any] = self._layer.block_history()
        return history_block

    def stroke(self, path_mm: tuple[Point, Point], slab: Slab) -> None:
        """Paint or erase along a path (RAS+ mm) on a slice."""
        radius = self.brush_mm
        if radius is None or self._grid is None:
            return
        label = 0 if self._layer.mode == _ERASE else int(self._layer.selected_label)
        slab_or_ball = None if self._layer.n_edit_dimensions == self._layer.ndim else slab
        voxels = stroked_voxels(self._grid, path_mm, radius, slab_or_ball)
        if label and voxels[0].size:
            box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in voxels)
            local = tuple(axis - side.start for axis, side in zip(voxels, box, strict=True))
            paintable = self._gate(box)[local]
            voxels = tuple(axis[paintable] for axis in voxels)
        if voxels[0].size:
            self._layer.data_setitem(voxels, label)
            self._changed()

    def _changed(self) -> None:
        self._version += 1
        self.on_labels_changed()

    # --- undo -----------------------------------------------------------------------------

    def undo(self) -> bool:
        """Undo the last stroke, and its prompt; False if there is none."""
        return self._replay(back=True)

    def redo(self) -> bool:
        """Redo the stroke; False if none was undone."""
        return self._replay(back=False)

    def _replay(self, *, back: bool) -> bool:
        """Undo a stroke or redo it, with its prompt; False if there is none."""
        if not self._is_open():
            return False
        before = self._digest()
        (self._layer.undo_stroke if back else self._layer.redo_stroke)()
        after = self._digest()
        if after == before:
            return False
        done, undone = self._steps, self._undone_steps
        source, target = (done, undone) if back else (undone, done)
        step = source[-1] if source else None
        earlier_and_later = (after, before) if back else (before, after)
        if step is not None and earlier_and_later == (step.before, step.after):
            target.append(source.pop())
            self._computed[step.indices] = step.computed_before if back else step.computed_after
            if step.prompt is not None:
                self.rounds = self.rounds[:-1] if back else [*self.rounds, step.prompt]
        self._on_stroke()
        return True

    def _digest(self) -> bytes:
        return hashlib.sha256(np.asarray(self._layer.data).tobytes()).digest()

    def lock(self, *, locked: bool) -> None:
        """Disable the tool while the outline is being stored, or enable it again."""
        if self._is_open() and self._layer.editable is locked:
            if locked:
                self._pause_tool(_LOCKED)
            self._layer.editable = not locked
            if not locked:
                self._resume_tool(_LOCKED)

    def _pause_tool(self, reason: str) -> None:
        """Remember the tool before napari deselects it, unless that was done for another reason."""
        if not self._pauses:
            self._mode = self._layer.mode
        self._pauses.add(reason)

    def _resume_tool(self, reason: str) -> None:
        """Select the tool again once no other reason is left."""
        self._pauses.discard(reason)
        self._layer.mode = _PAN_ZOOM if self._pauses else self._mode

    def _is_open(self) -> bool:
        return self._layer is not None and self._layer in self._viewer.layers

    def _show(self, *, visible: bool) -> None:
        """Hide or show the layer; the tool, which napari resets, is restored."""
        if not visible:
            self._pause_tool(_HIDDEN)
        self._layer.visible = visible
        if visible:
            self._resume_tool(_HIDDEN)
        self._changed()

    def _begin(self, state: State, edit: Edit, overlays: Overlays) -> None:
        self._take_candidate(state, edit.candidate, overlays)
        self._uid = edit.tracking_uid
        data = self._start_labels(state.draft if edit.continues_draft else None)
        layer = OutlineLayer(
            data,
            name=_NEW_LAYER_NAMES.get(edit.candidate, f"Outline of candidate {edit.candidate}"),
            opacity=0.5,
            colormap=label_colours({int(label): label.colour for label in self._labels}),
            metadata={KEY: {"study": state.study, "role": "edit"}},
            **geometry_keywords(overlays.grid),
        )
        layer.gate, layer.undo_requested = self._gate, self.undo_requested
        layer.redo_requested = self.redo_requested
        layer.brush_size = _BRUSH_VOX
        layer.selected_label = int(self._default_label)
        layer.events.paint.connect(self._on_stroke)
        layer.events.selected_label.connect(self._on_label)
        self._previous_layer = self._viewer.layers.selection.active
        self._viewer.layers.append(layer)
        self.on_layer_added(layer)
        self._viewer.layers.selection.active = layer
        layer.mode = _PAINT
        self._layer, self._grid = layer, overlays.grid
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._changed()

    def _take_candidate(self, state: State, candidate: int, overlays: Overlays) -> None:
        """Set the initial labels of a candidate, its parts, and where they may be drawn."""
        in_candidate = (overlays.components == candidate) & (overlays.components > 0)
        self._initial = np.where(in_candidate, overlays.labels, 0).astype(np.uint8)
        others = (overlays.components > 0) & ~in_candidate
        self._paintable = self.allowed = ~others
        self._default_label = _FIRST_LABEL[state.choices.region]
        if state.analysis is not None:
            prepared, cavity = state.analysis.prepared, cavity_of(state.analysis)
            self._labels = prepared.labels
            self._paintable = editable_tissue(prepared, others)
            self.allowed = self._paintable & ~cavity
            if candidate == DRAWN_CAVITY:
                self._labels, self._default_label = (Label.CAVITY,), Label.CAVITY
                self._initial = np.where(cavity, np.uint8(Label.CAVITY), np.uint8(0))
                self.allowed = self._paintable

    def _start_labels(self, draft: OutlineDraft | None) -> Labels:
        """Return the labels to begin with: the candidate's, or a draft's, which is continued."""
        self.assisted = draft is not None and draft.assisted
        self.rounds = [] if draft is None else [*draft.prompts]
        data = self._initial.copy() if draft is None else draft.continued_from(self._initial)
        self._computed = data.copy()
        if draft is not None:
            by_hand = data != self._initial if draft.by_hand is None else draft.by_hand
            self._computed[by_hand] = _BY_HAND
        return data

    def _apply_tools(self, state: State) -> None:
        """Apply the tools: brush, range, split points."""
        previous_tools, self._tools = self._tools, state.tools
        self._layer.n_edit_dimensions = 3 if state.tools.ball else 2
        self._values = values_of(state)
        pointing, was_pointing = _is_pointing(state.tools), _is_pointing(previous_tools)
        if pointing and not was_pointing:
            self._pause_tool(_POINTING)
            self._layer.mode = _PAN_ZOOM
        elif was_pointing and not pointing:
            self._resume_tool(_POINTING)

    def _on_label(self) -> None:
        """Paint the first part if one was chosen that does not belong here; 0 erases."""
        if self._is_open() and self._layer.selected_label not in (0, *self._labels):
            self._layer.selected_label = int(self._labels[0])

    def _gate(self, box: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Return the paintable voxels: tissue, and for the brush those within the range."""
        paintable = self._paintable[box]
        if self._values is None:
            return paintable
        self.assisted = True
        values = self._values[box]
        return np.asarray(paintable & (values >= self._tools.low) & (values <= self._tools.high))

    def _on_stroke(self, _: Any = None) -> None:
        if self._is_open():
            self._changed()
            drawn = np.asarray(self._layer.data).astype(np.uint8)
            changed, rounds = drawn != self._initial, tuple(self.rounds)
            self.on_stroke(
                OutlineDraft(self._uid, drawn, self.assisted, rounds, self.by_hand, changed)
            )

    def _on_removed(self, event: Any) -> None:
        if event.value is self._layer:
            self.on_layer_deleted()

    def release(self) -> None:
        """Remove the layer of the edit; its strokes stay in the draft."""
        if self._layer is not None:
            self._viewer.layers.events.removed.disconnect(self._on_removed)
            self._layer.events.paint.disconnect(self._on_stroke)
        if self._is_open():
            self._viewer.layers.remove(self._layer)
            self._restore_selection()
        self._clear()

    def _restore_selection(self) -> None:
        """Select the layer of before the edit, or the sequence that has replaced it meanwhile."""
        layers, previous_layer = self._viewer.layers, self._previous_layer
        images = [layer for layer in layers if "sequence" in layer.metadata.get(KEY, {})]
        if previous_layer in images and not previous_layer.visible:
            previous_layer = next((layer for layer in images if layer.visible), previous_layer)
        if previous_layer in layers:
            layers.selection.active = previous_layer


class _Step(NamedTuple):
    prompt: PromptRound | None
    before: bytes
    after: bytes
    indices: tuple[NDArray[np.intp], ...]
    computed_before: Labels
    computed_after: Labels
    """Values of what strokes are compared with, in the voxels that the step changed."""


def _is_pointing(tools: Tools) -> bool:
    return tools.points is not None or tools.prompting


def values_of(state: State) -> NDArray[np.float32] | None:
    """Return the values that the range limits, on the working grid; None without a limit."""
    overlays, sequence = state.overlays, state.tools.sequence
    if overlays is None or state.tools.limit is Limit.ANYWHERE:
        return None
    if state.tools.limit is Limit.PROBABILITY:
        return state.probability
    return None if sequence is None else overlays.images[sequence]
