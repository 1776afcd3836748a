"""Acts while an outline is drawn, as changes of the state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lesionlens.base.geometry import as_vec3
from lesionlens.base.labels import Region
from lesionlens.base.records.arrays import frozen
from lesionlens.base.records.review import CAVITY
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.tools import DRAWN_CAVITY, NEW, Limit, Tools, default_range
from lesionlens.napari.model.overlays.maps import onto
from lesionlens.napari.model.state.events import PositionVisited
from lesionlens.napari.model.state.holder import StateHolder
from lesionlens.napari.model.state.state import Edit
from lesionlens.napari.model.wording.edits import unfinished_drawing
from lesionlens.results.review.drafts import OutlineDraft
from lesionlens.results.review.log import new_tracking_uid

OUTLINE = "outline"
"""Cause of a failure that is cleared when an outline is kept or discarded."""
_NO_PROBABILITY = "This result contains no probabilities: paint within an intensity range instead."


class Editing(StateHolder):
    """Begins and ends edits, and holds the tools."""

    def begin_edit(self) -> bool:
        """Begin to redraw the outline of the candidate in focus; False if none is."""
        candidate = self._state.focused
        if candidate is not None:
            self._begin(Edit(candidate.id, candidate.tracking_uid))
        return candidate is not None

    def begin_new(self) -> None:
        """Begin to draw a candidate that the network did not flag."""
        self._begin(Edit(NEW, new_tracking_uid()))

    def begin_cavity(self) -> None:
        """Begin to draw the resection cavity."""
        self._begin(Edit(DRAWN_CAVITY, CAVITY))

    def _begin(self, edit: Edit) -> None:
        if self._state.overlays is None:
            return
        if not edit.continues_draft and self.refuses(unfinished_drawing(self._state)):
            return
        self._set(edit=edit, choices=replace(self._state.choices, hidden=False))

    def show_contours(self) -> None:
        """Show contours where the overlay is off, unless the reader switched it off."""
        choices = self._state.choices
        if not choices.overlay_chosen and choices.overlay is Overlay.OFF:
            self._choose(overlay=Overlay.CONTOUR)

    def end_edit(self) -> None:
        """Discard the edit."""
        self._set(**NO_EDIT)
        self.clear_problem(OUTLINE)

    # --- strokes that were interrupted ----------------------------------------------------

    def offer(self, draft: OutlineDraft | None) -> None:
        """Offer to continue interrupted strokes."""
        self._set(draft=None if draft is None else self._on_shown_candidate(draft))

    def _on_shown_candidate(self, draft: OutlineDraft) -> OutlineDraft:
        """Return strokes on a candidate that was merged away as strokes on the merged candidate.

        If the outline is in no candidate any more, the strokes are continued with it as a new one.
        """
        state, uid = self._state, draft.tracking_uid
        if state.analysis is None or state.overlays is None or draft.changed is None:
            return draft
        retained = (draft.drawn > 0) & ~draft.changed  # none in a new candidate
        if uid == CAVITY or state.analysis.findings.candidate_of(uid) or not retained.any():
            return draft
        counts = np.bincount(state.overlays.components[retained])
        counts[NEW] = 0
        for candidate in state.analysis.findings.candidates:
            if candidate.id == counts.argmax():
                return replace(draft, tracking_uid=candidate.tracking_uid)
        return replace(draft, changed=None)

    def resume(self) -> None:
        """Continue the interrupted strokes, and go to them; to the outline if they are unknown."""
        state, draft = self._state, self._state.draft
        if state.analysis is None or draft is None or state.editing is not None:
            return
        ids_by_uid = {c.tracking_uid: c.id for c in state.candidates}
        number = (ids_by_uid | {CAVITY: DRAWN_CAVITY}).get(draft.tracking_uid, NEW)
        if number > NEW:
            self._choose(candidate=number)
            self.show_contours()
        self._begin(Edit(number, draft.tracking_uid, continues_draft=True))
        strokes = draft.changed if draft.changed is not None else np.zeros(0, bool)
        voxels = np.argwhere(strokes if strokes.any() else draft.drawn)
        if len(voxels) and state.overlays is not None:
            distances = np.abs(voxels - voxels.mean(axis=0)).sum(axis=1)
            central_mm = state.overlays.grid.to_mm(voxels[distances.argmin()])
            self.happened.emit(PositionVisited(as_vec3(central_mm)))

    # --- tools ----------------------------------------------------------------------------

    def choose_tools(self, **changes: Any) -> None:
        """Change the tools."""
        tools = replace(self._state.tools, **changes)
        if tools != self._state.tools and self._state.editing is not None:
            self._set(tools=tools)

    def set_excluding(self, *, excluding: bool) -> None:
        """Let prompts exclude or include until the outline is done, even before it is begun."""
        self._set(tools=replace(self._state.tools, excluding=excluding))

    def choose_range(self, low: float, high: float) -> None:
        """Limit the brush to a range of values."""
        self.choose_tools(low=min(low, high), high=max(low, high))

    def choose_limit(self, limit: Limit) -> None:
        """Limit the brush to a range, initially that of the drawn voxels, or remove the limit."""
        state, overlays = self._state, self._state.overlays
        if state.analysis is None or overlays is None or state.editing is None:
            return
        probability = state.probability
        tools = replace(state.tools, limit=limit, sequence=None)
        volume = state.analysis.volumes.probability.get(Region.WT)
        if limit is Limit.PROBABILITY:
            if volume is None:
                self.decline(_NO_PROBABILITY)
                return
            if probability is None:
                data = np.asarray(volume.data, np.float32)
                probability = frozen(onto(data, volume.grid, overlays.grid))
            tools = replace(tools, low=0.1, high=1.0)
        sequence = state.choices.sequence
        if limit is Limit.INTENSITY and sequence is not None:
            drawn = (overlays.components == state.editing) & (overlays.components > 0)
            low, high = default_range(overlays.images[sequence], drawn)
            tools = replace(tools, low=low, high=high, sequence=sequence)
        self._set(tools=tools, probability=probability)


NO_EDIT: dict[str, Any] = {"edit": None, "draft": None, "tools": Tools()}
"""Fields of the state after an edit."""
