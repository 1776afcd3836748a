"""All acts on the open study and the display choices, without Qt and napari.

The session holds the window's frozen `State`; every act replaces it and emits
`StateHolder.changed`. What is painted is computed from the state by `view_model.view_model_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import REFERENCE_ORDER, Region, ReviewAct, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point, PreliminaryFindings
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.base.records.study import Study
from lesionlens.napari.model.acts.choosing import Choosing
from lesionlens.napari.model.acts.editing import NO_EDIT, OUTLINE
from lesionlens.napari.model.choices.choices import Choices
from lesionlens.napari.model.overlays.maps import Overlays
from lesionlens.napari.model.overlays.redraw import redrawn, reviewed
from lesionlens.napari.model.screen.board import opening
from lesionlens.napari.model.state.events import PositionVisited
from lesionlens.napari.model.state.identity import UNKNOWN_IDENTITY, StudyIdentity, identity_of
from lesionlens.napari.model.state.state import (
    Activity,
    Problem,
    Query,
    Request,
    State,
    without_preliminary,
)
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.outline_digests import cached_outline_digests

if TYPE_CHECKING:
    from lesionlens.results.result import Result

QUESTION, SAVING, OPENING = "question", "saving", "opening"
"""Causes of failures that are cleared by the next success."""
_UNLISTED = "Candidate {} is below the threshold and not listed: lower the threshold to go there."


class ReviewSession(Choosing):
    """The state of one window and every act on it; an act without effect emits nothing.

    Parameters
    ----------
    reader : str or None
        Name of the reader, stored in every event.
    defaults : Choices
        Choices for a newly opened study (from the preferences).
    """

    def __init__(self, *, reader: str | None = None, defaults: Choices | None = None) -> None:
        self.reader, self.defaults = reader, defaults or Choices()
        self._suspended: State | None = None
        super().__init__(self.defaults)

    # --- study and analysis ---------------------------------------------------------------

    def open(
        self, study: Study, request: Request | None = None, listed: StudyIdentity = UNKNOWN_IDENTITY
    ) -> None:
        """Open a study without an analysis, with the overlay off.

        `listed` is its identity in a worklist, which a study opened again keeps.
        """
        suspended, self._suspended = self._suspended, None
        if study is self._state.study:
            return
        replaced_study = None if request is None else request.in_place_of
        if suspended is not None and replaced_study is suspended.study is not None:
            listed = suspended.identity
        first = next((s for s in REFERENCE_ORDER if s in study.series), None)
        self._replace(
            State(
                study=study,
                identity=identity_of(study, listed),
                choices=opening(study, first, self.defaults),
                request=request,
                activity=self._state.activity,
            )
        )

    def preliminary_arrived(self, preliminary: PreliminaryFindings) -> None:
        """Show preliminary candidates until the running analysis is finished."""
        if self._state.activity is not None and self._state.analysis is None:
            self._set(preliminary=preliminary)

    def analysed(self, result: Result, overlays: Overlays, review: Review | None = None) -> None:
        """Show a result (`.analysis`, `.trace`, `.engine`) with its review, or another one."""
        review = result.analysis.review if review is None else review
        analysis = applied(replace(result.analysis, review=review))
        if analysis.original is not None or result.analysis.original is not None:
            overlays = redrawn(overlays, analysis)
        same_study = analysis.study is self._state.study
        choices = self._state.choices if same_study else self.defaults
        self._set(
            study=analysis.study,
            identity=self._state.identity if same_study else identity_of(analysis.study),
            result=result,
            analysis=analysis,
            log=ReviewLog(review, cached_outline_digests(analysis)),
            overlays=overlays,
            choices=replace(
                choices,
                sequence=(choices.sequence if same_study else None) or analysis.prepared.reference,
                region=choices.region if choices.region in analysis.prepared.regions else Region.WT,
                candidate=None,
                evidence=None,
                threshold=max(self._chosen_threshold(choices), analysis.run.engine.floor),
            ),
            problem=None,
            message="",
            request=self._state.request if same_study else None,
            probability=None,
            **NO_EDIT,
        )

    def _chosen_threshold(self, choices: Choices) -> float:
        """Return the threshold that the reader chose; 0 if it is the lowest of the engine."""
        shown = self._state.analysis
        floor = 0.0 if shown is None else shown.run.engine.floor
        return choices.threshold if choices.threshold > floor else 0.0

    def close(self) -> None:
        """Return to the empty state."""
        self._suspended = None
        self._replace(State(choices=self.defaults))

    def suspend(self) -> None:
        """Set the open study aside while another one is opened, so that no act reaches it."""
        if self._state.study is not None:
            choices = self._state.choices
            views = replace(choices.views, swapped=False, dragged=None)
            choices = replace(choices, hidden=False, views=views)  # a key or button is released
            self._suspended = replace(self._state, choices=choices)
            self._replace(State(choices=self.defaults, activity=self._state.activity))

    @property
    def suspended_study(self) -> Study | None:
        """The study set aside, which is restored if no other is opened."""
        return None if self._suspended is None else self._suspended.study

    def restore_suspended(self) -> None:
        """Restore the study that was set aside, unless another one was opened."""
        suspended, self._suspended = self._suspended, None
        if suspended is None or self._state.study is not None:
            return
        names = ("activity", "problem", "message", "notice", "declined")
        retained = {name: getattr(self._state, name) for name in names}
        self._replace(replace(suspended, **retained))

    # --- what runs, what failed -----------------------------------------------------------

    @override
    def begin(self, name: str) -> None:
        """Report that a job runs; a pending query is closed."""
        self._set(activity=Activity(name), problem=None, message="", query=None)

    @override
    def ended(self, message: str = "") -> None:
        """Report that the job has ended."""
        self._set(activity=None, message=message, **self._preliminary_removed())

    @override
    def failed(self, problem: Problem) -> None:
        """Report a failure instead of the last message; study, analysis and review are kept."""
        self._set(activity=None, problem=problem, message="", **self._preliminary_removed())

    def _preliminary_removed(self) -> dict[str, Any]:
        return without_preliminary(self._state, self.defaults.overlay)

    def ask(self, query: Query, problem: Problem | None = None) -> None:
        """Report a decision needed to open a study; the open study is kept."""
        self._set(activity=None, query=query, problem=problem)

    def dismiss(self) -> None:
        """Hide the failure or query, and restore a study that was set aside."""
        self._set(problem=None, query=None)
        if self._state.activity is None:
            self.restore_suspended()

    # --- choices --------------------------------------------------------------------------

    def go_to_candidate(self, candidate_id: int) -> bool:
        """Focus a candidate, and move the views to it; False as for `focus_candidate`."""
        is_listed = self.focus_candidate(candidate_id)
        if is_listed:
            self._visit(candidate_id)
        return is_listed

    def focus_candidate(self, candidate_id: int) -> bool:
        """Focus a candidate; its contour is shown unless the reader switched the overlay off.

        Returns
        -------
        bool
            False if it is not listed, with a message if it is below the threshold.
        """
        if candidate_id not in self._state.listed_ids:
            if any(c.id == candidate_id for c in self._state.candidates):
                self.decline(_UNLISTED.format(candidate_id))
            return False
        self._choose(candidate=candidate_id)
        self.show_contours()
        self.clear_candidate_problems()
        return True

    def _visit(self, candidate_id: int) -> None:
        """Move the views to a final or preliminary candidate."""
        shown = self._state.shown_candidates
        candidate = next((c for c in shown if c.id == candidate_id), None)
        if candidate is not None:
            self.happened.emit(PositionVisited(candidate.centroid_mm, candidate.bounding_box_mm))

    def clear_candidate_problems(self) -> None:
        """Clear problems of the previous candidate."""
        for cause in (QUESTION, OUTLINE, OPENING):
            self.clear_problem(cause)

    def step(self, by: int) -> None:
        """Go forward or back by a number of candidates, cyclically."""
        ids = self._state.listed_ids
        if ids:
            current, edge = self._state.choices.candidate, 0 if by > 0 else -1
            index = (ids.index(current) + by) % len(ids) if current in ids else edge
            self.go_to_candidate(ids[index])

    def evidence_arrived(self, overlays: Overlays) -> None:
        """Show overlays that contain the contribution of a sequence."""
        self._set(overlays=overlays)

    def show_marks(self, marks: tuple[Point, ...]) -> None:
        """Show the reader's marks (RAS+ mm)."""
        if marks != self._state.marks:
            self._set(marks=marks)

    # --- review ---------------------------------------------------------------------------

    def type_reason(self, reason: str) -> None:
        """Keep the typed reason of the candidate in focus until it is decided."""
        candidate = self._state.focused
        if candidate is not None and reason != self._state.reason_of(candidate.tracking_uid):
            self._set(typed={**self._state.typed, candidate.tracking_uid: reason})

    def reason_for(self, candidate: Candidate, state: ReviewState) -> str | None:
        """Return the reason of a decision: the one typed for this candidate.

        If none was typed, the reason of the same decision or of the redrawn outline is kept, or a
        reason that was entered just before this decision. A redrawn outline appends its reason to
        the previous one.
        """
        last = self._state.review.of(candidate.tracking_uid)
        typed = self._state.typed.get(candidate.tracking_uid)
        last_state, last_reason = (None, "") if last is None else (last.state, last.reason or "")
        redraws = state is ReviewState.EDITED
        if typed is None:
            keeps_reason = redraws or last_state in (state, ReviewState.EDITED)
            return last_reason or None if keeps_reason or self._only_reason_changed(last) else None
        typed = typed.strip()
        if redraws and last_state is not ReviewState.EDITED and typed and last_reason not in typed:
            typed = f"{last_reason}; {typed}"
        return typed or None

    def reason_with(self, candidate: Candidate, text: str) -> str:
        """Return the reason of a changed outline: `text` appended to the previous one."""
        previous = self.reason_for(candidate, ReviewState.EDITED)
        return f"{previous}; {text}" if previous else text

    def _only_reason_changed(self, last: ReviewEvent | None) -> bool:
        """Whether the last act changed nothing but the reason of a decision."""
        events = self._state.review.events
        if last is None or last is not events[-1]:
            return False
        earlier = (e for e in reversed(events[:-1]) if e.tracking_uid == last.tracking_uid)
        previous = next(earlier, None)
        if previous is None or last.act is not ReviewAct.DECIDE:
            return False
        unchanged = (previous.state, previous.outline) == (last.state, last.outline)
        return unchanged and previous.reason != last.reason

    def decide(self, state: ReviewState) -> Candidate | None:
        """Record a decision on the candidate in focus; return that candidate."""
        candidate, analysis = self._state.focused, self._state.analysis
        if candidate is not None and analysis is not None:
            reason, log = self.reason_for(candidate, state), self.log()
            log.decide(candidate.tracking_uid, state, reader=self.reader, reason=reason)
            self.settle(log, *reviewed(analysis, self._state.overlays, log.review))
            self.clear_candidate_problems()
        return candidate

    def repeats(self, state: ReviewState) -> bool:
        """Whether a decision on the candidate in focus would change nothing since the last act."""
        candidate, log = self._state.focused, self.log()
        if candidate is None or not log.review.events:
            return False
        reason = self.reason_for(candidate, state)
        log.decide(candidate.tracking_uid, state, reader=self.reader, reason=reason)
        before, now = log.review.events[-2:]
        return replace(before, time=now.time) == now

    def log(self) -> ReviewLog:
        """Return a copy of the log, whose changes take effect by `settle`."""
        return self._state.log.copy()

    def settle(
        self,
        log: ReviewLog,
        analysis: Analysis,
        overlays: Overlays | None,
        new_uids: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Adopt a log, with its analysis and overlays from `redraw.reviewed`.

        `new_uids` maps tracking UIDs to those that a comparison took from the prior. The overlays
        may have been computed for a while: the map on request is the one that is shown now.
        """
        shown = self._state.overlays
        if overlays is not shown and overlays is not None and shown is not None:
            overlays = replace(overlays, evidence=shown.evidence)
        draft = self._state.draft
        if draft is not None and draft.tracking_uid in new_uids:
            draft = replace(draft, tracking_uid=new_uids[draft.tracking_uid])
        ended = {} if self._state.editing is None else NO_EDIT
        choices = self._state.choices
        if choices.candidate not in {candidate.id for candidate in analysis.findings.candidates}:
            choices = replace(choices, candidate=None)
        self._set(
            choices=choices,
            typed={
                new_uids.get(uid, uid): reason
                for uid, reason in self._undecided_reasons(log.review).items()
            },
            analysis=replace(analysis, review=log.review),
            log=log,
            overlays=overlays,
            **{"draft": draft, **ended},
        )

    def _undecided_reasons(self, review: Review) -> dict[str, str]:
        """Return typed reasons that no new decision in a review has taken."""
        new_events = review.events[len(self._state.review.events) :]
        taken = {event.tracking_uid: event.reason or "" for event in new_events}
        return {
            uid: reason
            for uid, reason in self._state.typed.items()
            if uid not in taken or reason.strip() not in taken[uid]
        }
