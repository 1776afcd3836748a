"""Stores decisions in the log when they are made, and again if that failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lesionlens.base.errors import LesionLensError
from lesionlens.base.labels import ReviewAct
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Point
from lesionlens.base.records.review import Review
from lesionlens.napari.controllers.current_read import CurrentRead
from lesionlens.napari.controllers.decision_log import DecisionLog
from lesionlens.napari.controllers.marking import Marking
from lesionlens.napari.model.acts.session import SAVING
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording import reads
from lesionlens.results.review import store
from lesionlens.site.worklist import reader_log
from lesionlens.site.worklist.read_session import ReadSession

_Write = Callable[[ReadSession, Mapping[str, Point]], None]


class DecisionSaver:
    """Keeps the log equal to the shown review.

    Parameters
    ----------
    marking : Marking
        Holds the confidence of the next decision, and shows the read after it.
    """

    def __init__(self, current: CurrentRead, log: DecisionLog, marking: Marking) -> None:
        self._current, self._log, self._marking = current, log, marking
        self.all_saved = True
        """Whether every decision is on disk."""
        self._noticed: set[str] = set()
        """Notices shown since the last act that could not be stored."""
        marking.on_stored = lambda: self.retry(self._current.session.state)

    def save(self, analysis: Analysis, review: Review, next_step: str = reads.SAVED_LATER) -> None:
        """Store new decisions with their timing; notify if they reopen a signed read.

        Parameters
        ----------
        review : Review
            The shown review under the result's own tracking UIDs.
        next_step : str
            What the reader can do if it cannot be stored.
        """
        was_signed, confidence = self._current.is_signed, self._marking.confidence
        if self._store(
            analysis,
            lambda log, centroids: log.store_decisions(review, centroids, confidence),
            next_step,
        ):
            self._log.continue_stored(review)
            self._marking.confidence = None
            self._marking.show_marks()
            is_reopened = was_signed and not self._current.is_signed
            if is_reopened and review.events[-1].act is not ReviewAct.WITHDRAW:
                self._current.session.notify(reads.REOPENED)

    def store_shown(self) -> None:
        """Store the decisions shown in the reader's log, before the reader makes one."""
        analysis = self._current.session.state.analysis
        if analysis is not None and self._store(analysis, ReadSession.replace_log):
            self._marking.show_marks()

    def store_own_shown(self) -> None:
        """Store the shown decisions that the reader made elsewhere, so that the list has them too.

        Those that continue another reader's, named or not, are the reader's own. Another reader's
        alone are stored only with the first decision that continues them.
        """
        read_session = self._current.read_session
        events = self._current.session.state.review.events
        last_reader = (events[-1].reader or "") if events else None
        if read_session is not None and last_reader == read_session.key.reader:
            self.store_shown()

    def _store(self, analysis: Analysis, write: _Write, next_step: str = reads.SAVED_LATER) -> bool:
        """Write decisions to the log; False, with a message, if that failed."""
        try:
            log = self._log.log_of(analysis)
            write(log, reader_log.centroids(analysis))
        except LesionLensError as error:
            self.all_saved, self._noticed = False, set()
            self._current.report_unsaved(error, next_step)
            return False
        self.all_saved, self._noticed = True, set()
        self._log.note_location(log, store.analysis_key(analysis.run))
        self._current.session.clear_problem(SAVING)
        if self._log.decided_elsewhere(analysis):
            self._current.session.notify(reads.ELSEWHERE)
        return True

    def may_leave(self, notice: str = reads.UNSAVED) -> bool:
        """Retry unsaved decisions; False, with the notice, if that fails the first time since."""
        self.retry(self._current.session.state)
        if self.all_saved or notice in self._noticed:
            return True
        self._noticed = self._noticed | {notice}
        return self._current.session.decline(notice)

    def retry(self, state: State, next_step: str = reads.SAVED_LATER) -> None:
        """Store the decisions of a state if that failed before."""
        if not self.all_saved and state.analysis is not None:
            noticed = self._noticed
            review = reader_log.with_own_uids(state.analysis, state.review)
            self.save(state.analysis, review, next_step)
            self._noticed = noticed  # they concern the same decisions

    def leave(self) -> None:
        """Forget the unsaved decisions of a study that is left."""
        self.all_saved, self._noticed = True, set()
