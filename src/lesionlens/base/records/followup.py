"""One patient over time: measurements of each candidate at each examination."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, ClassVar

from lesionlens.base.files.file_fields import STRICT, Keys
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.records.findings import Candidate, Length, Millilitres, counts_as_tumour
from lesionlens.base.records.gone_lesion import GoneLesion
from lesionlens.base.records.joint_change import JointChange
from lesionlens.base.records.resection import Resection
from lesionlens.base.records.review import Review


class ChangeKind(StrEnum):
    """What happened to a lesion between two examinations; the value is the key in files."""

    MATCHED = "matched"
    NEW = "new"
    GONE = "gone"
    SPLIT = "split"
    """A lesion that split from one that is matched with another."""
    MERGED = "merged"
    """A lesion of the prior that merged into one matched with another."""


_ROUNDED_ML, _ROUNDED_PERCENT = 1e-3, 1e-9
_DECIMALS = 9  # of a change in percent
TARGETS = 3
"""Maximum number of lesions whose products RANO 2.0 sums."""
PRODUCT_LIMITS, VOLUME_LIMITS = (-50.0, 25.0), (-65.0, 40.0)
"""Changes in percent at which RANO 2.0 (Wen 2023) defines response and progression."""


def percent(before: float | None, after: float | None) -> float | None:
    """Return a change in percent; None if a value is unknown or the earlier one is 0.

    Examples
    --------
    >>> percent(8.0, 10.0), percent(0.0, 1.0), percent(None, 2.0)
    (25.0, None, None)
    """
    if before is None or after is None or before <= 0:
        return None
    return 100 * (after - before) / before


def reached(changed: float, limit: float) -> bool:
    """Return whether a change in percent reaches a limit, which is a growth or a decrease."""
    return changed >= limit - _ROUNDED_PERCENT if limit > 0 else changed <= limit + _ROUNDED_PERCENT


def changed_words(changed: float, limit: float) -> str:
    """Return a change in percent with as many decimals as show whether it reaches a limit.

    Examples
    --------
    >>> [changed_words(value, 25) for value in (24.6, 24.96, 25.0, 25.04)]
    ['+24.6', '+24.96', '+25.0', '+25.0']
    """
    texts = (f"{changed:+z.{digits}f}" for digits in range(1, _DECIMALS))
    there = reached(changed, limit)
    return next((text for text in texts if reached(float(text), limit) is there), f"{changed:+z}")


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of one candidate at one examination; ml and mm."""

    __pydantic_config__: ClassVar = STRICT

    tracking_uid: str
    """The same UID at every examination."""
    id: int
    """Candidate id in that result."""
    place: str
    """In words."""
    volume_ml: Annotated[Mapping[Region, Millilitres | None], Keys(Region)]
    """Mapping of Region to float or None. ET is None without T1c."""
    longest_mm: Length | None
    perpendicular_mm: Length | None
    """Float or None. As in `Candidate`."""
    measurable: bool | None
    """By the RANO criteria."""
    state: ReviewState = ReviewState.UNREVIEWED
    """The reader's decision at that examination."""
    tumour: bool = True
    """Whether it counts as tumour (`counts_as_tumour`)."""

    @classmethod
    def of(cls, candidate: Candidate, state: ReviewState = ReviewState.UNREVIEWED) -> Measured:
        """Build the measurements of a candidate."""
        tumour = counts_as_tumour(candidate, state)
        return cls(
            candidate.tracking_uid,
            candidate.id,
            candidate.location.text,
            dict(candidate.volume_ml),
            candidate.longest_axial_diameter_mm,
            candidate.perpendicular_diameter_mm,
            candidate.rano_measurable and tumour,
            state,
            tumour,
        )

    @property
    def counts(self) -> bool:
        """Whether it counts in volumes and response: as tumour that no reader rejected."""
        return self.tumour and self.state is not ReviewState.REJECTED

    @property
    def whole_ml(self) -> float | None:
        """Volume of the whole region."""
        return self.volume_ml.get(Region.WT)

    @property
    def measured_part(self) -> Region:
        """The part that the diameters measure: the enhancing part if there is one, else all."""
        return Region.ET if self.volume_ml.get(Region.ET) else Region.WT

    @property
    def product_mm2(self) -> float | None:
        """Product of the two diameters, mm²."""
        if self.longest_mm is None or self.perpendicular_mm is None:
            return None
        return self.longest_mm * self.perpendicular_mm


@dataclass(frozen=True, slots=True)
class TimePoint:
    """One examination: its date (ISO 8601, empty if unknown) and measurements."""

    __pydantic_config__: ClassVar = STRICT

    date: str
    study_uid: str | None
    lesions: tuple[Measured, ...]
    contrast: bool | None = None
    """Whether T1c was available; None in results of earlier releases."""
    cavity_ml: Millilitres | None = None
    """Volume of the resection cavity; None if the engine outlines none."""
    tangled: tuple[str, ...] = ()
    """Tracking UIDs of lesions that merged or split since the examination before this one."""
    made_by: str | None = None
    """What outlined the lesions (`RunInfo.made_by`); None in results of earlier releases."""
    doubtful: bool = False
    mirrored: bool = False
    """Of an earlier examination: whether the one before it is registered to it doubtfully, or seems
    mirrored. Of the last one, `Comparison.alignment` says so.
    """

    @property
    def enhancing_ml(self) -> float | None:
        """Enhancing volume of all lesions that count; None without T1c."""
        if self.contrast is False:
            return None
        return _total([enhancing_ml(one) for one in self.lesions if one.counts])

    def lesion(self, tracking_uid: str) -> Measured | None:
        """Return the measurements of a lesion; None if it was not found."""
        return next((one for one in self.lesions if one.tracking_uid == tracking_uid), None)


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the prior examination was registered to this one."""

    __pydantic_config__: ClassVar = STRICT

    matrix: tuple[tuple[float, float, float, float], ...]
    """((4,), (4,), (4,), (4,)) of float: patient RAS+ mm of this examination to those of the prior
    one; rigid."""
    shift_mm: float
    angle_deg: float
    """Displacement of the head's centre, and rotation angle."""
    doubtful: bool
    """Whether the registration should be checked visually."""
    sequence: str
    """The registered sequence."""
    mirrored: bool = False
    """Whether the prior examination seems mirrored, left and right swapped."""


@dataclass(frozen=True, slots=True)
class Change:
    """One lesion in the prior and current examination; None where it is absent.

    `beside` are ids of further overlapping lesions: in the prior examination if the lesion is
    present now (merged or split), in this one if it is not (it merged into them).
    """

    __pydantic_config__: ClassVar = STRICT

    before: Measured | None
    now: Measured | None
    beside: tuple[int, ...] = ()
    joint: JointChange | None = None
    """None if a person drew an outline of it, which then counts alone, and unless matched."""

    @property
    def shown(self) -> Measured:
        """The lesion as it is now, or was before if it is no longer flagged."""
        shown = self.now or self.before
        if shown is None:
            raise ValueError("a change of no lesion")
        return shown

    @property
    def kind(self) -> ChangeKind:
        """The kind of change."""
        if self.before is None:
            return ChangeKind.SPLIT if self.beside else ChangeKind.NEW
        if self.now is None:
            return ChangeKind.MERGED if self.beside else ChangeKind.GONE
        return ChangeKind.MATCHED

    @property
    def volume_percent(self) -> float | None:
        """Change of the whole volume."""
        if self.before is None or self.now is None:
            return None
        return percent(self.before.whole_ml, self.now.whole_ml)

    @property
    def product_percent(self) -> float | None:
        """Change of the product of diameters; None if they measure different parts."""
        before, now = self.before, self.now
        if before is None or now is None or before.measured_part is not now.measured_part:
            return None
        return percent(before.product_mm2, now.product_mm2)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An examination compared with the prior one, with all earlier ones."""

    __pydantic_config__: ClassVar = STRICT

    points: tuple[TimePoint, ...]
    """Oldest first; the last is this examination, the second to last the prior."""
    changes: tuple[Change, ...]
    """Lesions of this examination in their order, then lesions that are no longer found."""
    alignment: Alignment
    """Registration of the prior to this examination."""
    own_uids: Mapping[str, str] = field(default_factory=dict)
    """Mapping of a tracking UID taken from the prior to the one that it replaced.

    What is stored about the result apart from it, such as a reader's log, uses the replaced ones.
    """
    gone: tuple[GoneLesion, ...] = ()
    """Lesions of earlier examinations that are not flagged now, in this one's RAS+ mm."""

    def at(
        self, candidates: Iterable[Candidate], review: Review, cavity_ml: float | None
    ) -> Comparison:
        """Return a copy with the current measurements, after outlines or decisions changed.

        `cavity_ml` is the volume of the resection cavity as it is outlined now.
        """
        now = tuple(Measured.of(c, review.state_of(c.tracking_uid)) for c in candidates)
        by_uid = {one.tracking_uid: one for one in now}
        last = replace(self.points[-1], lesions=now, cavity_ml=cavity_ml)
        redrawn = frozenset(
            one.id for one in self.points[-1].lesions if _redrawn(one, by_uid.get(one.tracking_uid))
        )
        changes = [self._of_now(c, by_uid, review, redrawn) for c in self.changes]
        there = [c for c in changes if c.now is not None]
        gone = [c for c in changes if c.now is None and c.before is not None]
        known = {c.now.tracking_uid: c for c in there if c.now is not None}
        added = [
            _added(one, known.get(review.split_from(one.tracking_uid)))
            for one in now
            if one.tracking_uid not in known
        ]
        return replace(self, points=(*self.points[:-1], last), changes=(*there, *added, *gone))

    def _of_now(
        self,
        change: Change,
        by_uid: Mapping[str, Measured],
        review: Review,
        redrawn: frozenset[int],
    ) -> Change:
        """Return the change as measured now; an outline edited by a reader is decisive.

        A candidate that is there no longer was merged into another one, or added and undone.
        """
        if change.now is None:
            return change
        now = by_uid.get(review.part_of(change.now.tracking_uid))
        if now is None or now.tracking_uid != change.now.tracking_uid:
            return Change(change.before, None, () if now is None else (now.id,))
        linked = {c.now.id for c in self.linked(change) if c.now is not None}
        return replace(change, now=now, joint=None if linked & redrawn else change.joint)

    def together(self, change: Change) -> tuple[float, float] | None:
        """Return total ml, prior and now, of all lesions that merged with or split from this one.

        None if there are no others, or a volume is unknown. The change of the sum is meaningful,
        that of a single such lesion is not.
        """
        group = self.linked(change)
        if len(group) < 2:
            return None
        before = _total([c.before.whole_ml for c in group if c.before is not None])
        now = _total([c.now.whole_ml for c in group if c.now is not None])
        return None if before is None or now is None else (before, now)

    def linked(self, change: Change) -> tuple[Change, ...]:
        """Return this change and those that share a lesion with it, directly or indirectly."""
        links = [(c, _sides(c)) for c in self.changes]
        held = _sides(change)
        group: tuple[Change, ...] = (change,)
        while True:
            found = tuple(c for c, sides in links if sides & held)
            if len(found) <= len(group):
                return group if len(found) < 2 else found
            group = found
            held = frozenset().union(*(_sides(c) for c in found))

    @property
    def tangled_now(self) -> tuple[str, ...]:
        """The tracking UIDs of lesions that merged or split since the prior examination."""
        apart = (ChangeKind.SPLIT, ChangeKind.MERGED)
        groups = (self.linked(c) for c in self.changes if c.kind in apart)
        ends = (one for group in groups for c in group for one in (c.before, c.now))
        return tuple(sorted({one.tracking_uid for one in ends if one is not None}))

    def tangled_since(
        self, number: int, volume: Callable[[Measured], float | None]
    ) -> frozenset[str]:
        """Return the tracking UIDs of lesions that merged or split after an examination.

        Only of lesions of which `volume` is not 0: what is only oedema takes no part of an
        enhancing sum with it.
        """
        found: set[str] = set()
        tangled = (*(point.tangled for point in self.points[1:-1]), self.tangled_now)
        ends = zip(pairwise(self.points), tangled, strict=True)
        for (before, now), uids in list(ends)[number:]:
            lesions = (*before.lesions, *now.lesions)
            there = {one.tracking_uid for one in lesions if volume(one) != 0}.intersection(uids)
            found |= there if len(there) > 1 else set()
        return frozenset(found)

    def doubtful_since(self, number: int) -> tuple[int, ...]:
        """Return the later examinations that are registered doubtfully to the one before."""
        return self._since(number, [p.doubtful for p in self.points[:-1]], self.alignment.doubtful)

    def mirrored_since(self, number: int) -> tuple[int, ...]:
        """Return the later examinations against which the one before seems mirrored."""
        return self._since(number, [p.mirrored for p in self.points[:-1]], self.alignment.mirrored)

    @staticmethod
    def _since(number: int, earlier: Sequence[bool], last: bool) -> tuple[int, ...]:
        return tuple(n for n, there in enumerate((*earlier, last)) if there and n > number)

    @property
    def makers(self) -> tuple[str, ...]:
        """What outlined the lesions at the examinations, each once, oldest first."""
        return self.makers_since(0)

    def makers_since(self, number: int) -> tuple[str, ...]:
        """Return what outlined the lesions from an examination on, each once, oldest first."""
        made_by = (point.made_by for point in self.points[number:])
        return tuple(dict.fromkeys(maker for maker in made_by if maker))

    @property
    def resection(self) -> Resection | None:
        """The extent of resection of the enhancing tumour, against the prior.

        None unless this examination is the first with a cavity, and enhancement was measured in
        both: later ones show what grew since.
        """
        before, last = self.points[-2:]
        if not last.cavity_ml or any(point.cavity_ml for point in self.points[:-1]):
            return None
        first, left = before.enhancing_ml, last.enhancing_ml
        return Resection(before.date, first, left) if first and left is not None else None

    def targets(self) -> tuple[str, ...]:
        """Return the tracking UIDs of the target lesions: the largest measurable ones.

        Ranked by their product at the first examination at which they were measurable. One that
        does not count at the latest examination that shows it is none.
        """
        counts = {one.tracking_uid: one.counts for p in self.points for one in p.lesions}
        found: dict[str, float] = {}
        for one in (one for point in self.points for one in point.lesions):
            may = one.measurable and one.counts and counts[one.tracking_uid]
            if may and one.product_mm2 is not None:
                found.setdefault(one.tracking_uid, one.product_mm2)
        return tuple(sorted(found, key=lambda uid: -found[uid])[:TARGETS])

    def sums(self) -> tuple[tuple[float | None, float | None], ...]:
        """Return for each examination the targets' summed products (mm²) and volumes (ml).

        Both are of the enhancing part, which makes a lesion measurable: 0 where it no longer
        enhances, None where it is unknown, as without T1c. None too if a target was rejected at
        that examination, or merged or split since.
        """
        targets = self.targets()
        rows: list[tuple[float | None, float | None]] = []
        for number, point in enumerate(self.points):
            there = [one for uid in targets if (one := point.lesion(uid)) is not None]
            tangled = not self.tangled_since(number, enhancing_ml).isdisjoint(targets)
            if tangled or point.contrast is False or not all(one.counts for one in there):
                rows.append((None, None))
                continue
            volumes = [enhancing_ml(one) for one in there]
            products = [
                0.0 if volume == 0 else volume and one.product_mm2
                for volume, one in zip(volumes, there, strict=True)
            ]
            rows.append((_total(products), _total(volumes)))
        return tuple(rows)

    def flagged_before(self, tracking_uid: str) -> tuple[int, ...]:
        """Return the numbers of the examinations before the prior that show a lesion."""
        earlier = enumerate(self.points[:-2])
        return tuple(n for n, point in earlier if point.lesion(tracking_uid) is not None)

    def curve(self, tracking_uid: str) -> Iterator[tuple[int, float]]:
        """Yield the number of each examination at which a lesion was found, and its ml.

        Between the first and the last of them it is 0 ml where it was gone.
        """
        found = [point.lesion(tracking_uid) for point in self.points]
        there = [number for number, one in enumerate(found) if one is not None]
        for number in range(there[0], there[-1] + 1) if there else ():
            one = found[number]
            volume = 0.0 if one is None else one.whole_ml
            if volume is not None:
                yield number, volume

    def days(self) -> tuple[float, ...]:
        """Return the time of each examination in days since the first.

        If a date is unknown or out of order, examinations are one unit apart.
        """
        try:
            found = [date.fromisoformat(point.date).toordinal() for point in self.points]
        except ValueError:
            found = []
        if not found or any(b < a for a, b in pairwise(found)) or found[0] == found[-1]:
            return tuple(float(n) for n in range(len(self.points)))
        return tuple(float(day - found[0]) for day in found)


def _added(one: Measured, whole: Change | None) -> Change:
    """Return the change of a lesion that a reader added, or split from that of another change."""
    if whole is None:
        return Change(None, one)
    before = () if whole.before is None else (whole.before.id,)
    return Change(None, one, (*before, *whole.beside))


def _redrawn(before: Measured, now: Measured | None) -> bool:
    """Return whether a lesion's volume changed by more than rounding."""
    volumes = [0.0 if one is None else one.whole_ml or 0.0 for one in (before, now)]
    return abs(volumes[0] - volumes[1]) > _ROUNDED_ML


def _sides(change: Change) -> frozenset[tuple[str, int]]:
    """Return the lesions of a change as (before or now, id)."""
    own = (("before", change.before), ("now", change.now))
    there = {(side, one.id) for side, one in own if one is not None}
    other = "before" if change.now is not None else "now"
    return frozenset(there | {(other, n) for n in change.beside})


def enhancing_ml(one: Measured) -> float | None:
    """Return the enhancing volume of a lesion; None if unknown."""
    return one.volume_ml.get(Region.ET)


def _total(values: Sequence[float | None]) -> float | None:
    """Return the sum; None if a value is unknown."""
    known = [one for one in values if one is not None]
    return sum(known) if len(known) == len(values) else None


def own_uids(found: Comparison | None) -> Mapping[str, str]:
    """Return the result's own tracking UID by the one taken from a prior; empty without a prior."""
    return {} if found is None else found.own_uids


def compared_uids(found: Comparison | None) -> Mapping[str, str]:
    """Return the tracking UID taken from a prior by the result's own; empty without a prior."""
    return {own: uid for uid, own in own_uids(found).items()}
