"""Decisions as stored by the window."""

from __future__ import annotations

from lesionlens.base.records.response import Response, SignedResponse
from lesionlens.results.review.log import ReviewLog

RESPONSE = SignedResponse(
    Response.STABLE, "2026-01-05", "A. Reader", "2026-01-05T10:15:00Z"
)  # fmt: skip


def decide(read_session, uid, state, at=None, *, confidence=None, reason=None, reader="A. Reader"):
    """Decide on a candidate and store the decision."""
    log = ReviewLog(read_session.review)
    log.decide(uid, state, reader=reader, reason=reason)
    read_session.store_decisions(log.review, {} if at is None else {uid: at}, confidence)
