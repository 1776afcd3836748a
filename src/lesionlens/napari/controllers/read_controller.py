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
from lesionlens.napari.preferences import read_preferences
from lesionlens.results.review import store
from lesionlens.site.database.records import Mark, ReadKey
from lesionlens.site.database.worklist_database import WorklistDatabase
from lesionlens.site.worklist import own_log
from lesionlens.site.worklist.read_session import ReadSession

logger = logging.getLogger(__name__)
_SHOWN_AGAIN = "Your decisions from an earlier session were restored."
_UNNAMED_DECISIONS = (
    "An unnamed reader's decisions, the last on {} at {} UTC, were restored. Not yours? Enter your "
    "name in the preferences and open the study again."
)
_ELSEWHERE = "Another window decided on this study too. Both are kept: open it again to see all."
_AGAIN = "it is saved with your next decision, or when you leave the study"
_WARNING = "What is not saved would be lost: make room first, or leave once more all the same."
_LOST = "decide again on what was left"
_UNRATED = "This reader study requires a rating for every mark: choose how sure you are, then mark."

_Write = Callable[[ReadSession, Mapping[str, Point]], None]
_Aside = tuple[Study | None, ExpectedRead | None, tuple[Any, Any] | None]
_NOTHING: _Aside = (None, None, None)


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
        self.asking = False
        """Whether the reader is being asked whose an unnamed read is; no mark is shown then."""
        self._answered = False
        self._here: set[object] = set()
        """Unnamed reads and analyses that this window has worked on."""
        self._expected: ExpectedRead | None = None
        self._begun: ExpectedRead | None = None
        self._aside = _NOTHING
        """Read set aside with its study while another one is opened."""
        self._own = own_log.OwnLog()
        self._log: ReadSession | None = None
        """Log of decisions outside a read."""
        self._before = Review()
        self._logged: frozenset[object] = frozenset()
        """Decisions in the logs when the analysis was shown."""
        self._follows: ReadSession | None = None
        """The review that was stored or shown last, and the log that continues it."""
        self.closed_list: WorklistDatabase | None = None
        """Database of a list that was closed; it is closed when the read in it ends."""
        self.kept = True
        """Whether every decision is on disk."""
        self._warned = False
        self._noted: tuple[str, Path] | None = None
        self._held: tuple[Any, Any] | None = None
        self._shown: Any = None
        self._looked: Study | None = None
        session.changed.connect(self._on_changed)

    # --- begin and end --------------------------------------------------------------------

    def expect(self, expected: ExpectedRead | None) -> None:
        """Set the read that begins with the next opened study."""
        self._expected = expected

    def release(self) -> None:
        """End the read: the window is being closed."""
        self.session.changed.disconnect(self._on_changed)
        self.leave()
        self._own.close()

    def _begin(self, study: Study) -> None:
        expected, self._expected = self._expected, None
        self._begun = expected
        if expected is None and read_preferences().unaided_first:
            expected = ExpectedRead(self._own.database, _own_key(study), unaided_first=True)
        if expected is not None:
            self.read_session = self._read_of(study, expected)
            self._look_for_unnamed(self.read_session)

    def _read_of(self, study: Study, expected: ExpectedRead) -> ReadSession:
        return ReadSession(
            expected.database,
            expected.key,
            unaided_first=expected.unaided_first,
            shown_elsewhere=self._own.shown_before(study, expected.key),
        )

    # --- unnamed reads of earlier sessions ------------------------------------------------

    def _look_for_unnamed(self, read_session: ReadSession) -> None:
        """Ask whose the read is if an unnamed reader began it in an earlier session."""
        key, read = read_session.key, read_session.read
        if key.reader or key.session:
            return
        known = (read_session.database.folder, key)
        begun = read.marks or read.verdicts or read.unaided or read.signed
        if begun and known not in self._here:
            made = [act for act in read.acts if act.act not in (ReviewAct.BEGIN, ReviewAct.LEAVE)]
            self.ask_owner(made[-1].time)
        self._here.add(known)

    def ask_owner(self, time: str) -> None:
        """Request the question who began an unnamed read, whose last act was at `time`."""
        self.asking = True
        self.unnamed_found.emit(time)

    def of_another_session(self, analysis: Analysis, found: Review) -> bool:
        """Whether decisions found in the log are an unnamed reader's, of an earlier session.

        It is so once for each analysis.
        """
        saved = len(analysis.review.events)
        logged = found.events[saved:] if found.continues(analysis.review) else ()
        if read_preferences().reader_name or not logged or logged[-1].reader:
            return False
        key, session = store.analysis_key(analysis.run), self.read_session
        known = self._answered or key in self._here
        self._here.add(key)
        return not known and (session is None or not session.key.session)

    def settle(self, reader: str | None, *, mine: bool) -> None:
        """Continue an unnamed read, or begin one under a name, as the reader answered.

        Parameters
        ----------
        reader : str or None
            Name of the reader; None to stay unnamed.
        """
        self.asking, self._answered = False, True
        if reader is not None and mine:
            self.name_reader(reader)
        elif reader is not None and self.read_session is not None:
            before, study = self.read_session, self.session.state.study
            before.leave()
            key = replace(before.key, reader=reader)
            expected = ExpectedRead(before.database, key, before.unaided_first)
            self.read_session = None if study is None else self._read_of(study, expected)
            self._rename_expected()
        self._show()

    def _rename_expected(self) -> None:
        """Rename the read also for when it is restored after it was set aside."""
        if self._begun is not None and self.read_session is not None:
            self._begun = replace(self._begun, key=self.read_session.key)

    def may_leave(self) -> bool:
        """Save what a full disk refused; False, with a message, the first time that fails."""
        self._keep_again(self.session.state)
        if self.kept or self._warned:
            return True
        self._warned = True
        self.session.decline(_WARNING)
        return False

    def _keep_again(self, state: State, then: str = _AGAIN) -> None:
        if not self.kept and state.analysis is not None:
            self._keep(state.analysis, own_log.as_logged(state.analysis, state.review), then)

    def leave(self) -> None:
        """End the read of the study and stop the clock."""
        self._keep_again(self.session.state)
        ended = (self.read_session, self._log)
        self.read_session = self._log = self._follows = None
        self._held = self._shown = self._looked = self.confidence = None
        self.kept, self._warned, self.asking, self._answered = True, False, False, False
        for read_session in filter(None, ended):
            try:
                read_session.leave()
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
        found = own_log.recovered(analysis, *self._place(analysis))
        self._logged = found.logged
        if found.other.events:
            return found.review, own_log.save_conflicting(analysis, found.other)
        if not found.review.events or found.review.events == analysis.review.events:
            return found.review, ""
        last = found.review.events[-1]
        unnamed = _UNNAMED_DECISIONS.format(last.time[:10], last.time[11:16])
        return found.review, _SHOWN_AGAIN if last.reader else unnamed

    def _place(self, analysis: Analysis) -> tuple[ReadKey, Path]:
        """Return the key and folder of the log of decisions on an analysis."""
        read = self.read_session
        if read is None:
            return _own_key(analysis.study), own_log.own_folder()
        return read.key, read.database.folder

    def decided_elsewhere(self, analysis: Analysis) -> bool:
        """Whether another window decided on the shown analysis since it was shown here."""
        news = own_log.logged(analysis, *self._place(analysis)) - self._logged
        return own_log.lacks(self.session.state.review, analysis, news)

    # --- closed ---------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the analysis must be hidden."""
        return self.read_session is not None and self.read_session.closed

    @property
    def analysis_shown(self) -> bool:
        """Whether the window shows an analysis."""
        return self.session.state.analysis is not None

    @property
    def held(self) -> Analysis | None:
        """The analysis withheld until the reader has signed."""
        return None if self._held is None else self._held[0].analysis

    def keep_closed(self, result: Any, overlays: Any) -> bool:
        """Withhold a result during an unaided read; False otherwise."""
        if not self.closed:
            return False
        self._held = (result, overlays)
        self.changed.emit()
        return True

    def as_shown(self, result: Any, overlays: Any) -> tuple[Any, Any]:
        """Return a result and its overlays, limited to the arm of this read."""
        if self.read_session is None:
            return result, overlays
        return shown_in(self.read_session.key.arm, result, overlays)

    def with_unaided(self, review: Review) -> Review:
        """Return a review with the reader's signed unaided read."""
        mine = None if self.read_session is None else self.read_session.unaided_read()
        if mine is None or any(one.time == mine.time for one in review.unaided):
            return review
        return replace(review, unaided=(*review.unaided, mine))

    # --- acts -----------------------------------------------------------------------------

    def mark(self, at_mm: Point) -> None:
        """Mark a position in the head with its confidence, which a protocol may require.

        The confidence applies to this mark only.
        """
        if self.read_session is not None and not self.read_session.signed:
            if not self.in_head(at_mm):
                self.session.decline("That position is outside the head: nothing was marked.")
                return
            rated = self._begun is not None and self._begun.rated
            if rated and self.confidence is None:
                self.session.decline(_UNRATED)
                return

        def mark(read_session: ReadSession) -> None:
            read_session.mark(at_mm, self.confidence)
            self.confidence = None

        self._act(mark)

    def take_back(self, uid: str | None = None) -> None:
        """Remove a mark, by default the last one of this phase."""
        held = self.read_session
        mine = () if held is None else held.read.marks_of(held.phase)
        wanted = uid or (mine[-1].uid if mine else "")
        if held is not None and not wanted:
            self.session.decline("There is no mark to remove.")
        else:
            self._act(lambda read_session: read_session.take_back(wanted))

    def name_reader(self, reader: str) -> None:
        """Continue an unnamed read under a reader's name."""
        if self.read_session is not None and not self.read_session.key.reader:
            self.read_session = self.read_session.under(reader)
            self._rename_expected()
        if self._log is not None and not self._log.key.reader:
            self._log = self._log.under(reader)

    def sign_unaided(self) -> tuple[Any, Any] | None:
        """Sign the unaided read; return the withheld result, if any."""
        if not self._act(lambda one: one.sign()):
            return None
        held, self._held = self._held, None
        if self.closed:
            self.session.notify("Signed. Go to the next study.")
            return None
        return held

    def _act(self, act: Callable[[ReadSession], object]) -> bool:
        if self.read_session is None:
            self.session.decline("Marks are available in worklists and in unaided reading.")
            return False
        try:
            act(self.read_session)
        except ResourceError as error:
            self._not_kept(error, "then repeat the action")
            return False
        except LesionLensError as refusal:
            self.session.decline(f"{refusal.found}. {refusal.in_window}.".capitalize())
            return False
        self.session.clear_problem(SAVING)
        self._show()
        return True

    def _not_kept(self, error: LesionLensError, then: str) -> None:
        self.session.refused(
            Problem(
                "This action was not saved",
                found=error.found,
                expected=error.expected,
                next_step=f"{error.in_window}; {then}",
                cause=SAVING,
            )
        )

    def _show(self) -> None:
        self.session.show_marks(tuple(mark.at_mm for mark in self.marks))
        self.changed.emit()

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks of this read, oldest first."""
        if self.read_session is None or self.asking:
            return ()
        return self.read_session.read.marks

    def may_take_back(self, mark: Mark) -> bool:
        """Whether a mark can still be removed."""
        read = self.read_session
        return read is not None and not read.signed and mark.phase is read.phase

    # --- what is decided in the review ----------------------------------------------------

    def _on_changed(self, old: State, new: State) -> None:
        if new.study is not old.study:
            if new.study is None and self.session.aside is old.study:
                self._aside = old.study, self._begun, self._held
            self._keep_again(old, _LOST)
            self.leave()
            if new.study is not None:
                back, expected, held = self._aside
                self._aside = _NOTHING
                if new.study is back:
                    self._expected, self._held, self._shown = expected, held, self.session.result
                self._begin(new.study)
            self._note_look(new)
            self._show()
            return
        self._note_look(new)
        if (old.analysis is None) is not (new.analysis is None):
            self.changed.emit()
        seen, self._shown = self._shown, self.session.result
        if seen is not self.session.result:
            self._keep_again(old, _LOST)
        if new.analysis is None:
            return
        if seen is not self.session.result:
            self._before, self._follows = own_log.as_logged(new.analysis, new.review), None
        elif new.review is not old.review:
            self._keep(new.analysis, own_log.as_logged(new.analysis, new.review))

    def _note_look(self, new: State) -> None:
        """Record once that the open study's findings are shown, for later unaided reads."""
        study, shown = new.study, new.analysis is not None or new.preliminary is not None
        if study is not None and shown and self._looked is not study:
            self._looked = study
            read = self.read_session
            self._own.note_shown(study, _own_key(study) if read is None else read.key)

    def _log_of(self, analysis: Analysis) -> ReadSession:
        """Return the log for decisions: the read in progress, else the reader's own log."""
        if self._log is not None and self._log.database.vanished:
            self._log = None  # the new log takes over all that was decided
        key = _own_key(analysis.study)
        if self._log is not None and self._log.key != key:  # another reader continues
            self._log.leave()
            self._log = None
        log = self.read_session or self._log
        if log is None:
            log = self._log = ReadSession(self._own.database, key)
        if log is not self._follows:
            log.show(store.analysis_key(analysis.run), self._before, own_log.centroids(analysis))
            self._follows = log
        return log

    def take_over(self) -> None:
        """Store the decisions shown in the reader's log, before the reader makes one.

        A reader who continues an unnamed read and leaves it as it is finds it again.
        """
        analysis = self.session.state.analysis
        if analysis is not None and self._store(analysis, lambda log, at: log.take_over(at)):
            self._show()

    def take_over_own(self) -> None:
        """Store the reader's decisions made elsewhere that are shown, so that a list has them too.

        Another reader's are stored only with the first decision that continues them.
        """
        readers = {event.reader or "" for event in self.session.state.review.events}
        if self.read_session is not None and readers == {self.read_session.key.reader}:
            self.take_over()

    def _keep(self, analysis: Analysis, review: Review, then: str = _AGAIN) -> None:
        """Store new decisions with their timing."""
        if self._store(analysis, lambda log, at: log.keep(review, at, self.confidence), then):
            self._before, self.confidence = review, None
            self._show()

    def _store(self, analysis: Analysis, write: _Write, then: str = _AGAIN) -> bool:
        """Write decisions to the log; False, with a message, if that failed."""
        try:
            log = self._log_of(analysis)
            write(log, own_log.centroids(analysis))
        except LesionLensError as refusal:
            self.kept = False
            self._not_kept(refusal, then)
            return False
        self.kept, self._warned = True, False
        self._here.add(store.analysis_key(analysis.run))
        self._note(log, store.analysis_key(analysis.run))
        self.session.clear_problem(SAVING)
        if self.decided_elsewhere(analysis):
            self.session.notify(_ELSEWHERE)
        return True

    def _note(self, log: ReadSession, analysis: str) -> None:
        """Record the folder that stored decisions last, so that they are found again."""
        noted = (analysis, log.database.folder)
        if log.key.session or noted == self._noted:
            return
        try:
            own_log.note_kept(analysis, log.key.reader, log.database.folder)
        except LesionLensError as error:
            logger.warning("Where decisions were kept was not noted: %s", error.found)
        self._noted = noted


def _own_key(study: Study) -> ReadKey:
    return own_log.own_key(study, read_preferences().reader_name or "")
