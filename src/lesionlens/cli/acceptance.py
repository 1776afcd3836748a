"""`lesionlens acceptance`: test a network on a site's own cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.files.safe_paths import check_outside
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.text import counted
from lesionlens.cli import checks, options
from lesionlens.cli.console import STOP, CommandOutput, new_table, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Engine

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.site.acceptance.report import AcceptanceReport


def acceptance(
    cases: Annotated[
        Path,
        typer.Argument(
            help="One folder per case: images and an expert segmentation.", metavar="SITE_CASES"
        ),
    ],
    out: options.Out,
    bounds: Annotated[
        Path | None,
        typer.Option(help="Bounds (TOML); see docs/how-to/acceptance.md.", metavar="FILE"),
    ] = None,
    signed_by: Annotated[
        str | None,
        typer.Option(
            help="Name of the person who signs the report after reading it.", metavar="NAME"
        ),
    ] = None,
    convention: options.Convention = None,
    engine_choice: Engine = DEFAULT_ENGINE,
    workers: Annotated[int, typer.Option(help="Number of processes.", min=1)] = 1,
) -> CommandOutput:
    """Test the network on a site's own cases against bounds set in advance.

    Quality over all cases and by sequence set, scanner and slice thickness; a page and JSON, with
    their SHA-256. The exit status is 0 even if the test is not passed; the output says so. Finished
    analyses are not repeated.
    """
    options.check_layout(out, options.ResultLayout.OWN)
    check_outside(cases, out)
    STOP.record_only()
    with progress_bar() as context:
        context.progress("looking for cases", 0.0)
        from lesionlens.site.acceptance.accept import SiteTest, accept
        from lesionlens.site.acceptance.bounds import read_bounds
        from lesionlens.site.cohort.work import CohortChoice

        site_test = SiteTest(
            cases=cases,
            out=out,
            bounds=read_bounds(bounds),
            choice=CohortChoice(engine_choice),
            workers=workers,
            convention=convention,
            signed_by=None if signed_by is None else checks.person_name(signed_by),
        )
        report = accept(site_test, context=context)
    return _output(report, out)


def _output(report: AcceptanceReport, out: Path) -> CommandOutput:
    from lesionlens.site.acceptance.accept import PAGE

    problems = tuple(f"{case.name}: {text}" for case in report.cases for text in case.problems)
    signature = f"Signed by {report.signed_by}" if report.signed_by else (
        "Not signed yet: read the page, then pass --signed-by NAME"
    )  # fmt: skip
    return CommandOutput(
        (
            _table(report),
            *(f"NOT MET  {plain(bound)}" for bound in report.broken),
            *(f"EARLIER  {plain(page)}" for page in report.history),
            f"Acceptance test {'passed' if report.passed else 'NOT PASSED'} on "
            f"{counted(len(report.cases), 'case')}",
            plain(signature),
            f"Page: {plain(str(out / PAGE))}",
            RESEARCH_USE_NOTICE,
        ),
        problems,
    )


def _table(report: AcceptanceReport) -> Table:
    from lesionlens.results.export.html import number
    from lesionlens.site.acceptance.bounds import METRICS
    from lesionlens.site.acceptance.report import group_title

    table = new_table(("", "metric", "cases", "mean", "bound", ""), text_columns=2)
    for group in report.groups:
        for row in group.judged:
            metric = METRICS[row.metric]
            table.add_row(
                plain(group_title(group)),
                metric.title,
                str(row.cases),
                number(row.mean, ".3f"),
                f"{'≥' if metric.better > 0 else '≤'} {row.bound:g}",
                row.verdict.value,
            )
    return table
