"""Propose a response category by RANO 2.0 from the measurements at all examinations.

Notes
-----
Wen et al. 2023, doi:10.1200/JCO.23.01059: response against the baseline, progression against the
smallest sum since; products -50 % and +25 %, volumes -65 % and +40 %; at most three targets of at
least 10 mm in both diameters, two of each kind where enhancing and non-enhancing disease are mixed;
a new measurable lesion, clear progression of what is no target and clinical deterioration are
progression too; stable disease needs stable or fewer steroids; complete and partial response also
need four weeks of confirmation and a stable or better patient. The combination of both kinds of
mixed disease into one category is our own rule. Other criteria are left to the reader: radiotherapy
within 12 weeks, leptomeningeal disease, reasons for deterioration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lesionlens.analysis.followup.other_lesions import progressed, transformed
from lesionlens.analysis.followup.response_case import STEPS, ResponseCase, name_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.records.followup import (
    Comparison,
    changed_words,
    percent,
    reached,
)
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

_MINOR = -25.0  # percent: from it a decrease may be a minor response
_GENERAL = frozenset(
    STEPS[step] for step in ("worse", "fewer", "more", "given", "confirm", "radiotherapy")
)
"""Lines on the patient, which mixed disease states once."""


def propose(found: Comparison, choices: ResponseChoices) -> ResponseDraft:
    """Propose a category, with its computation.

    Parameters
    ----------
    found : Comparison
        Current measurements and decisions (`Analysis.compared`); rejected lesions do not count.

    Raises
    ------
    UnusableInputError
        The baseline or the nadir is not before this examination, or the nadir is before the
        baseline.
    """
    _check(choices, len(found.points) - 1)
    if choices.disease is Disease.MIXED:
        draft = _mixed_disease(found, choices)
    else:
        draft = _of_one_kind(found, ResponseCase(found.points, choices))
    mirrored = found.mirrored_since(choices.baseline)
    if mirrored:  # lesions were matched with those of the other side
        steps = _registered(found, "mirrored", mirrored)
        return ResponseDraft(choices, Response.NOT_ASSESSABLE, steps, draft.nadir)
    doubts = _registered(found, "doubtful", found.doubtful_since(choices.baseline))
    return replace(draft, steps=(*doubts, *_makers(found, choices.baseline), *draft.steps))


def _registered(found: Comparison, doubt: str, numbers: Sequence[int]) -> tuple[str, ...]:
    """Return the lines on doubtful or mirrored registrations, of the last examination first."""
    last = len(found.points) - 1
    days = ", ".join(name_of(found.points, n) for n in numbers if n < last)
    lines = (STEPS[doubt] if last in numbers else "", days and STEPS[f"{doubt}_then"])
    return tuple(line.format(days=days) for line in lines if line)


def _makers(found: Comparison, baseline: int) -> tuple[str, ...]:
    """Return the line that names what outlined each examination, if that differs, where known."""
    if len(found.makers_since(baseline)) < 2:
        return ()
    points = found.points
    known = [n for n in range(baseline, len(points)) if points[n].made_by]
    makers = "; ".join(f"{name_of(points, n)}: {points[n].made_by}" for n in known)
    return (STEPS["makers"].format(makers=makers),)


def _of_one_kind(found: Comparison, case: ResponseCase) -> ResponseDraft:
    choices, last = case.choices, len(found.points) - 1
    why = _unjudged_line(case)
    if why:
        return _without_sum(choices, (why,))
    targets = _targets(case)
    sums = [_sum(case, targets, n) for n in range(last + 1)]
    reference = choices.baseline if choices.nadir is None else choices.nadir
    asked = sorted({choices.baseline, reference, last})
    why = _rejected_then(case, targets)
    if why:
        return _without_sum(choices, (why,))
    why = (
        _enhancing_part_line(case)
        or _merged_or_split_line(found, case, targets)
        or _uncounted_target_line(case, targets, asked)
    )
    if why or any(sums[n] is None for n in asked):
        grown, steps = _otherwise(found, case, targets, reference)
        return _without_sum(choices, (why or STEPS["parts"], *steps), grown=grown)
    known = [0.0 if one is None else one for one in sums]
    earlier = [n for n in range(choices.baseline, last) if sums[n] is not None]
    nadir = min(earlier, key=lambda n: known[n]) if choices.nadir is None else choices.nadir
    draft = _draft(found, case, targets, known, nadir)
    unknown = [name_of(found.points, n) for n in range(choices.baseline, last) if sums[n] is None]
    if choices.nadir is not None or not unknown:
        return draft
    said = STEPS["no_nadir"].format(days=", ".join(unknown))
    return replace(draft, steps=(said, *draft.steps))


def _without_sum(
    choices: ResponseChoices, steps: tuple[str, ...], *, grown: bool = False
) -> ResponseDraft:
    """Propose progression where something other than the sum shows it; else not assessable."""
    worse = choices.clinical is Clinical.WORSE
    if not (grown or worse):
        return ResponseDraft(choices, Response.NOT_ASSESSABLE, steps, None)
    more = (*((STEPS["worse"],) if worse else ()), STEPS["radiotherapy"])
    return ResponseDraft(choices, Response.PROGRESSION, (*steps, *more), None)


def _mixed_disease(found: Comparison, choices: ResponseChoices) -> ResponseDraft:
    """Propose a category for mixed disease, each kind by its own sums."""
    steps: list[str] = []
    parts = []
    for disease in (Disease.ENHANCING, Disease.NON_ENHANCING):
        case = ResponseCase(found.points, replace(choices, disease=disease), mixed=True)
        part = _of_one_kind(found, case)
        steps.append(STEPS[f"kind_{disease}"])
        steps += [step for step in part.steps if step not in steps or step not in _GENERAL]
        parts.append(part)
    steps.append(STEPS["together"])
    first, second = parts
    nadir = first.nadir if first.nadir == second.nadir else None
    categories = {part.category for part in parts}
    missing = tuple(dict.fromkeys(words for part in parts for words in part.missing))
    if Response.PROGRESSION in categories:
        return ResponseDraft(choices, Response.PROGRESSION, tuple(steps), nadir)
    if missing:
        return ResponseDraft(choices, None, tuple(steps), nadir, missing)
    return ResponseDraft(choices, _together(categories), tuple(steps), nadir)


def _together(categories: set[Response | None]) -> Response:
    """Return the category for mixed disease where neither kind progressed."""
    if Response.NOT_ASSESSABLE in categories:
        return Response.NOT_ASSESSABLE
    if categories == {Response.COMPLETE}:
        return Response.COMPLETE
    return Response.PARTIAL if Response.PARTIAL in categories else Response.STABLE


def sign(
    draft: ResponseDraft, found: Comparison, category: Response, reader: str, time: str
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
            expected="who assesses the response: a proposal has no reader",
            next_step="Name the reader",
        )
    chosen, points = draft.choices, found.points
    nadir = name_of(points, chosen.baseline if draft.nadir is None else draft.nadir)
    if draft.nadir is None and chosen.disease is Disease.MIXED:
        nadir = "the smallest sum of each kind"
    return SignedResponse(
        category=category,
        proposed=draft.category,
        criterion=chosen.criterion,
        disease=chosen.disease,
        steroids=chosen.steroids,
        clinical=chosen.clinical,
        baseline=name_of(points, chosen.baseline),
        nadir=nadir,
        steps=draft.steps,
        reader=reader.strip(),
        time=time,
        measures=measures_of(points),
    )


def _check(choices: ResponseChoices, last: int) -> None:
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
    """Return the line that says where this kind of disease was not judged; "" if everywhere."""
    points, baseline = case.points, case.choices.baseline
    blind = [n for n in range(baseline, len(points)) if not case.judged(n)]
    if not blind:
        return ""
    step = "untold" if all(points[n].contrast for n in blind) else "blind"
    return STEPS[step].format(days=", ".join(name_of(points, n) for n in blind))


def _enhancing_part_line(case: ResponseCase) -> str:
    """Return the line that says that no diameters are of this kind of disease; "" if some are."""
    baseline = case.choices.baseline
    there = case.there(baseline).values()
    if case.mixed or any(map(case.measurable, there)) or not any(map(case.by_other_part, there)):
        return ""
    return STEPS["enhancing_part"].format(day=name_of(case.points, baseline))


def _targets(case: ResponseCase) -> tuple[str, ...]:
    """Return the targets: the largest measurable lesions of the baseline."""
    sizes = {
        uid: case.size(one) or 0.0
        for uid, one in case.there(case.choices.baseline).items()
        if case.measurable(one)
    }
    return tuple(sorted(sizes, key=lambda uid: (-sizes[uid], uid))[: case.most])


def _merged_or_split_line(found: Comparison, case: ResponseCase, targets: tuple[str, ...]) -> str:
    """Return the line that names a target that merged or split since the baseline; "" if none."""
    baseline = case.choices.baseline
    uids, there = found.tangled_since(baseline, case.volume), case.there(baseline)
    place = next((there[uid].place for uid in targets if uid in uids), "")
    return STEPS["tangled"].format(place=place) if place else ""


def _uncounted_target_line(
    case: ResponseCase, targets: tuple[str, ...], asked: Sequence[int]
) -> str:
    """Return the line that names a target that does not count as tumour later; "" if none.

    What a reader rejected there is flagged there: its sum is unknown, not 0.
    """
    there = case.there(case.choices.baseline)
    for uid in targets:
        days = [name_of(case.points, n) for n in asked if uid in case.uncounted(n)]
        if days:
            return STEPS["uncounted"].format(place=there[uid].place, days=", ".join(days))
    return ""


def _rejected_then(case: ResponseCase, targets: tuple[str, ...]) -> str:
    """Return the line that names a lesion that is new only because it did not count; "" if none.

    It was rejected or listed apart when it was flagged before, and nobody decided on it now.
    """
    first, last = case.choices.baseline, len(case.points) - 1
    for uid, one in case.there(last).items():
        undecided = one.state is ReviewState.UNREVIEWED and case.newly_measurable(one)
        if not undecided or uid in targets or uid in case.there(first):
            continue
        days = [name_of(case.points, n) for n in range(last) if uid in case.uncounted(n)]
        if days:
            return STEPS["rejected_then"].format(place=one.place, days=", ".join(days))
    return ""


def _sum(case: ResponseCase, targets: tuple[str, ...], number: int) -> float | None:
    there = case.there(number)
    sizes = [case.size(there[uid]) for uid in targets if uid in there]
    unknown = None in sizes or not case.uncounted(number).isdisjoint(targets)
    return None if unknown else sum(size for size in sizes if size is not None)


def _draft(
    found: Comparison,
    case: ResponseCase,
    targets: tuple[str, ...],
    sums: Sequence[float],
    nadir: int,
) -> ResponseDraft:
    choices, worse = case.choices, case.choices.clinical is Clinical.WORSE
    category: Response | None
    missing: tuple[str, ...] = ()
    otherwise, more = _otherwise(found, case, targets, nadir)
    steps = [*_arithmetic(case, targets, sums, nadir), *more]
    if worse:
        steps.append(STEPS["worse"])
    if otherwise or worse:
        category = Response.PROGRESSION
    elif _sum_progressed(case, targets, sums, nadir):
        category, missing = _progressed_by_sum(choices, steps)
    else:
        category, missing = _responded(case, targets, sums, steps)
    if category in (Response.COMPLETE, Response.PARTIAL):
        steps.append(STEPS["confirm"])
    if category is Response.PROGRESSION:
        steps.append(STEPS["radiotherapy"])
    return ResponseDraft(choices, None if missing else category, tuple(steps), nadir, missing)


def _arithmetic(
    case: ResponseCase, targets: tuple[str, ...], sums: Sequence[float], nadir: int
) -> Sequence[str]:
    points, baseline, last = case.points, case.choices.baseline, len(case.points) - 1
    if not targets:
        none = STEPS[f"none_{case.choices.disease}"]
        return (none.format(day=name_of(points, baseline)),)
    low, high = case.limits
    first = STEPS["targets" if len(targets) > 1 else "target"]
    rows = [first.format(count=len(targets), unit=case.unit)]
    for name, number, limit in (("baseline", baseline, low), ("nadir", nadir, high)):
        changed = percent(sums[number], sums[last])
        shown = {
            "day": name_of(points, number),
            "before": _figure(sums[number]),
            "now": _figure(sums[last]),
            "unit": case.unit,
        }
        if changed is None:
            rows.append(STEPS[f"{name}_zero"].format(**shown))
        else:
            more = {"change": changed_words(changed, limit), "limit": f"{limit:+z.0f}"}
            rows.append(STEPS[name].format(**shown, **more))
    return rows


def _figure(value: float) -> str:
    """Return a sum with at least three figures, so that its change can be checked."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _sum_progressed(
    case: ResponseCase, targets: tuple[str, ...], sums: Sequence[float], nadir: int
) -> bool:
    """Return whether the sum of the targets grew beyond the limit since the nadir, or from 0."""
    before, now = sums[nadir], sums[-1]
    changed = percent(before, now)
    if changed is None:
        return bool(targets) and before == 0 and now > 0
    return reached(changed, case.limits[1])


def _otherwise(
    found: Comparison, case: ResponseCase, targets: tuple[str, ...], nadir: int
) -> tuple[bool, list[str]]:
    """Return whether something other than the sum of the targets progressed, with the lines.

    A target that the nadir does not show, and this examination does, is back.
    """
    known = {uid for uid in targets if case.points[nadir].lesion(uid) is not None}
    others = case.there(len(case.points) - 1).items()
    lines = [progressed(found, case, one, nadir) for uid, one in others if uid not in known]
    enhancing, more = transformed(found, case, nadir)
    steps = [*(step for _, step in lines if step), *more]
    return any(worse for worse, _ in lines) or enhancing, list(dict.fromkeys(steps))


def _progressed_by_sum(
    choices: ResponseChoices, steps: list[str]
) -> tuple[Response, tuple[str, ...]]:
    """Return progression, or what prevents it: growth of the sum depends on steroids."""
    if choices.steroids is Steroids.UNKNOWN:
        return Response.PROGRESSION, ("steroids",)
    if choices.steroids in (Steroids.LOWER, Steroids.STOPPED):
        steps.append(STEPS["fewer"])
        return Response.NOT_ASSESSABLE, ()
    steps.append(STEPS["beyond"])
    return Response.PROGRESSION, ()


def _responded(
    case: ResponseCase, targets: tuple[str, ...], sums: Sequence[float], steps: list[str]
) -> tuple[Response, tuple[str, ...]]:
    """Return response or stable disease; only a response depends on steroids and clinical state."""
    choices, last = case.choices, len(case.points) - 1
    if not targets:
        steps.append(STEPS["unmeasured"])
        best = Response.STABLE
    else:
        changed = percent(sums[choices.baseline], sums[last])
        smaller = changed is not None and reached(changed, case.limits[0])
        best = Response.PARTIAL if smaller else Response.STABLE
        if not case.there(last):
            best = Response.COMPLETE
            steps.append(STEPS["gone"])
        minor = case.part is Region.WT and changed is not None and changed <= _MINOR
        if minor and best is Response.STABLE:
            steps.append(STEPS["minor"].format(change=f"{-_MINOR:.0f}"))
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
    if choices.steroids is Steroids.HIGHER:
        steps.append(STEPS["more"])
        return Response.NOT_ASSESSABLE, ()
    if case.points[last].cavity_ml and not case.points[choices.baseline].cavity_ml:
        steps.append(STEPS["surgery"].format(day=name_of(case.points, choices.baseline)))
        return Response.NOT_ASSESSABLE, ()
    if best is Response.COMPLETE and choices.steroids not in (Steroids.NONE, Steroids.STOPPED):
        steps.append(STEPS["given"])
        best = Response.PARTIAL
    return best, ()
