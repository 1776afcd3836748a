"""`lesionlens export`: write a reviewed result again, with the readers' decisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.safe_paths import check_outside
from lesionlens.base.files.staging import check_target
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.records.export import ExportOptions
from lesionlens.cli import checks, options
from lesionlens.cli.console import CommandOutput, plain, progress_bar
from lesionlens.cli.deidentify import Key, Map, replacement
from lesionlens.cli.option_groups import FILES, SOURCE, FileOptions, Group, Source

if TYPE_CHECKING:
    from lesionlens.base.records.analysis import Analysis
    from lesionlens.base.run_context import RunContext


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
    deidentify: Annotated[
        bool,
        typer.Option(
            "--deidentify",
            help="Omit names, file names, dates and UIDs of the study, as `lesionlens deidentify` "
            "does for the study itself.",
        ),
    ] = False,
    key: Key = None,
    map_file: Map = None,
    layout: options.Layouts = options.ResultLayout.OWN,
    export_options: Annotated[ExportOptions, Group(FileOptions, {"evidence"})] = FILES,
    supersedes: options.Supersedes = None,
) -> CommandOutput:
    """Write a reviewed result again, with the readers' decisions in every file.

    Nothing is recomputed. The study is needed for its images and, for DICOM, as the source
    that the objects reference.
    """
    checks.check_used("--deidentify", deidentify, {"--key": key, "--map": map_file})
    options.check_layout(out, layout)
    if deidentify and layout is not options.ResultLayout.OWN:
        raise UnusableInputError(
            found="--deidentify with --layout bids",
            expected="one of them: derivatives of BIDS name their sources",
            next_step="De-identify the study first, analyse that, and write BIDS of it",
        )
    check_outside(study, out)
    if deidentify:
        _check_empty(out)
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
        if deidentify:
            folder, notes = _save_deidentified(analysis, out, key, map_file, context)
        else:
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


def _check_empty(out: Path) -> None:
    """Refuse a folder with content: it may name the patient, and would be shared too."""
    check_target(out)
    if out.is_dir() and any(out.iterdir()):
        raise UnusableInputError(
            found=f"files in {plain(out.name)!r}, the output folder of a de-identified result",
            expected="a new or empty folder: other files would be shared with it",
            next_step="Choose another folder with --out",
        )


def _save_deidentified(
    analysis: Analysis, out: Path, key: Path | None, map_file: Path | None, context: RunContext
) -> tuple[Path, tuple[str, ...]]:
    from lesionlens.imaging.deidentification.profile import Options
    from lesionlens.results.export.deidentified import deidentify
    from lesionlens.results.export.exporter import save

    pseudonyms, map_path = replacement(key, map_file, out)
    deidentified = deidentify(analysis, pseudonyms, Options())

    def finish(staged: Path) -> None:
        deidentified.finish(staged)
        pseudonyms.write_map(map_path)

    return out, save(deidentified.analysis, out, finish=finish, context=context)[1]
