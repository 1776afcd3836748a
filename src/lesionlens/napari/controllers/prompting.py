"""Prompts: foreground and background points, scribbles, boxes and lassos on an outline.

Prompts are processed in order in a thread. Each is one stroke of the outline, which can be undone;
other candidates and air never change.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from lesionlens.analysis.findings.prompt_response import (
    predicted_parts,
    prompt_request,
    redrawn,
    region_of,
    valid_prompts,
)
from lesionlens.base.errors import LesionLensError, UnusableInputError
from lesionlens.base.labels import Region, Source
from lesionlens.base.records.prompts import Points, PromptRound
from lesionlens.base.run_context import RunContext
from lesionlens.engines.prompt_rules import components_at
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.model.acts.editing import OUTLINE
from lesionlens.napari.model.choices.gestures import Gesture
from lesionlens.napari.model.choices.prompted import voxels_of
from lesionlens.napari.model.choices.tools import DRAWN_CAVITY
from lesionlens.napari.model.state.state import Notice, State
from lesionlens.napari.model.wording.edits import why_not_added
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.napari.qt.latest_request import LatestRequest, RequestKey

_CONTRADICTION = "This contradicts an earlier prompt here: the last one counts."
_FIRST = "Preparing the first prompt: later ones are answered immediately."
_HELP = (
    "Click: include; with Alt: exclude (F5 switches). Drag: scribble; with Shift: box; with Ctrl: "
    "lasso. Enter: done."
)
_HELP_EXCLUDING = "Click: exclude; with Alt: include (F5 switches). Drag: scribble. Enter: done."
_SWITCHED = ("Prompts include again.", "Prompts exclude now: hold F2 and point.")
_NOTHING = "Nothing changed: the outline already agrees with this prompt."
_BY_HAND = (
    "Nothing changed: what you painted or erased, even with a tool, is kept. Point inside it, or "
    "use the brush there."
)
_OTHER_CANDIDATE = (
    "Candidate {} also lies there and is unchanged. To join them: Enter, then merge (Shift+K)."
)
_ONLY_PROMPTED = (
    "Only the point itself was added: no similar tissue around it. Scribble or paint more."
)
_NEW_BESIDE = (
    "This is a new candidate, separate from {0}. To correct {0} instead: discard this, go to it, "
    "then Edit (Shift+E)."
)
_NO_VOXELS = np.zeros((0, 3), np.int64)
_NEIGHBOUR_VOX = 5


class _QueuedGesture(NamedTuple):
    gesture: Gesture
    region: Region | None
    paint: int


class _Answer(NamedTuple):
    """The response to a prompt, applied to the labels of the outline."""

    prompt: PromptRound
    """Its record, with the networks that answered it."""
    labels: NDArray[np.uint8]
    """Changed labels; strokes are kept."""
    unprotected: NDArray[np.uint8]
    """What the labels would be if strokes were not kept."""


class Prompting:
    """Processes the prompts of one session.

    The view on which the pointer draws begins the stroke. It ends with the release of the button,
    which adds its gesture, or is dropped.

    Parameters
    ----------
    review_controller : ReviewController
        Begins and stores outlines; its editor draws them.
    latest_request : LatestRequest
        Answers prompts in a thread, and nothing else, so that none waits for another request.
    """

    stroke_ended = Signal()
    """The stroke being drawn ended or was dropped."""

    def __init__(self, review_controller: ReviewController, latest_request: LatestRequest) -> None:
        self.is_drawing = False
        """Whether the pointer draws a stroke."""
        self.session, self.latest_request = review_controller.session, latest_request
        self.review_controller = review_controller
        self.active = False
        self._queue: list[_QueuedGesture] = []
        self._just_begun = False
        self._outline_number = 0
        """Number of the outline being drawn: none takes the answer to a prompt of another one."""
        self._answering_outline: int | None = None
        """Outline of the prompt that is being answered."""
        self._prepared_result: weakref.ref[Any] | None = None
        """The result that answered the last prompt: the next one needs no preparation."""
        review_controller.answering = lambda: (
            bool(self._queue) or self._answering_outline == self._outline_number
        )
        self.session.changed.connect(self._on_changed)
        self._began_s = 0.0
        self._earlier_s: float | None = None
        """When the edit of the outline began, monotonic s, and the seconds of an earlier session
        that it continues; None before its first prompt."""
        self._neighbour = 0

    def set_active(self, *, held: bool) -> None:
        """Use the pointer for prompts while the key is held."""
        obstacle = why_not_added(self.session.state)
        self.active = held and not obstacle
        if self.active:
            self._show_help()
        elif held:
            self.session.decline(f"{obstacle}.")
        elif self.session.state.notice is Notice.HELP:
            self.session.notify("")
        self.session.choose_tools(prompting=self.active)

    @property
    def excluding(self) -> bool:
        """Whether prompts exclude unless Alt is held."""
        return self.session.state.tools.excluding

    def toggle_excluding(self) -> None:
        """Let prompts exclude instead of include, or include again."""
        self.session.set_excluding(excluding=not self.excluding)
        if self.active:
            self._show_help()
        else:
            self.session.notify(_SWITCHED[self.excluding])

    def _show_help(self) -> None:
        self.session.notify(_HELP_EXCLUDING if self.excluding else _HELP, Notice.HELP)

    def begin_stroke(self) -> None:
        """Begin a stroke, and drop another one whose release was missed."""
        self.end_stroke()
        self.is_drawing = True

    def end_stroke(self) -> None:
        """End the stroke being drawn; unless its gesture is added, it is dropped."""
        if self.is_drawing:
            self.is_drawing = False
            self.stroke_ended.emit()

    def add_gesture(self, gesture: Gesture) -> None:
        """Queue a gesture."""
        self.session.notify("")
        if self.review_controller.notify_if_measuring():
            return
        if self.session.state.editing is None and not self._begin(gesture):
            return
        region = self._region()
        label = self.review_controller.editor.prompt_label(region)
        self._queue.append(_QueuedGesture(gesture, region, int(label)))
        self._next()

    def _begin(self, gesture: Gesture) -> bool:
        """Begin to redraw the candidate at a gesture, else a new one."""
        overlays = self.session.state.overlays
        obstacle = why_not_added(self.session.state)
        if overlays is None or obstacle:
            return self.session.decline(f"{obstacle or 'Analyse the study first'}.")
        try:
            voxels = self._voxels(gesture)[0 if gesture.foreground else 1]
        except LesionLensError as error:
            self._show_refusal(error)
            return False
        components = overlays.components[tuple(voxels.T)]
        candidate_id = int(next(iter(components[components > 0]), 0))
        if candidate_id == 0 and not gesture.foreground:
            return self.session.decline("Include something first: there is no outline here.")
        if candidate_id:
            if not self.session.focus_candidate(candidate_id):  # the views stay where it points
                return False
            self.session.begin_edit()
        else:
            neighbour = self._neighbouring_candidate(gesture)
            self.session.begin_new()
            self._neighbour = neighbour
        self.session.choose_tools(prompting=self.active)
        self._just_begun = self.session.state.editing is not None
        return self._just_begun

    def _next(self) -> None:
        if self._answering_outline is not None or not self._queue:
            return
        queued, editor = self._queue.pop(0), self.review_controller.editor
        edited, result = editor.drawn(), self.session.state.result
        analysis = self.session.state.analysis
        if edited is None or result is None or analysis is None:
            self._queue.clear()
            return
        try:
            earlier = tuple(self.review_controller.editor.rounds)
            prompt = self._prompt_round(queued, edited.current)
        except LesionLensError as refusal:
            self._show_refusal(refusal)
            self._next()
            return
        labels, allowed, outline = edited.current, editor.allowed, self._outline_number
        protected = self._protected_strokes(queued, labels)

        def task(context: RunContext) -> _Answer:
            response = result.answer_prompts(prompt_request(labels, [*earlier, prompt]))
            changed = redrawn(
                labels, response, prompt, allowed, predicted_parts(analysis, response)
            )
            return _Answer(
                replace(prompt, made_by=response.made_by),
                np.where(protected, labels, changed),
                changed,
            )

        def on_result(answer: _Answer) -> None:
            self._answering_outline = None
            self._prepared_result = weakref.ref(result)
            if outline == self._outline_number:
                self._draw(queued.gesture, labels, answer)
            self._proceed()

        def on_error(error: BaseException) -> None:
            self._answering_outline = None
            if outline == self._outline_number:
                self._show_refusal(error)
            self._proceed()

        self._answering_outline = outline
        if self._prepared_result is None or self._prepared_result() is not result:
            self.session.notify(_FIRST, Notice.PREPARING)
        self.latest_request.submit(
            RequestKey("prompt", time.monotonic()), task, on_result, on_error
        )

    def _proceed(self) -> None:
        """Answer the next prompt; after the last, go where the reader wanted to go meanwhile."""
        self._next()
        controller = self.review_controller
        if not controller.holds_focus:
            controller.make_moves(controller.take_pending_moves())

    def _draw(self, gesture: Gesture, before: NDArray[np.uint8], answer: _Answer) -> None:
        """Draw the answer to a prompt; voxels that strokes changed since `before` are kept too."""
        self._just_begun = False
        editor = self.review_controller.editor
        edited = editor.drawn()
        current = before if edited is None else edited.current
        labels = np.where(current == before, answer.labels, current)
        self.session.clear_problem(OUTLINE)
        if editor.change(labels, answer.prompt):
            self._notify_effect(gesture, before, answer.labels)
        else:
            agrees = np.array_equal(answer.unprotected, current)
            self.session.decline(_NOTHING if agrees else _BY_HAND)

    def _on_changed(self, old: State, new: State) -> None:
        """Drop the prompts of an outline, or on a view, that is no longer drawn."""
        if _view(old) != _view(new):
            self.end_stroke()
        if new.edited_uid != old.edited_uid:
            self._queue.clear()
            if not self.review_controller.busy:
                self.review_controller.take_pending_moves()
            self._outline_number += 1
            self._just_begun, self._neighbour = False, 0
            self._began_s, self._earlier_s = time.monotonic(), None

    def _notify_effect(
        self, gesture: Gesture, before: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> None:
        """Notify if a foreground prompt had little effect; otherwise clear the first message.

        That is: it lies on another candidate, or only its own voxels were added. A candidate begun
        beside another one is pointed out, as that one may have been meant.
        """
        state = self.session.state
        overlays, is_ended = state.overlays, state.notice in (Notice.PREPARING, Notice.BUSY)
        message = "" if is_ended else state.message
        if self._neighbour:
            message, self._neighbour = _NEW_BESIDE.format(self._neighbour), 0
        prompted = tuple(self._voxels(gesture)[0].T)
        if overlays is not None and gesture.foreground:
            others = set(overlays.components[prompted].tolist()) - {0, self.session.state.editing}
            added = (labels > 0) & (before == 0)
            only_prompted = not others and added.any() and added.sum() == added[prompted].sum()
            message = _ONLY_PROMPTED if only_prompted else message
            message = _OTHER_CANDIDATE.format(min(others)) if others else message
        self.session.notify(message)

    def _show_refusal(self, error: BaseException) -> None:
        edited = self.review_controller.editor.drawn()
        if self._just_begun and edited is not None and not edited.are_changed:
            self.session.end_edit()
        self._just_begun = False
        self.review_controller.take_pending_moves()  # the reader must see the refusal
        if self.session.state.notice in (Notice.PREPARING, Notice.BUSY):
            self.session.notify("")
        self.session.refused(problem_of(error, OUTLINE))

    def _protected_strokes(
        self, queued: _QueuedGesture, labels: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Return what strokes painted or erased, except where the gesture says the opposite."""
        by_hand = self.review_controller.editor.by_hand
        inside = region_of(labels, queued.region)
        for voxels, opposite in zip(self._voxels(queued.gesture), (~inside, inside), strict=True):
            strokes = by_hand & opposite
            if strokes[tuple(voxels.T)].any():
                by_hand &= ~components_at(strokes, voxels)
            by_hand[tuple(voxels.T)] = False
        return by_hand

    def _prompt_round(self, queued: _QueuedGesture, labels: NDArray[np.uint8]) -> PromptRound:
        """Return the record of a gesture; notify if it contradicts an earlier one."""
        editor = self.review_controller.editor
        foreground, background = self._voxels(queued.gesture)
        voxels = foreground if len(foreground) else background
        if not editor.allowed[tuple(voxels.T)].any():
            raise UnusableInputError(
                "The prompt is on air, in the resection cavity or on another candidate.",
                hint="Point elsewhere, or redraw or merge that candidate.",
            )
        before = editor.rounds[-1] if editor.rounds else None
        if self._earlier_s is None:
            self._earlier_s = before.seconds if before else 0.0
        prompt = PromptRound(
            queued.gesture.kind,
            foreground=tuple((i, j, k) for i, j, k in foreground.tolist()),
            background=tuple((i, j, k) for i, j, k in background.tolist()),
            region=queued.region,
            paint=queued.paint,
            seconds=round(self._earlier_s + time.monotonic() - self._began_s, 1),
        )
        held = valid_prompts(editor.rounds, labels, queued.region)
        now = valid_prompts(editor.rounds, labels, queued.region, prompt)
        if any(set(old) - set(new) for old, new in zip(held, now, strict=True)):
            self.session.notify(_CONTRADICTION)
        return prompt

    def _neighbouring_candidate(self, gesture: Gesture) -> int:
        """Return the listed candidate within `_NEIGHBOUR_VOX` of where a gesture begins, or 0."""
        overlays = self.session.state.overlays
        if overlays is None:
            return 0
        listed = set(self.session.state.listed_ids)
        voxel = overlays.grid.nearest_voxel(gesture.path_mm[0])
        box = tuple(
            slice(max(0, i - _NEIGHBOUR_VOX), max(0, i + _NEIGHBOUR_VOX + 1)) for i in voxel
        )
        return max(set(overlays.components[box].ravel().tolist()) & listed, default=0)

    def _region(self) -> Region | None:
        """Return the region of the prompts; None if they mean the object that they point at.

        It is the shown one in a candidate that was flagged, elsewhere only if it is a part.
        """
        region, candidate = self.session.state.choices.region, self.session.state.edited
        if self.session.state.editing == DRAWN_CAVITY:
            return None
        flagged = candidate is not None and candidate.source is not Source.READER
        return region if flagged or region is not Region.WT else None

    def _voxels(self, gesture: Gesture) -> tuple[Points, Points]:
        """Return the foreground and background voxels of a gesture on the working grid."""
        overlays = self.session.state.overlays
        foreground, background = (
            (_NO_VOXELS, _NO_VOXELS) if overlays is None else voxels_of(gesture, overlays.grid)
        )
        if not len(foreground if gesture.foreground else background):
            raise UnusableInputError(
                "The prompt is outside the images.", hint="Point inside the brain."
            )
        return foreground, background


def _view(state: State) -> tuple[object, ...]:
    """Return what strokes are drawn on; a study is compared by identity."""
    return id(state.study), state.choices.plane, state.choices.views.layout
