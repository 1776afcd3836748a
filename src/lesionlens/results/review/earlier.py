"""Carry an earlier review over to a new analysis of the same study.

Decisions are carried over to the same candidates, by tracking UID or, if the outline differs
slightly, by overlap. Unaided reads are kept. A signature of the whole study is kept if the
candidates are the same. Anything else is set aside by the exporter, with a notice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from lesionlens.base.errors import LesionLensError, UnusableInputError
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import own_uids
from lesionlens.base.records.review import NO_CANDIDATE, WHOLE_STUDY, Review
from lesionlens.results.review import store
from lesionlens.results.review.reopen import is_result, read_result, read_run
from lesionlens.results.review.saved_result import SavedResult
from lesionlens.results.review.seen import Outlines, on_another_outline, outlines_of

SAME_OUTLINE = 0.5
"""Minimum Dice for two outlines of the same candidate."""


def with_earlier_review(analysis: Analysis, folder: Path) -> Analysis:
    """Return an analysis with the decisions on the same candidates in a folder.

    Parameters
    ----------
    analysis : Analysis
        The new analysis. If it has decisions of its own, or none apply, only unaided reads are
        carried over.
    folder : Path
        May contain an earlier result of the same study.

    Returns
    -------
    Analysis
        With the continued review, and notices about what was carried over.
    """
    if not (folder / store.NAME).is_file():
        return analysis
    try:
        earlier = read_result(folder, maps=False)
    except LesionLensError:
        return analysis  # the exporter sets it aside, with a notice
    if earlier.review == Review() or not _same_study(analysis, earlier):
        return analysis
    reads = dict.fromkeys((*earlier.review.unaided, *analysis.review.unaided))
    if analysis.review.events:
        return replace(analysis, review=replace(analysis.review, unaided=tuple(reads)))
    names = _names(earlier, analysis)
    kept = earlier.review.renamed(names).restricted_to(
        {c.tracking_uid for c in analysis.findings.candidates}
    )
    redrawn = _redrawn(names, earlier, analysis)
    if redrawn or not _covers(names, earlier, analysis):
        events = tuple(e for e in kept.events if e.tracking_uid != WHOLE_STUDY)
        kept = replace(kept, events=events)
    notices = _notices(earlier.review, kept, redrawn)
    run = replace(
        analysis.run,
        notices=tuple(dict.fromkeys((*analysis.run.notices, *notices))),
        redrawn=frozenset(names[uid] for uid in redrawn if earlier.review.of(uid) is not None),
    )
    return replace(analysis, review=replace(kept, unaided=tuple(reads)), run=run)


def is_unseen(saved: SavedResult, tracking_uid: str, outlines: Outlines) -> bool:
    """Return whether a decision was made on another outline, and no reader has confirmed this one.

    A later decision or signature confirms it. `outlines` are those of `outlines_of(saved)`.
    """
    review = saved.review
    on_another = on_another_outline(review, tracking_uid, outlines)
    if on_another is not None:
        return on_another
    decision = review.of(tracking_uid)
    if decision is None or tracking_uid not in saved.run.redrawn:
        return False
    last = max(decision.time, review.events[-1].time) if review.signed else decision.time
    return datetime.fromisoformat(last) < datetime.fromisoformat(saved.run.started)


def check_own_name(inputs: Iterable[tuple[str, str]], path: Path) -> None:
    """Refuse to replace another study's result where results are named by the studies' folders.

    Parameters
    ----------
    inputs : iterable of (str, str)
        Name and SHA-256 of the study's files; not read if there is no result.
    path : Path
        May contain a result.

    Raises
    ------
    UnusableInputError
        The folder holds a result of none of these files.
    ReadError
        Its `run.json` is damaged.
    """
    there = {sha256 for _, sha256 in read_run(path).inputs} if is_result(path) else set()
    here = {sha256 for _, sha256 in inputs} if there else set()
    if here and there and not here & there:
        raise UnusableInputError(
            found=f"the result of another study named {path.name!r} there",
            expected="one study for each name",
            next_step="Rename the folder of the study, choose another folder with --out, or "
            "remove the other result",
            in_window="Rename the folder of the study, or remove the other result",
        )


def _same_study(analysis: Analysis, earlier: SavedResult) -> bool:
    """Return whether both are of the same study, on the same voxel grid."""
    known = {sha256 for _, sha256 in earlier.run.inputs}
    shared = any(sha256 in known for _, sha256 in analysis.run.inputs)
    grid = analysis.volumes.labels.grid
    return shared and grid.matches(earlier.volumes.labels.grid, tolerance_mm=1e-2)


def _names(earlier: SavedResult, analysis: Analysis) -> dict[str, str]:
    """Return the new tracking UID of each matching candidate, by its earlier one.

    Candidates have their own UIDs for that: the one of a prior's lesion may be another's now.
    """
    old, new = earlier.findings, _drawn(analysis)
    then, since = own_uids(earlier.followup), own_uids(analysis.followup)
    now = {since.get(c.tracking_uid, c.tracking_uid): c.tracking_uid for c in new.candidates}
    own = {c.tracking_uid: then.get(c.tracking_uid, c.tracking_uid) for c in old.candidates}
    names = {uid: now[ours] for uid, ours in own.items() if ours in now}
    taken = set(names.values())
    free = {c.id: c.tracking_uid for c in new.candidates if c.tracking_uid not in taken}
    for candidate in old.candidates:
        if candidate.tracking_uid in names:
            continue
        mask = old.components == candidate.id
        ids, counts = np.unique(new.components[mask], return_counts=True)
        for number, shared in sorted(zip(ids, counts, strict=True), key=lambda pair: -pair[1]):
            size = np.count_nonzero(mask) + np.count_nonzero(new.components == number)
            if int(number) in free and 2 * shared >= SAME_OUTLINE * size:
                names[candidate.tracking_uid] = free.pop(int(number))
                break
    return names


def _drawn(analysis: Analysis) -> Findings:
    """Return the findings with the network's own outlines."""
    return analysis.findings if analysis.original is None else analysis.original.findings


def _covers(names: dict[str, str], earlier: SavedResult, analysis: Analysis) -> bool:
    """Return whether there are no other candidates than before."""
    old = {c.tracking_uid for c in earlier.findings.candidates}
    new = {c.tracking_uid for c in _drawn(analysis).candidates}
    return old == set(names) and new == set(names.values())


def _redrawn(names: dict[str, str], earlier: SavedResult, analysis: Analysis) -> set[str]:
    """Return the earlier UIDs of candidates whose outline or parts are not those of a decision.

    Either they differ now, or they did already and no reader has confirmed them since. Tracking
    UIDs do not tell: they outlast a slight change. An outline that a reader drew is kept.
    """
    first = analysis.original
    new, now = _drawn(analysis), (analysis.volumes if first is None else first).labels.data
    old, before = earlier.findings, earlier.volumes.labels.data
    ids, outlines = {c.tracking_uid: c.id for c in new.candidates}, outlines_of(earlier)
    return {
        c.tracking_uid
        for c in old.candidates
        if c.tracking_uid in names
        and earlier.review.outline_of(c.tracking_uid) is None
        and (
            is_unseen(earlier, c.tracking_uid, outlines)
            or not np.array_equal(
                before * (old.components == c.id),
                now * (new.components == ids[names[c.tracking_uid]]),
            )
        )
    }


def _notices(before: Review, kept: Review, redrawn: set[str]) -> list[str]:
    """Return notices about what was carried over, and what was not."""
    moved = {uid for uid in redrawn if before.of(uid) is not None}
    stayed = {e.tracking_uid for e in kept.events} - NO_CANDIDATE
    lost = len({e.tracking_uid for e in before.events} - NO_CANDIDATE) - len(stayed)
    notices = []
    if stayed:
        notices.append(
            f"Readers' decisions of the earlier result in this folder stay with {len(stayed)} "
            "candidate(s)"
        )
    if moved:
        notices.append(
            f"{len(moved)} of these candidates were drawn anew with another outline: check them"
        )
    if lost:
        notices.append(f"Decisions on {lost} candidate(s) that are no longer found do not fit")
    if before.signed and not kept.signed:
        notices.append("The candidates have changed: the study is to be signed again")
    return notices
