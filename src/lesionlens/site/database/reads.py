"""Derive reads from acts: a fold over append-only events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from lesionlens.base.labels import Phase, ReviewAct, ReviewState
from lesionlens.base.records.review import NO_CANDIDATE, WHOLE_STUDY, Outline, Review, ReviewEvent
from lesionlens.site.database.records import Mark, Read, ReadKey, StudyState

ACT = TypeAdapter(ReviewEvent)
"""An act as stored in the database, in JSON."""
MERGED = "merged"
"""Verdict on a candidate that the reader merged into another one, whose verdict has the rating."""
_NO_DECISION = (ReviewAct.BEGIN, ReviewAct.LEAVE, ReviewAct.RESPONSE, ReviewAct.WITHDRAW_RESPONSE)


def as_stored(act: ReviewEvent) -> ReviewEvent:
    """Return an act as the database returns it: positions are rounded."""
    return ACT.validate_json(ACT.dump_json(act))


def read_of(key: ReadKey, acts: Sequence[ReviewEvent]) -> Read:
    """Return the read that results from a reader's acts on one study, oldest act first.

    A withdrawal, mark or verdict after the last signature reopens the read; the unaided signature
    stays, as the analysis was shown after it. A verdict has the rating of the decision in force.
    Time until a complete read is left does not count.
    """
    marks: dict[str, Mark] = {}
    ratings = _Ratings()
    verdicts: dict[str, ReviewEvent] = {}
    unaided = signed = None
    seconds = dict.fromkeys(Phase, 0.0)
    for act in acts:
        uid, is_whole_study = act.tracking_uid, act.tracking_uid == WHOLE_STUDY
        is_complete = (signed if key.arm.aided else unaided) is not None
        if act.act is not ReviewAct.LEAVE or not is_complete:
            seconds[act.phase] += act.seconds
        if act.act in _NO_DECISION:
            continue
        if is_whole_study and act.state.decided and act.phase is Phase.UNAIDED:
            unaided = act.reason or "signed"
            continue
        signed = (act.reason or "signed") if is_whole_study and act.state.decided else None
        if act.act is ReviewAct.PLACE_MARK and act.at_mm is not None:
            marks[uid] = Mark(uid, act.at_mm, act.confidence, act.phase)
        elif act.act is ReviewAct.REMOVE_MARK:
            marks.pop(uid, None)
        elif act.act is ReviewAct.TAKE_OVER:
            verdicts.clear()
            ratings = _Ratings()
        elif uid not in NO_CANDIDATE:
            verdicts.pop(uid, None)
            rated = ratings.rated(act)
            if act.state is not ReviewState.UNREVIEWED:
                verdicts[uid] = rated
    return Read(
        key,
        tuple(marks.values()),
        tuple(verdicts.values()),
        unaided,
        signed,
        seconds[Phase.UNAIDED],
        seconds[Phase.AIDED],
        acts[0].time if acts else "",
        tuple(acts),
    )


def verdict_of(act: ReviewEvent | None) -> str:
    """Return the verdict of the decision in force on a candidate, if there is one.

    Examples
    --------
    >>> verdict_of(None)
    'unreviewed'
    """
    if act is None:
        return ReviewState.UNREVIEWED.value
    is_merged = act.outline == Outline.empty(act.tracking_uid).sha256
    return MERGED if is_merged else act.state.value


class _Ratings:
    """The ratings of the decisions in force; a rating is entered for one act alone."""

    def __init__(self) -> None:
        self._valid: dict[str, list[ReviewEvent]] = {}
        self._undone: dict[str, list[ReviewEvent]] = {}

    def rated(self, act: ReviewEvent) -> ReviewEvent:
        """Return an act on a candidate with the rating of the decision that it leaves in force.

        A reason or diameters that are added later are no new decision. Undo restores the rating
        with the decision, and redo too.
        """
        valid = self._valid.setdefault(act.tracking_uid, [])
        undone = self._undone.setdefault(act.tracking_uid, [])
        if act.act is ReviewAct.UNDO:
            undone += [valid.pop()] if valid else []
        elif act.act is ReviewAct.REDO and undone:
            valid.append(undone.pop())
        in_force = valid[-1] if valid else None
        is_same = in_force is not None and _decision(in_force) == _decision(act)
        if act.confidence is None and in_force is not None and is_same:
            act = replace(act, confidence=in_force.confidence)
        if act.act not in (ReviewAct.UNDO, ReviewAct.REDO):
            valid.append(act)
            undone.clear()
        return act


def _decision(act: ReviewEvent) -> tuple[ReviewState, str | None]:
    return act.state, act.outline


def reviews_of(acts: Sequence[ReviewEvent], outlines: Mapping[str, Outline]) -> tuple[Review, ...]:
    """Return the reviews of one analysis; the last one is current.

    Earlier ones were replaced by a review made elsewhere.

    Parameters
    ----------
    acts : sequence of ReviewEvent
        Acts of one read on that analysis, oldest first.
    outlines : mapping of str to Outline
        Outlines by SHA-256, at least those that the acts name.
    """
    takeovers = [n for n, act in enumerate(acts) if act.act is ReviewAct.TAKE_OVER]
    begins, ends = [0, *(n + 1 for n in takeovers)], [*takeovers, len(acts)]
    return tuple(
        _review_of(acts[begin:end], outlines) for begin, end in zip(begins, ends, strict=True)
    )


def _review_of(acts: Sequence[ReviewEvent], outlines: Mapping[str, Outline]) -> Review:
    names = {act.outline for act in acts}
    return Review(
        tuple(act.decision for act in acts if act.act is not ReviewAct.RESPONSE),
        {name: outline for name, outline in outlines.items() if name in names},
        responses=tuple(
            act.response
            for act in acts
            if act.response is not None and act.act is ReviewAct.RESPONSE
        ),
    )


def state_of(read: Read | None, *, analysed: bool) -> StudyState:
    """Return a reader's progress; a study that was only opened is not in review.

    Examples
    --------
    >>> state_of(None, analysed=True)
    <StudyState.ANALYSED: 'analysed'>
    """
    if read is not None and read.complete:
        return StudyState.SIGNED
    has_content = read is not None and (read.unaided or read.signed or read.marks or read.verdicts)
    if has_content:
        return StudyState.IN_REVIEW
    return StudyState.ANALYSED if analysed else StudyState.NEW
