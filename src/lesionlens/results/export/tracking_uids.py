"""Tracking UIDs of an analysis, and their replacement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.followup import Change, Comparison, LesionMeasurement, own_uids
from lesionlens.base.records.response import SignedResponse, in_order
from lesionlens.base.records.review import NO_CANDIDATE, Review


def tracking_uids(analysis: Analysis) -> frozenset[str]:
    """Return every tracking UID of candidates and marks, including earlier examinations'."""
    review, original = analysis.review, analysis.original
    all_findings = [analysis.findings, *([] if original is None else [original.findings])]
    uids = {c.tracking_uid for findings in all_findings for c in findings.candidates}
    uids |= {e.tracking_uid for e in review.events} - NO_CANDIDATE
    uids |= {o.tracking_uid for o in review.outlines.values()} - NO_CANDIDATE
    uids |= {mark.uid for read in review.unaided for mark in read.marks}
    uids |= {m.tracking_uid for r in _all_responses(review) for m in r.measures} - NO_CANDIDATE
    followup = analysis.followup
    uids |= {uid for pair in own_uids(followup).items() for uid in pair}
    if followup is not None:
        uids |= {uid for p in followup.points for uid in p.tangled}
        uids |= {m.tracking_uid for p in followup.points for m in p.lesions}
        uids |= {lesion.tracking_uid for lesion in followup.gone}
        lesions = (m for c in followup.changes for m in (c.before, c.now))
        uids |= {m.tracking_uid for m in lesions if m is not None}
    return frozenset(uids)


def with_uids(analysis: Analysis, new_uids: Mapping[str, str]) -> Analysis:
    """Return an analysis with other tracking UIDs; voxels, findings and decisions are the same.

    Parameters
    ----------
    new_uids : mapping of str to str
        The new UID of each of `tracking_uids`.
    """
    followup = analysis.followup
    redrawn = frozenset(new_uids[uid] for uid in analysis.run.redrawn)
    return replace(
        analysis.with_findings(lambda findings: findings.renamed(new_uids)),
        run=replace(analysis.run, redrawn=redrawn),
        review=_review_with_uids(analysis.review, new_uids),
        followup=None if followup is None else _comparison_with_uids(followup, new_uids),
    )


def _all_responses(review: Review) -> Iterable[SignedResponse]:
    """Yield the signed responses, and those that events withdraw."""
    yield from review.responses
    yield from (e.response for e in review.events if e.response is not None)


def _review_with_uids(review: Review, new_uids: Mapping[str, str]) -> Review:
    renamed = review.renamed(new_uids)
    events = (
        e if e.response is None else replace(e, response=_response_with_uids(e.response, new_uids))
        for e in renamed.events
    )
    unaided = (
        replace(read, marks=tuple(replace(m, uid=new_uids[m.uid]) for m in read.marks))
        for read in review.unaided
    )
    return replace(
        renamed,
        events=tuple(events),
        unaided=tuple(unaided),
        responses=tuple(_response_with_uids(r, new_uids) for r in review.responses),
    )


def _response_with_uids(response: SignedResponse, new_uids: Mapping[str, str]) -> SignedResponse:
    """Return a response with other tracking UIDs of its measured lesions."""
    measures = (
        m if m.tracking_uid in NO_CANDIDATE else replace(m, tracking_uid=new_uids[m.tracking_uid])
        for m in response.measures
    )
    return replace(response, measures=in_order(measures))


def _comparison_with_uids(comparison: Comparison, new_uids: Mapping[str, str]) -> Comparison:
    def measured(lesion: LesionMeasurement) -> LesionMeasurement:
        return replace(lesion, tracking_uid=new_uids[lesion.tracking_uid])

    def renamed(change: Change) -> Change:
        before = None if change.before is None else measured(change.before)
        now = None if change.now is None else measured(change.now)
        return replace(change, before=before, now=now)

    points = (
        replace(
            point,
            lesions=tuple(map(measured, point.lesions)),
            tangled=tuple(sorted(new_uids[uid] for uid in point.tangled)),
        )
        for point in comparison.points
    )
    return replace(
        comparison,
        points=tuple(points),
        changes=tuple(map(renamed, comparison.changes)),
        own_uids={new_uids[uid]: new_uids[own_uid] for uid, own_uid in comparison.own_uids.items()},
        gone=tuple(replace(m, tracking_uid=new_uids[m.tracking_uid]) for m in comparison.gone),
    )
