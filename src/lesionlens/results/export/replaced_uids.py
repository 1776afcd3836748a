"""Replace the tracking UIDs of an analysis in every record that holds them, before it is written.

An outline's digest, which names its file, includes the tracking UID: replaced in the text of
review.json alone, it would no longer fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import Change, Comparison, Measured, own_uids
from lesionlens.base.records.response import SignedResponse
from lesionlens.base.records.review import NO_CANDIDATE, Review, UnaidedRead

NewUid = Callable[[str], str]
"""Returns the new tracking UID for an old one, the same for the same."""


def tracking_uids(analysis: Analysis) -> frozenset[str]:
    """Return every tracking UID of candidates and marks, also of earlier examinations."""
    review, original = analysis.review, analysis.original
    found = [analysis.findings, *([] if original is None else [original.findings])]
    known = {c.tracking_uid for findings in found for c in findings.candidates}
    known |= {e.tracking_uid for e in review.events} - NO_CANDIDATE
    known |= {o.tracking_uid for o in review.outlines.values()} - NO_CANDIDATE
    known |= {mark.uid for read in review.unaided for mark in read.marks}
    known |= {m.tracking_uid for r in _responses(review) for m in r.measures}
    followup = analysis.followup
    known |= {uid for pair in own_uids(followup).items() for uid in pair}
    if followup is not None:
        known |= {uid for p in followup.points for uid in p.tangled}
        known |= {m.tracking_uid for p in followup.points for m in p.lesions}
        sides = (m for c in followup.changes for m in (c.before, c.now))
        known |= {m.tracking_uid for m in sides if m is not None}
    return frozenset(known)


def with_uids(analysis: Analysis, new: NewUid) -> Analysis:
    """Return an analysis with other tracking UIDs; voxels, findings and decisions are the same.

    Parameters
    ----------
    new : callable
        Returns the new UID of each of `tracking_uids`.
    """
    original, followup = analysis.original, analysis.followup
    return replace(
        analysis,
        findings=_findings(analysis.findings, new),
        original=None
        if original is None
        else replace(original, findings=_findings(original.findings, new)),
        run=replace(analysis.run, redrawn=frozenset(map(new, analysis.run.redrawn))),
        review=_review(analysis.review, {uid: new(uid) for uid in tracking_uids(analysis)}, new),
        followup=None if followup is None else _comparison(followup, new),
    )


def _responses(review: Review) -> Iterable[SignedResponse]:
    """Yield the signed responses, and those that events withdraw."""
    yield from review.responses
    yield from (e.response for e in review.events if e.response is not None)


def _findings(found: Findings, new: NewUid) -> Findings:
    candidates = (replace(c, tracking_uid=new(c.tracking_uid)) for c in found.candidates)
    return replace(found, candidates=tuple(candidates))


def _review(review: Review, names: dict[str, str], new: NewUid) -> Review:
    renamed = review.renamed(names)
    events = (
        e if e.response is None else replace(e, response=_response(e.response, new))
        for e in renamed.events
    )
    return replace(
        renamed,
        events=tuple(events),
        unaided=tuple(_read(one, new) for one in review.unaided),
        responses=tuple(_response(one, new) for one in review.responses),
    )


def _read(read: UnaidedRead, new: NewUid) -> UnaidedRead:
    return replace(read, marks=tuple(replace(m, uid=new(m.uid)) for m in read.marks))


def _response(one: SignedResponse, new: NewUid) -> SignedResponse:
    """Rename the measurements, in the order of `followup.measures_of`: by tracking UID."""
    measures = (replace(m, tracking_uid=new(m.tracking_uid)) for m in one.measures)
    ordered = sorted(measures, key=lambda m: (-m.ago, m.tracking_uid))
    return replace(one, measures=tuple(ordered))


def _comparison(found: Comparison, new: NewUid) -> Comparison:
    def measured(one: Measured) -> Measured:
        return replace(one, tracking_uid=new(one.tracking_uid))

    def change(one: Change) -> Change:
        before = None if one.before is None else measured(one.before)
        return replace(one, before=before, now=None if one.now is None else measured(one.now))

    points = (
        replace(
            point,
            lesions=tuple(map(measured, point.lesions)),
            tangled=tuple(sorted(map(new, point.tangled))),
        )
        for point in found.points
    )
    return replace(
        found,
        points=tuple(points),
        changes=tuple(map(change, found.changes)),
        own_uids={new(prior): new(own) for prior, own in found.own_uids.items()},
    )
