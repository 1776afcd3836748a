"""Prompts: foreground and background points, scribbles, boxes and lassos on an outline.

Prompts are processed in order in a thread. Each is one stroke of the outline, which can be undone;
other candidates and air never change.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.prompt_response import (
    parts_in,
    prompts_that_hold,
    question_of,
    redrawn,
    region_of,
)
from lesionlens.base.errors import LesionLensError
from lesionlens.base.labels import Region, Source
from lesionlens.base.records.prompts import Points, PromptRound, Voxel
from lesionlens.base.run_context import RunContext
from lesionlens.engines.prompting.rules import part_of, refused
from lesionlens.napari.controllers.review_controller import ANSWERED, ReviewController
from lesionlens.napari.model.acts.editing import OUTLINE
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.gestures import Gesture
from lesionlens.napari.model.choices.prompted import voxels_of
from lesionlens.napari.model.choices.tools import DRAWN_CAVITY
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording.edits import why_not_added
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.napari.qt.latest_request import LatestRequest

_BOTH = "This contradicts an earlier prompt here: the last one counts."
_FIRST = "Preparing the first prompt: the next ones are answered at once."
_HOLD = (
    "Click: include; with Alt: exclude (F5 switches). Drag: scribble; with Shift: box; with Ctrl: "
    "lasso. Enter: done."
)
_HOLD_EXCLUDING = "Click: exclude; with Alt: include (F5 switches). Drag: scribble. Enter: done."
_SWITCHED = ("Prompts include again.", "Prompts exclude now: hold F2 and point.")
_NOTHING = "This changes nothing: the outline agrees already."
_BY_HAND = (
    "This changes nothing: what you painted or erased stays. Point into it, or use the brush there."
)
_STAYS = (
    "Candidate {} lies there too and stays as it is. To join them: Enter, then *merge* (Shift+K)."
)
_ALONE = "Only the place itself was added: nothing around it looks alike. Scribble or paint more."
_BESIDE = (
    "This is a new candidate, beside {0}. To correct {0} instead: *discard*, go to it, then Edit "
    "(Shift+E)."
)
_NEAR_VOX = 1
_NO_VOXELS = np.zeros((0, 3), np.int64)
_BESIDE_VOX = 5


class _Pointed(NamedTuple):
    gesture: Gesture
    region: Region | None
    paint: int


class Prompting:
    """Processes the prompts of one session.

    Parameters
    ----------
    review_controller : ReviewController
        Begins and stores outlines; its editor draws them.
    questions : LatestRequest
        Answers prompts in a thread, and nothing else: it drops all but the latest request.
    """

    def __init__(
        self,
        session: ReviewSession,
        review_controller: ReviewController,
        questions: LatestRequest,
    ) -> None:
        self.session, self.questions = session, questions
        self.review_controller = review_controller
        self.held = False
        self._waiting: list[_Pointed] = []
        self._opened = False
        self._outline = 0
        """Number of the outline being drawn: none takes the answer to a prompt of another one."""
        self._asked: int | None = None
        """Outline of the prompt that is being answered."""
        review_controller.answering = lambda: bool(self._waiting) or self._asked == self._outline
        session.changed.connect(self._on_changed)
        self._begun = ("", 0.0)
        self._beside = 0

    def hold(self, held: bool) -> None:
        """Use the pointer for prompts while the key is held."""
        self.held = held and not why_not_added(self.session.state)
        if held and not self.held:
            self.session.decline(f"{why_not_added(self.session.state)}.")
        elif held or self.session.state.message in (_HOLD, _HOLD_EXCLUDING):
            self._tell_how() if held else self.session.notify("")
        self.session.choose_tools(prompting=self.held)

    @property
    def excluding(self) -> bool:
        """Whether prompts exclude unless Alt is held."""
        return self.session.state.tools.excluding

    def switch(self) -> None:
        """Let prompts exclude instead of include, or include again."""
        self.session.let_exclude(not self.excluding)
        if self.held:
            self._tell_how()
        else:
            self.session.notify(_SWITCHED[self.excluding])

    def _tell_how(self) -> None:
        self.session.notify(_HOLD_EXCLUDING if self.excluding else _HOLD)

    def take(self, gesture: Gesture) -> None:
        """Queue a gesture."""
        self.session.notify("")
        if self.review_controller.measuring():
            return
        if self.session.state.editing is None and not self._begin(gesture):
            return
        region = self._region()
        label = self.review_controller.editor.prompt_label(region)
        self._waiting.append(_Pointed(gesture, region, int(label)))
        self._next()

    def _begin(self, gesture: Gesture) -> bool:
        """Begin to redraw the candidate at a gesture, else a new one."""
        overlays = self.session.state.overlays
        if overlays is None or why_not_added(self.session.state):
            why = why_not_added(self.session.state) or "Analyse the study first"
            self.session.decline(f"{why}.")
            return False
        try:
            marked = self._voxels(gesture)[0 if gesture.belongs else 1]
        except LesionLensError as refusal:
            self._show_refusal(refusal)
            return False
        under = overlays.components[tuple(marked.T)]
        there = int(next(iter(under[under > 0]), 0))
        if there == 0 and not gesture.belongs:
            self.session.decline("Include something first: there is no outline here.")
            return False
        if there:
            if not self.session.go_to(there):
                return False
            self.session.begin_edit()
        else:
            beside = self._candidate_beside(gesture)
            self.session.begin_new()
            self._beside = beside
        self.session.choose_tools(prompting=self.held)
        self._opened = self.session.state.editing is not None
        return self._opened

    def _next(self) -> None:
        if self._asked is not None or not self._waiting:
            return
        pointed, editor = self._waiting.pop(0), self.review_controller.editor
        sides, result = editor.drawn(), self.session.result
        analysis = self.session.state.analysis
        if sides is None or result is None or analysis is None:
            self._waiting.clear()
            return
        try:
            asked = self._round(pointed, sides[1])
        except LesionLensError as refusal:
            self._show_refusal(refusal)
            self._next()
            return
        labels, free, outline = sides[1], editor.allowed, self._outline
        stays = self._stays(pointed, labels)

        def task(context: RunContext) -> Any:  # noqa: ARG001
            found = result.answer_prompts(question_of(labels, asked))
            changed = redrawn(labels, found, asked, free, parts_in(analysis, found))
            return replace(asked, made_by=found.made_by), np.where(stays, labels, changed), changed

        def done(answered: Any) -> None:
            self._asked = None
            if outline == self._outline:
                self._draw(pointed.gesture, answered[0], labels, *answered[1:])
            self._next()

        def refused(error: BaseException) -> None:
            self._asked = None
            if outline == self._outline:
                self._show_refusal(error)
            self._next()

        self._asked = outline
        if not editor.rounds:
            self.session.notify(_FIRST)
        self.questions.ask((id(result), "prompt", time.monotonic()), task, done, refused)

    def _draw(
        self,
        gesture: Gesture,
        asked: PromptRound,
        before: NDArray[np.uint8],
        changed: NDArray[np.uint8],
        answer: NDArray[np.uint8],
    ) -> None:
        """Draw the answer to a prompt without what strokes keep, also those made since."""
        self._opened = False
        editor = self.review_controller.editor
        sides = editor.drawn()
        now = before if sides is None else sides[1]
        if editor.change(np.where(now == before, changed, now), asked):
            self.session.clear_problem(OUTLINE)
            self._tell(gesture, before, changed)
        else:
            self.session.decline(_NOTHING if np.array_equal(answer, now) else _BY_HAND)

    def _on_changed(self, old: State, new: State) -> None:
        """Drop the prompts of an outline that is no longer drawn."""
        if new.edited_uid != old.edited_uid:
            self._waiting.clear()
            self._outline += 1
            self._opened, self._beside = False, 0

    def _tell(self, gesture: Gesture, before: NDArray[np.uint8], now: NDArray[np.uint8]) -> None:
        """Notify if a foreground prompt had little effect; otherwise clear the first message.

        That is: it lies on another candidate, or only its own voxels were added. A candidate begun
        beside another one is pointed out, as that one may have been meant.
        """
        overlays, message = self.session.state.overlays, self.session.state.message
        if self._beside:
            message, self._beside = _BESIDE.format(self._beside), 0
        there = tuple(self._voxels(gesture)[0].T)
        if overlays is not None and gesture.belongs:
            others = set(overlays.components[there].tolist()) - {0, self.session.state.editing}
            added = (now > 0) & (before == 0)
            alone = not others and added.any() and added.sum() == added[there].sum()
            message = _ALONE if alone else message
            message = _STAYS.format(min(others)) if others else message
        self.session.notify("" if message in (_FIRST, ANSWERED) else message)

    def _show_refusal(self, error: BaseException) -> None:
        sides = self.review_controller.editor.drawn()
        if self._opened and sides is not None and not (sides[0] != sides[1]).any():
            self.session.end_edit()
        self._opened = False
        self.session.refused(replace(problem_of(error), cause=OUTLINE))

    def _stays(self, pointed: _Pointed, labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return what strokes painted or erased, except where the gesture says the opposite."""
        by_hand = self.review_controller.editor.by_hand
        inside = region_of(labels, pointed.region)
        for marked, wrong in zip(self._voxels(pointed.gesture), (~inside, inside), strict=True):
            part = by_hand & wrong
            if part[tuple(marked.T)].any():
                by_hand &= ~part_of(part, marked)
            by_hand[tuple(marked.T)] = False
        return by_hand

    def _round(self, pointed: _Pointed, labels: NDArray[np.uint8]) -> PromptRound:
        """Return the record of a gesture, with the earlier prompts that it does not contradict."""
        editor = self.review_controller.editor
        wanted, unwanted = self._voxels(pointed.gesture)
        marked = wanted if len(wanted) else unwanted
        if not editor.allowed[tuple(marked.T)].any():
            raise refused(
                "a prompt on air, in the resection cavity or on another candidate",
                "a place that nothing else holds",
                "What lies there is not changed: redraw or merge that one",
            )
        before = editor.rounds[-1] if editor.rounds else None
        sides = prompts_that_hold(editor.rounds, labels, pointed.region)
        new = [wanted, unwanted]
        kept: list[tuple[Voxel, ...]] = []
        for old, added, opposite in zip(sides, new, reversed(new), strict=True):
            left = [at for at in old if not _is_near(at, opposite)]
            if len(left) < len(old):
                self.session.notify(_BOTH)
            every = [*left, *((i, j, k) for i, j, k in added.tolist())]
            kept.append(tuple(dict.fromkeys(every)))
        uid, seconds = self.session.state.edited_uid, before.seconds if before else 0.0
        if before is None or self._begun[0] != uid:  # strokes of an earlier session are continued
            self._begun = uid, time.monotonic() - seconds
        return PromptRound(
            pointed.gesture.kind, kept[0], kept[1], pointed.region, pointed.paint,
            round(time.monotonic() - self._begun[1], 1),
        )  # fmt: skip

    def _candidate_beside(self, gesture: Gesture) -> int:
        """Return the listed candidate within `_BESIDE_VOX` of where a gesture begins, or 0."""
        overlays = self.session.state.overlays
        if overlays is None:
            return 0
        listed = {one.id for one in self.session.listed()}
        at = overlays.grid.nearest_voxel(gesture.path_mm[0])
        box = tuple(slice(max(0, i - _BESIDE_VOX), max(0, i + _BESIDE_VOX + 1)) for i in at)
        return max(set(overlays.components[box].ravel().tolist()) & listed, default=0)

    def _region(self) -> Region | None:
        """Return the region of the prompts: the shown one for a network's candidate, else None."""
        shown, candidate = self.session.state.choices.region, self.session.edited()
        if self.session.state.editing == DRAWN_CAVITY:
            return None
        flagged = candidate is not None and candidate.source is not Source.READER
        return shown if flagged or shown is not Region.WT else None

    def _voxels(self, gesture: Gesture) -> tuple[Points, Points]:
        """Return the foreground and background voxels of a gesture on the working grid."""
        overlays = self.session.state.overlays
        foreground, background = (
            (_NO_VOXELS, _NO_VOXELS) if overlays is None else voxels_of(gesture, overlays.grid)
        )
        if not len(foreground if gesture.belongs else background):
            raise refused("a prompt outside the images", "a place in the brain")
        return foreground, background


def _is_near(voxel: Voxel, others: Any) -> bool:
    return bool(len(others)) and bool((np.abs(others - voxel).max(1) <= _NEAR_VOX).any())
