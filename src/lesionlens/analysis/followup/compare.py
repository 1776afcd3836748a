"""Compare an examination with its prior: register, match, transfer UIDs, list changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from lesionlens.analysis.findings.edits import applied
from lesionlens.analysis.followup.alignment import MIRRORED, align, seems_mirrored
from lesionlens.analysis.followup.joint import Side, joint_change
from lesionlens.analysis.followup.matching import Matches, gone_lesions, match, returned
from lesionlens.analysis.followup.patient import BOTH, Examination, Prior
from lesionlens.base.geometry import Affine
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    ChangeKind,
    Comparison,
    Measured,
    TimePoint,
    compared_uids,
    own_uids,
)
from lesionlens.base.records.gone_lesion import GoneLesion
from lesionlens.base.records.patient import IdentityMatch
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.registration import Registration

PATIENT_UNKNOWN = (
    "Neither names nor headers say that the earlier examination is of the same patient: make sure"
)

PRIOR_WAS_COMPARED = (
    "The earlier result was itself compared with this examination: examinations before the earlier "
    "one are left out"
)


def _prior_point(before: Analysis, visit: Examination) -> TimePoint:
    """Return the time point of an earlier result, with what its own comparison found of it."""
    point = _time_point(before, visit)
    if before.compared is None:
        return point
    laid = before.compared.alignment
    return replace(
        point,
        tangled=before.compared.tangled_now,
        doubtful=laid.doubtful,
        mirrored=laid.mirrored,
    )


def compare(
    now: Analysis, visit: Examination, prior: Prior, *, context: RunContext = SILENT
) -> Analysis:
    """Return an analysis with its comparison; matched candidates get the prior's tracking UIDs.

    Parameters
    ----------
    now : Analysis
        Analysis of this examination; its review, if any, continues under the new UIDs.
    prior : Prior
        Opened by `review.prior.open_prior`.

    Returns
    -------
    Analysis
        `followup` has all time points: the prior's earlier ones, the prior, this one. Notices
        state if the patient's identity is unknown or was confirmed by the user, and if left and
        right seem swapped.
    """
    now, before = applied(now), applied(prior.analysis)
    found, sequence = align(now, before, context=context)
    swapped = seems_mirrored(now.prepared, before.prepared, found.moved, sequence, context=context)
    matches = match(
        before.findings.components,
        before.prepared.native,
        now.findings.components,
        now.prepared.native,
        found.moved,
    )
    chain = before.compared
    twice = chain is not None and _is_earlier_examination(chain, now)
    back, gone = _returned_and_gone(now, before, matches, found.moved, known=not twice)
    old, mine = ({c.id: c.tracking_uid for c in one.findings.candidates} for one in (before, now))
    new = back | {mine[ours]: old[theirs] for theirs, ours in matches.pairs}
    names = {uid: new.get(uid, own) for uid, own in _own_by_present(now).items()}
    redrawn = frozenset(names.get(uid, uid) for uid in now.run.redrawn)
    named = replace(
        now,
        findings=_renamed(now.findings, names),
        review=now.review.renamed(names),
        run=replace(now.run, redrawn=redrawn),
    )
    if now.original is not None:
        own = replace(now.original, findings=_renamed(now.original.findings, names))
        named = replace(named, original=own)
    earlier = () if chain is None or twice else chain.points[:-1]
    points = (*earlier, _prior_point(before, prior.visit), _time_point(named, visit))
    changes = _changes(points[-2], points[-1], matches)
    laid = Comparison(
        points,
        changes,
        _alignment(found, sequence.display_name, swapped),
        _own_uids(now, names),
        gone,
    )
    laid = replace(laid, points=(*points[:-1], replace(points[-1], tangled=laid.tangled_now)))
    joint = tuple(_joint(c, laid, (before, named), found, context) for c in changes)
    done = replace(named, followup=replace(laid, changes=joint))
    unknown = visit.patient.compared(prior.visit.patient).agreement is IdentityMatch.UNKNOWN
    identity = prior.confirmed or (PATIENT_UNKNOWN if unknown else "")
    twice_said = PRIOR_WAS_COMPARED if twice else ""
    notices = identity, MIRRORED if swapped else "", twice_said, _makers(laid)
    return _with_notices(done, notices_of(now.followup), *notices)


def notices_of(found: Comparison | None) -> frozenset[str]:
    """Return what may be said of a comparison alone; None: of one that is there no longer."""
    made_by = "" if found is None else _makers(found)
    return frozenset({PATIENT_UNKNOWN, MIRRORED, PRIOR_WAS_COMPARED, made_by} - {""})


def _makers(found: Comparison) -> str:
    """Return a notice if examinations were outlined by different networks; empty if not."""
    if len(found.makers) < 2:
        return ""
    names = " / ".join(found.makers)
    return (
        "The examinations that are compared were outlined by different networks, weights or "
        f"releases, and part of a change in volume may come from that: {names}"
    )


def _with_notices(analysis: Analysis, before: Collection[str], *notices: str) -> Analysis:
    """Add the notices of a comparison, but empty ones, in place of those of an earlier one.

    A result that was compared, saved and opened again has them among those of its findings too.
    """

    def kept(found: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(one for one in found if one not in before and BOTH not in one)

    def of(findings: Findings) -> Findings:
        return replace(findings, notices=kept(findings.notices))

    every = (notice for notice in (*kept(analysis.run.notices), *notices) if notice)
    run, original = replace(analysis.run, notices=tuple(dict.fromkeys(every))), analysis.original
    if original is not None:
        original = replace(original, findings=of(original.findings))
    return replace(analysis, run=run, findings=of(analysis.findings), original=original)


def _joint(
    change: Change,
    found: Comparison,
    sides: tuple[Analysis, Analysis],
    laid: Registration,
    context: RunContext,
) -> Change:
    """Measure a matched lesion by one criterion, with all that merged with it or split from it.

    Skipped if a reader edited one of these outlines.
    """
    if change.kind is not ChangeKind.MATCHED:
        return change
    context.check("comparing")
    group = found.linked(change)
    lesions = [[c.before for c in group if c.before], [c.now for c in group if c.now]]
    both = tuple(zip(sides, lesions, strict=True))
    if any(one.tracking_uid in side.review.outlined for side, ours in both for one in ours):
        return change
    first, second = (Side(side, frozenset(one.id for one in ours)) for side, ours in both)
    return replace(change, joint=joint_change(first, second, np.asarray(laid.moved)))


def renamed_uids(shown: Analysis, after: Analysis) -> dict[str, str]:
    """Return the tracking UID of each candidate after a comparison by the one shown before it.

    Also of candidates that are there no longer, which a review may still name.
    """
    new = compared_uids(after.followup)
    return {uid: new.get(own, own) for uid, own in _own_by_present(shown).items()}


def _own_by_present(now: Analysis) -> dict[str, str]:
    """Return the own UID of each candidate by the one that it has now."""
    found = (now.findings,) if now.original is None else (now.findings, now.original.findings)
    known = {c.tracking_uid: c.tracking_uid for one in found for c in one.candidates}
    return known | dict(own_uids(now.followup))


def _returned_and_gone(
    now: Analysis, before: Analysis, matches: Matches, moved: Affine, *, known: bool
) -> tuple[dict[str, str], tuple[GoneLesion, ...]]:
    """Return the earlier tracking UIDs of candidates that are back, and what is gone now.

    `known` says whether lesions of the examinations before the prior are of earlier ones.
    """
    back = np.asarray(np.linalg.inv(moved), np.float64)
    chain = before.compared
    earlier = [one.moved(back) for one in (() if chain is None or not known else chain.gone)]
    found, native = now.findings, now.prepared.native
    ours = returned(earlier, found.components, native, matches)
    names = {c.tracking_uid: ours[c.id] for c in found.candidates if c.id in ours}
    then = before.findings
    new = gone_lesions(then.candidates, then.components, before.prepared.native, matches)
    still = (one for one in earlier if one.tracking_uid not in names.values())
    return names, (*still, *(one.moved(back) for one in new))


def _is_earlier_examination(chain: Comparison, now: Analysis) -> bool:
    """Return whether an examination is among the earlier ones of its prior.

    Its own tracking UIDs stand there: each examination has others until it is compared.
    """
    names = own_uids(now.followup)
    own = {names.get(c.tracking_uid, c.tracking_uid) for c in now.findings.candidates}
    return any(
        (point.study_uid is not None and point.study_uid == now.study.uid)
        or not own.isdisjoint(one.tracking_uid for one in point.lesions)
        for point in chain.points[:-1]
    )


def _own_uids(now: Analysis, names: Mapping[str, str]) -> dict[str, str]:
    """Return the own UID of each candidate that this comparison renamed."""
    named = {names.get(uid, uid): own for uid, own in _own_by_present(now).items()}
    return {uid: own for uid, own in named.items() if uid != own}


def _renamed(findings: Findings, names: Mapping[str, str]) -> Findings:
    candidates = tuple(
        replace(c, tracking_uid=names.get(c.tracking_uid, c.tracking_uid))
        for c in findings.candidates
    )
    return replace(findings, candidates=candidates)


def _time_point(analysis: Analysis, visit: Examination) -> TimePoint:
    lesions = tuple(
        Measured.of(c, analysis.review.state_of(c.tracking_uid))
        for c in analysis.findings.candidates
    )
    contrast = analysis.prepared.has_t1c
    cavity = analysis.volumes.cavity_ml
    made_by = analysis.run.made_by
    return TimePoint(visit.date, analysis.study.uid, lesions, contrast, cavity, made_by=made_by)


def _changes(before: TimePoint, now: TimePoint, matches: Matches) -> tuple[Change, ...]:
    old = {one.id: one for one in before.lesions}
    partner = {b: a for a, b in matches.pairs}
    there = [
        Change(
            old.get(partner.get(one.id, 0)),
            one,
            tuple(a for a, b in matches.further if b == one.id),
        )
        for one in now.lesions
    ]
    taken = {a for a, _ in matches.pairs}
    gone = [
        Change(one, None, tuple(b for a, b in matches.further if a == one.id))
        for one in before.lesions
        if one.id not in taken
    ]
    return (*there, *gone)


def _alignment(found: Registration, sequence: str, swapped: bool) -> Alignment:
    rows = tuple(
        (float(a), float(b), float(c), float(d)) for a, b, c, d in np.asarray(found.moved).tolist()
    )
    doubtful = found.doubtful or swapped
    return Alignment(rows, found.shift_mm, found.angle_deg, doubtful, sequence, swapped)
