"""`lesionlens review`: review an existing segmentation, without a new analysis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.files import check_outside
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.plugins import check_window
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.text import millilitres
from lesionlens.cli import checks, options
from lesionlens.cli.console import CommandOutput, plain, progress_bar
from lesionlens.cli.option_groups import FILES, SOURCE, FileOptions, Group, Source

if TYPE_CHECKING:
    from lesionlens.base.records.analysis import Analysis


def review(
    result: Annotated[
        Path,
        typer.Argument(
            help="Result folder, DICOM Segmentation (file or folder) or NIfTI mask, from any "
            "program.",
            metavar="RESULT",
        ),
    ],
    study: options.StudyPath,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a result here instead of opening napari.", metavar="DIR"),
    ] = None,
    source: Source = SOURCE,
    export_options: Annotated[
        ExportOptions,
        Group(FileOptions, {"maps", "evidence", "include_unaccepted"}),
    ] = FILES,
) -> CommandOutput:
    """Open a segmentation for review, with measurements, together with its study.

    Opens napari, or with --out writes a result folder with measurements, tables and report. No
    network runs except the one that finds the brain, if the images are not skull-stripped.
    """
    # the window has a preference for it
    checks.check_used("--out", out, {"--sentence-template": export_options.sentence_template})
    if out is not None:
        options.check_layout(out, options.ResultLayout.OWN)
        check_outside(study, out)
    else:
        check_window()
    with progress_bar() as context:
        from lesionlens.results.review.reopen import prepare_and_reopen

        context.progress("reading the study", 0.0)
        opened_study = source.open(study, context)
        reopened = prepare_and_reopen(result, opened_study, context)
        analysis = options.with_export_options(reopened, export_options)
        notes = analysis.run.notices
        if out is not None:
            own_layout = options.ResultLayout.OWN
            _, analysis, save_notices = options.save(analysis, out, own_layout, context)
            notes = tuple(dict.fromkeys((*notes, *save_notices)))
    if out is None:
        from lesionlens.results.result import Result

        Result(analysis).show()
        return CommandOutput((), notes)
    lines = (*_candidate_lines(analysis), f"Result: {plain(str(out))}", RESEARCH_USE_NOTICE)
    return CommandOutput(lines, notes)


def _candidate_lines(analysis: Analysis) -> tuple[str, ...]:
    lines = [analysis.findings.conclusion]
    for candidate in analysis.findings.candidates:
        volume = next(iter(candidate.volume_ml.values()), None)
        size = "volume unknown" if volume is None else f"{millilitres(volume)} ml"
        length_mm = candidate.longest_axial_diameter_mm
        width_mm = candidate.perpendicular_diameter_mm
        if length_mm is not None and width_mm is not None:
            size += f", {candidate.measured} {length_mm:.0f} × {width_mm:.0f} mm"
        lines.append(f"{candidate.id}  {plain(candidate.location.text)}  {size}")
    return tuple(lines)
