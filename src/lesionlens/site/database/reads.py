"""From acts to reads: a fold, so that what a reader did is never overwritten, only added to."""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.base.labels import ReviewState
from lesionlens.site.database.records import (
    Act,
    ActKind,
    Mark,
    Phase,
    Read,
    ReaderVerdict,
    ReadKey,
    StudyState,
)

_OPENING = (ActKind.MARK, ActKind.TAKE_BACK, ActKind.VERDICT, ActKind.WITHDRAW)


def read_of(key: ReadKey, acts: Sequence[Act]) -> Read:
    """Return what a reader's acts on one study amount to, oldest act first.

    A withdrawal, a mark or a verdict after the last signature opens that read again; the unaided
    signature stays, since what was shown cannot be unseen.
    """
    marks: dict[str, Mark] = {}
    verdicts: dict[str, ReaderVerdict] = {}
    unaided = signed = None
    seconds = dict.fromkeys(Phase, 0.0)
    for act in acts:
        seconds[act.phase] += act.seconds
        if act.kind is ActKind.SIGN and act.phase is Phase.UNAIDED:
            unaided = act.words
        elif act.kind is ActKind.SIGN:
            signed = act.words
        elif act.kind in _OPENING:
            signed = None
        if act.kind is ActKind.MARK and act.at_mm is not None:
            marks[act.target] = Mark(act.target, act.at_mm, act.confidence, act.phase)
        elif act.kind is ActKind.TAKE_BACK:
            marks.pop(act.target, None)
        elif act.kind is ActKind.VERDICT and act.state is not None:
            verdicts.pop(act.target, None)
            if act.state is not ReviewState.UNREVIEWED:
                verdicts[act.target] = ReaderVerdict(
                    act.target, act.state, act.at_mm, act.confidence, act.words
                )
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


def state_of(read: Read | None, *, analysed: bool) -> StudyState:
    """Report how far a reader is; a study that was only opened is not in review yet.

    Examples
    --------
    >>> state_of(None, analysed=True)
    <StudyState.ANALYSED: 'analysed'>
    """
    if read is not None and read.complete:
        return StudyState.SIGNED
    begun = read is not None and (read.unaided or read.signed or read.marks or read.verdicts)
    if begun:
        return StudyState.IN_REVIEW
    return StudyState.ANALYSED if analysed else StudyState.NEW
