"""`lesionlens export`: write a reviewed result again, with the readers' decisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.files import check_outside
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.records.export import ExportOptions
from lesionlens.cli import options
from lesionlens.cli.console import CommandOutput, plain, progress_bar
from lesionlens.cli.option_groups import FILES, SOURCE, FileOptions, Group, Source


def export(
    result: Annotated[
        Path,
        typer.Argument(
            help="Folder of an earlier result, or of its DICOM objects.", metavar="RESULT"
        ),
    ],
    study: options.StudyPath,
    out: options.Out,
    source: Source = SOURCE,
    layout: options.Layouts = options.ResultLayout.OWN,
    export_options: Annotated[ExportOptions, Group(FileOptions, {"evidence"})] = FILES,
    supersedes: options.Supersedes = None,
) -> CommandOutput:
    """Write a reviewed result again, with the readers' decisions in every file.

    Nothing is recomputed. The study is needed for its images and, for DICOM, as the source
    that the objects reference.
    """
    options.check_layout(out, layout)
    check_outside(study, out)
    with progress_bar() as context:
        context.progress("reading the result", 0.0)
        from lesionlens.results.review.reopen import prepare_and_reopen

        opened_study = source.open(study, context)
        documents = options.superseded(supersedes, opened_study)
        reopened = prepare_and_reopen(result, opened_study, context)
        analysis = options.with_export_options(reopened, export_options)
        run = replace(analysis.run, documents=(*documents, *analysis.run.documents))
        analysis = replace(analysis, run=run)
        context.progress("writing the result", 0.0)
        folder, analysis, notes = options.save(analysis, out, layout, context)
        notes += options.notes_without_dicom(analysis)
    states = [analysis.review.state_of(c.tracking_uid).value for c in analysis.findings.candidates]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = (
        f"{analysis.findings.conclusion}: {counts}" if counts else analysis.findings.conclusion,
        f"Result: {plain(str(folder))}",
        RESEARCH_USE_NOTICE,
    )
    return CommandOutput(lines, notes)
