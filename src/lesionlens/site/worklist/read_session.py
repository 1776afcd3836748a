"""One reader's session with one study: every act is stored immediately, with timing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.labels import Phase, ReviewAct, ReviewState
from lesionlens.base.records.findings import Point
from lesionlens.base.records.review import (
    WHOLE_STUDY,
    Outline,
    Review,
    ReviewEvent,
    UnaidedMark,
    UnaidedRead,
)
from lesionlens.results.review.log import now
from lesionlens.site.database.reads import as_stored, read_of
from lesionlens.site.database.records import Mark, Read, ReadKey
from lesionlens.site.database.worklist_database import WorklistDatabase

EMPTY_REFERENCE = "nothing seen"


class ReadSession:
    """A read in progress, from opening the study until leaving it.

    Parameters
    ----------
    unaided_first : bool
        Whether the reader signs before the analysis is shown.
    shown_elsewhere : str or None
        Day (UTC, YYYY-MM-DD) when the analysis was shown outside this read.
    clock : callable
        Monotonic clock, seconds.
    """

    def __init__(
        self,
        database: WorklistDatabase,
        key: ReadKey,
        *,
        unaided_first: bool = False,
        shown_elsewhere: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.key, self.unaided_first = key, unaided_first
        self.shown_elsewhere = shown_elsewhere
        self.database, self._clock = database, clock
        self._acts = list(database.read(key).acts)
        self._last_clock_s = clock()
        self._has_left = False
        self._analysis, self._review, self._replaces_log = "", Review(), False
        self._shown = self._review
        self._hidden_events: tuple[ReviewEvent, ...] = ()
        self._pending_begin: ReviewEvent | None = self._create_event(ReviewAct.BEGIN, WHOLE_STUDY)
        self._acts.append(self._pending_begin)
        with suppress(ResourceError):  # retried with the first act, whose failure is reported
            self._write([])

    @property
    def read(self) -> Read:
        """The current read, derived from the acts."""
        return read_of(self.key, self._acts)

    @property
    def is_analysis_hidden(self) -> bool:
        """Whether the analysis must be hidden."""
        if not self.key.arm.aided:
            return True
        return self.unaided_first and self.read.unaided is None

    @property
    def phase(self) -> Phase:
        """Phase of a new act."""
        return Phase.UNAIDED if self.is_analysis_hidden else Phase.AIDED

    @property
    def is_unaided_signed(self) -> bool:
        """Whether the unaided read is signed and the analysis stays hidden."""
        return self.is_analysis_hidden and self.read.unaided is not None

    @property
    def is_signed(self) -> bool:
        """Whether this part of the read is signed, so that nothing can be added."""
        return self.is_unaided_signed or (
            not self.is_analysis_hidden and self.read.signed is not None
        )

    @property
    def shown_before(self) -> str | None:
        """Date (UTC) when the study was opened with its analysis not hidden, or None."""
        days = [act.time[:10] for act in self._acts if act.phase is Phase.AIDED]
        return min([*days[:1], *filter(None, [self.shown_elsewhere])], default=None)

    @property
    def unaided_summary(self) -> str:
        """Statement of an unaided signature: marks, and when the analysis was visible before."""
        count = len(self.read.marks_of(Phase.UNAIDED))
        marks_text = f"{count} marked" if count else EMPTY_REFERENCE
        if first_shown := self.shown_before:
            marks_text += f"; opened on {first_shown} with the analysis not hidden"
        return marks_text

    def mark(self, at_mm: Point, confidence: int | None = None) -> Mark:
        """Add a mark; return it.

        Raises
        ------
        UnusableInputError
            The read is signed, also in another window.
        """
        self._refuse_signed()
        uid = f"2.25.{uuid.uuid4().int}"
        self._add(ReviewAct.PLACE_MARK, uid, at_mm=at_mm, confidence=confidence)
        return Mark(uid, at_mm, confidence, self.phase)

    def remove_mark(self, uid: str) -> None:
        """Remove a mark, unless it belongs to a signed unaided read.

        Raises
        ------
        UnusableInputError
            There is no such mark, or it was signed, also in another window.
        """
        self._refuse_signed()
        mark = next((m for m in self.read.marks if m.uid == uid), None)
        if mark is None or mark.phase is not self.phase:
            raise UnusableInputError(
                found="a mark that no longer exists, or was signed as unaided",
                expected="a mark of this part of the reading",
                next_step="Keep it: marks signed before the analysis was shown cannot be removed",
            )
        self._add(ReviewAct.REMOVE_MARK, uid)

    def continue_from(
        self, analysis: str, review: Review, candidate_uids: Collection[str] | None = None
    ) -> None:
        """Continue from the review of an analysis.

        Decisions in the log that follow the shown ones were made in another window; new decisions
        are appended to them, after shown ones that this read has on another analysis alone.

        Parameters
        ----------
        analysis : str
            Key of the analysis (`results.review.store.analysis_key`).
        review : Review
            Review as shown; if the log has other decisions, the review replaces them with the
            first new decision.
        candidate_uids : collection of str
            Tracking UIDs of the shown candidates; decisions on others, on which the review has
            none either, are not replaced. None for all candidates.
        """
        logged = self.database.reviews(analysis).get(self.key, (Review(),))[-1]
        reviewed_uids = {event.tracking_uid for event in review.events}  # merged ones too
        shown_log = logged
        if candidate_uids is not None:
            shown_log = logged.restricted_to(reviewed_uids.union(candidate_uids))
        self._analysis, self._review = analysis, review
        self._hidden_events = tuple(e for e in logged.events if e not in shown_log.events)
        decisions = tuple(as_stored(event.decision) for event in review.events)
        n_logged = len(shown_log.events)
        self._replaces_log = not (
            shown_log.events[: len(decisions)] == decisions[:n_logged]
            and self._decisions.issuperset(decisions[n_logged:])
            and shown_log.responses[: len(review.responses)] == review.responses
        )
        self._shown = review
        if not self._replaces_log:
            self._review = replace(review, events=review.events[:n_logged])

    @property
    def _decisions(self) -> frozenset[ReviewEvent]:
        """The decisions of this read, on any analysis."""
        return frozenset(act.decision for act in self._acts)

    def store_decisions(
        self,
        review: Review,
        at_mm: Mapping[str, Point] = MappingProxyType({}),
        confidence: int | None = None,
    ) -> None:
        """Store new decisions atomically, including ones that failed to be stored before.

        Parameters
        ----------
        at_mm : mapping of str to (3,)
            Centroids of candidates by tracking UID, patient RAS+.
        confidence : int or None
            Confidence of the new decisions, 0 to 100.
        """
        n_stored = len(self._review.events)
        new_decisions = (
            *review.events[n_stored:],
            *self._response_events(review, len(self._review.responses)),
        )
        if not new_decisions:
            return
        clock_s, earlier = self._clock(), self._decisions
        acts = [
            replace(
                event,
                phase=self.phase,
                seconds=0.0 if index else max(clock_s - self._last_clock_s, 0.0),
                at_mm=at_mm.get(event.tracking_uid),
                confidence=None if as_stored(event.decision) in earlier else confidence,
            )
            for index, event in enumerate(new_decisions)
        ]
        if self._replaces_log:
            acts = [*self._takeover_events(at_mm), *acts]
        self._store(acts, review)
        self._review, self._last_clock_s = review, clock_s

    def replace_log(self, at_mm: Mapping[str, Point] = MappingProxyType({})) -> None:
        """Store the decisions shown, if this log has others or none; see `store_decisions`.

        Those that this read has on another analysis reopen no signature.
        """
        if self._replaces_log:
            self._store(self._takeover_events(at_mm), self._review)
        elif not self.is_signed:
            self.store_decisions(self._shown, at_mm)

    def _store(self, acts: list[ReviewEvent], review: Review) -> None:
        """Store decisions and their outlines; the log then continues the shown review."""
        outline_names = {act.outline for act in acts}
        outlines = [outline for name, outline in review.outlines.items() if name in outline_names]
        self._write(acts, self._analysis, outlines)
        self._acts += acts
        self._replaces_log = False

    def _takeover_events(self, at_mm: Mapping[str, Point]) -> list[ReviewEvent]:
        """Return decisions made elsewhere, with this read's confidence ratings.

        Decisions of this log that were not shown are not replaced: they follow.
        """
        confidences = {
            (verdict.tracking_uid, verdict.state): verdict.confidence
            for verdict in self.read.verdicts
        }
        adopted = [
            replace(
                event,
                at_mm=at_mm.get(event.tracking_uid),
                confidence=confidences.get((event.tracking_uid, event.state)),
            )
            for event in (*self._review.events, *self._hidden_events)
        ]
        takeover = self._create_event(ReviewAct.TAKE_OVER, WHOLE_STUDY)
        return [takeover, *adopted, *self._response_events(self._review, 0)]

    def _response_events(self, review: Review, start: int) -> list[ReviewEvent]:
        """Return signed responses as acts."""
        return [
            self._create_event(ReviewAct.RESPONSE, WHOLE_STUDY, response=response)
            for response in review.responses[start:]
        ]

    @property
    def review(self) -> Review:
        """The review that was stored last."""
        return self._review

    def sign(self, text: str | None = None) -> str:
        """Sign this part of the read; return the statement.

        Parameters
        ----------
        text : str, optional
            Statement signed at the end. An unaided read states the number of marks, or that nothing
            was seen, and when the analysis may have been seen before.

        Raises
        ------
        UnusableInputError
            The read is signed, or was marked or signed in another window since.
        """
        self._refuse_signed()
        self._refuse_other_marks()
        count = len(self.read.marks_of(self.phase))
        summary = f"{count} marked" if count else EMPTY_REFERENCE
        statement = self.unaided_summary if self.is_analysis_hidden else text or summary
        self._add(ReviewAct.DECIDE, state=ReviewState.ACCEPTED, reason=statement)
        return statement

    def close(self) -> None:
        """Close the study and stop the clock until it is opened again; idempotent."""
        if not self._has_left:
            self._add(ReviewAct.LEAVE)
            self._has_left = True

    def continue_as(self, reader: str) -> ReadSession:
        """End this read, and continue it under a reader's name."""
        self.close()
        key = self.database.name_reader(self.key, reader)
        return ReadSession(
            self.database,
            key,
            unaided_first=self.unaided_first,
            shown_elsewhere=self.shown_elsewhere,
            clock=self._clock,
        )

    def unaided_read(self) -> UnaidedRead | None:
        """Return the signed unaided read for the review; None if there is none."""
        read = self.read
        if read.unaided is None:
            return None
        signed = next(
            a for a in reversed(read.acts) if a.state.decided and a.phase is Phase.UNAIDED
        )
        marks = read.marks_of(Phase.UNAIDED)
        return UnaidedRead(
            reader=self.key.reader or None,
            begun=read.begun,
            time=signed.time,
            seconds=round(read.unaided_seconds, 3),
            statement=read.unaided,
            marks=tuple(UnaidedMark(m.uid, m.at_mm, m.confidence) for m in marks),
        )

    def _add(self, act: ReviewAct, uid: str = WHOLE_STUDY, **fields: Any) -> None:
        clock_s = self._clock()
        event = self._create_event(
            act, uid, seconds=max(clock_s - self._last_clock_s, 0.0), **fields
        )
        self._write([event])
        self._acts.append(event)
        self._last_clock_s = clock_s

    def _write(
        self, acts: list[ReviewEvent], analysis: str = "", outlines: Iterable[Outline] = ()
    ) -> None:
        """Write acts to the database, preceded by the start of the read if it is not yet stored."""
        if self._pending_begin is not None:
            self.database.add_acts(self.key, [self._pending_begin])
            self._pending_begin = None
        if acts:
            self.database.add_acts(self.key, acts, analysis, outlines)

    def _create_event(
        self, act: ReviewAct, uid: str, state: ReviewState = ReviewState.UNREVIEWED, **fields: Any
    ) -> ReviewEvent:
        reader = self.key.reader or None
        return ReviewEvent(
            uid, state, reader=reader, time=now(), act=act, phase=self.phase, **fields
        )

    def _refuse_signed(self) -> None:
        if self.is_signed:
            raise UnusableInputError(
                found="a signed read",
                expected="an open read",
                next_step="Go to the next study"
                if self.is_unaided_signed
                else "Withdraw the signature first, or go to the next study",
            )
        stored, shown = self.database.read(self.key), self.read
        if (stored.unaided, stored.signed) != (shown.unaided, shown.signed):
            raise UnusableInputError(
                found="a signature of another window on this study",
                expected="a read that is shown as a whole",
                next_step="Open the study again",
            )

    def _refuse_other_marks(self) -> None:
        stored, shown = self.database.read(self.key), self.read
        if {mark.uid for mark in stored.marks} != {mark.uid for mark in shown.marks}:
            raise UnusableInputError(
                found="marks of another window on this study",
                expected="a read that is shown as a whole",
                next_step="Open the study again to see all, then sign",
            )
