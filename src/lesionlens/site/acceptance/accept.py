"""Run an acceptance test on a site's own cases: analyse, score, group, evaluate, sign."""

from __future__ import annotations

import hashlib
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lesionlens.analysis.evaluation.cases import Case, find_cases
from lesionlens.analysis.evaluation.evaluate import evaluate
from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.analysis.evaluation.score_case import score_case
from lesionlens.analysis.evaluation.summary import CaseScore, column, interval
from lesionlens.base.errors import CancelledError, ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import MIB, read_json, read_text
from lesionlens.base.files.manifest import OwnedFiles, check_free
from lesionlens.base.files.staging import staged
from lesionlens.base.provenance import sha256_of, utc_now, versions
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import is_writable, writable
from lesionlens.results.export.run import read_run_json
from lesionlens.site.acceptance.bounds import METRICS, AcceptanceBounds
from lesionlens.site.acceptance.facts import Facts, facts_of, scanners_table
from lesionlens.site.acceptance.report import (
    AcceptanceReport,
    BoundVerdict,
    CaseReport,
    GroupReport,
    Judged,
    html,
)
from lesionlens.site.acceptance.signing import check_as_read, read_before
from lesionlens.site.cohort.run import Cohort, WorkerOptions, run_cohort
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.database.records import Status

RECORD, PAGE, SUMS, RESULTS, SIGNED = (
    "acceptance.json",
    "acceptance.html",
    "acceptance.sha256",
    "results",
    "signed",
)
_ANALYSED = 0.95  # share of the progress bar for the analyses


@dataclass(frozen=True, slots=True)
class SiteTest:
    """Settings of an acceptance test."""

    cases: Path
    """One folder per case: its images (NIfTI or DICOM) and a segmentation."""
    out: Path
    """Output folder for `results/`, the report and its hashes."""
    bounds: AcceptanceBounds = field(default_factory=AcceptanceBounds)
    choice: CohortChoice = field(default_factory=CohortChoice)
    """Weights, device and preparation, as for `batch`."""
    worker_options: WorkerOptions = field(default_factory=WorkerOptions)
    convention: str | None = None
    """Label convention of the references; see `evaluation.label_conventions.read_conventions`."""
    signed_by: str | None = None
    """Who signs the report; None if unsigned."""


def accept(test: SiteTest, *, context: RunContext = SILENT) -> AcceptanceReport:
    """Test all cases; unchanged cases that are analysed already are not analysed again.

    A report is signed only with the figures of the page in the output folder.

    Raises
    ------
    UnusableInputError
        There is no case, a case has no reference, or cases are not one folder each. On signing:
        there is no page yet, or its figures differ from those found now.
    CancelledError
        The user asked to stop; the same call continues.
    """
    cases = _cases(test.cases)
    conventions = read_conventions(test.convention, test.cases)
    conventions.check(case.name for case in cases)
    scanners = scanners_table(test.cases, [case.name for case in cases])
    check_free(test.out, (RECORD, PAGE, SUMS), _earlier(test.out))
    read = None if test.signed_by is None else read_before(test.out / RECORD)
    run = run_cohort(
        Cohort(test.cases, test.out / RESULTS, resume=True),
        test.choice,
        test.worker_options,
        context=context.part(0, _ANALYSED),
    )
    if run.exit_status == 130:
        raise CancelledError("the acceptance test")
    failed = {o.name: o.message for o in run.outcomes if o.status is not Status.ANALYSED}
    if failed and len(failed) == len(run.outcomes):
        raise UnusableInputError(
            found=f"no case that can be analysed; the first: {next(iter(failed.values()))}",
            expected="cases that `lesionlens analyze` can read",
            next_step="Correct the reported problem, then run the same command",
        )
    scores = [
        _lost(case, failed[case.name], test.out, conventions.of(case))
        if case.name in failed
        else score
        for case, score in zip(
            cases, evaluate(test.out / RESULTS, cases, conventions.of, context), strict=True
        )
    ]
    facts = [facts_of(test.cases / case.name, scanners.get(case.name)) for case in cases]
    report = _report(test, scores, facts)
    if read is not None:
        check_as_read(read, report)
    _write(report, test.out)
    return report


def _lost(case: Case, why: str, out: Path, convention: str | None) -> CaseScore:
    """Score a case whose analysis failed, ignoring results of earlier weights in its folder."""
    score = score_case(case, out / RESULTS / ".none", convention)
    score.problems[0] = f"not analysed: {why}"
    return score


def _cases(root: Path) -> tuple[Case, ...]:
    cases = find_cases(root)
    for case in cases:
        if case.truth is None or case.truth.parent.parent != root:
            why = "without a segmentation" if case.truth is None else "deeper in the folder"
            raise UnusableInputError(
                found=f"the case {case.name!r} {why}",
                expected="one folder per case directly below, with its images and a segmentation, "
                "an empty one where there is nothing",
                next_step="Arrange the cases as shown in docs/how-to/acceptance.md",
            )
        if not is_writable(case.name):
            raise UnusableInputError(
                found=f"a case whose name is not UTF-8: '{writable(case.name)}'",
                expected="names that a report can state",
                next_step="Rename its folder",
            )
    return cases


def _report(
    test: SiteTest, scores: Sequence[CaseScore], facts: Sequence[Facts]
) -> AcceptanceReport:
    bounds = test.bounds
    groups = [_group("all", "all cases", scores, bounds.overall, bounds)]
    for dimension in range(len(facts[0].groups)):
        by: dict[tuple[str, str], list[CaseScore]] = {}
        for score, fact in zip(scores, facts, strict=True):
            by.setdefault(fact.groups[dimension], []).append(score)
        groups += [_group(*key, by[key], bounds.groups, bounds) for key in sorted(by)]
    runs = [{} if s.failed else read_run_json(test.out / RESULTS / s.case) for s in scores]
    first = next((run for run in runs if run), {})
    report = AcceptanceReport(
        made=utc_now(),
        signed_by=test.signed_by,
        passed=False,
        engine=f"{first.get('engine', 'no engine')} {first.get('engine_version', '')}".strip(),
        weights_sha256=first.get("weights_sha256"),
        versions=versions(),
        bounds=bounds,
        groups=tuple(groups),
        cases=tuple(
            CaseReport(
                name=score.case,
                healthy=score.healthy,
                sequences=fact.sequences,
                scanner=fact.scanner,
                thickness=fact.thickness,
                metrics=score.metrics,
                problems=tuple(score.problems),
                inputs_sha256=_inputs(run),
            )
            for score, fact, run in zip(scores, facts, runs, strict=True)
        ),
    )
    return report.model_copy(update={"passed": not report.broken})


def _group(
    dimension: str,
    name: str,
    scores: Sequence[CaseScore],
    asked: Mapping[str, float],
    bounds: AcceptanceBounds,
) -> GroupReport:
    judged = tuple(_judge(metric, bound, scores, bounds) for metric, bound in asked.items())
    return GroupReport(dimension=dimension, group=name, cases=len(scores), judged=judged)


def _judge(
    metric: str, bound: float, scores: Sequence[CaseScore], bounds: AcceptanceBounds
) -> Judged:
    about = METRICS[metric]
    failures = metric == "failures"
    values = [float(s.failed) for s in scores] if failures else column(scores, about.key)
    mean = math.fsum(values) / len(values) if values else None
    spread = interval(values)
    verdict = BoundVerdict.TOO_FEW
    needed = max(bounds.least_cases, 2 if bounds.surely else 1)  # one case has no interval
    if mean is not None and (len(values) >= needed or (failures and mean > bound)):
        worst = mean
        if bounds.surely and spread is not None:
            worst = spread.low if about.better > 0 else spread.high
        verdict = BoundVerdict.PASSED if about.keeps(worst, bound) else BoundVerdict.FAILED
    return Judged(
        metric=metric, bound=bound, cases=len(values), mean=mean, interval=spread, verdict=verdict
    )


def _inputs(run: Mapping[str, Any]) -> str | None:
    hashes = sorted(row["sha256"] for row in run.get("inputs", ()))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else None


def _keep_signed(out: Path, path: Path) -> None:
    """Move an earlier signed report to `signed/` and its time stamp."""
    try:
        earlier = read_json(out / RECORD)
        signed, made = earlier["signed_by"], str(earlier["made"])
    except (OSError, ValueError, KeyError, TypeError, ReadError):
        return
    if signed:
        kept = path / SIGNED / re.sub(r"[^0-9T]", "", made[:19])
        kept.mkdir(parents=True)
        for name in (RECORD, PAGE, SUMS):
            if (out / name).is_file():
                shutil.copy2(out / name, kept / name)


def _earlier(out: Path) -> OwnedFiles:
    """Return the files of an earlier report, as listed in its hashes."""
    try:
        lines = read_text(out / SUMS, MIB).splitlines()
    except (OSError, ValueError, ReadError):
        return {}
    known = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    ours = {name: known[name] for name in (RECORD, PAGE) if name in known}
    return {**ours, SUMS: None} if ours else {}


def _write(report: AcceptanceReport, out: Path) -> None:
    """Write report, page and their hashes (in the format of sha256sum) together."""

    def ours(there: Path) -> OwnedFiles:
        _keep_signed(there, place)  # here: no other process signs before it is replaced
        return _earlier(there)

    with staged(out, ours=ours, shared=True) as place:
        text = report.model_dump_json(by_alias=True, indent=1)
        (place / RECORD).write_text(text + "\n", "utf-8")
        (place / PAGE).write_text(html(report), "utf-8")
        sums = [f"{sha256_of(place / name)}  {name}\n" for name in (RECORD, PAGE)]
        (place / SUMS).write_text("".join(sums), "utf-8")
