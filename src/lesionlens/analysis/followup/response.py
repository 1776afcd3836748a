"""Propose a response category by RANO 2.0 from what was measured at all examinations.

Notes
-----
Wen et al. 2023, doi:10.1200/JCO.23.01059: response against the baseline, progression against the
smallest sum since; products -50 % and +25 %, volumes -65 % and +40 %; at most three targets of at
least 10 mm in both diameters; a new measurable lesion, clear progression of what could not be
measured and clinical deterioration are progression too; complete and partial response need four
weeks of confirmation, stable or fewer steroids and a stable or better patient. What a person must
see is left to the reader: radiotherapy within 12 weeks, leptomeningeal disease, why it is worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.records.findings import MEASURABLE_MM
from lesionlens.base.records.followup import (
    PRODUCT_LIMITS,
    TARGETS,
    VOLUME_LIMITS,
    ChangeKind,
    Comparison,
    Measured,
    TimePoint,
    measures_of,
    percent,
)
from lesionlens.base.records.response import (
    Clinical,
    Criterion,
    Disease,
    Response,
    ResponseChoices,
    ResponseDraft,
    SignedResponse,
    Steroids,
)

CLEAR_GROWTH_MM = 5.0
"""By which both diameters of a lesion that could not be measured must have grown."""
_ROUNDING = 1e-9  # percent


def name_of(points: Sequence[TimePoint], number: int) -> str:
    """Return the day of an examination, or which it is."""
    return points[number].date or f"examination {number + 1}"


@dataclass(frozen=True, slots=True)
class _Case:
    """The measures of one disease by one criterion."""

    points: tuple[TimePoint, ...]
    choices: ResponseChoices

    @property
    def volumetric(self) -> bool:
        return self.choices.criterion is Criterion.VOLUMETRIC

    @property
    def unit(self) -> str:
        return "ml" if self.volumetric else "mm²"

    @property
    def part(self) -> Region:
        return Region.ET if self.choices.disease is Disease.ENHANCING else Region.WT

    def size(self, one: Measured) -> float | None:
        """Return product or volume of the part that counts; None where it was not measured."""
        volume = one.volume_ml.get(self.part)
        if self.volumetric or volume == 0 or volume is None:
            return volume
        return one.product_mm2 if one.measured_part is self.part else None

    def measurable(self, one: Measured) -> bool:
        """Whether a lesion may be a target."""
        if self.part is Region.ET:
            return bool(one.measurable)
        return (self.volumetric or one.measured_part is Region.WT) and min(
            one.longest_mm or 0.0, one.perpendicular_mm or 0.0
        ) >= MEASURABLE_MM

    def there(self, number: int) -> dict[str, Measured]:
        """Return the lesions of one examination that show this disease, by tracking UID."""
        return {
            one.tracking_uid: one
            for one in self.points[number].lesions
            if one.state is not ReviewState.REJECTED and one.volume_ml.get(self.part) != 0
        }

    def judged(self, number: int) -> bool:
        """Whether an examination can show this disease at all; not where that is unknown."""
        point = self.points[number]
        if not point.lesions:
            return self.part is Region.WT or bool(point.contrast)
        return all(one.volume_ml.get(self.part) is not None for one in point.lesions)


def propose(found: Comparison, choices: ResponseChoices) -> ResponseDraft:
    """Propose a category, with its arithmetic.

    Parameters
    ----------
    found : Comparison
        As measured now, with decisions (`Analysis.compared`); rejected lesions do not count.
    choices : ResponseChoices
        What the reader entered.

    Raises
    ------
    UnusableInputError
        The baseline or the nadir is no examination before this one, or the nadir lies before the
        baseline.
    """
    last = len(found.points) - 1
    _check(choices, last)
    case = _Case(found.points, choices)
    blind = [n for n in range(choices.baseline, last + 1) if not case.judged(n)]
    if blind:
        where = ", ".join(name_of(found.points, n) for n in blind)
        steps = (f"enhancing disease was not judged on {where}: no T1c there",)
        return ResponseDraft(choices, Response.NOT_ASSESSABLE, steps, None)
    targets = _targets(case)
    tangled = _tangled(found, targets)
    sums = [_sum(case, targets, n) for n in range(last + 1)]
    asked = {choices.baseline, choices.nadir or choices.baseline, last}
    if tangled or any(sums[n] is None for n in asked):
        why = tangled or "the diameters of a target are of another part of the lesion then"
        steps = (f"the sum is unknown: {why}",)
        return ResponseDraft(choices, Response.NOT_ASSESSABLE, steps, None)
    known = [0.0 if one is None else one for one in sums]
    earlier = [n for n in range(choices.baseline, last) if sums[n] is not None]
    nadir = min(earlier, key=lambda n: known[n]) if choices.nadir is None else choices.nadir
    return _draft(case, targets, known, nadir)


def sign(
    draft: ResponseDraft, found: Comparison, category: Response, reader: str, time: str
) -> SignedResponse:
    """Return what a reader signs of a draft.

    Raises
    ------
    UnusableInputError
        No reader is named.
    """
    if not reader.strip():
        raise UnusableInputError(
            found="no reader's name",
            expected="who assesses the response: a proposal is nobody's",
            next_step="Name the reader",
        )
    chosen, points = draft.choices, found.points
    nadir = chosen.baseline if draft.nadir is None else draft.nadir
    return SignedResponse(
        category=category,
        proposed=draft.category,
        criterion=chosen.criterion,
        disease=chosen.disease,
        steroids=chosen.steroids,
        clinical=chosen.clinical,
        baseline=name_of(points, chosen.baseline),
        nadir=name_of(points, nadir),
        steps=draft.steps,
        reader=reader.strip(),
        time=time,
        measures=measures_of(points),
    )


def _check(choices: ResponseChoices, last: int) -> None:
    baseline, nadir = choices.baseline, choices.nadir
    if 0 <= baseline < last and (nadir is None or baseline <= nadir < last):
        return
    raise UnusableInputError(
        found=f"examination {baseline + 1} as baseline"
        + ("" if nadir is None else f" and {nadir + 1} as nadir")
        + f", of {last + 1}",
        expected="examinations before the last one, the nadir not before the baseline",
        next_step="Choose others",
    )


def _targets(case: _Case) -> tuple[str, ...]:
    """Return the targets: the largest measurable lesions of the baseline, three at most."""
    sizes = {
        uid: case.size(one) or 0.0
        for uid, one in case.there(case.choices.baseline).items()
        if case.measurable(one)
    }
    return tuple(sorted(sizes, key=lambda uid: (-sizes[uid], uid))[:TARGETS])


def _tangled(found: Comparison, targets: tuple[str, ...]) -> str:
    """Say which target merged with another or split since the prior; empty where none did."""
    for change in found.changes:
        one = change.before or change.now
        linked = found.linked(change)
        apart = any(c.kind in (ChangeKind.SPLIT, ChangeKind.MERGED) for c in linked)
        if one is not None and one.tracking_uid in targets and apart:
            return f"{one.place} merged with another region or split"
    return ""


def _sum(case: _Case, targets: tuple[str, ...], number: int) -> float | None:
    there = case.there(number)
    sizes = [case.size(there[uid]) for uid in targets if uid in there]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _draft(
    case: _Case, targets: tuple[str, ...], sums: Sequence[float], nadir: int
) -> ResponseDraft:
    choices = case.choices
    steps = list(_arithmetic(case, targets, sums, nadir))
    grown, more = _progression(case, targets, sums, nadir)
    steps += more
    if choices.clinical is Clinical.WORSE:
        steps.append("the patient is worse and nothing else explains it: progression")
    if grown or choices.clinical is Clinical.WORSE:
        category, missing = _progressed(choices, grown, steps)
    else:
        category, missing = _responded(case, targets, sums, steps)
    if category in (Response.COMPLETE, Response.PARTIAL):
        steps.append("to be confirmed after four weeks or more")
    if category is Response.PROGRESSION:
        steps.append("within 12 weeks of radiotherapy: to be confirmed by another examination")
    return ResponseDraft(choices, None if missing else category, tuple(steps), nadir, missing)


def _arithmetic(
    case: _Case, targets: tuple[str, ...], sums: Sequence[float], nadir: int
) -> Sequence[str]:
    points, baseline, last = case.points, case.choices.baseline, len(case.points) - 1
    if not targets:
        return (f"no measurable {case.choices.disease} disease on {name_of(points, baseline)}",)
    low, high = VOLUME_LIMITS if case.volumetric else PRODUCT_LIMITS
    rows = [
        f"{len(targets)} measurable target{'s' if len(targets) > 1 else ''}, sum in {case.unit}"
    ]
    for words, number, limit in (("baseline", baseline, low), ("nadir", nadir, high)):
        changed = percent(sums[number], sums[last])
        shown = "no change in percent from 0" if changed is None else f"{changed:+.1f} %"
        rows.append(
            f"{words} {name_of(points, number)}: {_figure(sums[number])} → {_figure(sums[last])} "
            f"{case.unit}, {shown} (limit {limit:+.0f} %)"
        )
    return rows


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


@dataclass(frozen=True, slots=True)
class _Grown:
    """Whether there is progression, by the sum alone or by what needs no sum."""

    by_sum: bool = False
    otherwise: bool = False

    def __bool__(self) -> bool:
        return self.by_sum or self.otherwise


def _progression(
    case: _Case, targets: tuple[str, ...], sums: Sequence[float], nadir: int
) -> tuple[_Grown, list[str]]:
    """Return what has grown, and the words of it."""
    last, steps, otherwise = len(case.points) - 1, [], False
    _, high = VOLUME_LIMITS if case.volumetric else PRODUCT_LIMITS
    changed = percent(sums[nadir], sums[last])
    by_sum = (changed is not None and changed >= high - _ROUNDING) or (
        bool(targets) and sums[nadir] == 0 and sums[last] > 0
    )
    seen = {uid for n in range(case.choices.baseline, last) for uid in case.there(n)}
    for uid, one in case.there(last).items():
        if uid not in seen:
            new = case.measurable(one)
            otherwise |= new
            how = "progression" if new else "too small to be measured: to be followed"
            steps.append(f"new: {_named(one)}; {how}")
        elif uid not in targets and case.measurable(one):
            before = case.there(nadir).get(uid)
            if before is not None and not case.measurable(before):
                clear = _clearly_grown(before, one)
                otherwise |= clear
                how = "progression" if clear else f"by less than {CLEAR_GROWTH_MM:.0f} mm"
                steps.append(f"could not be measured before: {_named(one)}; {how}")
    return _Grown(by_sum, otherwise), steps


def _clearly_grown(before: Measured, now: Measured) -> bool:
    return all(
        after is not None and first is not None and after - first >= CLEAR_GROWTH_MM
        for first, after in (
            (before.longest_mm, now.longest_mm),
            (before.perpendicular_mm, now.perpendicular_mm),
        )
    )


def _named(one: Measured) -> str:
    if one.longest_mm is None or one.perpendicular_mm is None:
        return one.place
    return f"{one.place}, {one.longest_mm:.0f} × {one.perpendicular_mm:.0f} mm"


def _progressed(
    choices: ResponseChoices, grown: _Grown, steps: list[str]
) -> tuple[Response, tuple[str, ...]]:
    """Return progression, or what keeps it from being said: only the sum depends on steroids."""
    if grown.otherwise or choices.clinical is Clinical.WORSE:
        return Response.PROGRESSION, ()
    if choices.steroids is Steroids.UNKNOWN:
        return Response.PROGRESSION, ("steroids",)
    if choices.steroids in (Steroids.LOWER, Steroids.STOPPED):
        steps.append("fewer steroids: growth may be due to that; repeat at a stable dose")
        return Response.NOT_ASSESSABLE, ()
    steps.append("the sum grew beyond the limit, on no fewer steroids: progression")
    return Response.PROGRESSION, ()


def _responded(
    case: _Case, targets: tuple[str, ...], sums: Sequence[float], steps: list[str]
) -> tuple[Response, tuple[str, ...]]:
    """Return response or stable disease; only a response asks for steroids and clinical state."""
    choices, last = case.choices, len(case.points) - 1
    if not targets:
        steps.append("without measurable disease no response can be shown: stable at best")
        best = Response.STABLE
    else:
        low, _ = VOLUME_LIMITS if case.volumetric else PRODUCT_LIMITS
        changed = percent(sums[choices.baseline], sums[last])
        smaller = changed is not None and changed <= low + _ROUNDING
        best = Response.PARTIAL if smaller else Response.STABLE
        if not case.there(last):
            best = Response.COMPLETE
            steps.append("nothing of it is flagged now, which a reader must see")
    missing = tuple(
        words
        for words, value in (
            ("steroids", choices.steroids),
            ("the clinical state", choices.clinical),
        )
        if value == "unknown"
    )
    if missing:
        return best, missing
    if best is not Response.STABLE and choices.steroids is Steroids.HIGHER:
        steps.append("more steroids: no response can be shown, stable at best")
        return Response.STABLE, ()
    if best is Response.COMPLETE and choices.steroids not in (Steroids.NONE, Steroids.STOPPED):
        steps.append("steroids are still given: partial at best")
        best = Response.PARTIAL
    return best, ()
