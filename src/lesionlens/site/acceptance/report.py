"""The report of an acceptance test: bounds, results, signature."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from lesionlens.base.files.file_model import FileModel, schema_field
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.text import counted
from lesionlens.results.export.html import environment, number
from lesionlens.site.acceptance.bounds import METRICS, AcceptanceBounds

_LIMITS = (
    "This test does not cover scanners, protocols or patients that are not among these cases, "
    "nor how readers use what is flagged. Groups overlap and are small; with many bounds, one "
    "may be missed by chance. Test again after a change of weights, scanner or protocol."
)
_NOT_SIGNED = "not signed yet"


class BoundVerdict(StrEnum):
    """Outcome of a bound."""

    PASSED = "passed"
    FAILED = "failed"
    TOO_FEW = "too few cases"


class BoundResult(FileModel):
    """One bound on one group."""

    metric: str
    bound: float
    cases: int
    mean: float | None
    interval: tuple[float, float] | None
    verdict: BoundVerdict


class GroupReport(FileModel):
    """The cases of one group, or all cases."""

    dimension: str
    group: str
    cases: int
    judged: tuple[BoundResult, ...]


class CaseReport(FileModel):
    """One case."""

    name: str
    healthy: bool
    sequences: str
    scanner: str
    thickness: str
    metrics: dict[str, float | None]
    problems: tuple[str, ...]
    inputs_sha256: str | None
    """Digest of the SHA-256 of every analysed file, sorted."""


class EarlierPage(FileModel):
    """A page in the same folder that a page of other figures or bounds replaced."""

    made: str
    passed: bool
    changes: str
    """What differs in the page that replaced it."""


class AcceptanceReport(FileModel):
    """Content of acceptance.json."""

    schema_: Literal["lesionlens/acceptance/1"] = schema_field("lesionlens/acceptance/1")
    made: str
    signed_by: str | None
    passed: bool
    engine: str
    weights_sha256: str | None
    versions: dict[str, str]
    bounds: AcceptanceBounds
    groups: tuple[GroupReport, ...]
    cases: tuple[CaseReport, ...]
    earlier: tuple[EarlierPage, ...] = ()
    """Earlier pages in the folder, oldest first."""
    notice: str = RESEARCH_USE_NOTICE

    @property
    def broken(self) -> tuple[str, ...]:
        """Reasons for not passing: bounds that are violated, or not judged on all cases."""
        reasons, min_cases = [], self.bounds.least_cases_in_all
        if len(self.cases) < min_cases:
            reasons.append(f"{counted(len(self.cases), 'case')}, fewer than {min_cases} in all")
        rows = [(group, row) for group in self.groups for row in group.judged]
        reasons += [
            f"{group_title(group)}: {_title(row)} {_mean_text(row)}, {_required(row)} required"
            for group, row in rows
            if row.verdict is BoundVerdict.FAILED
        ]
        reasons += [
            f"{group_title(group)}: {_title(row)} known of "
            f"{counted(row.cases, 'case')}, too few to be judged"
            for group, row in rows
            if group.dimension == "all" and row.verdict is BoundVerdict.TOO_FEW
        ]
        if not reasons and not any(row.verdict is BoundVerdict.PASSED for _, row in rows):
            reasons.append("no bound could be judged")
        return tuple(reasons)

    @property
    def history(self) -> tuple[str, ...]:
        """Earlier pages with their verdicts, and what was changed after each."""
        return tuple(
            f"{page.made}: {'passed' if page.passed else 'not passed'}; then {page.changes}"
            for page in self.earlier
        )


def _title(row: BoundResult) -> str:
    return METRICS[row.metric].title


def group_title(group: GroupReport) -> str:
    """Return a group's name, such as "scanner: not known"."""
    return group.group if group.dimension == "all" else f"{group.dimension}: {group.group}"


def _mean_text(row: BoundResult) -> str:
    """Return the mean; with the interval if only that violates the bound.

    More than three digits are shown where three would look as if the bound were kept.
    """
    metric, bound = METRICS[row.metric], row.bound
    if row.mean is None:
        return number(None)
    interval = row.interval if row.interval and metric.is_within(row.mean, bound) else ()
    compared = (interval[0] if metric.better > 0 else interval[1]) if interval else row.mean
    format_spec = ".6f" if metric.is_within(round(compared, 3), bound) else ".3f"
    interval_text = (
        f" ({interval[0]:{format_spec}} – {interval[1]:{format_spec}})" if interval else ""
    )
    return f"{row.mean:{format_spec}}{interval_text}"


def _required(row: BoundResult) -> str:
    return f"{'at least' if METRICS[row.metric].better > 0 else 'at most'} {row.bound:g}"


def _rows(report: AcceptanceReport, dimension: str) -> list[tuple[str, ...]]:
    return [
        (
            group.group,
            str(row.cases),
            _title(row),
            number(row.mean, ".3f"),
            "–" if row.interval is None else "{:.3f} – {:.3f}".format(*row.interval),
            _required(row),
            row.verdict.value,
        )
        for group in report.groups
        if group.dimension == dimension
        for row in group.judged
    ]


def html(report: AcceptanceReport) -> str:
    """Return the page as self-contained HTML."""
    dimensions = dict.fromkeys(group.dimension for group in report.groups)
    cases = [
        (case.name, case.sequences, case.scanner, case.thickness,
         number(case.metrics.get("wt"), ".3f"), number(case.metrics.get("found"), ".0f"),
         number(case.metrics.get("lesions"), ".0f"), number(case.metrics.get("fp"), ".0f"),
         "; ".join(case.problems))
        for case in report.cases
    ]  # fmt: skip
    template = environment("lesionlens.site.acceptance").get_template("acceptance.html.j2")
    return template.render(
        report=report,
        dimensions=[(name, _rows(report, name)) for name in dimensions],
        cases=cases,
        limits=_LIMITS,
        not_signed=_NOT_SIGNED,
    )
