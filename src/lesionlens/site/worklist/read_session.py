"""One reader's session with one study: every act is stored immediately, with timing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Container, Iterable, Mapping
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

NOTHING_SEEN = "nothing seen"


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
        self._last = clock()
        self._left = False
        self._analysis, self._review, self._takes_over = "", Review(), False
        self._unseen: tuple[ReviewEvent, ...] = ()
        self._begun: ReviewEvent | None = self._made(ReviewAct.BEGIN, WHOLE_STUDY)
        self._acts.append(self._begun)
        with suppress(ResourceError):  # it is stored with the first act, of which the reader hears
            self._write([])

    @property
    def read(self) -> Read:
        """The current read, derived from the acts."""
        return read_of(self.key, self._acts)

    @property
    def closed(self) -> bool:
        """Whether the analysis must be hidden."""
        if not self.key.arm.aided:
            return True
        return self.unaided_first and self.read.unaided is None

    @property
    def phase(self) -> Phase:
        """Phase of a new act."""
        return Phase.UNAIDED if self.closed else Phase.AIDED

    @property
    def locked(self) -> bool:
        """Whether the unaided read is signed and the analysis stays hidden."""
        return self.closed and self.read.unaided is not None

    @property
    def signed(self) -> bool:
        """Whether this part of the read is signed, so that nothing can be added."""
        return self.locked or (not self.closed and self.read.signed is not None)

    @property
    def shown_before(self) -> str | None:
        """Date (UTC) when the study was opened with its analysis not hidden, or None."""
        days = [act.time[:10] for act in self._acts if act.phase is Phase.AIDED]
        return min([*days[:1], *filter(None, [self.shown_elsewhere])], default=None)

    @property
    def unaided_statement(self) -> str:
        """What an unaided signature states now: marks, and whether the analysis may be known."""
        count = len(self.read.marks_of(Phase.UNAIDED))
        found = f"{count} marked" if count else NOTHING_SEEN
        before = self.shown_before
        return f"{found}; opened on {before} with the analysis not hidden" if before else found

    def mark(self, at_mm: Point, confidence: int | None = None) -> Mark:
        """Add a mark; return it.

        Raises
        ------
        UnusableInputError
            The read is signed, or the confidence is not 0 to 100.
        """
        self._refuse_signed()
        self._check(confidence)
        uid = f"2.25.{uuid.uuid4().int}"
        self._add(ReviewAct.PLACE, uid, at_mm=at_mm, confidence=confidence)
        return Mark(uid, at_mm, confidence, self.phase)

    def take_back(self, uid: str) -> None:
        """Remove a mark, unless it belongs to a signed unaided read.

        Raises
        ------
        UnusableInputError
            There is no such mark, or it was signed.
        """
        self._refuse_signed()
        found = next((mark for mark in self.read.marks if mark.uid == uid), None)
        if found is None or found.phase is not self.phase:
            raise UnusableInputError(
                found="a mark that no longer exists, or was signed as unaided",
                expected="a mark of this part of the reading",
                next_step="Keep it: marks signed before the analysis was shown cannot be removed",
            )
        self._add(ReviewAct.TAKE_BACK, uid)

    def show(self, analysis: str, review: Review, known: Container[str] | None = None) -> None:
        """Continue from the review of an analysis.

        Decisions in the log that follow the shown ones were made in another window since: new ones
        are added to them.

        Parameters
        ----------
        analysis : str
            Key of the analysis (`results.review.store.analysis_key`).
        review : Review
            Review as shown; if the log has other decisions, the review replaces them with the
            first new decision.
        known : container of str
            Tracking UIDs of the shown candidates; decisions on others are not replaced. None for
            all candidates.
        """
        logged = self.database.reviews(analysis).get(self.key, (Review(),))[-1]
        seen = logged if known is None else logged.restricted_to(known)
        self._analysis, self._review = analysis, review
        self._unseen = tuple(event for event in logged.events if event not in seen.events)
        decisions = tuple(as_stored(event.decision) for event in review.events)
        begun, signed = len(decisions), len(review.responses)
        same = (seen.events, seen.responses) == (decisions, review.responses)
        goes_on = seen.events[:begun] == decisions and seen.responses[:signed] == review.responses
        self._takes_over = not (same or (goes_on and len(seen.events) > begun))

    def keep(
        self,
        review: Review,
        at_mm: Mapping[str, Point] = MappingProxyType({}),
        confidence: int | None = None,
    ) -> None:
        """Store new decisions atomically, including ones that failed to be stored before.

        Parameters
        ----------
        review : Review
            Review that continues the previous one.
        at_mm : mapping of str to (3,)
            Centroids of candidates by tracking UID, patient RAS+.
        confidence : int or None
            Confidence of the new decisions, 0 to 100.
        """
        self._check(confidence)
        count = len(self._review.events)
        new = (*review.events[count:], *self._signed(review, len(self._review.responses)))
        if not new:
            return
        at = self._clock()
        acts = [
            replace(
                event,
                phase=self.phase,
                seconds=0.0 if number else max(at - self._last, 0.0),
                at_mm=at_mm.get(event.tracking_uid),
                confidence=confidence,
            )
            for number, event in enumerate(new)
        ]
        if self._takes_over:
            acts = [*self._adopted(at_mm), *acts]
        self._store(acts, review)
        self._review, self._last = review, at

    def take_over(self, at_mm: Mapping[str, Point] = MappingProxyType({})) -> None:
        """Store the decisions that were shown, if this log has others or none.

        Parameters
        ----------
        at_mm : mapping of str to (3,)
            Centroids of candidates by tracking UID, patient RAS+.
        """
        if self._takes_over:
            self._store(self._adopted(at_mm), self._review)

    def _store(self, acts: list[ReviewEvent], review: Review) -> None:
        """Store decisions and their outlines; the log then continues the shown review."""
        named = {act.outline for act in acts}
        outlines = [outline for name, outline in review.outlines.items() if name in named]
        self._write(acts, self._analysis, outlines)
        self._acts += acts
        self._takes_over = False

    def _adopted(self, at_mm: Mapping[str, Point]) -> list[ReviewEvent]:
        """Return decisions made elsewhere, with this read's confidence ratings.

        Decisions of this log that were not shown, and so not replaced, follow them.
        """
        rated = {(v.tracking_uid, v.state): v.confidence for v in self.read.verdicts}
        taken = [
            replace(
                event,
                at_mm=at_mm.get(event.tracking_uid),
                confidence=rated.get((event.tracking_uid, event.state)),
            )
            for event in (*self._review.events, *self._unseen)
        ]
        begin = self._made(ReviewAct.TAKE_OVER, WHOLE_STUDY)
        return [begin, *taken, *self._signed(self._review, 0)]

    def _signed(self, review: Review, since: int) -> list[ReviewEvent]:
        """Return signed responses as acts."""
        return [
            self._made(ReviewAct.RESPONSE, WHOLE_STUDY, response=signed)
            for signed in review.responses[since:]
        ]

    @property
    def review(self) -> Review:
        """The review that was stored last."""
        return self._review

    def sign(self, words: str | None = None) -> str:
        """Sign this part of the read; return the statement.

        Parameters
        ----------
        words : str, optional
            Statement signed at the end. An unaided read states the number of marks, or that nothing
            was seen, and when the analysis may have been seen before.

        Raises
        ------
        UnusableInputError
            The read is signed, or was marked or signed in another window since.
        """
        self._refuse_signed()
        self._refuse_unseen()
        count = len(self.read.marks_of(self.phase))
        summary = f"{count} marked" if count else NOTHING_SEEN
        what = self.unaided_statement if self.closed else words or summary
        self._add(ReviewAct.MARK, state=ReviewState.ACCEPTED, reason=what)
        return what

    def leave(self) -> None:
        """Close the study and stop the clock until it is opened again; idempotent."""
        if not self._left:
            self._add(ReviewAct.LEAVE)
            self._left = True

    def under(self, reader: str) -> ReadSession:
        """End this read, and continue it under a reader's name."""
        self.leave()
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
        at = self._clock()
        made = self._made(act, uid, seconds=max(at - self._last, 0.0), **fields)
        self._write([made])
        self._acts.append(made)
        self._last = at

    def _write(
        self, acts: list[ReviewEvent], analysis: str = "", outlines: Iterable[Outline] = ()
    ) -> None:
        """Write acts to the database, after the beginning of the read if that is not there yet."""
        if self._begun is not None:
            self.database.add(self.key, [self._begun])
            self._begun = None
        if acts:
            self.database.add(self.key, acts, analysis, outlines)

    def _made(
        self,
        act: ReviewAct,
        uid: str,
        state: ReviewState = ReviewState.UNREVIEWED,
        **fields: Any,
    ) -> ReviewEvent:
        reader = self.key.reader or None
        return ReviewEvent(uid, state, reader, now(), act=act, phase=self.phase, **fields)

    def _refuse_signed(self) -> None:
        if self.signed:
            raise UnusableInputError(
                found="a signed read",
                expected="an open read",
                next_step="Go to the next study"
                if self.locked
                else "Withdraw the signature first, or go to the next study",
            )

    def _refuse_unseen(self) -> None:
        stored, own = self.database.read(self.key), self.read
        same = {mark.uid for mark in stored.marks} == {mark.uid for mark in own.marks}
        if not same or (stored.unaided, stored.signed) != (own.unaided, own.signed):
            raise UnusableInputError(
                found="marks or a signature of another window on this study",
                expected="a read that is shown as a whole",
                next_step="Open the study again to see all, then sign",
            )

    @staticmethod
    def _check(confidence: int | None) -> None:
        if confidence is not None and not 0 <= confidence <= 100:
            raise UnusableInputError(
                found=f"a confidence of {confidence}",
                expected="0 to 100",
                next_step="Enter a percentage",
            )
