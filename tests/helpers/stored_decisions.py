"""Decisions as stored by the window, and as autosaved by earlier releases."""

from __future__ import annotations

from lesionlens.base.records.response import Response, SignedResponse
from lesionlens.results.review import store
from lesionlens.results.review.log import ReviewLog

RESPONSE = SignedResponse(
    Response.STABLE, "2026-01-05", "A. Reader", "2026-01-05T10:15:00Z"
)  # fmt: skip


def decide(read_session, uid, state, at=None, *, confidence=None, reason=None, reader="A. Reader"):
    """Decide on a candidate and store the decision."""
    log = ReviewLog(read_session.review)
    log.decide(uid, state, reader=reader, reason=reason)
    read_session.store_decisions(log.review, {} if at is None else {uid: at}, confidence)


def autosave_like_earlier_release(analysis, reader=None):
    """Write the file that earlier releases wrote after every decision; return it."""
    file = store.sessions_folder() / f"{store.analysis_key(analysis.run, reader)}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    review = store.save(analysis, file.parent / "written")
    if (edits := review.with_name(store.EDITS)).is_dir():
        edits.rename(file.with_suffix(""))
    return review.rename(file)
