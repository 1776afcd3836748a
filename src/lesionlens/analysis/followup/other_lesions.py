"""Progression beside the sum of targets: new lesions, other lesions that grew, new enhancement."""

from __future__ import annotations

from typing import NamedTuple

from lesionlens.analysis.followup.response_case import STEPS, ResponseCase, name_of
from lesionlens.base.labels import Region
from lesionlens.base.records.followup import ChangeKind, LesionMeasurement, enhancing_ml, reached
from lesionlens.base.records.vanished_lesion import ball_mm

CLEAR_GROWTH_MM = 5.0
"""Minimum growth of both diameters of a lesion that is no target."""


class LesionStep(NamedTuple):
    """What one lesion contributes to the computation."""

    progressed: bool
    line: str
    """The line that explains it; empty if there is nothing to say."""


def progressed(case: ResponseCase, lesion: LesionMeasurement, nadir: int) -> LesionStep:
    """Return whether a lesion of this examination that is not a target progressed.

    That is a measurable lesion that is absent at the baseline or the nadir, or clearly larger than
    at the nadir.
    """
    points = (case.choices.baseline, nadir)
    absent = next((n for n in points if lesion.tracking_uid not in case.lesions_at(n)), None)
    before = case.lesions_at(nadir).get(lesion.tracking_uid)
    if absent is not None:
        is_part, before = _split_from(case, lesion.tracking_uid, absent)
        if before is None:
            step = "split_off" if is_part else _new_lesion_line(case, lesion, absent)
            return _line(step, lesion, day=name_of(case.points, absent))
    if before is None or not case.measurable(lesion):
        step = "" if absent is None else "split_off"
    elif absent is None and lesion.tracking_uid in case.tangled_since(nadir):
        step = "other_merged"
    elif _has_grown(case, before, lesion) is None:
        step = "other_part"
    elif _has_grown(case, before, lesion):
        step = "other_grown" if case.measurable(before) else "grown"
    elif case.measurable(before):
        step = "" if absent is None else "split_off"
    else:
        step = "little"
    return _line(step, lesion)


def transformed(case: ResponseCase, nadir: int) -> list[LesionStep]:
    """Return which lesions of non-enhancing disease enhance measurably: newly, or more.

    More means clearly larger diameters of the enhancing part.
    """
    if case.part is Region.ET or case.mixed:
        return []
    steps = []
    for lesion in case.lesions_at(case.last).values():
        step, index = "", nadir
        if lesion.measurable:
            step, index = _enhances(case, lesion, nadir)
        steps.append(_line(step, lesion, day=name_of(case.points, index)))
    return steps


def _enhances(case: ResponseCase, now: LesionMeasurement, nadir: int) -> tuple[str, int]:
    """Return the step for new or more enhancement and the compared examination; "" if neither."""
    if now.measured_part is not Region.ET:
        return "", nadir
    for index in (case.choices.baseline, nadir):
        before, step = case.lesions_at(index).get(now.tracking_uid), ""
        if before is not None and before.volume_ml.get(Region.ET) == 0:
            step = "enhances"
        elif before is not None and before.measured_part is Region.ET and _larger(before, now):
            step = "enhances_more"
        if step:
            merged = now.tracking_uid in case.comparison.tangled_since(index, enhancing_ml)
            return "other_merged" if merged else step, index
    return "", nadir


_PROGRESSION = frozenset({"new", "since", "grown", "other_grown", "enhances", "enhances_more"})
_PARTS = {"new_small": "new_part", "since_small": "since_part"}


def _line(step: str, lesion: LesionMeasurement, day: str = "") -> LesionStep:
    if not step:
        return LesionStep(progressed=False, line="")
    location = lesion.place
    if lesion.longest_mm is not None and lesion.perpendicular_mm is not None:
        location = f"{lesion.place}, {lesion.longest_mm:.1f} × {lesion.perpendicular_mm:.1f} mm"
    text = STEPS[step].format(place=location, mm=f"{CLEAR_GROWTH_MM:.0f}", day=day)
    return LesionStep(step in _PROGRESSION, text)


def _new_lesion_line(case: ResponseCase, lesion: LesionMeasurement, absent: int) -> str:
    """Return the line for a lesion that was absent at an examination and split from none."""
    numbers = range(case.choices.baseline, case.last)
    uid = lesion.tracking_uid
    earlier = case.points[absent].lesion(uid)
    if case.part is Region.ET and earlier is not None and earlier.counts:  # flagged, not enhancing
        return "enhances" if case.newly_measurable(lesion) else "enhances_small"
    was_flagged = uid in case.uncounted_at(absent) or any(
        uid in case.lesions_at(n) for n in numbers
    )
    if case.newly_measurable(lesion):
        return "since" if was_flagged else "new"
    small = "since_small" if was_flagged else "new_small"
    return _PARTS[small] if case.by_other_part(lesion) else small


def _split_from(case: ResponseCase, uid: str, absent: int) -> tuple[bool, LesionMeasurement | None]:
    """Return whether a lesion is part of an earlier one, and the largest such lesion of the prior.

    Only of a lesion that split since the prior is the earlier one known, and only if it had this
    disease.
    """
    last = case.last
    first = next(n for n in range(absent + 1, last + 1) if uid in case.lesions_at(n))
    if first < last:
        return uid in case.points[first].tangled, None
    ids = {
        number
        for change in case.comparison.changes
        if change.kind is ChangeKind.SPLIT and change.now and change.now.tracking_uid == uid
        for number in change.beside
    }
    parents = [lesion for lesion in case.lesions_at(last - 1).values() if lesion.id in ids]
    largest = max(parents, key=lambda lesion: case.size(lesion) or 0.0, default=None)
    return largest is not None, largest


def _has_grown(
    case: ResponseCase, before: LesionMeasurement, now: LesionMeasurement
) -> bool | None:
    """Return whether a lesion clearly grew; None if its diameters are of different parts.

    By volume, where diameters measure another part: as the diameters of balls.
    """
    if before.measured_part is now.measured_part is case.part:
        return _larger(before, now)
    if not case.volumetric:
        return None
    volumes = case.volume(before), case.volume(now)
    return _clearly_grew(*(None if volume is None else ball_mm(volume) for volume in volumes))


def _larger(before: LesionMeasurement, now: LesionMeasurement) -> bool:
    """Return whether both diameters clearly grew."""
    return _clearly_grew(before.longest_mm, now.longest_mm) and _clearly_grew(
        before.perpendicular_mm, now.perpendicular_mm
    )


def _clearly_grew(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and reached(now - before, CLEAR_GROWTH_MM)
