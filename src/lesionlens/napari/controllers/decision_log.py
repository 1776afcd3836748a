"""The logs that hold a reader's decisions on the shown analysis."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lesionlens.base.errors import LesionLensError
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.followup import compared_uids, own_uids
from lesionlens.base.records.review import Review, ReviewEvent, valid_and_undone
from lesionlens.napari.controllers.current_read import CurrentRead, close_log, own_key
from lesionlens.napari.model.wording import reads
from lesionlens.napari.model.wording.edits import SIGNED, unfinished_drawing
from lesionlens.results.review import store
from lesionlens.site.database.reads import as_stored
from lesionlens.site.database.records import ReadKey
from lesionlens.site.worklist import reader_log
from lesionlens.site.worklist.read_session import ReadSession

logger = logging.getLogger(__name__)

_DECIDED_ELSEWHERE = (
    "Decisions on this study were also made in another window: open it again to see them all, "
    "then sign."
)
_SIGNED_ELSEWHERE = (
    "This study was signed in another window: withdraw the signature there, or open the study "
    "again to see it."
)
_SIGNED_WHILE_DRAWING = (
    "This study was signed in another window: withdraw the signature there, or discard what you "
    "are drawing and open the study again."
)

_ReadLog = Callable[[Analysis, ReadKey, Path], frozenset[object]]


@dataclass(frozen=True, slots=True)
class _Continuation:
    """The review that was stored or shown last, and the log that continues it."""

    review: Review = field(default_factory=Review)
    """Under the result's own tracking UIDs."""
    log: ReadSession | None = None


class DecisionLog:
    """Chooses the log of new decisions, and compares it with what the window shows.

    Parameters
    ----------
    current : CurrentRead
        The read in progress, whose log is used; the reader's own log is used outside a read.
    """

    def __init__(self, current: CurrentRead) -> None:
        self._current = current
        self._own_log: ReadSession | None = None
        """Log of decisions outside a read."""
        self._logged: frozenset[object] = frozenset()
        """Decisions in the logs when the analysis was shown."""
        self._continuation = _Continuation()
        self._noted_location: tuple[str, Path] | None = None

    def review_of(self, analysis: Analysis) -> tuple[Review, str]:
        """Return the review of the next result, and a message if it has decisions from the log.

        The shown review is continued if it applies, unless the log has decisions that the shown
        result could not have: on candidates that it lacks, or of another network. On the result of
        another network a signature does not apply, but what the reader added by hand does.
        """
        state = self._current.session.state
        previous = state.analysis
        uids = {candidate.tracking_uid for candidate in analysis.findings.candidates}
        if previous is None or not state.review.events:
            return self.recovered(analysis)
        own = reader_log.with_own_uids(previous, state.review)
        shown = own.renamed(compared_uids(analysis.followup))
        is_same_network = store.analysis_key(previous.run) == store.analysis_key(analysis.run)
        applies = (
            shown.continues(analysis.review)
            and shown.restricted_to(uids).events == shown.events
            and (is_same_network or shown.signature is None)
        )
        has_same_candidates = _own_candidates(analysis) <= _own_candidates(previous)
        if applies and is_same_network and has_same_candidates:
            return shown.with_signed(analysis.review), ""
        known = self._logged
        logged, message = self.recovered(analysis)
        logged_events, shown_events = (set(map(as_stored, r.events)) for r in (logged, shown))
        is_continued = applies and logged_events <= shown_events
        if applies and is_same_network and not (is_continued or shown_events <= logged_events):
            self._logged = known  # others of the log count as those of another window
            is_continued = True
        if is_continued:
            return shown.with_signed(analysis.review), ""
        return (logged if is_same_network else self._with_additions(logged, shown)), message

    def _with_additions(self, review: Review, shown: Review) -> Review:
        """Return a review with what its reader added by hand in another one, which is shown.

        Only the acts that are valid there are added: its undo acts would undo others here. A
        signature of this reader is reopened by later acts alone, and only if they are not signed
        there; another reader's is not: it is withdrawn with a reason.
        """
        reader, signature = self._current.reader or None, review.signature
        is_foreign = signature is not None and signature.reader != reader
        if is_foreign or (signature is not None and shown.signature is not None):
            return review
        signed = "" if signature is None else signature.time
        omitted = {event.tracking_uid for event in review.events}
        added = list[ReviewEvent]()
        for act in _acts_of(valid_and_undone(shown.restricted_to(()).events)[0]):
            uids = {event.tracking_uid for event in act}
            is_own = all(event.reader == reader and event.time > signed for event in act)
            if uids & omitted or not is_own:
                omitted |= uids
            else:
                added += act
        outlines = {e.outline: shown.outlines[e.outline] for e in added if e.outline is not None}
        return replace(
            review,
            events=(*review.events, *added),
            outlines={**review.outlines, **outlines},
        )

    def recovered(self, analysis: Analysis) -> tuple[Review, str]:
        """Return the review of an analysis, and a message if it has decisions from the log.

        The reader's log is used if it continues the analysis's own review.
        """
        key, folder = self._location(analysis)
        self._logged = self._logged_anywhere(analysis, reader_log.logged_decisions)
        recovery = reader_log.recover_review(analysis, key, folder)
        if recovery.conflicting.events:
            return recovery.review, reader_log.save_conflicting(analysis, recovery.conflicting)
        if not recovery.review.events or recovery.review.events == analysis.review.events:
            return recovery.review, ""
        return recovery.review, reads.RESTORED

    def left_behind(self, analysis: Analysis, review: Review) -> str:
        """Return a notice if `review`, of the next result, lacks decisions on the one shown."""
        old = self._current.session.state
        if old.analysis is None or old.study is not analysis.study:
            return ""
        shown = reader_log.with_own_uids(old.analysis, old.review)
        decisions = frozenset(map(as_stored, shown.events))
        applying = map(as_stored, reader_log.with_own_uids(analysis, review).events)
        kept = decisions.intersection(applying)
        if kept == decisions:
            return ""
        return reads.ON_OTHER_CANDIDATES if kept else reads.ON_PREVIOUS_RESULT

    def set_other_aside(self, analysis: Analysis, reader: str) -> str:
        """Save the other decisions of a reader who continues an unnamed review; return a notice.

        In the log the review, which `analysis` has, replaces them. Empty if there are none.
        """
        key, folder = self._location(analysis)
        recovery = reader_log.recover_review(analysis, replace(key, reader=reader), folder)
        self._logged |= recovery.logged
        if not recovery.conflicting.events:
            return ""
        return reader_log.save_conflicting(analysis, recovery.conflicting, reads.SHOWN_UNNAMED)

    def _location(self, analysis: Analysis) -> tuple[ReadKey, Path]:
        """Return the key and folder of the log of decisions on an analysis."""
        read_session = self._current.read_session
        if read_session is None:
            return own_key(analysis.study), reader_log.own_folder()
        return read_session.key, read_session.database.folder

    def decided_elsewhere(
        self, analysis: Analysis, review: Review | None = None, *, signed: bool = False
    ) -> bool:
        """Whether another window decided on, or signed, the shown analysis since it was shown.

        Decisions that `review` contains do not count; None for the review shown.
        """
        read = reader_log.logged_signature if signed else reader_log.logged_decisions
        new_decisions = self._logged_anywhere(analysis, read) - self._logged
        if review is None:
            review = self._current.session.state.review
        return reader_log.lacks_decisions(review, analysis, new_decisions)

    def signed_obstacle(self) -> str:
        """Return that the study is signed, here or in another window; empty if it is not."""
        state = self._current.session.state
        if state.review.signed is not None:
            return f"{SIGNED}."
        if state.analysis is None or not self.decided_elsewhere(state.analysis, signed=True):
            return ""
        return _SIGNED_ELSEWHERE if state.editing is None else _SIGNED_WHILE_DRAWING

    def unsettled(self) -> str:
        """Return what must be settled before a signature: strokes, or another window's decisions.

        Interrupted strokes could not be kept once the study is signed. Empty if there is nothing.
        """
        state = self._current.session.state
        unseen = state.analysis is not None and self.decided_elsewhere(state.analysis)
        return unfinished_drawing(state) or (_DECIDED_ELSEWHERE if unseen else "")

    def _logged_anywhere(self, analysis: Analysis, read: _ReadLog) -> frozenset[object]:
        """Read the log of the read, and the reader's own, which a window without a list uses."""
        key, folder = self._location(analysis)
        folders = {folder} if key.session else {folder, reader_log.own_folder()}
        return frozenset().union(*(read(analysis, key, path) for path in folders))

    def log_of(self, analysis: Analysis) -> ReadSession:
        """Return the log for decisions: the read in progress, else the reader's own log.

        Raises
        ------
        LesionLensError
            The log cannot be opened, read or written.
        """
        log = self._open_log(analysis)
        if log is not self._continuation.log:
            review = self._continuation.review
            analysis_key = store.analysis_key(analysis.run)
            log.continue_from(analysis_key, review, reader_log.centroids(analysis))
            self._continuation = _Continuation(review, log)
        return log

    def _open_log(self, analysis: Analysis) -> ReadSession:
        if self._own_log is not None and self._own_log.database.is_missing:
            self._own_log = None  # the new log takes over all decisions
        key = own_key(analysis.study)
        if self._own_log is not None and self._own_log.key != key:  # another reader continues
            self._own_log.close()
            self._own_log = None
        log = self._current.read_session or self._own_log
        if log is None:
            log = self._own_log = ReadSession(self._current.reader_log.database, key)
        return log

    def continue_from(self, analysis: Analysis, review: Review) -> None:
        """Continue from the review with which an analysis is shown, in a log yet to be chosen."""
        self._continuation = _Continuation(reader_log.with_own_uids(analysis, review))

    def continue_stored(self, review: Review) -> None:
        """Continue from a review (own tracking UIDs) that was stored, in the same log."""
        self._continuation = replace(self._continuation, review=review)

    def note_location(self, log: ReadSession, analysis_key: str) -> None:
        """Record the folder that stored decisions last, so that they are found again."""
        location = (analysis_key, log.database.folder)
        if log.key.session or location == self._noted_location:
            return
        try:
            reader_log.record_last_folder(analysis_key, log.key.reader, log.database.folder)
        except LesionLensError as error:
            logger.warning("The folder of the decisions could not be recorded: %s", error.found)
        self._noted_location = location

    def name_reader(self, reader: str) -> None:
        """Continue an unnamed reader's own log under a name."""
        if self._own_log is not None and not self._own_log.key.reader:
            self._own_log = self._own_log.continue_as(reader)

    def leave(self) -> None:
        """Close the reader's own log."""
        own_log, self._own_log = self._own_log, None
        self._continuation = replace(self._continuation, log=None)
        close_log(own_log)


def _acts_of(events: Iterable[ReviewEvent]) -> list[list[ReviewEvent]]:
    """Group events by the act that they are part of, such as a merge."""
    acts = list[list[ReviewEvent]]()
    for event in events:
        if event.with_previous and acts:
            acts[-1].append(event)
        else:
            acts.append([event])
    return acts


def _own_candidates(analysis: Analysis) -> frozenset[str]:
    """Return the result's own tracking UIDs of the candidates that the network found."""
    new_uids = own_uids(analysis.followup)
    candidates = analysis.network.findings.candidates
    return frozenset(new_uids.get(one.tracking_uid, one.tracking_uid) for one in candidates)
