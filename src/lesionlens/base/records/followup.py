"""One patient over time: what was measured of each candidate at each examination."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, ClassVar

from lesionlens.base.file_fields import STRICT, Decimals, Keys
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.records.findings import Candidate, Length, Millilitres
from lesionlens.base.records.response import SignedMeasure
from lesionlens.base.records.review import Review


class ChangeKind(StrEnum):
    """What happened to a lesion between two examinations; the value is the word in files."""

    MATCHED = "matched"
    NEW = "new"
    GONE = "gone"
    SPLIT = "split"
    """There now beside another that was matched with the lesion of which both were part."""
    MERGED = "merged"
    """Part of a lesion of now that was matched with another."""


class Unmeasurable(StrEnum):
    """Why a change cannot be measured by one criterion; the value is the word in files."""

    PROBABILITIES = "no_probabilities"
    OUTLINES = "outlines_disagree"
    TISSUE = "little_tissue"
    INTENSITIES = "intensities_unmatched"
    FAINT = "faint"


_REASONS = {
    Unmeasurable.PROBABILITIES: "a result holds no probabilities",
    Unmeasurable.OUTLINES: "the outlines agree on too little",
    Unmeasurable.TISSUE: "too little tissue without lesions lies around it",
    Unmeasurable.INTENSITIES: "the intensities of both examinations cannot be matched",
    Unmeasurable.FAINT: "it hardly differs from the tissue around it",
}
_ROUNDED_ML = 1e-3
TARGETS = 3
"""Lesions at most that RANO 2.0 sums the products of."""
PRODUCT_LIMITS, VOLUME_LIMITS = (-50.0, 25.0), (-65.0, 40.0)
"""Changes in percent from which RANO 2.0 (Wen 2023) speaks of response and of progression."""


def percent(before: float | None, after: float | None) -> float | None:
    """Return a change in percent; None if one is not known, or there was nothing before.

    Examples
    --------
    >>> percent(8.0, 10.0), percent(0.0, 1.0), percent(None, 2.0)
    (25.0, None, None)
    """
    if before is None or after is None or before <= 0:
        return None
    return 100 * (after - before) / before


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one candidate at one examination; ml and mm."""

    __pydantic_config__: ClassVar = STRICT

    tracking_uid: str
    """The same at every examination."""
    id: int
    """Its number in that result."""
    place: str
    """In words."""
    volume_ml: Annotated[Mapping[Region, Millilitres | None], Keys(Region)]
    """Mapping of Region to float or None. ET is None without T1c."""
    longest_mm: Length | None
    perpendicular_mm: Length | None
    """Float or None. As in `Candidate`."""
    measurable: bool | None
    """By RANO."""
    state: ReviewState = ReviewState.UNREVIEWED
    """What a reader decided on it then."""

    @classmethod
    def of(cls, candidate: Candidate, state: ReviewState = ReviewState.UNREVIEWED) -> Measured:
        """Take the measures of a candidate."""
        return cls(
            candidate.tracking_uid,
            candidate.id,
            candidate.location.words,
            dict(candidate.volume_ml),
            candidate.longest_axial_diameter_mm,
            candidate.perpendicular_diameter_mm,
            candidate.rano_measurable,
            state,
        )

    @property
    def whole_ml(self) -> float | None:
        """Volume of the whole region."""
        return self.volume_ml.get(Region.WT)

    @property
    def measured_part(self) -> Region:
        """What the diameters are of: the enhancing part where there is one, else the whole."""
        return Region.ET if self.volume_ml.get(Region.ET) else Region.WT

    @property
    def product_mm2(self) -> float | None:
        """Product of the two diameters, mm²."""
        if self.longest_mm is None or self.perpendicular_mm is None:
            return None
        return self.longest_mm * self.perpendicular_mm


@dataclass(frozen=True, slots=True)
class TimePoint:
    """One examination: its day (ISO 8601, empty if unknown) and what was measured."""

    __pydantic_config__: ClassVar = STRICT

    date: str
    study_uid: str | None
    lesions: tuple[Measured, ...]
    contrast: bool | None = None
    """Whether T1c was there; None in results of earlier releases."""

    def lesion(self, tracking_uid: str) -> Measured | None:
        """Return what was measured of a lesion; None if it was not found."""
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
    """How far the middle of the head lay apart, and how much it was turned."""
    doubtful: bool
    """Whether it should be checked by eye."""
    sequence: str
    """Which sequence was compared."""


@dataclass(frozen=True, slots=True)
class JointChange:
    """Change of a lesion's volume by one criterion applied to both examinations together.

    Of a lesion with others that merged with it or split from it: of all of them.
    """

    __pydantic_config__: ClassVar = STRICT

    percent: Annotated[float, Decimals(2)] | None
    """None if it cannot be measured."""
    plus_minus: Annotated[float, Decimals(2)] | None
    """How far it may be off, in points of `percent`: what most drawn pairs kept."""
    reason: Unmeasurable | None = None
    """Why there is no figure."""

    @classmethod
    def unknown(cls, reason: Unmeasurable) -> JointChange:
        """Return one that cannot be measured."""
        return cls(None, None, reason)

    @property
    def words(self) -> str:
        """In words: the change and how far it may be off, or why it is not known."""
        if self.reason is not None or self.percent is None or self.plus_minus is None:
            return f"not measurable ({_REASONS[self.reason] if self.reason else 'unknown'})"
        if abs(self.percent) <= self.plus_minus:
            return f"{self.percent:+.0f} %, within ± {self.plus_minus:.0f} %"
        return f"{self.percent:+.0f} ± {self.plus_minus:.0f} %"


@dataclass(frozen=True, slots=True)
class Change:
    """One lesion before and now; None on one side where it is new, or gone.

    `beside` are ids of lesions that it overlaps too: of the prior examination where it is there
    now (it covers them too, or split from them), of this one where it is gone (merged into them).
    """

    __pydantic_config__: ClassVar = STRICT

    before: Measured | None
    now: Measured | None
    beside: tuple[int, ...] = ()
    joint: JointChange | None = None
    """None if a person drew an outline of it, which then counts alone, and unless matched."""

    @property
    def kind(self) -> ChangeKind:
        """What happened to it."""
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
        """Change of the product of diameters; None if they are of different parts."""
        if self.before is None or self.now is None:
            return None
        if self.before.measured_part is not self.now.measured_part:
            return None
        return percent(self.before.product_mm2, self.now.product_mm2)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An examination beside the prior one, and all before it."""

    __pydantic_config__: ClassVar = STRICT

    points: tuple[TimePoint, ...]
    """Oldest first; the last is this examination, the one before it the prior."""
    changes: tuple[Change, ...]
    """Lesions of this examination in their order, then those that are gone."""
    alignment: Alignment
    """Of the prior onto this one."""

    def at(self, candidates: Iterable[Candidate], review: Review) -> Comparison:
        """Return it with what is measured now, after a reader redrew outlines or decided."""
        now = tuple(Measured.of(c, review.state_of(c.tracking_uid)) for c in candidates)
        by_uid = {one.tracking_uid: one for one in now}
        last = replace(self.points[-1], lesions=now)
        redrawn = frozenset(
            one.id for one in self.points[-1].lesions if _redrawn(one, by_uid.get(one.tracking_uid))
        )
        changes = tuple(self._of_now(c, by_uid, redrawn) for c in self.changes)
        known = {c.now.tracking_uid for c in changes if c.now is not None}
        added = tuple(Change(None, one) for one in now if one.tracking_uid not in known)
        return replace(self, points=(*self.points[:-1], last), changes=(*changes, *added))

    def _of_now(
        self, change: Change, by_uid: Mapping[str, Measured], redrawn: frozenset[int]
    ) -> Change:
        """Return it as measured now; where a person redrew an outline, that one counts alone."""
        if change.now is None:
            return change
        now = by_uid.get(change.now.tracking_uid, change.now)
        own = change.joint is not None and any(
            c.now is not None and c.now.id in redrawn for c in self.linked(change)
        )
        return replace(change, now=now, joint=None if own else change.joint)

    def together(self, change: Change) -> tuple[float, float] | None:
        """Return the ml before and now of all lesions that merged with this one, or split from it.

        None if it is alone, or a volume is not known. Change in percent of such a lesion by
        itself says little; that of the sum does.
        """
        group = self.linked(change)
        if len(group) < 2:
            return None
        before = [c.before.whole_ml for c in group if c.before is not None]
        now = [c.now.whole_ml for c in group if c.now is not None]
        return None if None in (*before, *now) else (_total(before), _total(now))

    def linked(self, change: Change) -> tuple[Change, ...]:
        """Return this change and those that share a lesion with it, also through others."""
        links = [(c, _sides(c)) for c in self.changes]
        held = _sides(change)
        group: tuple[Change, ...] = (change,)
        while True:
            found = tuple(c for c, sides in links if sides & held)
            if len(found) <= len(group):
                return group if len(found) < 2 else found
            group = found
            held = frozenset().union(*(_sides(c) for c in found))

    def targets(self) -> tuple[str, ...]:
        """Return the tracking UIDs of the lesions that are summed: the largest measurable ones.

        By their product at the first examination at which they were measurable.
        """
        found: dict[str, float] = {}
        for point in self.points:
            for one in point.lesions:
                counts = one.measurable and one.state is not ReviewState.REJECTED
                if counts and one.product_mm2 is not None:
                    found.setdefault(one.tracking_uid, one.product_mm2)
        return tuple(sorted(found, key=lambda uid: -found[uid])[:TARGETS])

    def sums(self) -> tuple[tuple[float | None, float], ...]:
        """Return for each examination the targets' summed products (mm²) and volumes (ml).

        A sum of products is None if a target's diameters are of another part than at the last
        examination that has it: the whole lesion cannot be set beside its enhancing part.
        """
        targets = self.targets()
        rows = []
        parts: dict[str, Region] = {}
        for point in reversed(self.points):
            there = [one for uid in targets if (one := point.lesion(uid)) is not None]
            alike = all(
                parts.setdefault(one.tracking_uid, one.measured_part) is one.measured_part
                for one in there
            )
            product = sum(one.product_mm2 or 0.0 for one in there) if alike else None
            rows.append((product, sum(one.whole_ml or 0.0 for one in there)))
        return tuple(reversed(rows))

    def curve(self, tracking_uid: str) -> Iterator[tuple[int, float]]:
        """Yield the number of each examination at which a lesion was found, and its ml."""
        for number, point in enumerate(self.points):
            one = point.lesion(tracking_uid)
            if one is not None and one.whole_ml is not None:
                yield number, one.whole_ml

    def days(self) -> tuple[float, ...]:
        """Return when each examination was, in days since the first.

        Where a day is not known, or the order is not kept, they stand one apart.
        """
        try:
            found = [date.fromisoformat(point.date).toordinal() for point in self.points]
        except ValueError:
            found = []
        if not found or any(b < a for a, b in pairwise(found)) or found[0] == found[-1]:
            return tuple(float(n) for n in range(len(self.points)))
        return tuple(float(day - found[0]) for day in found)


def measures_of(points: Sequence[TimePoint]) -> tuple[SignedMeasure, ...]:
    """Return what a response to treatment is computed from: the lesions that no reader rejected."""
    last = len(points) - 1
    return tuple(
        SignedMeasure(
            last - number,
            one.tracking_uid,
            one.whole_ml,
            one.volume_ml.get(Region.ET),
            one.longest_mm,
            one.perpendicular_mm,
        )
        for number, point in enumerate(points)
        for one in sorted(point.lesions, key=lambda lesion: lesion.tracking_uid)
        if one.state is not ReviewState.REJECTED
    )


def _redrawn(before: Measured, now: Measured | None) -> bool:
    """Return whether a lesion's volume is another than it was, but for rounding in files."""
    volumes = [0.0 if one is None else one.whole_ml or 0.0 for one in (before, now)]
    return abs(volumes[0] - volumes[1]) > _ROUNDED_ML


def _sides(change: Change) -> frozenset[tuple[str, int]]:
    """Return the lesions that a change speaks of: (before or now, id)."""
    own = (("before", change.before), ("now", change.now))
    there = {(side, one.id) for side, one in own if one is not None}
    other = "before" if change.now is not None else "now"
    return frozenset(there | {(other, n) for n in change.beside})


def _total(volumes: Iterable[float | None]) -> float:
    return sum(one for one in volumes if one is not None)
