"""The report of an acceptance test: bounds, results, signature."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from lesionlens.base.file_model import FileModel
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

    schema_: Literal["lesionlens/acceptance/1"] = Field(
        default="lesionlens/acceptance/1",
        validation_alias="schema",
        serialization_alias="schema",
    )
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
        few = [f"{len(self.cases)} cases, fewer than {least} in all"] \
            if len(self.cases) < least else []  # fmt: skip
        return (
            *few,
            *(
                f"{named(one)}: {_title(row)} {_found(row)}, {_required(row)} required"
                for one in self.groups
                for row in one.judged
                if row.verdict is BoundVerdict.FAILED
            ),
            *(
                f"{named(one)}: {_title(row)} known of {row.cases} cases, too few to be judged"
                for one in self.groups[:1]
                for row in one.judged
                if row.verdict is BoundVerdict.TOO_FEW
            ),
        )


def _title(row: Judged) -> str:
    return METRICS[row.metric].title


def named(one: GroupReport) -> str:
    """Return a group's name, such as "scanner: not known"."""
    return one.group if one.dimension == "all" else f"{one.dimension}: {one.group}"


def _found(row: Judged) -> str:
    """Return the mean; with the interval if only that violates the bound."""
    mean = number(row.mean, ".3f")
    if row.mean is None or row.interval is None:
        return mean
    kept = (row.mean - row.bound) * METRICS[row.metric].better >= 0
    return f"{mean} ({row.interval[0]:.3f} – {row.interval[1]:.3f})" if kept else mean


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
