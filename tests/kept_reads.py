"""Decisions as the window keeps them in a log."""

from __future__ import annotations

from lesionlens.results.review.log import ReviewLog


def decide(read_session, uid, state, at=None, *, confidence=None, reason=None, reader="A. Reader"):
    """Decide on a candidate; the log keeps it at once."""
    log = ReviewLog(read_session.review)
    log.mark(uid, state, reader=reader, reason=reason)
    read_session.keep(log.review, {} if at is None else {uid: at}, confidence)
