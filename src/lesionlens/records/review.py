"""What readers said: append-only events; findings are never edited."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lesionlens.base.labels import ReviewState


class ReviewAct(StrEnum):
    """How an event came about; an undo or redo is an act of its own and stays on the record."""

    MARK = "mark"
    UNDO = "undo"
    REDO = "redo"


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """One act of a reader on one candidate.

    Parameters
    ----------
    tracking_uid : str
        Of the candidate.
    state : ReviewState
        The state it has from now on.
    reader : str or None
        Who, as set in the preferences.
    time : str
        ISO 8601, UTC.
    reason : str or None
        In the reader's words.
    act : ReviewAct
        For UNDO and REDO, `state` and `reason` are those that hold again.
    """

    tracking_uid: str
    state: ReviewState
    reader: str | None
    time: str
    reason: str | None = None
    act: ReviewAct = ReviewAct.MARK


@dataclass(frozen=True, slots=True)
class Review:
    """The events of one review, oldest first; the state of a candidate is the last one said."""

    events: tuple[ReviewEvent, ...] = ()

    def of(self, tracking_uid: str) -> ReviewEvent | None:
        """Return the last event of a candidate, or None while it is unreviewed."""
        return next((e for e in reversed(self.events) if e.tracking_uid == tracking_uid), None)

    def state_of(self, tracking_uid: str) -> ReviewState:
        """Return the state of a candidate."""
        event = self.of(tracking_uid)
        return event.state if event else ReviewState.UNREVIEWED
