"""`lesionlens analyze`: one study in, one complete result folder out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lesionlens.base.files import check_outside
from lesionlens.base.labels import RESEARCH_USE_NOTICE, Region
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.text import capitalized, millilitres
from lesionlens.cli import comparison, options
from lesionlens.cli.console import CommandOutput, new_table, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Engine
from lesionlens.cli.option_groups import FILES, SOURCE, FileOptions, Group, Source

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.base.records.findings import Candidate, Findings


def analyze(
    study: options.StudyPath,
    out: options.Out,
    source: Source = SOURCE,
    engine_choice: Engine = DEFAULT_ENGINE,
    brain_mask: options.BrainMask = None,
    layout: options.Layouts = options.ResultLayout.OWN,
    export_options: Annotated[ExportOptions, Group(FileOptions, {"include_unaccepted"})] = FILES,
    prior: options.Prior = None,
    prior_study: options.PriorStudy = None,
    supersedes: options.Supersedes = None,
    json: options.Json = False,
) -> CommandOutput:
    """Find candidate tumour regions in one brain MRI and write the result folder.

    Any subset of T1, T1c, T2 and FLAIR is accepted. Sequences are recognised by names and headers
    unless you name them. The result folder is written completely or not at all.
    """
    options.check_layout(out, layout)
    check_outside(study, out)
    with progress_bar() as context:
        context.progress("opening the study", 0.0)
        opened_study = source.open(study, context)
        located_prior = comparison.find(
            prior, prior_study, opened_study, same_patient=source.same_patient
        )
        documents = options.superseded(supersedes, opened_study)
        from lesionlens.imaging.preparation.prepare import PrepareOptions
        from lesionlens.results.lens import Lens

        lens = Lens(engine=engine_choice.start_loading())
        result = lens(opened_study, PrepareOptions(brain_mask=brain_mask), context=context)
        if export_options.evidence and result.can_explain:
            result = result.explain(context=context)
        analysis = result.analysis
        analysis = comparison.compare(analysis, located_prior, lens, context)
        context.progress("writing the result", 0.0)
        run = replace(analysis.run, documents=documents)
        analysis = replace(analysis, options=export_options, run=run)
        folder, analysis, notes = options.save(analysis, out, layout, context)
        notes += options.notes_without_dicom(analysis)
    if json:
        return CommandOutput(
            ((folder / "findings.json").read_text(encoding="utf-8").rstrip("\n"),), notes
        )
    return CommandOutput(summary(analysis.findings, folder, comparison.table_of(analysis)), notes)


def summary(
    findings: Findings, out: Path, comparison_lines: tuple[str | Table, ...] = ()
) -> tuple[str | Table, ...]:
    """Return the printed summary: candidates, changes, location of the files, the notice."""
    lines: list[str | Table] = [capitalized(findings.conclusion)]
    if findings.candidates:
        lines.append(_table(findings.candidates))
    lines += comparison_lines
    lines.append(f"Result: {plain(str(out))}  (report.html opens in any browser)")
    lines.append(RESEARCH_USE_NOTICE)
    return tuple(lines)


def _table(candidates: tuple[Candidate, ...]) -> Table:
    headings = ("", "where", "size (mm), of", "volume (ml)", "enhancing (ml)", "score")
    table = new_table(headings, text_columns=2)
    for candidate in candidates:
        table.add_row(
            str(candidate.id),
            candidate.location.text,
            _size(candidate),
            *(_ml(candidate.volume_ml.get(region)) for region in (Region.WT, Region.ET)),
            candidate.score_text,
        )
    return table


def _size(candidate: Candidate) -> str:
    long, short = candidate.longest_axial_diameter_mm, candidate.perpendicular_diameter_mm
    if long is None:
        return "unknown"
    part = "enh." if candidate.has_enhancing else "whole"
    return f"{long:.0f} {part}" if short is None else f"{long:.0f} × {short:.0f} {part}"


def _ml(value: float | None) -> str:
    return "unknown" if value is None else millilitres(value)
