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
from lesionlens.base.files.staging import check_target, staged
from lesionlens.base.provenance import sha256_of, utc_now, versions
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import encodable, is_writable
from lesionlens.results.export.run import read_run_json
from lesionlens.site.acceptance.bounds import METRICS, AcceptanceBounds
from lesionlens.site.acceptance.case_attributes import Facts, facts_of, scanners_table
from lesionlens.site.acceptance.report import (
    AcceptanceReport,
    BoundResult,
    BoundVerdict,
    CaseReport,
    GroupReport,
    html,
)
from lesionlens.site.acceptance.signing import (
    check_figures_unchanged,
    check_same_weights,
    read_previous_report,
    with_history,
)
from lesionlens.site.cohort.run import Cohort, run_cohort
from lesionlens.site.cohort.work import CohortChoice, engine_info
from lesionlens.site.database.records import Status

RECORD, PAGE, SUMS = "acceptance.json", "acceptance.html", "acceptance.sha256"
RESULTS, SIGNED = "results", "signed"
_ENGINE_KEYS = ("engine", "engine_version", "weights_sha256")
_ANALYSIS_FRACTION = 0.95  # of the progress bar


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
    workers: int = 1
    """Number of processes."""
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
        The user cancelled; calling it again continues the test.
    """
    cases = _cases(test.cases)
    conventions = read_conventions(test.convention, test.cases)
    conventions.check(case.name for case in cases)
    scanners = scanners_table(test.cases, [case.name for case in cases])
    check_target(test.out)
    check_free(test.out, (RECORD, PAGE, SUMS), _previous_files(test.out))
    is_signing = test.signed_by is not None
    previous = read_previous_report(test.out / RECORD, signing=is_signing)
    if is_signing and previous is not None and previous.weights_sha256 is not None:
        check_same_weights(previous, engine_info(test.choice).weights_sha256)
    run = run_cohort(
        Cohort(test.cases, test.out / RESULTS, resume=True, workers=test.workers),
        test.choice,
        context=context.part(0, _ANALYSIS_FRACTION),
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
    scores = evaluate(test.out / RESULTS, cases, conventions.of, context)
    for number, case in enumerate(cases):
        if case.name in failed:  # its folder may hold a result of earlier weights
            scores[number] = score_case(case, test.out / RESULTS / ".none", conventions.of(case))
            scores[number].problems[0] = f"not analysed: {failed[case.name]}"
    facts = [facts_of(test.cases / case.name, scanners.get(case.name)) for case in cases]
    report = _report(test, scores, facts)
    if previous is not None:
        if is_signing:
            check_figures_unchanged(previous, report)
        report = with_history(previous, report)
    _write(report, test.out)
    return report


def _cases(root: Path) -> tuple[Case, ...]:
    cases = find_cases(root)
    for case in cases:
        if case.reference_path is None or case.reference_path.parent.parent != root:
            problem = (
                "without a segmentation" if case.reference_path is None else "deeper in the folder"
            )
            raise UnusableInputError(
                found=f"the case {case.name!r} {problem}",
                expected="one folder per case directly below, with its images and a segmentation, "
                "an empty one where there is nothing",
                next_step="Arrange the cases as shown in docs/how-to/acceptance.md",
            )
        if not is_writable(case.name):
            raise UnusableInputError(
                found=f"a case whose name is not UTF-8: '{encodable(case.name)}'",
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
        scores_by_group: dict[tuple[str, str], list[CaseScore]] = {}
        for score, fact in zip(scores, facts, strict=True):
            scores_by_group.setdefault(fact.groups[dimension], []).append(score)
        groups += [
            _group(*key, scores_by_group[key], bounds.groups, bounds)
            for key in sorted(scores_by_group)
        ]
    runs = [{} if s.failed else read_run_json(test.out / RESULTS / s.case) for s in scores]
    first_run = next((run for run in runs if run), {})
    report = AcceptanceReport(
        made=utc_now(),
        signed_by=test.signed_by,
        passed=False,
        engine=_engine_of(first_run),
        weights_sha256=first_run.get("weights_sha256"),
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
                problems=(*_provenance_problems(run, first_run), *score.problems),
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
    bound_by_metric: Mapping[str, float],
    bounds: AcceptanceBounds,
) -> GroupReport:
    judged = tuple(
        _judge(metric, bound, scores, bounds) for metric, bound in bound_by_metric.items()
    )
    return GroupReport(dimension=dimension, group=name, cases=len(scores), judged=judged)


def _judge(
    metric: str, bound: float, scores: Sequence[CaseScore], bounds: AcceptanceBounds
) -> BoundResult:
    definition = METRICS[metric]
    failures = metric == "failures"
    values = (
        [float(score.failed) for score in scores] if failures else column(scores, definition.key)
    )
    mean = math.fsum(values) / len(values) if values else None
    ci = interval(values)
    verdict = BoundVerdict.TOO_FEW
    min_cases = max(bounds.least_cases, 2 if bounds.surely else 1)  # one case has no interval
    if mean is not None and (len(values) >= min_cases or (failures and mean > bound)):
        compared = mean
        if bounds.surely and ci is not None:
            compared = ci.low if definition.better > 0 else ci.high
        verdict = (
            BoundVerdict.PASSED if definition.is_within(compared, bound) else BoundVerdict.FAILED
        )
    return BoundResult(
        metric=metric, bound=bound, cases=len(values), mean=mean, interval=ci, verdict=verdict
    )


def _provenance_problems(run: Mapping[str, Any], first_run: Mapping[str, Any]) -> list[str]:
    """Return the problems of a result that another release or network made than the report's."""
    problems = []
    release, current = run.get("versions", {}).get("lesionlens"), versions()["lesionlens"]
    if release not in (None, current):
        problems.append(
            f"its result was made by release {release} of LesionLens, not by {current}: to test "
            f"{current}, choose another --out"
        )
    if run and any(run.get(key) != first_run.get(key) for key in _ENGINE_KEYS):
        problems.append(
            f"its result was made by {_engine_of(run)}, not by {_engine_of(first_run)} like that "
            "of the first case: the same command analyses results of another network again, as "
            "after --fall-back"
        )
    return problems


def _engine_of(run: Mapping[str, Any]) -> str:
    return f"{run.get('engine', 'no engine')} {run.get('engine_version', '')}".strip()


def _inputs(run: Mapping[str, Any]) -> str | None:
    hashes = sorted(row["sha256"] for row in run.get("inputs", ()))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else None


def _archive_signed(out: Path, path: Path) -> None:
    """Move an earlier signed report to `signed/` and its time stamp."""
    try:
        previous = read_json(out / RECORD)
        signer, timestamp = previous["signed_by"], str(previous["made"])
    except (OSError, ValueError, KeyError, TypeError, ReadError):
        return
    if signer:
        archive = path / SIGNED / re.sub(r"[^0-9T]", "", timestamp[:19])
        archive.mkdir(parents=True)
        for name in (RECORD, PAGE, SUMS):
            if (out / name).is_file():
                shutil.copy2(out / name, archive / name)


def _previous_files(out: Path) -> OwnedFiles:
    """Return the files of an earlier report, as listed in its hashes."""
    try:
        lines = read_text(out / SUMS, MIB).splitlines()
    except (OSError, ValueError, ReadError):
        return {}
    hashes = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    owned = {name: hashes[name] for name in (RECORD, PAGE) if name in hashes}
    return {**owned, SUMS: None} if owned else {}


def _write(report: AcceptanceReport, out: Path) -> None:
    """Write report, page and their hashes (in the format of sha256sum) together."""

    def previous_files(target: Path) -> OwnedFiles:
        # within the lock, so that no other process signs before the report is replaced
        _archive_signed(target, staging_folder)
        return _previous_files(target)

    with staged(out, own_files=previous_files, shared=True) as staging_folder:
        (staging_folder / RECORD).write_text(report.file_text(), "utf-8")
        (staging_folder / PAGE).write_text(html(report), "utf-8")
        sums = [f"{sha256_of(staging_folder / name)}  {name}\n" for name in (RECORD, PAGE)]
        (staging_folder / SUMS).write_text("".join(sums), "utf-8")
