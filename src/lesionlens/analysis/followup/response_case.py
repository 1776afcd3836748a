"""Measurements of one kind of disease by one criterion, and the texts of a response's steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lesionlens.analysis.findings.measure import RANO_SMALLEST_ML
from lesionlens.base.labels import Region
from lesionlens.base.records.findings import MEASURABLE_MM
from lesionlens.base.records.followup import (
    PRODUCT_LIMITS,
    TARGETS,
    VOLUME_LIMITS,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.response import Criterion, Disease, ResponseChoices

MIXED_TARGETS = 2
"""Maximum number of target lesions of each kind in mixed disease."""
_VOLUME_DIGITS = 3  # of ml
STEPS = {
    "mirrored": "the earlier examination seems mirrored, left and right swapped: check the sides "
    "of both first",
    "mirrored_then": "the examination before {days} seems mirrored, left and right swapped: check "
    "the sides of both first",
    "doubtful": "the registration of the earlier examination is doubtful: check it by eye first",
    "doubtful_then": "the registration of {days} to the examination before is doubtful: check it "
    "by eye first",
    "order": "nothing shows that the earlier examination is the earlier one: if it is not, every "
    "change has the wrong sign",
    "makers": "outlined by different networks, weights or releases, which may explain part of a "
    "change: {makers}",
    "blind": "enhancing disease was not assessed on {days}: no T1c",
    "untold": "enhancing disease was not assessed on {days}: an outline does not distinguish it",
    "enhancing_part": "the sum is unknown: the diameters are of the enhancing part on {day}",
    "parts": (
        "the sum is unknown: the diameters of a target were then of another part of the lesion"
    ),
    "tangled": "the sum is unknown: {place} merged with another region or split",
    "uncounted": "the sum is unknown: {place} counts as tumour at the baseline, not on {days}",
    "rejected_then": "unknown: {place} did not count as tumour on {days}: accept or reject it "
    "first",
    "none_enhancing": "no measurable enhancing disease on {day}",
    "none_non-enhancing": "no measurable non-enhancing disease on {day}",
    "target": "1 measurable target, sum in {unit}",
    "targets": "{count} measurable targets, sum in {unit}",
    "baseline": "baseline {day}: {before} → {now} {unit}, {change}% (limit {limit}%)",
    "nadir": "nadir {day}: {before} → {now} {unit}, {change}% (limit {limit}%)",
    "baseline_zero": "baseline {day}: {before} → {now} {unit}, no change in percent from 0",
    "nadir_zero": "nadir {day}: {before} → {now} {unit}, no change in percent from 0",
    "nadir_first": "the nadir is before the baseline",
    "no_nadir": "the sum is unknown on {days}, which may be the nadir: check it by eye",
    "new": "new: {place}; progression",
    "new_small": "new: {place}; too small to measure: follow up",
    "since": "not flagged as tumour on {day}: {place}; progression",
    "since_small": "not flagged as tumour on {day}: {place}; too small to measure: follow up",
    "new_part": "new: {place}; the diameters are of its enhancing part: follow up",
    "since_part": "not flagged as tumour on {day}: {place}; the diameters are of its enhancing "
    "part: follow up",
    "other_grown": "non-target: {place}; larger by {mm} mm or more: progression",
    "enhances": "enhances now but not on {day}: {place}; progression",
    "enhances_small": "enhances now but not on {day}: {place}; too small to measure: follow up",
    "enhances_more": "enhances more than on {day}: {place}; larger by {mm} mm or more: progression",
    "other_part": "{place}: its diameters were of another part of it before, its growth is unknown",
    "other_merged": "{place}: it merged with another region or split, its growth is unknown",
    "split_off": "split off: {place}; part of an earlier lesion, not new",
    "grown": "not measurable before: {place}; progression",
    "little": "not measurable before: {place}; grown by less than {mm} mm",
    "worse": "clinical deterioration without another explanation: progression",
    "fewer": "lower steroid dose: growth may be due to that; repeat at a stable dose",
    "beyond": "the sum grew beyond the limit, without a lower steroid dose: progression",
    "unmeasured": "without measurable disease no response can be shown: stable at best",
    "minor": "smaller by {change}% or more: it may be a minor response of non-enhancing disease, "
    "which is not proposed here",
    "gone": "nothing of it is flagged now: a reader must confirm this on the images",
    "more": "higher steroid dose: neither response nor stable disease can be shown",
    "surgery": "a resection cavity is outlined now but not on {day}: missing tumour may have "
    "been resected; choose a postoperative baseline",
    "given": "still on steroids: partial response at best",
    "confirm": "to be confirmed after four weeks or more",
    "radiotherapy": "if within 12 weeks of radiotherapy, to be confirmed by another examination",
    "kind_enhancing": "enhancing disease, two targets at most",
    "kind_non-enhancing": "non-enhancing disease, two targets at most",
    "together": "together: progression if either progresses; partial if one is partial and the "
    "other stable; if one is complete, the other decides",
}
"""All lines of the computation."""


def name_of(points: Sequence[TimePoint], number: int) -> str:
    """Return the date of an examination, or its ordinal; both where dates are the same."""
    date, ordinal = points[number].date, f"examination {number + 1}"
    if not date:
        return ordinal
    return date if sum(p.date == date for p in points) == 1 else f"{date} ({ordinal})"


@dataclass(frozen=True, slots=True)
class ResponseCase:
    """The measurements of one kind of disease by one criterion."""

    comparison: Comparison
    choices: ResponseChoices
    mixed: bool = False
    """Whether the other kind of disease is measured too."""

    @property
    def points(self) -> tuple[TimePoint, ...]:
        """All examinations, oldest first."""
        return self.comparison.points

    @property
    def last(self) -> int:
        """Index of this examination."""
        return len(self.points) - 1

    def tangled_since(self, number: int) -> frozenset[str]:
        """Return the lesions with this disease that merged or split after an examination."""
        return self.comparison.tangled_since(number, self.volume)

    @property
    def max_targets(self) -> int:
        """Maximum number of targets."""
        return MIXED_TARGETS if self.mixed else TARGETS

    @property
    def volumetric(self) -> bool:
        """Whether volumes are summed, not products of diameters."""
        return self.choices.criterion is Criterion.VOLUMETRIC

    @property
    def unit(self) -> str:
        """Unit of a sum."""
        return "ml" if self.volumetric else "mm²"

    @property
    def limits(self) -> tuple[float, float]:
        """Changes of a sum in percent at which response and progression begin."""
        return VOLUME_LIMITS if self.volumetric else PRODUCT_LIMITS

    @property
    def part(self) -> Region:
        """Region that shows this disease."""
        return Region.ET if self.choices.disease is Disease.ENHANCING else Region.WT

    def volume(self, lesion: LesionMeasurement) -> float | None:
        """Return the volume of the relevant part: the non-enhancing part in mixed disease."""
        volume = lesion.volume_ml.get(self.part)
        if not self.mixed or self.part is Region.ET or volume is None:
            return volume
        enhancing = lesion.volume_ml.get(Region.ET)
        return None if enhancing is None else max(round(volume - enhancing, _VOLUME_DIGITS), 0.0)

    def size(self, lesion: LesionMeasurement) -> float | None:
        """Return product or volume of the relevant part; None if not measured."""
        volume = self.volume(lesion)
        if self.volumetric or volume == 0 or volume is None:
            return volume
        return lesion.product_mm2 if lesion.measured_part is self.part else None

    def measurable(self, lesion: LesionMeasurement) -> bool:
        """Return whether a lesion may be a target."""
        if self.part is Region.ET:
            return bool(lesion.measurable)
        if lesion.measured_part is Region.ET:
            return self.volumetric and (self.volume(lesion) or 0.0) >= RANO_SMALLEST_ML
        return min(lesion.longest_mm or 0.0, lesion.perpendicular_mm or 0.0) >= MEASURABLE_MM

    def newly_measurable(self, lesion: LesionMeasurement) -> bool:
        """Return whether a new lesion counts: of non-enhancing disease also one that enhances."""
        enhances = self.part is Region.WT and not self.mixed and bool(lesion.measurable)
        return self.measurable(lesion) or enhances

    def by_other_part(self, lesion: LesionMeasurement) -> bool:
        """Return whether products cannot be computed: the diameters are of the enhancing part."""
        return not self.volumetric and lesion.measured_part is not self.part

    def lesions_at(self, number: int) -> dict[str, LesionMeasurement]:
        """Return the lesions of one examination with this kind of disease, by tracking UID."""
        return {
            lesion.tracking_uid: lesion
            for lesion in self.points[number].lesions
            if lesion.counts and self.volume(lesion) != 0
        }

    def uncounted_at(self, number: int) -> frozenset[str]:
        """Return an examination's lesions that do not count: rejected, or listed separately."""
        lesions = self.points[number].lesions
        return frozenset(lesion.tracking_uid for lesion in lesions if not lesion.counts)

    def judged(self, number: int) -> bool:
        """Return whether an examination can show this kind of disease; False if unknown."""
        point = self.points[number]
        if not point.lesions:
            return self.part is Region.WT or bool(point.contrast)
        return all(self.volume(lesion) is not None for lesion in point.lesions)
