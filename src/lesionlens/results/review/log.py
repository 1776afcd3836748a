"""Append-only log of a review with undo and redo; the state is a fold over the events.

Undo removes nothing: it appends an event with the restored state, so that the log records every
change, and a log from a file can still be undone. A signature cannot be undone: while it is valid
nothing is undone, and only `withdraw` ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
from pydantic import TypeAdapter

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import TUMOUR_LABELS, DrawingMethod, Label, ReviewAct, ReviewState
from lesionlens.base.records.prompts import PromptRound
from lesionlens.base.records.response import SignedResponse
from lesionlens.base.records.review import (
    CAVITY,
    WHOLE_STUDY,
    DrawnDiameters,
    Outline,
    Review,
    ReviewEvent,
    valid_and_undone,
)
from lesionlens.results.review.outline_digests import Outlines, decision_digest


def now() -> str:
    """Return the current time as ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_tracking_uid() -> str:
    """Return a UID for a candidate that a reader adds: "2.25." and a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"


def unusable_labels(outline: Outline) -> tuple[int, ...]:
    """Return the labels of an outline that no candidate has, sorted; none for the cavity's.

    Examples
    --------
    >>> unusable_labels(Outline("1.2.3", (0, 0, 0), np.array([[[0, 3, 4]]], np.uint8)))
    (4,)
    """
    if outline.tracking_uid == CAVITY:
        return ()
    usable = (Label.BACKGROUND, *TUMOUR_LABELS)
    return tuple(int(label) for label in np.setdiff1d(outline.labels, usable))


_DIAMETERS: TypeAdapter[DrawnDiameters | None] = TypeAdapter(DrawnDiameters | None)
_UNDECIDED = ReviewEvent("", ReviewState.UNREVIEWED, reader=None, time="")


class ReviewLog:
    """Records a reader's acts, one after the other.

    Parameters
    ----------
    outlines : callable
        Returns the digests of the network's outlines that are shown, which decisions name; None
        if they are unknown.

    Examples
    --------
    >>> log = ReviewLog()
    >>> log.decide("1.2.3", ReviewState.ACCEPTED, reader="A. Reader")
    >>> log.undo()
    >>> log.review.state_of("1.2.3"), len(log.review.events)
    (<ReviewState.UNREVIEWED: 'unreviewed'>, 2)
    """

    def __init__(
        self,
        review: Review | None = None,
        outlines: Callable[[], Outlines | None] = lambda: None,
    ) -> None:
        self.shown_outlines = outlines
        """Returns the digests of the network's outlines that are shown; None if unknown."""
        self.review = review or Review()
        """The review with all events so far."""
        self._act_start: int | None = None

    def copy(self) -> ReviewLog:
        """Return a log that continues this one."""
        return ReviewLog(self.review, self.shown_outlines)

    @property
    def can_undo(self) -> bool:
        """Whether there is an act to undo; False while the study is signed."""
        valid, _ = valid_and_undone(self.review.events)
        return bool(valid) and not self._signed

    @property
    def can_redo(self) -> bool:
        """Whether there is an act to redo; False while the study is signed."""
        _, undone = valid_and_undone(self.review.events)
        return bool(undone) and not self._signed

    @property
    def _signed(self) -> bool:
        return self.review.signature is not None

    def sign(self, what: str, *, reader: str | None) -> None:
        """Sign the whole study.

        Parameters
        ----------
        what : str
            The signed statement, such as "nothing further seen".

        Raises
        ------
        UnusableInputError
            No reader is named, or the study is signed already.
        """
        if not (reader or "").strip() or self._signed:
            raise UnusableInputError(
                found="a study that is signed" if self._signed else "no reader's name",
                expected="a signature under a reader's name, once",
                next_step="Withdraw the signature first" if self._signed else "Name the reader",
            )
        self.decide(WHOLE_STUDY, ReviewState.ACCEPTED, reader=reader, reason=what)

    def sign_response(self, signed: SignedResponse) -> None:
        """Record a signed response, which replaces an earlier one.

        Raises
        ------
        UnusableInputError
            The study is signed; withdraw the signature first.
        """
        if self._signed:
            raise UnusableInputError(
                found="a study that is signed",
                expected="a response that is signed before the study is",
                next_step="Withdraw the signature first",
            )
        self.review = replace(self.review, responses=(*self.review.responses, signed))

    def withdraw_response(self, reason: str, *, reader: str | None) -> None:
        """Withdraw the valid response.

        Raises
        ------
        UnusableInputError
            The study is signed, there is no such response, or no reason or reader is given.
        """
        response = self.review.response
        if not (reader or "").strip():
            raise UnusableInputError(
                found="a withdrawal without a reader's name",
                expected="the name of the reader who withdraws the response",
                next_step="Add --sign NAME",
                in_window="Enter a name in the preferences",
            )
        if self._signed or response is None or not reason.strip():
            found, next_step = "no reason", "State the reason"
            if self._signed:
                found, next_step = "a study that is signed", "Withdraw the signature first"
            elif response is None:
                found, next_step = "no signed response", "Check the result: nothing was changed"
            raise UnusableInputError(
                found=found,
                expected="a signed response, and why it is withdrawn",
                next_step=next_step,
            )
        self._append_withdrawal(ReviewAct.WITHDRAW_RESPONSE, reason, reader, response)

    def withdraw(self, reason: str, *, reader: str | None) -> None:
        """Withdraw the signature.

        Raises
        ------
        UnusableInputError
            There is no signature, or no reason is given.
        """
        if not reason.strip() or not self._signed:
            raise UnusableInputError(
                found="no reason" if self._signed else "no signature",
                expected="a signature, and why it is withdrawn",
                next_step="State the reason" if self._signed else "Sign first",
            )
        self._append_withdrawal(ReviewAct.WITHDRAW, reason, reader)

    def _append_withdrawal(
        self,
        act: ReviewAct,
        reason: str,
        reader: str | None,
        response: SignedResponse | None = None,
    ) -> None:
        """Append an act that ends a signature."""
        self._record(
            ReviewEvent(
                WHOLE_STUDY, ReviewState.UNREVIEWED, reader=reader, time=now(),
                reason=reason.strip(), act=act, response=response,
            )
        )  # fmt: skip

    def decide(
        self,
        tracking_uid: str,
        state: ReviewState,
        *,
        reader: str | None = None,
        reason: str | None = None,
        outline: Outline | None = None,
        prompts: tuple[PromptRound, ...] = (),
    ) -> None:
        """Record a reader's decision about a candidate; clears the redo stack.

        A new `outline` replaces the current one; without one, the current outline and a reader's
        diameters are kept.

        Raises
        ------
        UnusableInputError
            The outline has labels that no candidate has; nothing is recorded.
        """
        outlines = self.shown_outlines()
        current = outline or self.review.outline_of(tracking_uid)
        event = ReviewEvent(
            tracking_uid,
            ReviewState(state),
            reader=reader,
            time=now(),
            reason=reason,
            outline=None if current is None else current.sha256,
            prompts=prompts,
            diameters=self.review.diameters_of(tracking_uid),
            seen=None if outlines is None else decision_digest(self.review, tracking_uid, outlines),
        )
        self._append(event, current)

    def place_diameters(
        self, tracking_uid: str, ends: DrawnDiameters | None, *, reader: str | None = None
    ) -> None:
        """Record a reader's diameters of a candidate, None for the measured ones.

        Its decision is kept. The ends are rounded as they are stored, so that the lengths are the
        same when the review is read again.
        """
        previous = self.review.of(tracking_uid) or _UNDECIDED
        stored_ends = _DIAMETERS.validate_json(_DIAMETERS.dump_json(ends))
        self._append(_again(previous, tracking_uid, reader, diameters=stored_ends))

    def add(
        self,
        outline: Outline,
        drawn: DrawingMethod,
        *,
        reader: str | None = None,
        reason: str | None = None,
        prompts: tuple[PromptRound, ...] = (),
    ) -> None:
        """Record a candidate that a reader adds, as accepted; its UID is the outline's.

        Undo removes it.

        Raises
        ------
        UnusableInputError
            The outline has labels that no candidate has; nothing is recorded.
        """
        event = ReviewEvent(
            outline.tracking_uid,
            ReviewState.ACCEPTED,
            reader=reader,
            time=now(),
            reason=reason,
            outline=outline.sha256,
            added=drawn,
            prompts=prompts,
        )
        self._append(event, outline)

    @contextmanager
    def one_act(self) -> Iterator[None]:
        """Combine the acts recorded within the block into one undo step."""
        self._act_start = len(self.review.events)
        try:
            yield
        finally:
            self._act_start = None

    def _append(self, event: ReviewEvent, outline: Outline | None = None) -> None:
        """Record a decision, with the outline that it names."""
        if outline is not None:
            _check_labels(outline)
            outlines = {**self.review.outlines, outline.sha256: outline}
            self.review = replace(self.review, outlines=outlines)
        continues_act = self._act_start is not None and len(self.review.events) > self._act_start
        self._record(replace(event, with_previous=continues_act))

    def _record(self, event: ReviewEvent) -> None:
        self.review = replace(self.review, events=(*self.review.events, event))

    def undo(self, *, reader: str | None = None) -> None:
        """Undo the last act; does nothing if there is none, or the study is signed.

        The event names the reader who undoes the act, not the one who did it.
        """
        while self.can_undo and self._undo_event(reader).with_previous:
            pass

    def _undo_event(self, reader: str | None) -> ReviewEvent:
        (*valid, undone), _ = valid_and_undone(self.review.events)
        uid = undone.tracking_uid
        previous = next((e for e in reversed(valid) if e.tracking_uid == uid), _UNDECIDED)
        self._record(_again(previous, uid, reader, act=ReviewAct.UNDO))
        return undone

    def redo(self, *, reader: str | None = None) -> None:
        """Redo the act undone last; does nothing if there is none."""
        is_first = True
        while self.can_redo:
            _, (*_, event) = valid_and_undone(self.review.events)
            if not (is_first or event.with_previous):
                return
            is_first = False
            self._record(replace(event, reader=reader, time=now(), act=ReviewAct.REDO))


def _check_labels(outline: Outline) -> None:
    """Refuse an outline with labels that no candidate has."""
    if labels := unusable_labels(outline):
        numbers = ", ".join(map(str, labels))
        raise UnusableInputError(
            found=f"an outline of a candidate with label {numbers}",
            expected="1 core, 2 oedema, 3 enhancing, and 0 outside the candidate",
            next_step="Set other labels to 0; the resection cavity has an outline of its own",
        )


def _again(
    previous: ReviewEvent, tracking_uid: str, reader: str | None, **changes: Any
) -> ReviewEvent:
    """Return an event with the state of an earlier one, and changes."""
    event = ReviewEvent(
        tracking_uid, previous.state, reader=reader, time=now(), reason=previous.reason,
        outline=previous.outline, diameters=previous.diameters, seen=previous.seen,
    )  # fmt: skip
    return replace(event, **changes)
