"""A comparison with earlier examinations after outlines or decisions changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.followup import Change, Comparison, LesionMeasurement
from lesionlens.base.records.review import Review


def with_edits(
    comparison: Comparison | None,
    candidates: Iterable[Candidate],
    review: Review,
    cavity_ml: float | None,
) -> Comparison | None:
    """Return a comparison with the current measurements; None without one.

    Parameters
    ----------
    comparison : Comparison or None
        As computed, whatever was edited since.
    candidates : iterable of Candidate
        The current ones, with edited outlines.
    cavity_ml : float or None
        Current volume of the resection cavity.
    """
    if comparison is None:
        return None
    state_of = review.state_of
    lesions = tuple(LesionMeasurement.of(c, state_of(c.tracking_uid)) for c in candidates)
    last = replace(comparison.points[-1], lesions=lesions, cavity_ml=cavity_ml)
    changes = _changes(comparison, lesions, review)
    points = (*comparison.points[:-1], last)
    return replace(comparison, points=points, changes=changes).with_tangled()


def _changes(
    comparison: Comparison, lesions: Sequence[LesionMeasurement], review: Review
) -> tuple[Change, ...]:
    """Return the changes of all lesions, also of those that a reader merged, split or added.

    A lesion that is no longer listed is part of the one that holds its voxels now, if any.
    """
    listed = {lesion.tracking_uid: lesion for lesion in lesions}
    computed = {c.now.tracking_uid: c for c in comparison.changes if c.now is not None}
    holders = {uid: _holder(uid, listed, review) for uid in {**listed, **computed, **review.added}}
    overlapped_ids: dict[str, list[int]] = {uid: [] for uid in listed}
    for uid, holder in holders.items():
        if holder is not None:
            overlapped_ids[holder.tracking_uid] += _prior_ids(_origin(uid, computed, review))
    present = []
    for uid, lesion in listed.items():
        change = computed.get(uid) or Change(None, lesion)
        beside = dict.fromkeys(overlapped_ids[uid])
        if change.before is not None:
            beside.pop(change.before.id, None)
        present.append(Change(change.before, lesion, tuple(beside)))
    holder_by_id = {c.now.id: holders[uid] for uid, c in computed.items() if c.now is not None}
    absent = []
    for change in comparison.changes:
        now = change.now
        if change.before is not None and (now is None or now.tracking_uid not in listed):
            ids = change.beside if now is None else (now.id,)
            absent.append(Change(change.before, None, _ids(map(holder_by_id.get, ids))))
    return (*present, *absent)


def _holder(
    uid: str, listed: Mapping[str, LesionMeasurement], review: Review
) -> LesionMeasurement | None:
    """Return the listed lesion that holds the voxels of one that was merged, or split in vain."""
    whole = review.split_from(uid)
    uids = (uid, review.part_of(uid), review.part_of(whole))
    return next((listed[each] for each in uids if each in listed), None)


def _origin(uid: str, computed: Mapping[str, Change], review: Review) -> Change | None:
    """Return the change of a lesion, or of the one that it was part of when compared."""
    whole = review.split_from(uid) if uid in review.added else review.part_of(uid, ever=True)
    return computed.get(uid) or computed.get(whole)


def _prior_ids(change: Change | None) -> tuple[int, ...]:
    """Return the lesions of the prior that a lesion of this examination overlaps."""
    if change is None:
        return ()
    return (*(() if change.before is None else (change.before.id,)), *change.beside)


def _ids(lesions: Iterable[LesionMeasurement | None]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(lesion.id for lesion in lesions if lesion is not None))
