"""The report of an acceptance test: what was asked, what was found, who signed it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from lesionlens.base.file_model import FileModel
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.results.export.plain_page import heading, number, page, paragraph, table, warned
from lesionlens.site.acceptance.bounds import METRICS, AcceptanceBounds

_LIMITS = (
    "A test on these cases says nothing of scanners, protocols or patients that are not among "
    "them, and nothing of how readers use what is flagged. Groups overlap and are small; of many "
    "bounds one may be missed by chance. Test again after a change of weights, scanner or protocol."
)
_NOT_SIGNED = "nobody: not signed yet"


class BoundVerdict(StrEnum):
    """What came of a bound."""

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
    """The cases that share something, or all of them."""

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
    """Of the SHA-256 of every file that was analysed, sorted."""


class AcceptanceReport(FileModel):
    """The whole of acceptance.json."""

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
        """Which bounds are not kept, in words."""
        asked = self.bounds.least_cases_in_all
        few = [f"{len(self.cases)} cases, fewer than {asked} in all"] \
            if len(self.cases) < asked else []  # fmt: skip
        return (
            *few,
            *(
                f"{named(one)}: {_title(row)} {_found(row)}, {_asked(row)} was asked"
                for one in self.groups
                for row in one.judged
                if row.verdict is BoundVerdict.FAILED
            ),
        )


def _title(row: Judged) -> str:
    return METRICS[row.metric].title


def named(one: GroupReport) -> str:
    """Return what a group's cases share, such as "scanner: not known"."""
    return one.group if one.dimension == "all" else f"{one.dimension}: {one.group}"


def _found(row: Judged) -> str:
    """Return the mean; with the interval where that alone breaks the bound."""
    mean = number(row.mean, ".3f")
    if row.mean is None or row.interval is None:
        return mean
    kept = (row.mean - row.bound) * METRICS[row.metric].better >= 0
    return f"{mean} ({row.interval[0]:.3f} – {row.interval[1]:.3f})" if kept else mean


def _asked(row: Judged) -> str:
    return f"{'at least' if METRICS[row.metric].better > 0 else 'at most'} {row.bound:g}"


def _rows(report: AcceptanceReport, dimension: str) -> list[tuple[str, ...]]:
    return [
        (
            one.group,
            str(row.cases),
            _title(row),
            number(row.mean, ".3f"),
            "–" if row.interval is None else "{:.3f} – {:.3f}".format(*row.interval),
            _asked(row),
            row.verdict.value,
        )
        for one in report.groups
        if one.dimension == dimension
        for row in one.judged
    ]


def html(report: AcceptanceReport) -> str:
    """Return the page; it opens offline."""
    heads = ("", "cases", "figure", "mean", "95 % interval", "asked", "")
    parts = [
        f"<h1>Local acceptance test: {'passed' if report.passed else 'not passed'}</h1>",
        paragraph(
            f"{len(report.cases)} cases, {report.made}. {report.engine}, weights SHA-256 "
            f"{report.weights_sha256 or 'none'}. Signed by {report.signed_by or _NOT_SIGNED}."
        ),
        warned("Bounds that are not kept", report.broken, "Every bound that could be judged holds"),
    ]
    for dimension in dict.fromkeys(one.dimension for one in report.groups):
        parts += [heading(f"By {dimension}" if dimension != "all" else "All cases"),
                  table(heads, _rows(report, dimension))]  # fmt: skip
    cells = [
        (c.name, c.sequences, c.scanner, c.thickness,
         number(c.metrics.get("wt"), ".3f"), number(c.metrics.get("found"), ".0f"),
         number(c.metrics.get("lesions"), ".0f"), number(c.metrics.get("fp"), ".0f"),
         "; ".join(c.problems[:1]))
        for c in report.cases
    ]  # fmt: skip
    case_heads = ("case", "sequences", "scanner", "slices", "Dice WT", "found", "of", "false", "")
    judged = "the unfavourable end of the 95 % interval" if report.bounds.surely else "the mean"
    parts += [
        heading("Cases"),
        table(case_heads, cells),
        paragraph(
            f"Judged by {judged}; intervals by bootstrap over cases. Groups of fewer than "
            f"{report.bounds.least_cases} cases are shown and not judged. A case without a result "
            "counts as Dice 0 and nothing found."
        ),
        paragraph(_LIMITS),
        paragraph(
            "The signature is a name and the SHA-256 of these files in acceptance.sha256 "
            "(sha256sum -c acceptance.sha256): it shows that nothing was changed afterwards as "
            "long as that file is kept elsewhere; it is no cryptographic signature."
        ),
    ]
    return page("LesionLens: acceptance test", parts)
