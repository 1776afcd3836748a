"""The read in progress: marks, unaided phase, signatures and timing.

During an unaided read the result is held here only: the window has no layer, table or count of it
before the reader has signed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from psygnal import Signal

from lesionlens.base.errors import LesionLensError, ResourceError
from lesionlens.base.labels import ReviewAct
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Point
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.napari.controllers.expected_read import ExpectedRead
from lesionlens.napari.model.acts.session import SAVING, ReviewSession
from lesionlens.napari.model.overlays.reader_study import shown_in
from lesionlens.napari.model.state.state import Problem, State
from lesionlens.napari.model.wording import reads
from lesionlens.napari.preferences import read_preferences
from lesionlens.results.review import store
from lesionlens.site.database.records import Mark, ReadKey
from lesionlens.site.database.worklist_database import WorklistDatabase
from lesionlens.site.worklist import reader_log
from lesionlens.site.worklist.read_session import ReadSession

logger = logging.getLogger(__name__)
_Write = Callable[[ReadSession, Mapping[str, Point]], None]
_SuspendedRead = tuple[Study | None, ExpectedRead | None, tuple[Any, Any] | None]
_NO_SUSPENDED_READ: _SuspendedRead = (None, None, None)


class ReadController:
    """The read in progress of one window.

    Parameters
    ----------
    session : ReviewSession
        Session whose decisions are stored with their timing.
    """

    changed = Signal()
    unnamed_found = Signal(str)
    """An unnamed reader read the opened study in an earlier session: time of the last act."""

    def __init__(self, session: ReviewSession) -> None:
        self.session = session
        self.read_session: ReadSession | None = None
        self.confidence: int | None = None
        self.in_head: Callable[[Point], bool] = lambda _: True
        """Returns whether a point (RAS+ mm) lies in the head; set by the window."""
        self.asking_owner = False
        """Whether the owner of an unnamed read is being asked for; no mark is shown then."""
        self._answered = False
        self._local_reads: set[object] = set()
        """Unnamed reads and analyses that were edited in this window."""
        self._expected_read: ExpectedRead | None = None
        self._begun_read: ExpectedRead | None = None
        self._suspended = _NO_SUSPENDED_READ
        """Study, expected read and withheld result, restored if opening another study fails."""
        self._reader_log = reader_log.ReaderLog()
        self._log: ReadSession | None = None
        """Log of decisions outside a read."""
        self._stored_review = Review()
        self._logged: frozenset[object] = frozenset()
        """Decisions in the logs when the analysis was shown."""
        self._continued_log: ReadSession | None = None
        """The review that was stored or shown last, and the log that continues it."""
        self.closed_list: WorklistDatabase | None = None
        """Database of a list that was closed; it is closed when the read in it ends."""
        self.all_saved = True
        """Whether every decision is on disk."""
        self._warned = False
        self._noted_location: tuple[str, Path] | None = None
        self._withheld: tuple[Any, Any] | None = None
        self._shown_result: Any = None
        self._noted_study: Study | None = None
        session.changed.connect(self._on_changed)

    # --- begin and end --------------------------------------------------------------------

    def expect(self, expected: ExpectedRead | None) -> None:
        """Set the read that begins with the next opened study."""
        self._expected_read = expected

    def release(self) -> None:
        """End the read: the window is being closed."""
        self.session.changed.disconnect(self._on_changed)
        self.leave()
        self._reader_log.close()

    def _begin(self, study: Study) -> None:
        expected, self._expected_read = self._expected_read, None
        self._begun_read = expected
        if expected is None and read_preferences().unaided_first:
            expected = ExpectedRead(self._reader_log.database, _own_key(study), unaided_first=True)
        if expected is not None:
            self.read_session = self._new_read(study, expected)
            self._check_unnamed(self.read_session)

    def _new_read(self, study: Study, expected: ExpectedRead) -> ReadSession:
        return ReadSession(
            expected.database,
            expected.key,
            unaided_first=expected.unaided_first,
            shown_elsewhere=self._reader_log.shown_before(study, expected.key),
        )

    # --- unnamed reads of earlier sessions ------------------------------------------------

    def _check_unnamed(self, read_session: ReadSession) -> None:
        """Ask for the owner of a read that an unnamed reader began in an earlier session."""
        key, read = read_session.key, read_session.read
        if key.reader or key.session:
            return
        read_id = (read_session.database.folder, key)
        has_content = read.marks or read.verdicts or read.unaided or read.signed
        if has_content and read_id not in self._local_reads:
            acts = [act for act in read.acts if act.act not in (ReviewAct.BEGIN, ReviewAct.LEAVE)]
            self.ask_owner(acts[-1].time)
        self._local_reads.add(read_id)

    def ask_owner(self, time: str) -> None:
        """Ask for the owner of an unnamed read, whose last act was at `time`."""
        self.asking_owner = True
        self.unnamed_found.emit(time)

    def of_another_session(self, analysis: Analysis, logged: Review) -> bool:
        """Whether the log is an unnamed reader's of an earlier session; True only once."""
        saved_count = len(analysis.review.events)
        new_events = logged.events[saved_count:] if logged.continues(analysis.review) else ()
        if read_preferences().reader_name or not new_events or new_events[-1].reader:
            return False
        analysis_key, session = store.analysis_key(analysis.run), self.read_session
        is_known = self._answered or analysis_key in self._local_reads
        self._local_reads.add(analysis_key)
        return not is_known and (session is None or not session.key.session)

    def assign_owner(self, reader: str | None, *, owns_read: bool) -> None:
        """Continue an unnamed read, or begin one under a name, as the reader answered.

        Parameters
        ----------
        reader : str or None
            Name of the reader; None to stay unnamed.
        """
        self.asking_owner, self._answered = False, True
        if reader is not None and owns_read:
            self.name_reader(reader)
        elif reader is not None and self.read_session is not None:
            previous, study = self.read_session, self.session.state.study
            previous.close()
            key = replace(previous.key, reader=reader)
            expected = ExpectedRead(previous.database, key, previous.unaided_first)
            self.read_session = None if study is None else self._new_read(study, expected)
            self._rename_expected()
        self._show_marks()

    def _rename_expected(self) -> None:
        """Rename the read also for when it is restored after it was set aside."""
        if self._begun_read is not None and self.read_session is not None:
            self._begun_read = replace(self._begun_read, key=self.read_session.key)

    def may_leave(self) -> bool:
        """Retry unsaved decisions; False, with a message, the first time that this fails."""
        self._retry_save(self.session.state)
        if self.all_saved or self._warned:
            return True
        self._warned = True
        self.session.decline(reads.UNSAVED)
        return False

    def _retry_save(self, state: State, next_step: str = reads.SAVED_LATER) -> None:
        if not self.all_saved and state.analysis is not None:
            review = reader_log.with_own_uids(state.analysis, state.review)
            self._save(state.analysis, review, next_step)

    def leave(self) -> None:
        """End the read of the study and stop the clock."""
        self._retry_save(self.session.state)
        logs = (self.read_session, self._log)
        self.read_session = self._log = self._continued_log = None
        self._withheld = self._shown_result = self._noted_study = self.confidence = None
        self.all_saved, self._warned, self.asking_owner, self._answered = True, False, False, False
        for read_session in filter(None, logs):
            try:
                read_session.close()
            except LesionLensError as error:  # decisions are written when they are made
                logger.warning("The time of leaving a study was not kept: %s", error.found)
        if self.closed_list is not None:
            self.closed_list.close()
            self.closed_list = None

    def reads_in(self, database: WorklistDatabase) -> bool:
        """Return whether the read in progress is stored in a database."""
        return self.read_session is not None and self.read_session.database is database

    @property
    def reader(self) -> str | None:
        """Name of the reader of new acts: of the read in progress, else in the preferences.

        A name that is changed meanwhile applies from the next study.
        """
        begun = "" if self.read_session is None else self.read_session.key.reader
        return begun or read_preferences().reader_name

    def decision_owner(self) -> str | None:
        """Return the owner of drafts; see `store.owner_of`."""
        if self.read_session is None or not self.read_session.key.session:
            return self.reader
        key = self.read_session.key
        return f"{key.study}: {store.owner_of(key.reader, key.session, key.arm.value)}"

    def recovered(self, analysis: Analysis) -> tuple[Review, str]:
        """Return the review of an analysis, and a message if it has decisions from the log.

        The reader's log is used if it continues the analysis's own review.
        """
        recovery = reader_log.recover_review(analysis, *self._log_location(analysis))
        self._logged = recovery.logged
        if recovery.conflicting.events:
            return recovery.review, reader_log.save_conflicting(analysis, recovery.conflicting)
        if not recovery.review.events or recovery.review.events == analysis.review.events:
            return recovery.review, ""
        last_event = recovery.review.events[-1]
        unnamed = reads.UNNAMED_DECISIONS.format(last_event.time[:10], last_event.time[11:16])
        return recovery.review, reads.RESTORED if last_event.reader else unnamed

    def _log_location(self, analysis: Analysis) -> tuple[ReadKey, Path]:
        """Return the key and folder of the log of decisions on an analysis."""
        read_session = self.read_session
        if read_session is None:
            return _own_key(analysis.study), reader_log.own_folder()
        return read_session.key, read_session.database.folder

    def decided_elsewhere(self, analysis: Analysis, *, signed: bool = False) -> bool:
        """Whether another window decided on, or signed, the shown analysis since it was shown."""
        logged = reader_log.logged_signature if signed else reader_log.logged
        new_decisions = logged(analysis, *self._log_location(analysis)) - self._logged
        return reader_log.lacks_decisions(self.session.state.review, analysis, new_decisions)

    # --- closed ---------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the analysis must be hidden."""
        return self.read_session is not None and self.read_session.is_analysis_hidden

    @property
    def analysis_shown(self) -> bool:
        """Whether the window shows an analysis."""
        return self.session.state.analysis is not None

    @property
    def withheld(self) -> Analysis | None:
        """The analysis withheld until the reader has signed."""
        return None if self._withheld is None else self._withheld[0].analysis

    def withhold(self, result: Any, overlays: Any) -> bool:
        """Withhold a result during an unaided read; False otherwise."""
        if not self.closed:
            return False
        self._withheld = (result, overlays)
        self.changed.emit()
        return True

    def limited_to_arm(self, result: Any, overlays: Any) -> tuple[Any, Any]:
        """Return a result and its overlays, limited to the arm of this read."""
        if self.read_session is None:
            return result, overlays
        return shown_in(self.read_session.key.arm, result, overlays)

    def with_unaided(self, review: Review) -> Review:
        """Return a review with the reader's signed unaided read."""
        signed = None if self.read_session is None else self.read_session.unaided_read()
        if signed is None or any(read.time == signed.time for read in review.unaided):
            return review
        return replace(review, unaided=(*review.unaided, signed))

    # --- acts -----------------------------------------------------------------------------

    def mark(self, point_mm: Point) -> None:
        """Mark a position in the head with its confidence, which a protocol may require.

        The confidence applies to this mark only.
        """
        if self.read_session is not None and not self.read_session.is_signed:
            if not self.in_head(point_mm):
                self.session.decline("That position is outside the head: nothing was marked.")
                return
            rated = self._begun_read is not None and self._begun_read.rated
            if rated and self.confidence is None:
                self.session.decline(reads.UNRATED)
                return

        def mark(read_session: ReadSession) -> None:
            read_session.mark(point_mm, self.confidence)
            self.confidence = None

        self._apply(mark)

    def remove_mark(self, uid: str | None = None) -> None:
        """Remove a mark, by default the last one of this phase."""
        current = self.read_session
        marks = () if current is None else current.read.marks_of(current.phase)
        mark_uid = uid or (marks[-1].uid if marks else "")
        if current is not None and not mark_uid:
            self.session.decline("There is no mark to remove.")
        else:
            self._apply(lambda read_session: read_session.remove_mark(mark_uid))

    def name_reader(self, reader: str) -> None:
        """Continue an unnamed read under a reader's name."""
        if self.read_session is not None and not self.read_session.key.reader:
            self.read_session = self.read_session.continue_as(reader)
            self._rename_expected()
        if self._log is not None and not self._log.key.reader:
            self._log = self._log.continue_as(reader)

    def sign_unaided(self) -> tuple[Any, Any] | None:
        """Sign the unaided read; return the withheld result, if any."""
        if not self._apply(ReadSession.sign):
            return None
        withheld, self._withheld = self._withheld, None
        if self.closed:
            self.session.notify("Signed. Go to the next study.")
            return None
        return withheld

    def _apply(self, act: Callable[[ReadSession], object]) -> bool:
        if self.read_session is None:
            self.session.decline("Marks are available in worklists and in unaided reading.")
            return False
        try:
            act(self.read_session)
        except ResourceError as error:
            self._report_unsaved(error, "then repeat the action")
            return False
        except LesionLensError as refusal:
            self.session.decline(f"{refusal.found.capitalize()}. {refusal.in_window}.")
            return False
        self.session.clear_problem(SAVING)
        self._show_marks()
        return True

    def _report_unsaved(self, error: LesionLensError, next_step: str) -> None:
        title, advice = "This action was not saved", f"{error.in_window}; {next_step}"
        self.session.refused(Problem(title, error.found, error.expected, advice, cause=SAVING))

    def _show_marks(self) -> None:
        self.session.show_marks(tuple(mark.at_mm for mark in self.marks))
        self.changed.emit()

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks of this read, oldest first."""
        if self.read_session is None or self.asking_owner:
            return ()
        return self.read_session.read.marks

    def can_remove(self, mark: Mark) -> bool:
        """Whether a mark can still be removed."""
        current = self.read_session
        return current is not None and not current.is_signed and mark.phase is current.phase

    # --- decisions in the review ----------------------------------------------------------

    def _on_changed(self, old: State, new: State) -> None:
        if new.study is not old.study:
            if new.study is None and self.session.suspended_study is old.study:
                self._suspended = old.study, self._begun_read, self._withheld
            self._retry_save(old, reads.DECIDE_AGAIN)
            self.leave()
            if new.study is not None:
                study, expected, withheld = self._suspended
                self._suspended = _NO_SUSPENDED_READ
                if new.study is study:
                    self._expected_read, self._withheld = expected, withheld
                    self._shown_result = self.session.result
                self._begin(new.study)
            self._note_findings_shown(new)
            self._show_marks()
            return
        self._note_findings_shown(new)
        if (old.analysis is None) is not (new.analysis is None):
            self.changed.emit()
        previous_result, self._shown_result = self._shown_result, self.session.result
        if previous_result is not self.session.result:
            self._retry_save(old, reads.DECIDE_AGAIN)
        if new.analysis is None:
            return
        if previous_result is not self.session.result:
            self._stored_review = reader_log.with_own_uids(new.analysis, new.review)
            self._continued_log = None
        elif new.review is not old.review:
            self._save(new.analysis, reader_log.with_own_uids(new.analysis, new.review))

    def _note_findings_shown(self, new: State) -> None:
        """Record once that the open study's findings are shown, for later unaided reads."""
        study, findings_shown = new.study, new.analysis is not None or new.preliminary is not None
        if study is not None and findings_shown and self._noted_study is not study:
            self._noted_study = study
            key = self.read_session.key if self.read_session else _own_key(study)
            self._reader_log.record_shown(study, key)

    def _log_of(self, analysis: Analysis) -> ReadSession:
        """Return the log for decisions: the read in progress, else the reader's own log."""
        if self._log is not None and self._log.database.is_missing:
            self._log = None  # the new log takes over all decisions
        key = _own_key(analysis.study)
        if self._log is not None and self._log.key != key:  # another reader continues
            self._log.close()
            self._log = None
        log = self.read_session or self._log
        if log is None:
            log = self._log = ReadSession(self._reader_log.database, key)
        if log is not self._continued_log:
            analysis_key = store.analysis_key(analysis.run)
            centroids = reader_log.centroids(analysis)
            log.continue_from(analysis_key, self._stored_review, centroids)
            self._continued_log = log
        return log

    def store_shown(self) -> None:
        """Store the decisions shown in the reader's log, before the reader makes one.

        A reader who continues an unnamed read without a further decision then finds it again.
        """
        analysis = self.session.state.analysis
        if analysis is not None and self._store(analysis, ReadSession.replace_log):
            self._show_marks()

    def store_own_shown(self) -> None:
        """Store the shown decisions that the reader made elsewhere, so that the list has them too.

        Decisions of another reader are stored only with the first decision that continues them.
        """
        readers = {event.reader or "" for event in self.session.state.review.events}
        if self.read_session is not None and readers == {self.read_session.key.reader}:
            self.store_shown()

    def _save(self, analysis: Analysis, review: Review, next_step: str = reads.SAVED_LATER) -> None:
        """Store new decisions with their timing; notify if they reopen a signed read."""
        was_signed = self.read_session is not None and self.read_session.is_signed
        if self._store(
            analysis,
            lambda log, centroids: log.store_decisions(review, centroids, self.confidence),
            next_step,
        ):
            self._stored_review, self.confidence = review, None
            self._show_marks()
            is_signed = self.read_session is not None and self.read_session.is_signed
            if was_signed and not is_signed and review.events[-1].act is not ReviewAct.WITHDRAW:
                self.session.notify(reads.REOPENED)

    def _store(self, analysis: Analysis, write: _Write, next_step: str = reads.SAVED_LATER) -> bool:
        """Write decisions to the log; False, with a message, if that failed."""
        try:
            log = self._log_of(analysis)
            write(log, reader_log.centroids(analysis))
        except LesionLensError as error:
            self.all_saved = False
            self._report_unsaved(error, next_step)
            return False
        self.all_saved, self._warned = True, False
        self._local_reads.add(store.analysis_key(analysis.run))
        self._note_location(log, store.analysis_key(analysis.run))
        self.session.clear_problem(SAVING)
        if self.decided_elsewhere(analysis):
            self.session.notify(reads.ELSEWHERE)
        return True

    def _note_location(self, log: ReadSession, analysis_key: str) -> None:
        """Record the folder that stored decisions last, so that they are found again."""
        location = (analysis_key, log.database.folder)
        if log.key.session or location == self._noted_location:
            return
        try:
            reader_log.record_last_folder(analysis_key, log.key.reader, log.database.folder)
        except LesionLensError as error:
            logger.warning("Where decisions were kept was not noted: %s", error.found)
        self._noted_location = location


def _own_key(study: Study) -> ReadKey:
    return reader_log.read_key_of_study(study, read_preferences().reader_name or "")
