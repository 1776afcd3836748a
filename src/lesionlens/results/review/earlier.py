"""Carry tracking UIDs and an earlier review over to a new analysis of the same study.

A candidate continues the earlier one that it overlaps most: it takes its tracking UID, and the
decisions on it. Unaided reads and signed responses are kept. A signature of the whole study is
kept if the candidates are the same. Anything else is set aside by the exporter, with a notice.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from lesionlens.analysis.findings.candidates import uid_of
from lesionlens.base.errors import LesionLensError, UnusableInputError
from lesionlens.base.labels import ReviewAct
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import own_uids
from lesionlens.base.records.review import NO_CANDIDATE, WHOLE_STUDY, Review, ReviewEvent
from lesionlens.base.storage import finish
from lesionlens.results.review.outline_digests import (
    Outlines,
    is_decided_on_other_outline,
    outlines_of,
)
from lesionlens.results.review.reopen import is_result, read_result, read_run, result_folder
from lesionlens.results.review.saved_result import SavedResult


def with_earlier_review(analysis: Analysis, folder: Path) -> Analysis:
    """Return an analysis with the tracking UIDs of, and decisions on, the candidates in a folder.

    Parameters
    ----------
    analysis : Analysis
        The new analysis. If it has its own decisions, or none apply, only unaided reads and
        signed responses are carried over.
    folder : Path
        May contain an earlier result of the same study.

    Returns
    -------
    Analysis
        With the continued review, and notices about what was carried over.
    """
    earlier = _earlier_result(analysis, folder)
    if earlier is None:
        return analysis
    analysis = _with_earlier_uids(analysis, earlier)
    if earlier.review == Review():
        return analysis
    if analysis.review.events:
        return replace(analysis, review=analysis.review.with_signed(earlier.review))
    new_uids = _new_uids(earlier, analysis)
    review = earlier.review.renamed(new_uids).restricted_to(
        {c.tracking_uid for c in analysis.findings.candidates}
    )
    redrawn = _redrawn_uids(new_uids, earlier, analysis)
    if redrawn or not _same_candidates(new_uids, earlier, analysis):
        review = replace(review, events=tuple(e for e in review.events if not _is_signature(e)))
    notices = _notices(earlier.review, review, redrawn)
    run = replace(
        analysis.run,
        notices=tuple(dict.fromkeys((*analysis.run.notices, *notices))),
        redrawn=frozenset(new_uids[uid] for uid in redrawn if earlier.review.of(uid) is not None),
    )
    return replace(analysis, review=review.with_signed(analysis.review), run=run)


def _earlier_result(analysis: Analysis, folder: Path) -> SavedResult | None:
    """Return the result of the same study, on the same grid, in a folder; None if there is none."""
    finish(folder)  # a killed process may have moved the review aside
    if not is_result(folder):
        return None
    try:
        earlier = read_result(folder, maps=False)
    except LesionLensError:
        return None  # the exporter sets it aside, with a notice
    has_common_file = not analysis.run.digests.isdisjoint(earlier.run.digests)
    grid = analysis.volumes.labels.grid
    is_same = grid.matches(earlier.volumes.labels.grid, tolerance_mm=1e-2)
    return earlier if has_common_file and is_same else None


def _is_signature(event: ReviewEvent) -> bool:
    """Return whether an event signs the study or withdraws that; a response has its own."""
    return event.tracking_uid == WHOLE_STUDY and event.act is not ReviewAct.WITHDRAW_RESPONSE


def is_outline_unconfirmed(saved: SavedResult, tracking_uid: str, outlines: Outlines) -> bool:
    """Return whether a decision was made on another outline, and no reader has confirmed this one.

    A later decision or signature confirms it. If their order is unknown, as with DICOM objects that
    state no time, the outline is unconfirmed. `outlines` are those of `outlines_of(saved)`.
    """
    review = saved.review
    is_on_another = is_decided_on_other_outline(review, tracking_uid, outlines)
    if is_on_another is not None:
        return is_on_another
    decision = review.of(tracking_uid)
    if decision is None or tracking_uid not in saved.run.redrawn:
        return False
    confirmations = (decision, review.signature or decision)
    confirmed = _time_of(max(event.time for event in confirmations))
    started = _time_of(saved.run.started)
    return confirmed is None or started is None or confirmed < started


def _time_of(text: str) -> datetime | None:
    """Parse an ISO 8601 time; None if it is invalid or has no time zone."""
    with suppress(ValueError):
        time = datetime.fromisoformat(text)
        return None if time.tzinfo is None else time
    return None


def check_result_name(
    inputs: Iterable[tuple[str, str]],
    path: Path,
    *,
    in_window: str = "Rename the folder of the study, or remove the other result",
) -> None:
    """Refuse to replace another study's result.

    Parameters
    ----------
    inputs : iterable of (str, str)
        Name and SHA-256 of the study's files; not read if there is no result.
    path : Path
        May contain a result.
    in_window : str
        What the window advises.

    Raises
    ------
    UnusableInputError
        The folder contains a result of other files.
    ReadError
        Its `run.json` is damaged.
    """
    path = result_folder(path)
    saved_digests = read_run(path).digests if is_result(path) else frozenset()
    study_digests = {sha256 for _, sha256 in inputs} if saved_digests else set()
    if study_digests and saved_digests and not study_digests & saved_digests:
        raise UnusableInputError(
            found=f"the result of another study named {path.name!r} there",
            expected="one study for each name",
            next_step="Rename the folder of the study, choose another folder with --out, or "
            "remove the other result",
            in_window=in_window,
        )


def _continued_candidates(old: Findings, new: Findings) -> dict[int, int]:
    """Return the id of the earlier candidate that each new one continues.

    They continue each other one to one, those that share most voxels first.
    """
    overlaps = (old.components > 0) & (new.components > 0)
    pairs, counts = np.unique(
        np.stack([old.components[overlaps], new.components[overlaps]]), axis=1, return_counts=True
    )
    continued: dict[int, int] = {}
    for old_id, new_id in pairs.T[np.argsort(-counts, kind="stable")].tolist():
        if new_id not in continued and old_id not in continued.values():
            continued[new_id] = old_id
    return continued


def _with_earlier_uids(analysis: Analysis, earlier: SavedResult) -> Analysis:
    """Return an analysis whose candidates have the own tracking UIDs of those that they continue.

    Any other candidate gives up a UID that belongs to an earlier one, unless neither of the two
    overlaps anything: then they are the same by their place.
    """
    old, new = earlier.findings, analysis.network.findings
    continued = _continued_candidates(old, new)
    overlapped = set(old.components[new.components > 0].tolist())
    overlapping = set(new.components[old.components > 0].tolist())
    old_own, new_own = own_uids(earlier.followup), own_uids(analysis.followup)
    old_uids = {c.id: old_own.get(c.tracking_uid, c.tracking_uid) for c in old.candidates}
    retained = {uid for number, uid in old_uids.items() if number in overlapped}
    uids: dict[str, str] = {}
    for candidate in new.candidates:
        own = uid = new_own.get(candidate.tracking_uid, candidate.tracking_uid)
        if candidate.id in continued:
            uid = old_uids[continued[candidate.id]]
        else:
            taken = set(old_uids.values()) if candidate.id in overlapping else retained
            while uid in taken:
                uid = uid_of(uid)
        if uid != own:
            uids[own] = uid
    if not uids:
        return analysis
    compared = set(new_own.values())
    current = {own: uid for own, uid in uids.items() if own not in compared}
    comparison = analysis.followup
    return replace(
        analysis.renamed(current),
        followup=None if comparison is None else comparison.renamed(uids),
    )


def _new_uids(earlier: SavedResult, analysis: Analysis) -> dict[str, str]:
    """Return the tracking UID of each earlier candidate that is flagged again, by its earlier one.

    Both may be those of a prior's lesions, after a comparison; their own UIDs match.
    """
    old_own, new_own = own_uids(earlier.followup), own_uids(analysis.followup)
    uid_by_own = {
        new_own.get(c.tracking_uid, c.tracking_uid): c.tracking_uid
        for c in analysis.network.findings.candidates
    }
    return {
        c.tracking_uid: uid_by_own[own]
        for c in earlier.findings.candidates
        if (own := old_own.get(c.tracking_uid, c.tracking_uid)) in uid_by_own
    }


def _same_candidates(new_uids: dict[str, str], earlier: SavedResult, analysis: Analysis) -> bool:
    """Return whether the candidates are the same as before."""
    old = {c.tracking_uid for c in earlier.findings.candidates}
    new = {c.tracking_uid for c in analysis.network.findings.candidates}
    return old == set(new_uids) and new == set(new_uids.values())


def _redrawn_uids(new_uids: dict[str, str], earlier: SavedResult, analysis: Analysis) -> set[str]:
    """Return the earlier UIDs of candidates that were decided on another outline.

    Their outline or parts differ now, or differed already and no reader has confirmed them since.
    Tracking UIDs do not show this, as slight changes keep them. Readers' outlines do not count.
    """
    outlines, new_outlines = outlines_of(earlier), outlines_of(analysis)
    return {
        uid
        for uid, outline in outlines.items()
        if uid in new_uids
        and earlier.review.outline_of(uid) is None
        and (
            is_outline_unconfirmed(earlier, uid, outlines) or outline != new_outlines[new_uids[uid]]
        )
    }


def _notices(before: Review, after: Review, redrawn: set[str]) -> list[str]:
    """Return notices about what was carried over, and what was not."""
    redrawn_decided = {uid for uid in redrawn if before.of(uid) is not None}
    retained = {e.tracking_uid for e in after.events} - NO_CANDIDATE
    missing_count = len({e.tracking_uid for e in before.events} - NO_CANDIDATE) - len(retained)
    notices = []
    if retained:
        notices.append(
            f"Readers' decisions on the earlier result were kept for {len(retained)} candidate(s)"
        )
    if redrawn_decided:
        notices.append(
            f"{len(redrawn_decided)} of these candidates now have another outline: check them"
        )
    if missing_count:
        notices.append(
            f"Decisions on {missing_count} candidate(s) that are no longer flagged do not apply"
        )
    if before.signed and not after.signed:
        notices.append("The candidates have changed: the study must be signed again")
    return notices
