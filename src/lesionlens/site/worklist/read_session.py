"""One reader before one study: every act is kept at once, with the seconds since the one before."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.findings import Point
from lesionlens.base.records.review import UnaidedMark, UnaidedRead
from lesionlens.results.review.log import now
from lesionlens.site.database.reads import read_of
from lesionlens.site.database.records import Act, ActKind, Mark, Phase, Read, ReadKey
from lesionlens.site.database.worklist_database import WorklistDatabase

NOTHING_SEEN = "nothing seen"


class ReadSession:
    """A read that goes on: from the moment the study is before the reader until it is left.

    Parameters
    ----------
    database : WorklistDatabase
        Keeps the acts.
    key : ReadKey
        Whose read of what.
    unaided_first : bool
        Whether the reader signs before the analysis is shown.
    clock : callable
        Seconds, never set back.
    """

    def __init__(
        self,
        database: WorklistDatabase,
        key: ReadKey,
        *,
        unaided_first: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.key, self.unaided_first = key, unaided_first
        self.database, self._clock = database, clock
        self._acts = list(database.read(key).acts)
        self._last = clock()
        self._left = False
        self._add(ActKind.BEGIN)

    @property
    def read(self) -> Read:
        """What the acts amount to now."""
        return read_of(self.key, self._acts)

    @property
    def closed(self) -> bool:
        """Whether nothing of the analysis may be shown."""
        if not self.key.arm.aided:
            return True
        return self.unaided_first and self.read.unaided is None

    @property
    def phase(self) -> Phase:
        """In which phase an act of now belongs."""
        return Phase.UNAIDED if self.closed else Phase.AIDED

    @property
    def locked(self) -> bool:
        """Whether the unaided read was signed and the analysis stays closed: nothing to add."""
        return self.closed and self.read.unaided is not None

    @property
    def signed(self) -> bool:
        """Whether this part of the reading is signed: nothing to add until that is withdrawn."""
        return self.locked or (not self.closed and self.read.signed is not None)

    def mark(self, at_mm: Point, confidence: int | None = None) -> Mark:
        """Mark a place; return the mark.

        Raises
        ------
        UnusableInputError
            The read is signed, or the confidence is not 0 to 100.
        """
        self._refuse_signed()
        self._check(confidence)
        uid = f"2.25.{uuid.uuid4().int}"
        self._add(ActKind.MARK, target=uid, at_mm=at_mm, confidence=confidence)
        return Mark(uid, at_mm, confidence, self.phase)

    def take_back(self, uid: str) -> None:
        """Take a mark back; one that an unaided signature stands for stays.

        Raises
        ------
        UnusableInputError
            There is no such mark, or it was signed.
        """
        self._refuse_signed()
        found = next((mark for mark in self.read.marks if mark.uid == uid), None)
        if found is None or found.phase is not self.phase:
            raise UnusableInputError(
                found="a mark that is not there any more, or was signed as unaided",
                expected="a mark of this part of the reading",
                next_step="Leave it: what was signed before the analysis was shown stays",
            )
        self._add(ActKind.TAKE_BACK, target=uid)

    def verdict(
        self,
        tracking_uid: str,
        state: ReviewState,
        at_mm: Point | None = None,
        *,
        confidence: int | None = None,
        words: str = "",
    ) -> None:
        """Keep what was decided on a candidate; UNREVIEWED where that was undone."""
        self._check(confidence)
        self._add(
            ActKind.VERDICT,
            target=tracking_uid,
            at_mm=at_mm,
            state=state,
            confidence=confidence,
            words=words,
        )

    def sign(self, words: str | None = None) -> str:
        """Sign this part of the reading; return what was signed.

        Parameters
        ----------
        words : str, optional
            What is signed at the end; of an unaided read it is the number of marks, or that
            nothing was seen.
        """
        self._refuse_signed()
        count = len(self.read.marks_of(self.phase))
        summary = f"{count} marked" if count else NOTHING_SEEN
        self._add(ActKind.SIGN, words=summary if words is None or self.closed else words)
        return summary if words is None or self.closed else words

    def withdraw(self, reason: str) -> None:
        """Take the signature of the aided read back; the unaided one stays for good.

        Raises
        ------
        UnusableInputError
            There is none, or no reason is given.
        """
        if self.closed or self.read.signed is None or not reason.strip():
            raise UnusableInputError(
                found="no signature that can be withdrawn, or no reason",
                expected="a signed review, and why it is opened again",
                next_step="State the reason",
            )
        self._add(ActKind.WITHDRAW, words=reason.strip())

    def leave(self) -> None:
        """Put the study away; time stands still until it is opened again. Once is enough."""
        if not self._left:
            self._add(ActKind.LEAVE)
            self._left = True

    def under(self, reader: str) -> ReadSession:
        """Leave this read, and continue it under a reader's name: what was done counts there."""
        self.leave()
        key = replace(self.key, reader=reader)
        for act in self._acts:
            self.database.add(key, act)
        return ReadSession(self.database, key, unaided_first=self.unaided_first, clock=self._clock)

    def unaided_read(self) -> UnaidedRead | None:
        """Return the signed unaided read for the review's own record, None where there is none."""
        read = self.read
        if read.unaided is None:
            return None
        signed = next(
            a for a in reversed(read.acts) if a.kind is ActKind.SIGN and a.phase is Phase.UNAIDED
        )
        marks = read.marks_of(Phase.UNAIDED)
        return UnaidedRead(
            reader=self.key.reader or None,
            begun=read.begun,
            time=signed.time,
            seconds=round(read.unaided_seconds, 3),
            words=read.unaided,
            marks=tuple(UnaidedMark(m.uid, m.at_mm, m.confidence) for m in marks),
        )

    def _add(self, kind: ActKind, **fields: object) -> None:
        at = self._clock()
        seconds = 0.0 if kind is ActKind.BEGIN else max(at - self._last, 0.0)
        act = Act(kind, self.phase, now(), seconds, **fields)  # type: ignore[arg-type]
        self.database.add(self.key, act)
        self._acts.append(act)
        self._last = at

    def _refuse_signed(self) -> None:
        if self.signed:
            raise UnusableInputError(
                found="a read that is signed",
                expected="one that goes on",
                next_step="Go to the next study"
                if self.locked
                else "Withdraw the signature first, or go to the next study",
            )

    @staticmethod
    def _check(confidence: int | None) -> None:
        if confidence is not None and not 0 <= confidence <= 100:
            raise UnusableInputError(
                found=f"a confidence of {confidence}",
                expected="0 to 100",
                next_step="Give a percentage",
            )
