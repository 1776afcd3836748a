"""`lesionlens review`: review an existing segmentation, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.files.safe_paths import check_outside
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.plugins import check_window
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.text import millilitres
from lesionlens.cli import options
from lesionlens.cli import prior as comparison
from lesionlens.cli.console import Answer, plain, progress_bar
from lesionlens.cli.option_groups import FILES, SOURCE, FileOptions, SourceOptions, takes

if TYPE_CHECKING:
    from lesionlens.base.records.analysis import Analysis


@takes(
    without={"surfaces", "maps", "also", "evidence", "rest"},
    source=SourceOptions,
    wanted=FileOptions,
)
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
    source: SourceOptions = SOURCE,
    wanted: ExportOptions = FILES,
) -> Answer:
    """Open a segmentation for review, with measurements, together with its study.

    Opens napari, or with --out writes a result folder with measurements, tables and report. No
    network is used. Lobes are named only if the scan is skull-stripped, or its brain mask is
    known from before.
    """
    if out is not None:
        options.check_layout(out, options.ResultLayout.OWN)
        check_outside(study, out)
    else:
        check_window()
    with progress_bar() as context:
        from lesionlens.results.review.reopen import prepare_and_reopen

        context.progress("reading the study", 0.0)
        opened = source.open(study, context)
        found = prepare_and_reopen(result, opened, context)
        analysis = options.with_export_options(found, wanted)
        notes = analysis.run.notices
        if out is not None:
            own = options.ResultLayout.OWN
            _, analysis, more = options.save(analysis, out, own, context)
            comparison.remember(analysis)
            notes = tuple(dict.fromkeys((*notes, *more)))
    if out is None:
        from lesionlens.results.result import Result

        Result(analysis).show()
        return Answer((), notes)
    lines = (*_measures(analysis), f"Result: {plain(str(out))}", RESEARCH_USE_NOTICE)
    return Answer(lines, notes)


def _measures(analysis: Analysis) -> tuple[str, ...]:
    lines = [analysis.findings.conclusion]
    for candidate in analysis.findings.candidates:
        volume = next(iter(candidate.volume_ml.values()), None)
        measured = "volume unknown" if volume is None else f"{millilitres(volume)} ml"
        longest = candidate.longest_axial_diameter_mm
        wide = candidate.perpendicular_diameter_mm
        if longest is not None and wide is not None:
            measured += f", {longest:.0f} x {wide:.0f} mm"
        lines.append(f"{candidate.id}  {plain(candidate.location.text)}  {measured}")
    return tuple(lines)
