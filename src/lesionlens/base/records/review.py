"""Readers' decisions: append-only events; the network's findings are never edited."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Shape3, bounding_box
from lesionlens.base.labels import DrawingMethod, Phase, ReviewAct, ReviewState
from lesionlens.base.model import STRICT, stored_as
from lesionlens.base.records.arrays import frozen
from lesionlens.base.records.findings import Point
from lesionlens.base.records.prompts import PromptRound
from lesionlens.base.records.response import SignedResponse

DrawnDiameters = tuple[tuple[Point, Point], tuple[Point, Point]]
"""Both ends of the longest diameter and of the perpendicular one, patient RAS+ mm."""
WHOLE_STUDY = "study"
"""Used in place of a tracking UID in an event about the whole study."""
CAVITY = "resection cavity"
"""Used in place of a tracking UID in an event about the resection cavity."""
NO_CANDIDATE = frozenset({WHOLE_STUDY, CAVITY})
"""Subjects of an event besides candidates and marks."""
MAX_REASON = 10_000
"""Maximum characters of a reason; longer ones could not be laid out in a report."""


@dataclass(frozen=True, eq=False)
class Outline:
    """A candidate's outline as edited by a reader; equal if all voxels are."""

    tracking_uid: str
    """UID of the candidate."""
    corner: tuple[int, int, int]
    """(3,) int: native index of the first voxel of `labels`."""
    labels: NDArray[np.uint8]
    """(I, J, K) uint8: `base.labels.Label` of each voxel in a box of the native grid; 0 outside the
    candidate.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", frozen(self.labels))

    @classmethod
    def of(
        cls, tracking_uid: str, labels: NDArray[np.uint8], corner: Sequence[int] = (0, 0, 0)
    ) -> Outline:
        """Return the outline of all labelled voxels of an array; empty if there are none.

        Parameters
        ----------
        labels : (I, J, K) uint8
            `base.labels.Label`; 0 outside the candidate.
        corner : (3,) int
            Native index of the array's first voxel.
        """
        box = bounding_box(labels > 0)
        if box is None:
            return cls.empty(tracking_uid)
        i, j, k = (int(start + side.start) for start, side in zip(corner, box, strict=True))
        return cls(tracking_uid, (i, j, k), labels[box].copy())

    @classmethod
    def empty(cls, tracking_uid: str) -> Outline:
        """Return the empty outline of a candidate whose voxels were all reassigned."""
        return cls(tracking_uid, (0, 0, 0), np.zeros((1, 1, 1), np.uint8))

    @cached_property
    def is_empty(self) -> bool:
        """Whether the outline contains no voxel."""
        return not self.labels.any()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all three fields; identifies the outline."""
        digest = hashlib.sha256(f"{self.tracking_uid} {self.corner} {self.labels.shape}".encode())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The box on the native grid."""
        i, j, k = (
            slice(start, start + size)
            for start, size in zip(self.corner, self.labels.shape, strict=True)
        )
        return i, j, k

    def mask(self, shape: Shape3) -> NDArray[np.bool_]:
        """Return the outlined voxels on a native grid of `shape`, (I, J, K) bool."""
        mask = np.zeros(shape, bool)
        mask[self.box] = self.labels > 0
        return mask

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outline) and self.sha256 == other.sha256

    @override
    def __hash__(self) -> int:
        return hash(self.sha256)


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """One act of a reader; a review contains the decisions, the log of a read contains all acts."""

    __pydantic_config__: ClassVar = STRICT

    tracking_uid: str
    """UID of the candidate, or of a marked position."""
    state: ReviewState
    """The state from now on; unreviewed if the act is not a decision."""
    reader: str | None
    """The reader, as set in the preferences."""
    time: str
    """ISO 8601, UTC."""
    reason: str | None = None
    """In the reader's words."""
    act: ReviewAct = ReviewAct.DECIDE
    """For UNDO and REDO, `state`, `reason` and `outline` are the restored ones."""
    outline: str | None = None
    """SHA-256 of the reader's outline from now on; None for the network's own."""
    added: DrawingMethod | None = None
    """How the candidate was outlined, if this event adds it; None for the network's."""
    with_previous: bool = False
    """Whether it forms one act with the preceding event: both are undone together."""
    prompts: tuple[PromptRound, ...] = ()
    """Prompts used for the outline; replayed on the previous outline they give the same voxels,
    unless a brush was used too.
    """
    phase: Phase = Phase.AIDED
    """Before or after the analysis was shown."""
    seconds: float = 0.0
    """Since the previous act in this read, by a monotonic clock."""
    at_mm: tuple[float, float, float] | None = None
    """(3,) or None: position, patient RAS+: of the mark, or of the candidate's centroid."""
    confidence: int | None = None
    """0 to 100, as entered by the reader."""
    response: SignedResponse | None = None
    """The signed response (only in the log of a read), or the one that is withdrawn."""
    diameters: DrawnDiameters | None = None
    """The reader's diameters from now on; None for the measured ones."""
    seen: str | None = None
    """SHA-256 of the network's outline that was decided on, of all of them in a signature
    (`results.review.outline_digests`); None if it is unknown, or the reader's own."""

    @property
    def decision(self) -> ReviewEvent:
        """The act as stored in a review: without timing and confidence."""
        return replace(self, phase=Phase.AIDED, seconds=0.0, at_mm=None, confidence=None)

    def __post_init__(self) -> None:
        """Refuse an overlong reason."""
        if self.reason is not None and len(self.reason) > MAX_REASON:
            raise UnusableInputError(
                found=f"a reason of {len(self.reason)} characters",
                expected=f"at most {MAX_REASON} characters",
                next_step="Shorten the reason",
            )


@dataclass(frozen=True, slots=True)
class UnaidedMark:
    """A position that a reader marked before the analysis was shown."""

    __pydantic_config__: ClassVar = STRICT

    uid: str
    """Unique identifier."""
    at_mm: tuple[float, float, float]
    """(3,): patient RAS+."""
    confidence: int | None = None
    """0 to 100, as entered by the reader."""


@dataclass(frozen=True, slots=True)
class UnaidedRead:
    """A read that was signed before the analysis was shown."""

    __pydantic_config__: ClassVar = STRICT | stored_as(statement="words")

    reader: str | None
    """The reader, as set in the preferences."""
    begun: str
    time: str
    """When the study was opened and when the read was signed; ISO 8601, UTC."""
    seconds: float
    """How long the study was displayed until then."""
    statement: str
    """The signed statement."""
    marks: tuple[UnaidedMark, ...] = ()
    """Marked positions; empty if nothing was found."""


_Signed = TypeVar("_Signed", UnaidedRead, SignedResponse)


@dataclass(frozen=True, slots=True)
class Review:
    """The events of one review; the last event of a candidate sets its state."""

    events: tuple[ReviewEvent, ...] = ()
    """Oldest first."""
    outlines: Mapping[str, Outline] = field(default_factory=dict)
    """Every outline that an event refers to, by SHA-256, including undone ones."""
    unaided: tuple[UnaidedRead, ...] = ()
    """Reads signed before the analysis was shown, separate from the events."""
    responses: tuple[SignedResponse, ...] = ()
    """Signed responses to treatment; the last one is valid unless it is withdrawn."""

    @property
    def response(self) -> SignedResponse | None:
        """The valid signed response."""
        last = next(reversed(self.responses), None)
        return None if last in self._withdrawn else last

    @property
    def _withdrawn(self) -> frozenset[SignedResponse | None]:
        return frozenset(e.response for e in self.events if e.act is ReviewAct.WITHDRAW_RESPONSE)

    def with_outlines(
        self, changed: Mapping[str, Outline], events: Sequence[ReviewEvent] | None = None
    ) -> Review:
        """Return the review with changed outlines, given by the digests that the events name."""
        events = self.events if events is None else events
        digests = {old: outline.sha256 for old, outline in changed.items()}
        return replace(
            self,
            events=tuple(
                replace(e, outline=digests.get(e.outline or "", e.outline)) for e in events
            ),
            outlines={outline.sha256: outline for outline in changed.values()},
        )

    def of(self, tracking_uid: str) -> ReviewEvent | None:
        """Return the last event of a candidate, or None while it is unreviewed."""
        return next((e for e in reversed(self.events) if e.tracking_uid == tracking_uid), None)

    def decision_of(self, tracking_uid: str) -> ReviewEvent | None:
        """Return the act that made the current decision on a candidate; None if it has none.

        Undoing a later decision or placing diameters does not count as making the decision.
        """
        last = self.of(tracking_uid)
        if last is None or last.state is ReviewState.UNREVIEWED:
            return None
        valid, _ = valid_and_undone(self.events)
        acts = [event for event in valid if event.tracking_uid == tracking_uid]
        while len(acts) > 1 and _changes_only_diameters(*acts[-2:]):
            acts.pop()
        decisive = acts[-1] if acts else last
        return decisive if (decisive.state, decisive.reason) == (last.state, last.reason) else last

    def state_of(self, tracking_uid: str) -> ReviewState:
        """Return the state of a candidate."""
        event = self.of(tracking_uid)
        return event.state if event else ReviewState.UNREVIEWED

    def progress_text(self, tracking_uids: Sequence[str]) -> str:
        """Return the progress of the review in words; deferred candidates are not decided.

        Examples
        --------
        >>> Review().progress_text(["1.2", "1.3"]), Review().progress_text([])
        ('0 of 2 reviewed', '')
        """
        states = [self.state_of(uid) for uid in tracking_uids]
        deferred = states.count(ReviewState.DEFERRED)
        parts = [
            f"{sum(state.decided for state in states)} of {len(states)} reviewed" if states else "",
            f"{deferred} deferred" if deferred else "",
            f"signed: {self.signed}" if self.signed else "",
        ]
        return " · ".join(part for part in parts if part)

    @property
    def signature(self) -> ReviewEvent | None:
        """The event that signs the whole study; a later decision on a candidate reopens it."""
        last = next(reversed(self.events), None)
        signs = last is not None and last.tracking_uid == WHOLE_STUDY and last.state.decided
        return last if signs else None

    @property
    def signed(self) -> str | None:
        """The signed statement on the whole study, and the reader.

        Examples
        --------
        >>> end = ReviewEvent(WHOLE_STUDY, ReviewState.ACCEPTED, "A. Reader", "", "nothing further")
        >>> Review((end,)).signed, Review().signed
        ('nothing further, A. Reader', None)
        """
        event = self.signature
        return None if event is None else ", ".join(filter(None, (event.reason, event.reader)))

    def outline_of(self, tracking_uid: str) -> Outline | None:
        """Return the reader's outline of a candidate; None if the network's is current."""
        event = self.of(tracking_uid)
        return None if event is None or event.outline is None else self.outlines[event.outline]

    def is_redrawn(self, tracking_uid: str) -> bool:
        """Return whether a reader redrew the current outline of a candidate.

        This includes edits before the outline was imported: such an edit has no separate outline.
        """
        return self.outline_of(tracking_uid) is not None or any(
            event.state is ReviewState.EDITED and event.outline is None
            for event in self.events
            if event.tracking_uid == tracking_uid
        )

    def prompts_of(self, tracking_uid: str) -> tuple[tuple[PromptRound, ...], ...]:
        """Return the prompts of each edit that led to the current outline, oldest edit first.

        Each edit starts from the previous outline. Edits without prompts are omitted.
        """
        if self.outline_of(tracking_uid) is None:
            return ()
        valid, _ = valid_and_undone(self.events)
        return tuple(e.prompts for e in valid if e.prompts and e.tracking_uid == tracking_uid)

    def diameters_of(self, tracking_uid: str) -> DrawnDiameters | None:
        """Return the diameters that a reader placed; None if the measured ones are current."""
        event = self.of(tracking_uid)
        return None if event is None else event.diameters

    @property
    def outlined(self) -> Mapping[str, Outline]:
        """All current outlines by tracking UID, in the order of first editing."""
        last = {event.tracking_uid: event.outline for event in self.events}
        return {uid: self.outlines[digest] for uid, digest in last.items() if digest is not None}

    def part_of(self, tracking_uid: str, *, ever: bool = False) -> str:
        """Return the UID of the candidate that this one was merged into; its own if it was not.

        With `ever`, merges that were undone count too.
        """
        merged_into: dict[str, str] = {}
        for previous, event in pairwise(self.events):
            if not ever:
                merged_into.pop(event.tracking_uid, None)
            outline = self.outlines.get(event.outline or "")
            if event.with_previous and outline is not None and outline.is_empty:
                merged_into[event.tracking_uid] = previous.tracking_uid
        return _follow_links(merged_into, tracking_uid)

    def split_from(self, tracking_uid: str) -> str:
        """Return the UID of the candidate that this one was split from; its own if it was not."""
        origins = {
            event.tracking_uid: previous.tracking_uid
            for previous, event in pairwise(self.events)
            if event.with_previous and event.added is not None
        }
        return _follow_links(origins, tracking_uid)

    @property
    def added(self) -> Mapping[str, DrawingMethod]:
        """How each candidate that a reader ever added was outlined, by tracking UID."""
        return {e.tracking_uid: e.added for e in self.events if e.added is not None}

    def renamed(self, new_uids: Mapping[str, str]) -> Review:
        """Return the review with other tracking UIDs for the same candidates.

        Parameters
        ----------
        new_uids : mapping of str to str
            New UID by old one; others are unchanged.
        """
        renamed_outlines = {
            key: replace(o, tracking_uid=new_uids.get(o.tracking_uid, o.tracking_uid))
            for key, o in self.outlines.items()
        }
        events = [
            replace(e, tracking_uid=new_uids.get(e.tracking_uid, e.tracking_uid))
            for e in self.events
        ]
        return self.with_outlines(renamed_outlines, events)

    def continues(self, earlier: Review) -> bool:
        """Return whether the review begins with all decisions of an earlier one."""
        return self.events[: len(earlier.events)] == earlier.events

    def with_signed(self, other: Review) -> Review:
        """Return a copy with the signed unaided reads and responses of another review added.

        Responses whose withdrawal is among the events of the other review alone are not added.
        """
        withdrawn = other._withdrawn - self._withdrawn
        responses = tuple(signed for signed in other.responses if signed not in withdrawn)
        return replace(
            self,
            unaided=_in_order_of_signing(other.unaided, self.unaided),
            responses=_in_order_of_signing(responses, self.responses),
        )

    def restricted_to(self, known: Container[str]) -> Review:
        """Return the events about the whole study, the cavity, known candidates and added ones.

        All events of a merge or split, also those that undo or redo it, are kept or none, together
        with other acts that use its outlines: a partial act would lose or duplicate a part of the
        outlined volume.
        """
        acts: dict[int, list[ReviewEvent]] = {}
        numbers, *_ = _replayed(self.events)
        for number, event in zip(numbers, self.events, strict=True):
            acts.setdefault(number, []).append(event)
        general, retained, removed = set(NO_CANDIDATE), set[int](), set[str]()
        for number, act in acts.items():
            uids = {e.tracking_uid for e in act}
            added = {e.tracking_uid for e in act if e.added is not None}
            digests = {e.outline for e in act if e.outline is not None}
            if not digests & removed and all(
                u in known or u in general or u in added for u in uids
            ):
                general |= added
                retained.add(number)
            elif len(uids) > 1 or digests & removed:
                removed |= digests.difference(e.outline for n in retained for e in acts[n])
        events = tuple(e for n, e in zip(numbers, self.events, strict=True) if n in retained)
        uids = {e.tracking_uid for e in events}
        outlines = {name: o for name, o in self.outlines.items() if o.tracking_uid in uids}
        return Review(events, outlines, self.unaided, self.responses)


def _in_order_of_signing(
    first: tuple[_Signed, ...], second: tuple[_Signed, ...]
) -> tuple[_Signed, ...]:
    """Return the statements of two reviews, each once; by time unless one review has them all."""
    every = tuple(dict.fromkeys(first + second))
    whole = next((signed for signed in (first, second) if set(signed) == set(every)), None)
    return whole or tuple(sorted(every, key=lambda signed: signed.time))


def valid_and_undone(events: Sequence[ReviewEvent]) -> tuple[list[ReviewEvent], list[ReviewEvent]]:
    """Return the valid acts and the undone ones, from the events alone."""
    _, valid, undone = _replayed(events)
    return [events[index] for index in valid], [events[index] for index in undone]


def _replayed(events: Sequence[ReviewEvent]) -> tuple[list[int], list[int], list[int]]:
    """Return the number of the act that each event is part of, undoes or redoes.

    Also return the indices of the events that are valid, and of those that are undone.
    """
    numbers, valid, undone = list[int](), list[int](), list[int]()
    for index, event in enumerate(events):
        number = numbers[-1] if event.with_previous and numbers else index
        if event.tracking_uid == WHOLE_STUDY:
            if event.act is ReviewAct.DECIDE:
                undone.clear()
        elif event.act is ReviewAct.DECIDE:
            valid.append(index)
            undone.clear()
        elif event.act is ReviewAct.UNDO and valid:
            undone.append(valid.pop())
            number = numbers[undone[-1]]
        elif event.act is ReviewAct.REDO and undone:
            valid.append(undone.pop())
            number = numbers[valid[-1]]
        numbers.append(number)
    return numbers, valid, undone


def _changes_only_diameters(before: ReviewEvent, event: ReviewEvent) -> bool:
    """Whether an act changed nothing but the diameters."""
    unchanged = (before.state, before.reason, before.outline)
    return event.diameters != before.diameters and unchanged == (
        event.state, event.reason, event.outline
    )  # fmt: skip


def _follow_links(links: dict[str, str], tracking_uid: str) -> str:
    """Follow links from a UID to the last one; each is followed once and removed."""
    while tracking_uid in links:
        tracking_uid = links.pop(tracking_uid)
    return tracking_uid
