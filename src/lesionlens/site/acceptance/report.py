"""The report of an acceptance test: bounds, results, signature."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from lesionlens.base.files.file_model import FileModel, schema_field
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.results.export.html import environment, number
from lesionlens.site.acceptance.bounds import METRICS, AcceptanceBounds

_LIMITS = (
    "A test on these cases says nothing of scanners, protocols or patients that are not among "
    "them, and nothing of how readers use what is flagged. Groups overlap and are small; of many "
    "bounds one may be missed by chance. Test again after a change of weights, scanner or protocol."
)
_NOT_SIGNED = "not signed yet"


class BoundVerdict(StrEnum):
    """Outcome of a bound."""

    PASSED = "passed"
    FAILED = "failed"
    TOO_FEW = "too few cases"


class Judged(FileModel):
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
    judged: tuple[Judged, ...]


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
    notice: str = RESEARCH_USE_NOTICE

    @property
    def broken(self) -> tuple[str, ...]:
        """Why the test is not passed: bounds that are violated, or not judged on all cases."""
        least = self.bounds.least_cases_in_all
        enough = len(self.cases) >= least
        few = () if enough else (f"{len(self.cases)} cases, fewer than {least} in all",)
        rows = [(one, row) for one in self.groups for row in one.judged]
        failed = [
            f"{named(one)}: {_title(row)} {_found(row)}, {_required(row)} required"
            for one, row in rows
            if row.verdict is BoundVerdict.FAILED
        ]
        unknown = [
            f"{named(one)}: {_title(row)} known of {row.cases} cases, too few to be judged"
            for one, row in rows
            if one.dimension == "all" and row.verdict is BoundVerdict.TOO_FEW
        ]
        why = (*few, *failed, *unknown)
        judged = any(row.verdict is BoundVerdict.PASSED for _, row in rows)
        return why if why or judged else ("no bound could be judged",)


def _title(row: Judged) -> str:
    return METRICS[row.metric].title


def named(one: GroupReport) -> str:
    """Return a group's name, such as "scanner: not known"."""
    return one.group if one.dimension == "all" else f"{one.dimension}: {one.group}"


def _found(row: Judged) -> str:
    """Return the mean; with the interval if only that violates the bound.

    More than three digits are shown where three would look as if the bound were kept.
    """
    about, bound = METRICS[row.metric], row.bound
    if row.mean is None:
        return number(None)
    ends = row.interval if row.interval and about.keeps(row.mean, bound) else ()
    worst = (ends[0] if about.better > 0 else ends[1]) if ends else row.mean
    form = ".6f" if about.keeps(round(worst, 3), bound) else ".3f"
    between = f" ({ends[0]:{form}} – {ends[1]:{form}})" if ends else ""
    return f"{row.mean:{form}}{between}"


def _required(row: Judged) -> str:
    return f"{'at least' if METRICS[row.metric].better > 0 else 'at most'} {row.bound:g}"


def _rows(report: AcceptanceReport, dimension: str) -> list[tuple[str, ...]]:
    return [
        (
            one.group,
            str(row.cases),
            _title(row),
            number(row.mean, ".3f"),
            "–" if row.interval is None else "{:.3f} – {:.3f}".format(*row.interval),
            _required(row),
            row.verdict.value,
        )
        for one in report.groups
        if one.dimension == dimension
        for row in one.judged
    ]


def html(report: AcceptanceReport) -> str:
    """Return the page as self-contained HTML."""
    dimensions = dict.fromkeys(one.dimension for one in report.groups)
    cases = [
        (c.name, c.sequences, c.scanner, c.thickness,
         number(c.metrics.get("wt"), ".3f"), number(c.metrics.get("found"), ".0f"),
         number(c.metrics.get("lesions"), ".0f"), number(c.metrics.get("fp"), ".0f"),
         "; ".join(c.problems[:1]))
        for c in report.cases
    ]  # fmt: skip
    template = environment("lesionlens.site.acceptance").get_template("acceptance.html.j2")
    return template.render(
        report=report,
        dimensions=[(name, _rows(report, name)) for name in dimensions],
        cases=cases,
        limits=_LIMITS,
        not_signed=_NOT_SIGNED,
    )
