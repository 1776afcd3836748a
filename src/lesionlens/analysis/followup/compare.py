"""Compare an examination with its prior: register, match, transfer UIDs, list changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from lesionlens.analysis.findings.edits import applied
from lesionlens.analysis.followup.alignment import MIRRORED, align, seems_mirrored
from lesionlens.analysis.followup.matching import Matches, gone_lesions, match, returned
from lesionlens.analysis.followup.patient import BOTH, NO_COMPARISON, Examination, Prior
from lesionlens.base.geometry import Affine
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
    VanishedLesion,
    compared_uids,
    own_uids,
)
from lesionlens.base.records.patient import IdentityMatch
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.registration import Registration

PATIENT_UNKNOWN = (
    "Neither names nor headers show that the earlier examination is of the same patient: check this"
)
ORDER_UNKNOWN = (
    "Nothing shows that the earlier examination is the earlier one: if it is not, every change "
    "has the wrong sign"
)
PRIOR_WAS_COMPARED = (
    "The earlier result was itself compared with this examination: examinations before the earlier "
    "one are left out"
)
EARLIER_LEFT_OUT = (
    "The earlier result does not contain examinations that it was compared with, and they are left "
    "out: the baseline or the smallest sum may be among them"
)
"""Notice on a prior from DICOM objects, which hold no comparison, and on those that follow it."""
_PRIOR_CHECK = "Of the earlier examination: "
"""Part of a notice on a failed check of a prior's images; a reopened report adds a prefix."""
_UNTIL_COMPARED = (NO_COMPARISON, EARLIER_LEFT_OUT)
"""Endings of notices that a new comparison removes; a reopened report states them with a prefix."""


def compare(
    now: Analysis, examination: Examination, prior: Prior, *, context: RunContext = SILENT
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
        state if the patient's identity is unknown or was confirmed by the user, if it is unknown
        which examination is earlier, if left and right seem swapped, and which checks of the
        prior's images failed.
    """
    now, before = applied(now), applied(prior.analysis)
    registration, sequence = align(now, before, context=context)
    current_to_prior = registration.reference_to_sequence
    is_mirrored = seems_mirrored(
        now.prepared, before.prepared, current_to_prior, sequence, context=context
    )
    matches = match(_components(before), _components(now), current_to_prior)
    is_repeated = before.compared is not None and _is_earlier_examination(before.compared, now)
    returned_uids, vanished = _returned_and_vanished(
        now, before, matches, current_to_prior, includes_earlier=not is_repeated
    )
    transferred_uids = returned_uids | _matched_uids(now, before, matches)
    new_uids = {
        uid: transferred_uids.get(uid, own_uid) for uid, own_uid in _own_uid_by_current(now).items()
    }
    renamed = now.renamed(new_uids)
    has_earlier = before.compared is not None and not is_repeated
    points = (
        *(before.compared.points[:-1] if before.compared and has_earlier else ()),
        _prior_point(before, prior.examination),
        _time_point(renamed, examination),
    )
    comparison = Comparison(
        points,
        changes=_changes(points[-2], points[-1], matches),
        alignment=_alignment(registration, sequence.display_name, swapped=is_mirrored),
        own_uids=_renamed_own_uids(now, new_uids),
        gone=vanished,
    )
    compared = replace(renamed, followup=comparison.with_tangled())
    notices = (
        *_identity_notices(examination, prior),
        MIRRORED if is_mirrored else "",
        *_prior_checks(now, before),
        PRIOR_WAS_COMPARED if is_repeated else _left_out_notice(before),
        _makers_notice(comparison),
    )
    return _with_notices(compared, notices_of(now.followup), *notices)


def _components(analysis: Analysis) -> Volume:
    return Volume(analysis.findings.components, analysis.prepared.native)


def _identity_notices(examination: Examination, prior: Prior) -> tuple[str, str]:
    """Return notices if it is unknown whose the prior is, and which examination is earlier."""
    agreement = examination.patient.compared(prior.examination.patient).agreement
    unknown = agreement is IdentityMatch.UNKNOWN
    return (
        prior.confirmed or (PATIENT_UNKNOWN if unknown else ""),
        ORDER_UNKNOWN if examination.is_after(prior.examination) is None else "",
    )


def _prior_checks(now: Analysis, before: Analysis) -> tuple[str, ...]:
    """Return notices on failed checks of the prior's images that did not fail here likewise."""
    failed = [check.message for check in before.findings.quality if not check.passed]
    return tuple(
        f"Of the earlier examination: {text}" for text in failed if text not in now.warnings
    )


def _left_out_notice(before: Analysis) -> str:
    """Return a notice if a prior lacks examinations that it was compared with; empty if not."""
    endings = (*_UNTIL_COMPARED, PRIOR_WAS_COMPARED)
    return EARLIER_LEFT_OUT if any(text.endswith(endings) for text in before.warnings) else ""


def notices_of(comparison: Comparison | None) -> frozenset[str]:
    """Return all notices that a comparison may have added; None for one that was removed."""
    made_by = "" if comparison is None else _makers_notice(comparison)
    left_out = (PRIOR_WAS_COMPARED, EARLIER_LEFT_OUT)
    return frozenset({PATIENT_UNKNOWN, ORDER_UNKNOWN, MIRRORED, *left_out, made_by}) - {""}


def _makers_notice(comparison: Comparison) -> str:
    """Return a notice if examinations were outlined by different networks; empty if not."""
    if len(comparison.makers) < 2:
        return ""
    names = " / ".join(comparison.makers)
    return (
        "The examinations that are compared were outlined by different networks, weights or "
        f"releases, and part of a change in volume may come from that: {names}"
    )


def _with_notices(analysis: Analysis, old_notices: Collection[str], *notices: str) -> Analysis:
    """Replace the notices of an earlier comparison; empty ones are omitted.

    A result that was compared, saved and reopened has them among the notices of its findings too.
    """

    def without_old(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            text
            for text in texts
            if not (
                text in old_notices
                or BOTH in text
                or _PRIOR_CHECK in text
                or text.endswith(_UNTIL_COMPARED)
            )
        )

    def updated(findings: Findings) -> Findings:
        return replace(findings, notices=without_old(findings.notices))

    retained = (notice for notice in (*without_old(analysis.run.notices), *notices) if notice)
    run = replace(analysis.run, notices=tuple(dict.fromkeys(retained)))
    return replace(analysis.with_findings(updated), run=run)


def uids_after_comparison(before: Analysis, after: Analysis) -> dict[str, str]:
    """Return the tracking UID of each candidate after a comparison by the one shown before it.

    Removed candidates are included, because a review may still name them.
    """
    new_uids = compared_uids(after.followup)
    return {
        uid: new_uids.get(own_uid, own_uid) for uid, own_uid in _own_uid_by_current(before).items()
    }


def _own_uid_by_current(now: Analysis) -> dict[str, str]:
    """Return the result's own UID of each candidate by its current one."""
    candidates = now.findings.candidates + now.network.findings.candidates
    uids = {c.tracking_uid: c.tracking_uid for c in candidates}
    return uids | dict(own_uids(now.followup))


def _matched_uids(now: Analysis, before: Analysis, matches: Matches) -> dict[str, str]:
    """Return the prior's tracking UID of each matched candidate, by its current one."""
    prior_uids, current_uids = (
        {c.id: c.tracking_uid for c in analysis.findings.candidates} for analysis in (before, now)
    )
    return {
        current_uids[current_id]: prior_uids[prior_id] for prior_id, current_id in matches.pairs
    }


def _returned_and_vanished(
    now: Analysis,
    before: Analysis,
    matches: Matches,
    current_to_prior: Affine,
    *,
    includes_earlier: bool,
) -> tuple[dict[str, str], tuple[VanishedLesion, ...]]:
    """Return the earlier tracking UIDs of returned candidates, and the lesions no longer flagged.

    `includes_earlier` is False if this examination is itself among those before the prior, so that
    the lesions of the prior's comparison are not earlier ones.
    """
    to_current = np.asarray(np.linalg.inv(current_to_prior), np.float64)
    prior_comparison = before.compared
    gone = prior_comparison.gone if prior_comparison and includes_earlier else ()
    earlier_lesions = [lesion.moved(to_current) for lesion in gone]
    uid_by_id = returned(earlier_lesions, _components(now), matches)
    returned_uids = {
        c.tracking_uid: uid_by_id[c.id] for c in now.findings.candidates if c.id in uid_by_id
    }
    newly_vanished = gone_lesions(before.findings.candidates, _components(before), matches)
    back = set(returned_uids.values())
    still_vanished = (lesion for lesion in earlier_lesions if lesion.tracking_uid not in back)
    vanished = (*still_vanished, *(lesion.moved(to_current) for lesion in newly_vanished))
    return returned_uids, vanished


def _is_earlier_examination(prior_comparison: Comparison, now: Analysis) -> bool:
    """Return whether an examination is among the earlier ones of its prior.

    It is recognised by its Study Instance UID, without one by its own tracking UIDs, which differ
    between examinations until compared. A result reopened from DICOM has only the compared ones.
    """
    uids = own_uids(now.followup)
    current_uids = {uids.get(c.tracking_uid, c.tracking_uid) for c in now.findings.candidates}

    def is_now(point: TimePoint) -> bool:
        if point.study_uid is not None and now.study.uid is not None:
            return point.study_uid == now.study.uid
        return not current_uids.isdisjoint(lesion.tracking_uid for lesion in point.lesions)

    return any(map(is_now, prior_comparison.points[:-1]))


def _renamed_own_uids(now: Analysis, new_uids: Mapping[str, str]) -> dict[str, str]:
    """Return the own UID of each candidate that this comparison renamed."""
    own_by_new = {
        new_uids.get(uid, uid): own_uid for uid, own_uid in _own_uid_by_current(now).items()
    }
    return {uid: own_uid for uid, own_uid in own_by_new.items() if uid != own_uid}


def _prior_point(before: Analysis, examination: Examination) -> TimePoint:
    """Return the prior's time point, with its own comparison's statements about it."""
    point = _time_point(before, examination)
    if before.compared is None:
        return point
    alignment = before.compared.alignment
    return replace(
        point,
        tangled=before.compared.tangled_now,
        doubtful=alignment.doubtful,
        mirrored=alignment.mirrored,
    )


def _time_point(analysis: Analysis, examination: Examination) -> TimePoint:
    lesions = tuple(
        LesionMeasurement.of(c, analysis.review.state_of(c.tracking_uid))
        for c in analysis.findings.candidates
    )
    return TimePoint(
        date=examination.date,
        study_uid=analysis.study.uid,
        lesions=lesions,
        contrast=analysis.prepared.has_t1c,
        cavity_ml=analysis.volumes.cavity_ml,
        made_by=analysis.run.made_by,
    )


def _changes(before: TimePoint, now: TimePoint, matches: Matches) -> tuple[Change, ...]:
    prior_lesions = {lesion.id: lesion for lesion in before.lesions}
    prior_by_current = {b: a for a, b in matches.pairs}
    present = [
        Change(
            prior_lesions.get(prior_by_current.get(lesion.id, 0)),
            lesion,
            tuple(a for a, b in matches.further if b == lesion.id),
        )
        for lesion in now.lesions
    ]
    matched = {a for a, _ in matches.pairs}
    vanished = [
        Change(lesion, None, tuple(b for a, b in matches.further if a == lesion.id))
        for lesion in before.lesions
        if lesion.id not in matched
    ]
    return (*present, *vanished)


def _alignment(registration: Registration, sequence: str, *, swapped: bool) -> Alignment:
    rows = tuple(
        (float(a), float(b), float(c), float(d))
        for a, b, c, d in np.asarray(registration.reference_to_sequence).tolist()
    )
    return Alignment(
        matrix=rows,
        shift_mm=registration.shift_mm,
        angle_deg=registration.angle_deg,
        doubtful=registration.doubtful or swapped,
        sequence=sequence,
        mirrored=swapped,
    )
