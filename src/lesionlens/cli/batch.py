"""`lesionlens batch`: every study below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lesionlens.base.files import check_outside
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.process import available_threads
from lesionlens.base.records.export import ExportOptions
from lesionlens.cli import checks, options
from lesionlens.cli.console import STOP, CommandOutput, new_table, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Engine
from lesionlens.cli.option_groups import FILES, FileOptions, Group

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.site.cohort.run import CohortRun
    from lesionlens.site.database.records import StudyOutcome


def batch(
    studies: Annotated[
        Path,
        typer.Argument(
            help="Folder with one sub-folder per study, a BIDS dataset, or a CSV table with a "
            "column study.",
            metavar="STUDIES",
        ),
    ],
    out: options.Out,
    workers: Annotated[
        int | None, typer.Option(help="Studies in parallel; default: half of the cores.", min=1)
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="A dask scheduler, such as tcp://host:8786.", metavar="ADDRESS"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip studies that are complete and unchanged.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(help="Analyse only this part of the studies, such as 2/4.", metavar="I/N"),
    ] = None,
    engine_choice: Engine = DEFAULT_ENGINE,
    layout: options.Layouts = options.ResultLayout.OWN,
    export_options: Annotated[
        ExportOptions, Group(FileOptions, {"evidence", "include_unaccepted"})
    ] = FILES,
    json: options.Json = False,
) -> CommandOutput:
    """Analyse every study below a folder and write one table of all results.

    A study that fails is recorded with its message and does not stop the others. Ctrl-C keeps
    finished studies; --resume continues. Exit status: 0 all analysed; 1 at least one failed or ran
    out of resources; 2 at least one cannot be used, or there is none; 130 interrupted.
    """
    results = options.check_layout(out, layout)
    if studies.is_dir():
        check_outside(studies, out)
    if scheduler is not None:
        checks.check_without("--scheduler", {"--workers": workers})
    with progress_bar() as context:
        context.progress("looking for studies", 0.0)
        from lesionlens.site.cohort.run import Cohort, run_cohort
        from lesionlens.site.cohort.studies import (
            Shard,
            duplicate_scan_notes,
            find_jobs,
            left_out,
            mixed_result_notes,
        )
        from lesionlens.site.cohort.study_table import ignored_column_notes
        from lesionlens.site.cohort.table import check_tables, unread_result_notes, write_table
        from lesionlens.site.cohort.work import CohortChoice

        choice = CohortChoice(engine_choice, export_options)
        selected_shard = Shard() if shard is None else Shard.of(shard)
        check_tables(results)
        count = len(selected_shard.part(find_jobs(studies, results)))
        notes = [*ignored_column_notes(studies), *left_out(studies, results)]
        processes = min(workers or max(1, available_threads() // 2), count)
        STOP.record_only()
        dataset = None if results == out else out
        cohort = Cohort(studies, results, resume, dataset, selected_shard, processes, scheduler)
        cohort_run = run_cohort(cohort, choice, context=context)
        notes += duplicate_scan_notes(results, cohort_run.outcomes)
        notes += mixed_result_notes(results, cohort_run.outcomes)
        notes += _notes_without_dicom(results, cohort_run, export_options)
        table = None
        if selected_shard.count == 1:
            table = write_table(results, cohort_run.outcomes)
            notes += unread_result_notes(results, cohort_run.outcomes)
    return _output(cohort_run, notes, table, json=json)


def _notes_without_dicom(
    results: Path, cohort_run: CohortRun, export_options: ExportOptions
) -> tuple[str, ...]:
    """Return a note if options for DICOM objects were given for studies that have none."""
    from lesionlens.site.database.records import Status

    names = options.dicom_options(export_options)
    analysed = [o.name for o in cohort_run.outcomes if o.status is Status.ANALYSED]
    count = sum(not (results / name / "dicom").is_dir() for name in analysed)
    if not (names and count):
        return ()
    return (
        f"{names} had no effect on {count} of {len(analysed)} results, which have no DICOM objects",
    )


def _output(
    cohort_run: CohortRun, notes: list[str], table: Path | None, *, json: bool
) -> CommandOutput:
    if cohort_run.exit_status == 130:
        notes.append("interrupted; finished studies are kept, --resume continues")
    if json:
        return CommandOutput.of_json(
            _json_content(cohort_run), tuple(notes), cohort_run.exit_status
        )
    shard_hint = "After the last shard, run it with --resume and without --shard to write the table"
    closing_lines = (
        _counts(cohort_run),
        shard_hint if table is None else f"Table: {plain(str(table))}",
        RESEARCH_USE_NOTICE,
    )
    return CommandOutput((_table(cohort_run), *closing_lines), tuple(notes), cohort_run.exit_status)


def _counts(cohort_run: CohortRun) -> str:
    from lesionlens.site.database.records import Status

    by_status = {s: sum(o.status is s for o in cohort_run.outcomes) for s in Status}
    parts = [f"{by_status[Status.ANALYSED]} of {len(cohort_run.outcomes)} studies analysed"]
    if cohort_run.n_skipped:
        parts.append(f"{cohort_run.n_skipped} of them already done")
    if by_status[Status.FAILED]:
        parts.append(f"{by_status[Status.FAILED]} failed")
    if by_status[Status.STOPPED]:
        parts.append(f"{by_status[Status.STOPPED]} not analysed")
    return ", ".join(parts)


def _table(cohort_run: CohortRun) -> Table:
    from rich.text import Text

    table = new_table(("study", "outcome", "seconds"), text_columns=2)
    for outcome in cohort_run.outcomes:
        message = Text(plain(outcome.message), style="" if outcome.exit_status == 0 else "red")
        table.add_row(Text(plain(outcome.name)), message, f"{outcome.seconds:.1f}")
    return table


def _json_content(cohort_run: CohortRun) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "studies": [_json_row(outcome) for outcome in cohort_run.outcomes],
        "kept": cohort_run.n_skipped,
    }


def _json_row(outcome: StudyOutcome) -> dict[str, Any]:
    """Return a study's row; counts and memory are null if it has no result."""
    from lesionlens.site.database.records import Status

    analysed = outcome.status is Status.ANALYSED
    return {
        "study": outcome.name,
        "status": outcome.status.value,
        "exit_status": outcome.exit_status,
        "message": outcome.message,
        "candidates": outcome.candidates if analysed else None,
        "seconds": round(outcome.seconds, 2),
        "peak_memory_mib": round(outcome.peak_memory_mib, 1) if analysed else None,
    }
