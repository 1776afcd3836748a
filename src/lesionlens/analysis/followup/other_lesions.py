"""Progression beside the sum of targets: new lesions, other lesions that grew, new enhancement."""

from __future__ import annotations

from lesionlens.analysis.followup.response_case import STEPS, ResponseCase, name_of
from lesionlens.base.labels import Region
from lesionlens.base.records.followup import ChangeKind, Comparison, Measured, enhancing_ml
from lesionlens.base.records.gone_lesion import ball_mm

CLEAR_GROWTH_MM = 5.0
"""Minimum growth of both diameters of a lesion that is no target."""


def progressed(
    found: Comparison, case: ResponseCase, one: Measured, nadir: int
) -> tuple[bool, str]:
    """Return whether a lesion of this examination that is no target progressed.

    Returns
    -------
    bool
        A lesion that is measurable, and absent at the baseline or the nadir or clearly larger than
        at the nadir.
    str
        The line that explains it; empty if there is nothing to say.
    """
    points = (case.choices.baseline, nadir)
    absent = next((n for n in points if one.tracking_uid not in case.there(n)), None)
    before = case.there(nadir).get(one.tracking_uid)
    if absent is not None:
        part, before = _split_from(found, case, one.tracking_uid, absent)
        if before is None:
            step = "split_off" if part else _new_lesion_line(case, one, absent)
            return _line(step, one, day=name_of(case.points, absent))
    if before is None or not case.measurable(one):
        step = "" if absent is None else "split_off"
    elif absent is None and one.tracking_uid in found.tangled_since(nadir, case.volume):
        step = "other_merged"
    elif _has_grown(case, before, one) is None:
        step = "other_part"
    elif _has_grown(case, before, one):
        step = "other_grown" if case.measurable(before) else "grown"
    elif case.measurable(before):
        step = "" if absent is None else "split_off"
    else:
        step = "little"
    return _line(step, one)


def transformed(found: Comparison, case: ResponseCase, nadir: int) -> tuple[bool, list[str]]:
    """Return whether a lesion of non-enhancing disease enhances measurably: newly, or more.

    More means clearly larger diameters of the enhancing part.

    Returns
    -------
    bool
        Whether that is progression.
    list of str
        The lines that explain it.
    """
    if case.part is Region.ET or case.mixed:
        return False, []
    lines = []
    for one in case.there(len(case.points) - 1).values():
        step, number = _enhances(found, case, one, nadir) if one.measurable else ("", nadir)
        lines.append(_line(step, one, day=name_of(case.points, number)))
    return any(worse for worse, _ in lines), [step for _, step in lines if step]


def _enhances(found: Comparison, case: ResponseCase, now: Measured, nadir: int) -> tuple[str, int]:
    """Return how a lesion enhances more, and than at which examination; "" if it does not."""
    if now.measured_part is not Region.ET:
        return "", nadir
    for number in (case.choices.baseline, nadir):
        before, step = case.there(number).get(now.tracking_uid), ""
        if before is not None and before.volume_ml.get(Region.ET) == 0:
            step = "enhances"
        elif before is not None and before.measured_part is Region.ET and _larger(before, now):
            step = "enhances_more"
        if step:
            merged = now.tracking_uid in found.tangled_since(number, enhancing_ml)
            return "other_merged" if merged else step, number
    return "", nadir


_PROGRESSION = frozenset({"new", "since", "grown", "other_grown", "enhances", "enhances_more"})
_PARTS = {"new_small": "new_part", "since_small": "since_part"}


def _line(step: str, one: Measured, day: str = "") -> tuple[bool, str]:
    if not step:
        return False, ""
    named = one.place
    if one.longest_mm is not None and one.perpendicular_mm is not None:
        named = f"{one.place}, {one.longest_mm:.1f} × {one.perpendicular_mm:.1f} mm"
    text = STEPS[step].format(place=named, mm=f"{CLEAR_GROWTH_MM:.0f}", day=day)
    return step in _PROGRESSION, text


def _new_lesion_line(case: ResponseCase, one: Measured, absent: int) -> str:
    """Return the line for a lesion that was absent at an examination and split from none."""
    numbers = range(case.choices.baseline, len(case.points) - 1)
    uid = one.tracking_uid
    then = case.points[absent].lesion(uid)
    if case.part is Region.ET and then is not None and then.counts:  # flagged, not enhancing
        return "enhances" if case.newly_measurable(one) else "enhances_small"
    known = uid in case.uncounted(absent) or any(uid in case.there(n) for n in numbers)
    if case.newly_measurable(one):
        return "since" if known else "new"
    small = "since_small" if known else "new_small"
    return _PARTS[small] if case.by_other_part(one) else small


def _split_from(
    found: Comparison, case: ResponseCase, uid: str, absent: int
) -> tuple[bool, Measured | None]:
    """Return whether a lesion is part of an earlier one, and the largest such lesion of the prior.

    Only of a lesion that split since the prior is the earlier one known, and only if it had this
    disease.
    """
    last = len(case.points) - 1
    first = next(n for n in range(absent + 1, last + 1) if uid in case.there(n))
    if first < last:
        return uid in case.points[first].tangled, None
    ids = {
        number
        for change in found.changes
        if change.kind is ChangeKind.SPLIT and change.now and change.now.tracking_uid == uid
        for number in change.beside
    }
    parents = [one for one in case.there(last - 1).values() if one.id in ids]
    largest = max(parents, key=lambda one: case.size(one) or 0.0, default=None)
    return largest is not None, largest


def _has_grown(case: ResponseCase, before: Measured, now: Measured) -> bool | None:
    """Return whether a lesion clearly grew; None if its diameters are of different parts.

    By volume, where diameters measure another part: as the diameters of balls.
    """
    if before.measured_part is now.measured_part is case.part:
        return _larger(before, now)
    if not case.volumetric:
        return None
    volumes = case.volume(before), case.volume(now)
    return _clearly(*(None if one is None else ball_mm(one) for one in volumes))


def _larger(before: Measured, now: Measured) -> bool:
    """Return whether both diameters clearly grew."""
    return _clearly(before.longest_mm, now.longest_mm) and _clearly(
        before.perpendicular_mm, now.perpendicular_mm
    )


def _clearly(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now - before >= CLEAR_GROWTH_MM
