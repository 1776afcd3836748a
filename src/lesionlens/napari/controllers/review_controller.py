"""Decisions on candidates and outlines; long steps run in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lesionlens.analysis.findings.edits import outline_of
from lesionlens.base.errors import CancelledError, LesionLensError
from lesionlens.base.labels import DrawingMethod, ReviewState
from lesionlens.base.records.response import SignedResponse
from lesionlens.base.records.review import CAVITY, DrawnDiameters
from lesionlens.base.run_context import RunContext
from lesionlens.napari.controllers.editor import EditedLabels, OutlineEditor
from lesionlens.napari.controllers.read_controller import ReadController
from lesionlens.napari.model.acts.editing import OUTLINE
from lesionlens.napari.model.acts.session import SAVING, ReviewSession
from lesionlens.napari.model.overlays.redraw import Reviewed, redraws, reviewed
from lesionlens.napari.model.state.state import Notice
from lesionlens.napari.model.wording.edits import (
    decision_obstacle,
    diameters_replaced,
    no_longer_rejected,
    unfinished_drawing,
)
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.results.review.drafts import OutlineDraft
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.outline_digests import (
    is_decided_on_other_outline,
    is_signed_on_other_outlines,
)
from lesionlens.results.review.placed_diameters import settle_diameters

_SAVING_OUTLINE, _REMEASURING = "Keeping the outline", "Measuring again"
_MEASURED = "An outline is being measured: wait until it finishes, then press again."
_SHOWN_AFTERWARDS = "An outline is being measured: the candidate is shown once it finishes."
_SHOWN_ONCE_ANSWERED = "A prompt is being answered: the candidate is shown once it is drawn."
_DELETED = "The layer of the outline was deleted: the edit has ended."
_OTHER_OUTLINE = (
    "Decided on a different outline, before the study was analysed again: {}. Check it."
)
_ANALYSED_AGAIN = "the study was analysed again, with other outlines"
_ANSWERING = "A prompt is being answered: wait until it is drawn, then press again."


class ReviewController:
    """Decisions, redrawn outlines, undo and redo; each is stored immediately."""

    def __init__(
        self,
        session: ReviewSession,
        jobs: Jobs,
        editor: OutlineEditor,
        read_controller: ReadController,
    ) -> None:
        self._read_controller, self._decision_log = read_controller, read_controller.decision_log
        self.session, self.jobs, self.editor = session, jobs, editor
        self.drafts = read_controller.drafts
        self.busy = False
        """Whether outlines are being changed in a thread."""
        self._noticed_reasons: Mapping[int, str] = {}
        """By the id of the candidate: reasons without a decision that the reader was told of."""
        self._pending_moves: list[Callable[[], object]] = []
        self.answering: Callable[[], bool] = lambda: False
        """Returns whether a prompt of the outline being drawn is not answered yet."""
        self.has_asked_name = False
        """Whether this window has asked for the reader's name."""
        self.ask_name: Callable[[Callable[[], object]], object] = lambda then: then()
        """Asks for the reader's name, then acts; set by the window."""
        editor.on_stroke, editor.on_layer_deleted = self._keep_draft, self._offer_draft
        editor.undo_requested, editor.redo_requested = self.undo, self.redo

    @property
    def reader(self) -> str | None:
        """Name of the reader of new acts."""
        return self._read_controller.current.reader

    def decide(self, state: ReviewState) -> None:
        """Record a decision on the candidate in focus, with the reason typed for it."""
        focused = self.session.state.focused
        if focused is None or self.reader or self.has_asked_name:
            self.after_edit(lambda: self._decide(state))
            return
        self.has_asked_name = True

        def then() -> None:
            if self.session.state.focused is focused:
                self.after_edit(lambda: self._decide(state))

        self.ask_name(then)

    def _decide(self, state: ReviewState) -> bool:
        self.session.reader = self.reader
        if decision_obstacle(self.session.state):
            self.notify_obstacle()
            return False
        if self.session.refuses(self._decision_log.signed_obstacle()):
            return False
        if self.session.repeats(state) and self._read_controller.logs_what_is_shown:
            self.session.clear_candidate_problems()
            return True  # the second press of a double click: undo would seem to do nothing
        return self.session.decide(state) is not None

    def notify_obstacle(self) -> None:
        """Notify why no candidate can be decided or redrawn."""
        self.session.decline(f"{decision_obstacle(self.session.state)}.")

    def statement_to_sign(self) -> str:
        """Return the statement of a signature; empty, with a message, if it is not possible."""
        state, analysis = self.session.state, self.session.state.analysis
        if analysis is None:
            self.notify_obstacle()
            return ""
        if state.review.signed is not None:
            self.session.decline(f"Already signed: {state.review.signed}.")
            return ""
        candidates = analysis.findings.candidates
        undecided = [
            candidate
            for candidate in candidates
            if not state.review.state_of(candidate.tracking_uid).decided
        ]
        if undecided:
            numbers = ", ".join(str(candidate.id) for candidate in undecided)
            self.session.decline(f"Not decided yet: {numbers}. Accept or reject, then sign.")
            return ""
        if self.session.refuses(self._decision_log.unsettled()):
            return ""
        return "nothing further seen" if candidates else "nothing seen"

    def sign(self, statement: str, reader: str) -> None:
        """Sign the whole study under a reader's name."""
        self._record(lambda log: log.sign(statement, reader=reader))

    def withdraw(self, reason: str) -> None:
        """Withdraw the signature with a reason."""
        self._record(lambda log: log.withdraw(reason, reader=self.reader))

    def check_outlines(self) -> str:
        """Return which decisions were made on other outlines; withdraw a signature on such.

        The study was analysed again since, with other options.
        """
        state = self.session.state
        if state.analysis is None or not state.review.events:
            return ""
        outlines = self.session.log().shown_outlines() or {}
        candidate_ids = [
            str(candidate.id)
            for candidate in state.analysis.findings.candidates
            if state.review.outline_of(candidate.tracking_uid) is None
            and is_decided_on_other_outline(state.review, candidate.tracking_uid, outlines)
        ]
        messages = [_OTHER_OUTLINE.format(", ".join(candidate_ids))] if candidate_ids else []
        if is_signed_on_other_outlines(state.review, outlines):
            self.withdraw(_ANALYSED_AGAIN)
            messages.append(f"The signature is withdrawn: {_ANALYSED_AGAIN}.")
        return " ".join(messages)

    def _record(self, act: Callable[[ReviewLog], None]) -> None:
        state, log = self.session.state, self.session.log()
        if state.analysis is not None:
            act(log)
            self.session.settle(log, *reviewed(state.analysis, state.overlays, log.review))

    def place_diameters(self, tracking_uid: str, ends: DrawnDiameters) -> None:
        """Store the diameters placed by a reader, after an outline being drawn."""

        def place() -> bool:
            if self.session.refuses(self._decision_log.signed_obstacle()):
                return False
            self._record(lambda log: log.place_diameters(tracking_uid, ends, reader=self.reader))
            return True

        self.after_edit(place)

    def may_sign_response(self) -> bool:
        """Whether a response can be signed now; notifies if not."""
        return not (self._refuses_change() or self.session.refuses(self._decision_log.unsettled()))

    def sign_response(self, signed: SignedResponse) -> bool:
        """Store a signed response; False, with a message, if that is not possible now."""
        if not self.may_sign_response():
            return False
        self._record(lambda log: log.sign_response(signed))
        return True

    def withdraw_response(self, reason: str) -> None:
        """Withdraw the signed response with a reason."""
        self._record(lambda log: log.withdraw_response(reason, reader=self.reader))

    def store_reason(self) -> None:
        """Add reasons typed after their decisions to these decisions, also out of focus."""
        state, analysis = self.session.state, self.session.state.analysis
        if analysis is None or state.editing is not None:
            return
        decided = [
            (event, reason)
            for candidate in analysis.findings.candidates
            if candidate.tracking_uid in state.typed
            and (event := state.review.of(candidate.tracking_uid)) is not None
            and event.state is not ReviewState.UNREVIEWED
            and (reason := self.session.reason_for(candidate, event.state)) != event.reason
        ]
        if not decided or self._refuses_change():
            return

        def record(log: ReviewLog) -> None:
            for event, reason in decided:
                log.decide(event.tracking_uid, event.state, reader=self.reader, reason=reason)

        self._record(record)

    def may_leave(self) -> bool:
        """Store typed reasons; False, with a message, once if no decision has taken one."""
        self.store_reason()
        state = self.session.state
        reasons: dict[int, str] = {}
        for candidate in state.candidates:
            typed = state.typed.get(candidate.tracking_uid, "").strip()
            last = state.review.of(candidate.tracking_uid)
            if typed and (last is None or typed not in (last.reason or "")):
                reasons[candidate.id] = typed
        if not reasons or reasons == self._noticed_reasons:
            return True
        self._noticed_reasons = reasons
        numbers = ", ".join(map(str, reasons))
        return self.session.decline(
            f"Reason without a decision: {numbers}. Decide, or leave again to discard it."
        )

    def edit_outline(self) -> None:
        """Redraw the outline of the candidate in focus, or finish and keep it."""
        if self.session.state.editing is not None:
            self.after_edit(lambda: True)
        elif self._refuses_change():
            return
        elif self.session.state.draft is not None:
            self.session.resume()
        elif not self.session.begin_edit():
            self.notify_obstacle()

    def discard_edit(self) -> None:
        """Discard the edit, or interrupted strokes."""
        if not self.notify_if_measuring():
            self._forget_draft()
            self.session.end_edit()
            if self.session.state.notice is Notice.BUSY:
                self.session.notify("")

    def after_edit(self, act: Callable[[], bool]) -> bool:
        """Store the outline being drawn, then act; False if that is not possible now."""
        if self._notify_if_blocked():
            return False
        edited = self.editor.drawn()
        if self.session.state.editing is None:
            return act()
        if edited is None or not edited.are_changed:
            self._forget_draft()
            self.session.end_edit()
            return act()
        return self._save_outline(edited, act)

    def _save_outline(self, edited: EditedLabels, act: Callable[[], bool]) -> bool:
        candidate, analysis = self.session.state.edited, self.session.state.analysis
        uid, assisted = self.session.state.edited_uid, self.editor.assisted
        prompts = tuple(self.editor.rounds)
        if analysis is None:
            return False
        reader = self.reader
        reason = None
        if candidate is not None:
            reason = self.session.reason_for(candidate, ReviewState.EDITED)

        def record(log: ReviewLog) -> None:
            if candidate is None and uid != CAVITY:
                method = DrawingMethod.SEMIAUTOMATIC if assisted else DrawingMethod.MANUAL
                log.add(outline_of(analysis, uid, *edited), method, reader=reader, prompts=prompts)
            else:
                outline = outline_of(analysis, candidate or CAVITY, *edited)
                log.decide(
                    uid, ReviewState.EDITED, reader=reader, reason=reason, outline=outline,
                    prompts=prompts,
                )  # fmt: skip

        def then() -> bool:
            if candidate is None:
                self.go_to_uid(uid)
            return act()

        return self.change(_SAVING_OUTLINE, record, then)

    def change(
        self, name: str, record: Callable[[ReviewLog], None], then: Callable[[], object]
    ) -> bool:
        """Change outlines in a thread: `record` writes into a copy of the log; `then` follows."""
        state, log = self.session.state, self.session.log()
        analysis = state.analysis
        if analysis is None or self._refuses_change():
            return False
        replaced: list[int] = []

        def task(context: RunContext) -> Reviewed:
            context.progress("resample it to the scan", 0.1)
            with log.one_act():
                record(log)
                replaced.extend(settle_diameters(log, analysis, reader=self.reader))
            context.check("keeping the outline")
            context.progress("measure", 0.4)
            updated = reviewed(analysis, state.overlays, log.review)
            context.check("keeping the outline")
            return updated

        def then_report() -> None:
            then()
            if self.session.state.study is not analysis.study:
                return
            revived = no_longer_rejected(state.candidates, state.review, self.session.state.review)
            notes = (self.session.state.message, revived, diameters_replaced(replaced))
            if any(notes[1:]):
                self.session.notify(" ".join(filter(None, notes)))

        return self._change_log(name, log, task, then_report)

    def go_to_uid(self, tracking_uid: str) -> None:
        """Go to a candidate by its UID."""
        analysis = self.session.state.analysis
        if analysis and (candidate := analysis.findings.candidate_of(tracking_uid)):
            self.session.go_to_candidate(candidate.id)

    def undo(self) -> None:
        """Undo the last decision, or while an outline is drawn the last stroke."""
        act = partial(ReviewLog.undo, reader=self.reader)
        self._undo_or_redo(self.editor.undo, act, "There is no stroke to undo.")

    def redo(self) -> None:
        """Redo the last undone decision or stroke."""
        act = partial(ReviewLog.redo, reader=self.reader)
        self._undo_or_redo(self.editor.redo, act, "There is no stroke to redo.")

    def _undo_or_redo(
        self, stroke: Callable[[], bool], act: Callable[[ReviewLog], None], no_stroke: str
    ) -> None:
        """Undo or redo a stroke or decision; measure again if an outline changes."""
        state, log = self.session.state, self.session.log()
        analysis = state.analysis
        if self._refuses_change() or analysis is None:
            return
        if state.editing is not None:
            self.session.decline("" if stroke() else no_stroke)  # "" clears the last such message
            return
        act(log)
        changed_uids = [
            event.tracking_uid for event in log.review.events[len(state.review.events) :]
        ]
        if not redraws(analysis, log.review):
            self.session.settle(log, *reviewed(analysis, state.overlays, log.review))
            self._go_to_any(changed_uids)
            return

        def task(context: RunContext) -> Reviewed:
            context.progress("measure", 0.1)
            updated = reviewed(analysis, state.overlays, log.review)
            context.check("measuring again")
            return updated

        self._change_log(_REMEASURING, log, task, lambda: self._go_to_any(changed_uids))

    def _go_to_any(self, tracking_uids: list[str]) -> None:
        """Go to the last of these candidates that exists, unless one of them is in focus."""
        state, focus = self.session.state, self.session.state.focused
        existing = {c.tracking_uid for c in state.candidates}.intersection(tracking_uids)
        if existing and (focus is None or focus.tracking_uid not in existing):
            self.go_to_uid(next(uid for uid in reversed(tracking_uids) if uid in existing))

    def _change_log(
        self,
        name: str,
        log: ReviewLog,
        task: Callable[[RunContext], Reviewed],
        then: Callable[[], object],
    ) -> bool:
        """Change the log in a thread; strokes and decisions are blocked meanwhile."""
        was_editing = self.session.state.editing is not None
        if self.session.refuses(unfinished_drawing(self.session.state)):
            return False  # continued afterwards, the strokes would undo this change

        def on_result(updated: Reviewed) -> None:
            self._set_busy(busy=False)
            pending_moves = self.take_pending_moves()
            if self.session.state.study is not updated.analysis.study:
                return  # opened by napari meanwhile; the strokes are in the draft
            self.session.settle(log, *updated)
            if self._read_controller.saver.all_saved and was_editing:
                self._forget_draft()
                self.session.offer(None)  # after its layer was deleted in napari
            then()
            self.make_moves(pending_moves)

        def on_error(error: BaseException) -> None:
            self._set_busy(busy=False)
            self.take_pending_moves()
            if not isinstance(error, CancelledError):
                self.session.failed(problem_of(error, OUTLINE))

        if not self.jobs.start(name, task, on_result, on_error):
            return False
        self._set_busy(busy=True)
        return True

    def _refuses_change(self) -> bool:
        """Whether decisions are blocked, or the study is signed, here or elsewhere; notifies."""
        return self._notify_if_blocked() or self.session.refuses(
            self._decision_log.signed_obstacle()
        )

    def _notify_if_blocked(self) -> bool:
        """Whether an outline is being measured or prompted, which blocks other acts; notifies."""
        if not self.notify_if_measuring() and self.answering():
            self.session.decline(_ANSWERING, Notice.BUSY)
            return True
        return self.busy

    def notify_if_measuring(self) -> bool:
        """Whether an outline is being measured; notifies if so."""
        if self.busy:
            self.session.decline(_MEASURED)
        return self.busy

    def once_ready(self, move: Callable[[], object]) -> None:
        """Go to another candidate when the outline is stored, or its prompts are answered.

        If that were refused, the next decision would be on the candidate that the reader left.
        """
        self._pending_moves.append(move)
        if self.busy:
            self.session.notify(_SHOWN_AFTERWARDS)
        else:
            self.session.notify(_SHOWN_ONCE_ANSWERED, Notice.BUSY)

    def take_pending_moves(self) -> list[Callable[[], object]]:
        """Return the moves that waited, oldest first, which wait no longer."""
        pending_moves, self._pending_moves = self._pending_moves, []
        return pending_moves

    def make_moves(self, moves: list[Callable[[], object]]) -> None:
        """Make the moves that waited."""
        if moves:
            self.session.notify("")
        for move in moves:
            move()

    def _set_busy(self, *, busy: bool) -> None:
        self.busy = busy
        self.editor.lock(locked=busy)

    @property
    def holds_focus(self) -> bool:
        """Whether an outline is being measured or prompted, so that no other one is shown yet."""
        return self.busy or self.answering()

    def _keep_draft(self, draft: OutlineDraft) -> None:
        """Store the draft after each stroke, so that a crash loses none."""
        analysis = self.session.state.analysis
        if analysis is None:
            return
        try:
            self.drafts.write(analysis, draft)
        except LesionLensError as error:
            self.session.refused(problem_of(error, SAVING))
            return
        if self._read_controller.saver.all_saved:  # else a decision is still not stored
            self.session.clear_problem(SAVING)

    def _offer_draft(self) -> None:
        """End an edit whose layer was deleted in napari, and offer its strokes again."""
        if self.session.state.editing is None:  # the study was left: its draft is kept
            return
        analysis = self.session.state.analysis
        self.session.end_edit()
        if analysis is not None:
            self.session.offer(self.drafts.read(analysis))
        self.session.decline(_DELETED)

    def _forget_draft(self) -> None:
        if self.session.state.analysis is not None:
            self.drafts.delete()
