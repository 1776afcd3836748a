"""One patient over time: measurements of each candidate at each examination."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, ClassVar, Self

from lesionlens.base.geometry import Affine, apply
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.model import STRICT, Keys
from lesionlens.base.records.findings import Candidate, Length, Millilitres, Point
from lesionlens.base.records.response import SignedMeasure, SignedResponse, in_order
from lesionlens.base.records.review import CAVITY, Review


@dataclass(frozen=True, slots=True)
class Resection:
    """Enhancing volume at the last examination without a cavity, and the residual volume."""

    before: str
    """Date of the examination without a cavity; empty if unknown."""
    before_ml: float
    residual_ml: float

    @property
    def percent(self) -> float:
        """Extent of resection: 1 - residual / preoperative volume; negative after growth."""
        return 100 * (1 - self.residual_ml / self.before_ml)


@dataclass(frozen=True, slots=True)
class VanishedLesion:
    """Position of a lesion that is no longer flagged, for matching if it is flagged again."""

    __pydantic_config__: ClassVar = STRICT

    tracking_uid: str
    at_mm: Point
    """(3,): where its centroid would lie in the examination that does not show it, RAS+ mm."""
    radius_mm: Length
    """Radius of a ball of the lesion's volume."""

    def moved(self, transform: Affine) -> Self:
        """Return the lesion in RAS+ mm of another examination."""
        x, y, z = apply(transform, self.at_mm).tolist()
        return replace(self, at_mm=(x, y, z))


def ball_mm(volume_ml: float) -> float:
    """Return the diameter of a ball.

    Examples
    --------
    >>> round(ball_mm(4.18879))
    20
    """
    return 10 * math.cbrt(6 / math.pi * volume_ml)


class ChangeKind(StrEnum):
    """What happened to a lesion between two examinations; the value is the key in files."""

    MATCHED = "matched"
    NEW = "new"
    GONE = "gone"
    SPLIT = "split"
    """A lesion that split from one that is matched with another."""
    MERGED = "merged"
    """A lesion of the prior that merged into one matched with another."""


_ROUNDED_CHANGE = 1e-9
_DECIMALS = 9  # of a change in percent
TARGETS = 3
"""Maximum number of lesions whose products RANO 2.0 sums."""
VOLUME_ERROR_PERCENT = 19.0
"""Median error of the ratio of a lesion's volumes by the outlines of two examinations, measured on
synthetic pairs (docs/reference/model_card_figures.md)."""
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


def reached(change: float, limit: float) -> bool:
    """Return whether a change, in any unit, reaches a limit, which is a growth or a decrease."""
    return change >= limit - _ROUNDED_CHANGE if limit > 0 else change <= limit + _ROUNDED_CHANGE


def change_text(change: float, limit: float, digits: int = 1) -> str:
    """Return a change in percent with `digits` or more decimals, to show if it reaches a limit.

    Examples
    --------
    >>> [change_text(value, 25) for value in (24.6, 24.96, 25.0, 25.04)]
    ['+24.6', '+24.96', '+25.0', '+25.0']
    """
    texts = (f"{change:+z.{count}f}" for count in range(digits, _DECIMALS))
    crossed = reached(change, limit)
    return next((text for text in texts if reached(float(text), limit) is crossed), f"{change:+z}")


@dataclass(frozen=True, slots=True)
class LesionMeasurement:
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

    @classmethod
    def of(cls, candidate: Candidate, state: ReviewState = ReviewState.UNREVIEWED) -> Self:
        """Build the measurements of a candidate."""
        return cls(
            candidate.tracking_uid,
            candidate.id,
            candidate.location.text,
            dict(candidate.volume_ml),
            candidate.longest_axial_diameter_mm,
            candidate.perpendicular_diameter_mm,
            candidate.rano_measurable,
            state,
        )

    @property
    def counts(self) -> bool:
        """Whether it counts in volumes and sums: no reader rejected it."""
        return self.state is not ReviewState.REJECTED

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
    lesions: tuple[LesionMeasurement, ...]
    contrast: bool | None = None
    """Whether T1c was available; None if unknown."""
    cavity_ml: Millilitres | None = None
    """Volume of the resection cavity; None if the engine outlines none."""
    tangled: tuple[str, ...] = ()
    """Tracking UIDs of lesions that merged or split since the examination before this one."""
    made_by: str | None = None
    """What outlined the lesions (`RunInfo.made_by`); None if unknown."""
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
        return _total([enhancing_ml(lesion) for lesion in self.lesions if lesion.counts])

    def lesion(self, tracking_uid: str) -> LesionMeasurement | None:
        """Return the measurements of a lesion; None if it was not found."""
        matches = (lesion for lesion in self.lesions if lesion.tracking_uid == tracking_uid)
        return next(matches, None)


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

    before: LesionMeasurement | None
    now: LesionMeasurement | None
    beside: tuple[int, ...] = ()

    @property
    def shown(self) -> LesionMeasurement:
        """The lesion as it is now, or was before if it is no longer flagged."""
        lesion = self.now or self.before
        if lesion is None:
            raise ValueError("a change without a lesion")
        return lesion

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

    Files stored outside the result, such as a reader's log, use the replaced ones.
    """
    gone: tuple[VanishedLesion, ...] = ()
    """Lesions of earlier examinations that are not flagged now, in this one's RAS+ mm."""

    def with_tangled(self) -> Comparison:
        """Return a copy whose last point names the lesions that merged or split."""
        last = replace(self.points[-1], tangled=self.tangled_now)
        return replace(self, points=(*self.points[:-1], last))

    def renamed(self, new_uids: Mapping[str, str]) -> Comparison:
        """Return a copy in which this examination's own tracking UIDs are replaced by others."""

        def new(lesion: LesionMeasurement | None) -> LesionMeasurement | None:
            if lesion is None or lesion.tracking_uid not in new_uids:
                return lesion
            return replace(lesion, tracking_uid=new_uids[lesion.tracking_uid])

        last = self.points[-1]
        last = replace(
            last,
            lesions=tuple(lesion for each in last.lesions if (lesion := new(each))),
            tangled=tuple(sorted(new_uids.get(uid, uid) for uid in last.tangled)),
        )
        return replace(
            self,
            points=(*self.points[:-1], last),
            changes=tuple(replace(change, now=new(change.now)) for change in self.changes),
            own_uids={uid: new_uids.get(own, own) for uid, own in self.own_uids.items()},
        )

    def change_of(self, tracking_uid: str) -> Change | None:
        """Return the change of a lesion of this examination; None if it is not listed."""
        changes = (c for c in self.changes if c.now and c.now.tracking_uid == tracking_uid)
        return next(changes, None)

    @property
    def is_doubtful(self) -> bool:
        """Whether changes since the prior must be checked first."""
        return self.alignment.doubtful or len(self.makers_since(len(self.points) - 2)) > 1

    def linked_total_ml(self, change: Change) -> tuple[float, float] | None:
        """Return total ml, prior and now, of all lesions that merged with or split from this one.

        None if there are no others, or a volume is unknown. Only the change of the sum has meaning.
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
        group_sides = _sides(change)
        group: tuple[Change, ...] = (change,)
        while True:
            extended = tuple(c for c, sides in links if sides & group_sides)
            if len(extended) <= len(group):
                return group if len(extended) < 2 else extended
            group = extended
            group_sides = frozenset().union(*(_sides(c) for c in extended))

    @property
    def tangled_now(self) -> tuple[str, ...]:
        """The tracking UIDs of lesions that merged or split since the prior examination."""
        tangled = (c for c in self.changes if c.kind in (ChangeKind.SPLIT, ChangeKind.MERGED))
        groups = map(self.linked, tangled)
        lesions = (lesion for group in groups for c in group for lesion in (c.before, c.now))
        return tuple(sorted({lesion.tracking_uid for lesion in lesions if lesion is not None}))

    def tangled_since(self, number: int) -> frozenset[str]:
        """Return the tracking UIDs of lesions that merged or split after an examination.

        Only of lesions that enhance: a lesion of oedema alone changes no enhancing sum.
        """
        tangled_uids: set[str] = set()
        uids_by_interval = (*(point.tangled for point in self.points[1:-1]), self.tangled_now)
        intervals = zip(pairwise(self.points), uids_by_interval, strict=True)
        for (before, now), uids in list(intervals)[number:]:
            lesions = (*before.lesions, *now.lesions)
            affected = {m.tracking_uid for m in lesions if enhancing_ml(m) != 0}.intersection(uids)
            tangled_uids |= affected if len(affected) > 1 else set()
        return frozenset(tangled_uids)

    def doubtful_since(self, number: int) -> tuple[int, ...]:
        """Return the later examinations that are registered doubtfully to the one before."""
        return tuple(n for n, one in self._registered_since(number) if one.doubtful)

    def mirrored_since(self, number: int) -> tuple[int, ...]:
        """Return the later examinations against which the one before seems mirrored."""
        return tuple(n for n, one in self._registered_since(number) if one.mirrored)

    def _registered_since(self, number: int) -> list[tuple[int, TimePoint | Alignment]]:
        registered: tuple[TimePoint | Alignment, ...] = (*self.points[:-1], self.alignment)
        return [(n, one) for n, one in enumerate(registered) if n > number]

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
        both: later examinations include regrowth.
        """
        before, last = self.points[-2:]
        if not last.cavity_ml or any(point.cavity_ml for point in self.points[:-1]):
            return None
        initial, residual = before.enhancing_ml, last.enhancing_ml
        if initial and residual is not None:
            return Resection(before.date, initial, residual)
        return None

    def targets(self) -> tuple[str, ...]:
        """Return the tracking UIDs of the target lesions: the largest measurable ones.

        Ranked by their product at the first examination at which they were measurable. A lesion
        that does not count at the latest examination that shows it is excluded.
        """
        counts = {lesion.tracking_uid: lesion.counts for p in self.points for lesion in p.lesions}
        products: dict[str, float] = {}
        for lesion in (lesion for point in self.points for lesion in point.lesions):
            is_eligible = lesion.measurable and lesion.counts and counts[lesion.tracking_uid]
            if is_eligible and lesion.product_mm2 is not None:
                products.setdefault(lesion.tracking_uid, lesion.product_mm2)
        return tuple(sorted(products, key=lambda uid: -products[uid])[:TARGETS])

    def sums(self) -> tuple[tuple[float | None, float | None], ...]:
        """Return for each examination the targets' summed products (mm²) and volumes (ml).

        Both are of the enhancing part, which makes a lesion measurable: 0 where it no longer
        enhances, None where it is unknown, as without T1c. None too if a target was rejected at
        that examination, or merged or split since.
        """
        targets = self.targets()
        rows: list[tuple[float | None, float | None]] = []
        for number, point in enumerate(self.points):
            lesions = [lesion for uid in targets if (lesion := point.lesion(uid)) is not None]
            tangled = not self.tangled_since(number).isdisjoint(targets)
            if tangled or point.contrast is False or not all(lesion.counts for lesion in lesions):
                rows.append((None, None))
                continue
            volumes = [enhancing_ml(lesion) for lesion in lesions]
            products = [
                0.0 if volume == 0 else volume and lesion.product_mm2
                for volume, lesion in zip(volumes, lesions, strict=True)
            ]
            rows.append((_total(products), _total(volumes)))
        return tuple(rows)

    def flagged_before(self, tracking_uid: str) -> tuple[int, ...]:
        """Return the numbers of the examinations before the prior that show a lesion."""
        earlier = enumerate(self.points[:-2])
        return tuple(n for n, point in earlier if point.lesion(tracking_uid) is not None)

    def curve(self, tracking_uid: str) -> Iterator[tuple[int, float]]:
        """Yield the number of each examination at which a lesion was found, and its ml.

        Between the first and the last of them it is 0 ml where the lesion was not flagged.
        """
        lesions = [point.lesion(tracking_uid) for point in self.points]
        numbers = [number for number, lesion in enumerate(lesions) if lesion is not None]
        for number in range(numbers[0], numbers[-1] + 1) if numbers else ():
            lesion = lesions[number]
            volume = 0.0 if lesion is None else lesion.whole_ml
            if volume is not None:
                yield number, volume

    def days(self) -> tuple[float, ...]:
        """Return the time of each examination in days since the first.

        If a date is unknown or out of order, examinations are one unit apart.
        """
        try:
            ordinals = [date.fromisoformat(point.date).toordinal() for point in self.points]
        except ValueError:
            ordinals = []
        if not ordinals or any(b < a for a, b in pairwise(ordinals)) or ordinals[0] == ordinals[-1]:
            return tuple(float(n) for n in range(len(self.points)))
        return tuple(float(ordinal - ordinals[0]) for ordinal in ordinals)


def _sides(change: Change) -> frozenset[tuple[str, int]]:
    """Return the lesions of a change as (before or now, id)."""
    by_side = (("before", change.before), ("now", change.now))
    lesions = {(side, lesion.id) for side, lesion in by_side if lesion is not None}
    other_side = "before" if change.now is not None else "now"
    return frozenset(lesions | {(other_side, n) for n in change.beside})


def enhancing_ml(lesion: LesionMeasurement) -> float | None:
    """Return the enhancing volume of a lesion; None if unknown."""
    return lesion.volume_ml.get(Region.ET)


def _total(values: Sequence[float | None]) -> float | None:
    """Return the sum; None if a value is unknown."""
    known_values = [value for value in values if value is not None]
    return sum(known_values) if len(known_values) == len(values) else None


def name_of(points: Sequence[TimePoint], number: int) -> str:
    """Return the date of an examination, or its ordinal; both where dates are the same."""
    date, ordinal = points[number].date, f"examination {number + 1}"
    if not date:
        return ordinal
    return date if sum(p.date == date for p in points) == 1 else f"{date} ({ordinal})"


def own_uids(comparison: Comparison | None) -> Mapping[str, str]:
    """Return the result's own tracking UID by the one taken from a prior; empty without a prior."""
    return {} if comparison is None else comparison.own_uids


def compared_uids(comparison: Comparison | None) -> Mapping[str, str]:
    """Return the tracking UID taken from a prior by the result's own; empty without a prior."""
    return {own: uid for uid, own in own_uids(comparison).items()}


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


def measures_of(points: Sequence[TimePoint]) -> tuple[SignedMeasure, ...]:
    """Return the measurements behind a response: lesions that count, and resection cavities."""
    measures: list[SignedMeasure] = []
    for ago, point in enumerate(reversed(points)):
        measures += (
            SignedMeasure(
                ago,
                lesion.tracking_uid,
                lesion.whole_ml,
                enhancing_ml(lesion),
                lesion.longest_mm,
                lesion.perpendicular_mm,
                lesion.state.decided,
            )
            for lesion in point.lesions
            if lesion.counts
        )
        if point.cavity_ml:
            measures.append(SignedMeasure(ago, CAVITY, point.cavity_ml, None, None, None))
    return in_order(measures)


def is_outdated(signed: SignedResponse, points: Sequence[TimePoint]) -> bool:
    """Return whether the measurements have changed since the response was signed."""
    return not are_same(measures_of(points), signed.measures)


def are_same(current: Sequence[SignedMeasure], signed: Sequence[SignedMeasure]) -> bool:
    """Return whether two sequences are of the same lesions with the same figures, in this order."""
    return len(current) == len(signed) and all(map(SignedMeasure.same, current, signed))
