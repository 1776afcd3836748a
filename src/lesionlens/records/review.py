"""What readers said: append-only events; findings are never edited."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.labels import ReviewState


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
    """

    tracking_uid: str
    state: ReviewState
    reader: str | None
    time: str
    reason: str | None = None


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
