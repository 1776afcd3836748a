"""Propose a response category by RANO 2.0 from the measurements at all examinations.

Notes
-----
Wen et al. 2023, doi:10.1200/JCO.23.01059: response against the baseline, progression against the
smallest sum since; products -50% and +25%, volumes -65% and +40%; at most three targets of at
least 10 mm in both diameters, two of each kind where enhancing and non-enhancing disease are mixed;
a new measurable lesion, clear progression of a lesion that is no target and clinical deterioration
are progression too; stable disease needs stable or fewer steroids; complete and partial response
also need four weeks of confirmation and a stable or better patient. The combination of both kinds
of mixed disease into one category is a rule of LesionLens. Other criteria are left to the reader:
radiotherapy within 12 weeks, leptomeningeal disease, reasons for deterioration.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lesionlens.analysis.followup.compare import ORDER_UNKNOWN
from lesionlens.analysis.followup.other_lesions import progressed, transformed
from lesionlens.analysis.followup.response_case import STEPS, ResponseCase, name_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.records.followup import Comparison, change_text, percent, reached
from lesionlens.base.records.response import (
    Clinical,
    Disease,
    Response,
    ResponseChoices,
    ResponseDraft,
    SignedResponse,
    Steroids,
)
from lesionlens.base.records.signed_measures import measures_of

_MINOR_PERCENT = -25.0  # from this decrease on, it may be a minor response
_PATIENT_LINES = frozenset(
    STEPS[step] for step in ("worse", "fewer", "more", "given", "confirm", "radiotherapy")
)
"""Lines on the patient, which mixed disease states once."""


@dataclass(frozen=True, slots=True)
class _TargetSums:
    """The sums of the target lesions at all examinations."""

    case: ResponseCase
    targets: tuple[str, ...]
    """Tracking UIDs."""
    values: tuple[float, ...]
    """Sum at each examination, in `case.unit`; 0 where it is unknown."""
    nadir: int
    """Index of the examination with the smallest sum."""


class _Outcome(NamedTuple):
    """A category by the sum of the targets."""

    category: Response
    lines: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """What must be entered before the category can be proposed."""


def propose(
    comparison: Comparison, choices: ResponseChoices, notices: Collection[str] = ()
) -> ResponseDraft:
    """Propose a category, with its computation.

    `comparison` has current measurements and decisions (`Analysis.compared`); rejected lesions do
    not count. `notices` are those of the analysis: one on an unknown order comes first.

    Raises
    ------
    UnusableInputError
        The baseline or the nadir is not before this examination, or the nadir is before the
        baseline.
    """
    _check_choices(choices, len(comparison.points) - 1)
    if choices.disease is Disease.MIXED:
        draft = _mixed_disease(comparison, choices)
    else:
        draft = _single_disease(ResponseCase(comparison, choices))
    mirrored = comparison.mirrored_since(choices.baseline)
    if mirrored:  # lesions were matched with those of the other side
        steps = _registration_lines(comparison, "mirrored", mirrored)
        return ResponseDraft(choices, Response.NOT_ASSESSABLE, steps, draft.nadir)
    doubtful_lines = _registration_lines(
        comparison, "doubtful", comparison.doubtful_since(choices.baseline)
    )
    return replace(
        draft,
        steps=(
            *((STEPS["order"],) if ORDER_UNKNOWN in notices else ()),
            *doubtful_lines,
            *_makers_lines(comparison, choices.baseline),
            *draft.steps,
        ),
    )


def _registration_lines(
    comparison: Comparison, doubt: str, numbers: Sequence[int]
) -> tuple[str, ...]:
    """Return the lines on doubtful or mirrored registrations, of the last examination first."""
    last = len(comparison.points) - 1
    days = ", ".join(name_of(comparison.points, n) for n in numbers if n < last)
    lines = (STEPS[doubt] if last in numbers else "", days and STEPS[f"{doubt}_then"])
    return tuple(line.format(days=days) for line in lines if line)


def _makers_lines(comparison: Comparison, baseline: int) -> tuple[str, ...]:
    """Return the line that names the engine of each examination, if they differ."""
    if len(comparison.makers_since(baseline)) < 2:
        return ()
    points = comparison.points
    indices = [n for n in range(baseline, len(points)) if points[n].made_by]
    makers = "; ".join(f"{name_of(points, n)}: {points[n].made_by}" for n in indices)
    return (STEPS["makers"].format(makers=makers),)


def _single_disease(case: ResponseCase) -> ResponseDraft:
    choices, last = case.choices, case.last
    reason = _unjudged_line(case)
    if reason:
        return _without_sum(choices, (reason,))
    targets = _targets(case)
    sums = [_sum(case, targets, n) for n in range(last + 1)]
    reference = choices.baseline if choices.nadir is None else choices.nadir
    assessed = sorted({choices.baseline, reference, last})
    reason = _rejected_earlier_line(case)
    if reason:
        return _without_sum(choices, (reason,))
    reason = (
        _enhancing_part_line(case)
        or _merged_or_split_line(case, targets)
        or _uncounted_target_line(case, targets, assessed)
    )
    if reason or any(sums[n] is None for n in assessed):
        grown, lines = _other_progression(case, targets, reference)
        return _without_sum(choices, (reason or STEPS["parts"], *lines), grown=grown)
    known_sums = tuple(0.0 if value is None else value for value in sums)
    earlier = [n for n in range(choices.baseline, last) if sums[n] is not None]
    nadir = min(earlier, key=lambda n: known_sums[n]) if choices.nadir is None else choices.nadir
    draft = _draft(_TargetSums(case, targets, known_sums, nadir))
    unknown = [name_of(case.points, n) for n in range(choices.baseline, last) if sums[n] is None]
    if choices.nadir is not None or not unknown:
        return draft
    line = STEPS["no_nadir"].format(days=", ".join(unknown))
    return replace(draft, steps=(line, *draft.steps))


def _without_sum(
    choices: ResponseChoices, steps: tuple[str, ...], *, grown: bool = False
) -> ResponseDraft:
    """Propose progression if something other than the sum shows it, else not assessable."""
    worse = choices.clinical is Clinical.WORSE
    if not (grown or worse):
        return ResponseDraft(choices, Response.NOT_ASSESSABLE, steps, None)
    extra_steps = (*((STEPS["worse"],) if worse else ()), STEPS["radiotherapy"])
    return ResponseDraft(choices, Response.PROGRESSION, (*steps, *extra_steps), None)


def _mixed_disease(comparison: Comparison, choices: ResponseChoices) -> ResponseDraft:
    """Propose a category for mixed disease, each kind by its own sums."""
    steps: list[str] = []
    parts = []
    for disease in (Disease.ENHANCING, Disease.NON_ENHANCING):
        case = ResponseCase(comparison, replace(choices, disease=disease), mixed=True)
        part = _single_disease(case)
        steps.append(STEPS[f"kind_{disease}"])
        steps += [step for step in part.steps if step not in steps or step not in _PATIENT_LINES]
        parts.append(part)
    steps.append(STEPS["together"])
    first, second = parts
    nadir = first.nadir if first.nadir == second.nadir else None
    categories = {part.category for part in parts}
    missing = tuple(dict.fromkeys(item for part in parts for item in part.missing))
    if Response.PROGRESSION in categories:
        return ResponseDraft(choices, Response.PROGRESSION, tuple(steps), nadir)
    if missing:
        return ResponseDraft(choices, None, tuple(steps), nadir, missing)
    return ResponseDraft(choices, _combined_category(categories), tuple(steps), nadir)


def _combined_category(categories: set[Response | None]) -> Response:
    """Return the category for mixed disease where neither kind progressed."""
    if Response.NOT_ASSESSABLE in categories:
        return Response.NOT_ASSESSABLE
    if categories == {Response.COMPLETE}:
        return Response.COMPLETE
    return Response.PARTIAL if Response.PARTIAL in categories else Response.STABLE


def sign(
    draft: ResponseDraft, comparison: Comparison, category: Response, reader: str, time: str
) -> SignedResponse:
    """Return the signed response from a draft.

    Raises
    ------
    UnusableInputError
        The reader's name is empty.
    """
    if not reader.strip():
        raise UnusableInputError(
            found="no reader's name",
            expected="the name of the reader who assesses the response",
            next_step="Name the reader",
        )
    choices, points = draft.choices, comparison.points
    nadir = name_of(points, choices.baseline if draft.nadir is None else draft.nadir)
    if draft.nadir is None and choices.disease is Disease.MIXED:
        nadir = "the smallest sum of each kind"
    return SignedResponse(
        category=category,
        proposed=draft.category,
        criterion=choices.criterion,
        disease=choices.disease,
        steroids=choices.steroids,
        clinical=choices.clinical,
        baseline=name_of(points, choices.baseline),
        nadir=nadir,
        steps=draft.steps,
        reader=reader.strip(),
        time=time,
        measures=measures_of(points),
    )


def _check_choices(choices: ResponseChoices, last: int) -> None:
    baseline, nadir = choices.baseline, choices.nadir
    if 0 <= baseline < last and choices.in_order and (nadir is None or nadir < last):
        return
    raise UnusableInputError(
        found=f"examination {baseline + 1} as baseline"
        + ("" if nadir is None else f" and {nadir + 1} as nadir")
        + f", of {last + 1}",
        expected="examinations before the last one, the nadir not before the baseline",
        next_step="Choose others",
    )


def _unjudged_line(case: ResponseCase) -> str:
    """Return the line on examinations that cannot show this kind of disease; "" if none."""
    points, baseline = case.points, case.choices.baseline
    unjudged = [n for n in range(baseline, len(points)) if not case.judged(n)]
    if not unjudged:
        return ""
    step = "untold" if all(points[n].contrast for n in unjudged) else "blind"
    return STEPS[step].format(days=", ".join(name_of(points, n) for n in unjudged))


def _enhancing_part_line(case: ResponseCase) -> str:
    """Return the line for a baseline without diameters of this kind of disease; else ""."""
    baseline = case.choices.baseline
    lesions = case.lesions_at(baseline).values()
    if case.mixed or any(map(case.measurable, lesions)):
        return ""
    if not any(map(case.by_other_part, lesions)):
        return ""
    return STEPS["enhancing_part"].format(day=name_of(case.points, baseline))


def _targets(case: ResponseCase) -> tuple[str, ...]:
    """Return the targets: the largest measurable lesions of the baseline."""
    sizes = {
        uid: case.size(lesion) or 0.0
        for uid, lesion in case.lesions_at(case.choices.baseline).items()
        if case.measurable(lesion)
    }
    return tuple(sorted(sizes, key=lambda uid: (-sizes[uid], uid))[: case.max_targets])


def _merged_or_split_line(case: ResponseCase, targets: tuple[str, ...]) -> str:
    """Return the line that names a target that merged or split since the baseline; "" if none."""
    baseline = case.choices.baseline
    uids, lesions = case.tangled_since(baseline), case.lesions_at(baseline)
    location = next((lesions[uid].place for uid in targets if uid in uids), "")
    return STEPS["tangled"].format(place=location) if location else ""


def _uncounted_target_line(
    case: ResponseCase, targets: tuple[str, ...], assessed: Sequence[int]
) -> str:
    """Return the line that names a target that does not count as tumour later; "" if none.

    A lesion that a reader rejected was flagged there: its sum is unknown, not 0.
    """
    lesions = case.lesions_at(case.choices.baseline)
    for uid in targets:
        days = [name_of(case.points, n) for n in assessed if uid in case.uncounted_at(n)]
        if days:
            return STEPS["uncounted"].format(place=lesions[uid].place, days=", ".join(days))
    return ""


def _rejected_earlier_line(case: ResponseCase) -> str:
    """Return the line that names a lesion that is new only because it did not count; "" if none.

    It was flagged before but rejected or listed separately, and is undecided now.
    """
    first, last = case.choices.baseline, case.last
    for uid, lesion in case.lesions_at(last).items():
        undecided = lesion.state is ReviewState.UNREVIEWED and case.newly_measurable(lesion)
        if not undecided or uid in case.lesions_at(first):
            continue
        days = [name_of(case.points, n) for n in range(last) if uid in case.uncounted_at(n)]
        if days:
            return STEPS["rejected_then"].format(place=lesion.place, days=", ".join(days))
    return ""


def _sum(case: ResponseCase, targets: tuple[str, ...], number: int) -> float | None:
    lesions = case.lesions_at(number)
    sizes = [case.size(lesions[uid]) for uid in targets if uid in lesions]
    unknown = None in sizes or not case.uncounted_at(number).isdisjoint(targets)
    return None if unknown else sum(size for size in sizes if size is not None)


def _draft(sums: _TargetSums) -> ResponseDraft:
    choices, worse = sums.case.choices, sums.case.choices.clinical is Clinical.WORSE
    grown, lines = _other_progression(sums.case, sums.targets, sums.nadir)
    if grown or worse:
        outcome = _Outcome(Response.PROGRESSION, (STEPS["worse"],) if worse else ())
    elif _sum_progressed(sums):
        outcome = _progressed_by_sum(choices)
    else:
        outcome = _response_by_sum(sums)
    category = outcome.category
    steps = [*_sum_lines(sums), *lines, *outcome.lines]
    if category in (Response.COMPLETE, Response.PARTIAL):
        steps.append(STEPS["confirm"])
    if category is Response.PROGRESSION:
        steps.append(STEPS["radiotherapy"])
    proposed = None if outcome.missing else category
    return ResponseDraft(choices, proposed, tuple(steps), sums.nadir, outcome.missing)


def _sum_lines(sums: _TargetSums) -> Sequence[str]:
    case, values = sums.case, sums.values
    points, baseline, targets = case.points, case.choices.baseline, sums.targets
    if not targets:
        none = STEPS[f"none_{case.choices.disease}"]
        return (none.format(day=name_of(points, baseline)),)
    first = STEPS["targets" if len(targets) > 1 else "target"]
    rows = [first.format(count=len(targets), unit=case.unit)]
    numbers = {"baseline": baseline, "nadir": sums.nadir}
    for (name, number), limit in zip(numbers.items(), case.limits, strict=True):
        changed = percent(values[number], values[case.last])
        fields = {
            "day": name_of(points, number),
            "before": _figure(values[number]),
            "now": _figure(values[case.last]),
            "unit": case.unit,
        }
        if changed is None:
            rows.append(STEPS[f"{name}_zero"].format(**fields))
        else:
            change = {"change": change_text(changed, limit), "limit": f"{limit:+z.0f}"}
            rows.append(STEPS[name].format(**fields, **change))
    return rows


def _figure(value: float) -> str:
    """Return a sum with at least three figures, so that its change can be checked."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _sum_progressed(sums: _TargetSums) -> bool:
    """Return whether the sum of the targets grew beyond the limit since the nadir, or from 0."""
    before, now = sums.values[sums.nadir], sums.values[sums.case.last]
    changed = percent(before, now)
    if changed is None:
        return bool(sums.targets) and before == 0 and now > 0
    return reached(changed, sums.case.limits[1])


def _other_progression(
    case: ResponseCase, targets: tuple[str, ...], nadir: int
) -> tuple[bool, tuple[str, ...]]:
    """Return whether something other than the sum of the targets progressed, with the lines.

    A target that is absent at the nadir, or did not enhance there, and is present now has returned.
    """
    known_targets = {
        uid
        for uid in targets
        if (before := case.points[nadir].lesion(uid)) is not None
        and not (case.part is Region.ET and before.counts and case.volume(before) == 0)
    }
    lesions = case.lesions_at(case.last).items()
    steps = [progressed(case, lesion, nadir) for uid, lesion in lesions if uid not in known_targets]
    steps += transformed(case, nadir)
    lines = dict.fromkeys(step.line for step in steps if step.line)
    return any(step.progressed for step in steps), tuple(lines)


def _progressed_by_sum(choices: ResponseChoices) -> _Outcome:
    """Return progression, or what prevents it: growth of the sum depends on steroids."""
    if choices.steroids is Steroids.UNKNOWN:
        return _Outcome(Response.PROGRESSION, missing=("steroids",))
    if choices.steroids in (Steroids.LOWER, Steroids.STOPPED):
        return _Outcome(Response.NOT_ASSESSABLE, (STEPS["fewer"],))
    return _Outcome(Response.PROGRESSION, (STEPS["beyond"],))


def _response_by_sum(sums: _TargetSums) -> _Outcome:
    """Return response or stable disease; only a response depends on steroids, clinical status."""
    case, choices, last = sums.case, sums.case.choices, sums.case.last
    best, line = _best_by_sum(sums)
    lines = (line,) if line else ()
    missing = tuple(
        name
        for name, value in (
            ("steroids", choices.steroids),
            ("the clinical status", choices.clinical),
        )
        if value == "unknown"
    )
    if missing:
        return _Outcome(best, lines, missing)
    if choices.steroids is Steroids.HIGHER:
        return _Outcome(Response.NOT_ASSESSABLE, (*lines, STEPS["more"]))
    if case.points[last].cavity_ml and not case.points[choices.baseline].cavity_ml:
        surgery = STEPS["surgery"].format(day=name_of(case.points, choices.baseline))
        return _Outcome(Response.NOT_ASSESSABLE, (*lines, surgery))
    if best is Response.COMPLETE and choices.steroids not in (Steroids.NONE, Steroids.STOPPED):
        return _Outcome(Response.PARTIAL, (*lines, STEPS["given"]))
    return _Outcome(best, lines)


def _best_by_sum(sums: _TargetSums) -> tuple[Response, str]:
    """Return the best category that the sum allows, with its line; "" if there is nothing to add.

    Steroids and the clinical state are not regarded.
    """
    case = sums.case
    if not sums.targets:
        return Response.STABLE, STEPS["unmeasured"]
    if not case.lesions_at(case.last):
        return Response.COMPLETE, STEPS["gone"]
    changed = percent(sums.values[case.choices.baseline], sums.values[case.last])
    if changed is not None and reached(changed, case.limits[0]):
        return Response.PARTIAL, ""
    if changed is not None and reached(changed, _MINOR_PERCENT) and case.part is Region.WT:
        return Response.STABLE, STEPS["minor"].format(change=f"{-_MINOR_PERCENT:.0f}")
    return Response.STABLE, ""
