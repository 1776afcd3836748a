"""run.json: provenance of a result, for reproducibility."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.files import AttentionMethod, InputRow, RunFile
from lesionlens.base.run_context import StageTime


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """Outcome of writing a result."""

    stages: tuple[StageTime, ...] = ()
    """Stages of the exporters, after those of the analysis."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Exporters and files that failed, and why."""
    notices: tuple[str, ...] = ()


def all_warnings(analysis: Analysis, record: ExportRecord) -> tuple[str, ...]:
    """Return the warnings of an analysis and of writing it, without duplicates.

    A result that was saved before has the notices of that export among its own.
    """
    return tuple(dict.fromkeys((*analysis.warnings, *record.notices)))


def export_stage(exporter: str) -> str:
    """Return the name of an exporter's stage."""
    return f"export: {exporter}"


def _stages(analysis: Analysis, record: ExportRecord) -> tuple[StageTime, ...]:
    """Return the stages of the analysis and of this export, without those of an earlier export."""
    prefix = export_stage("")
    analysis_stages = (s for s in analysis.run.stages if not s.name.startswith(prefix))
    return (*analysis_stages, *record.stages)


def run_file(analysis: Analysis, record: ExportRecord = ExportRecord()) -> RunFile:
    """Build run.json's content."""
    run, maps = analysis.run, analysis.maps
    stages = _stages(analysis, record)
    return RunFile(
        started=run.started,
        engine=run.engine.name,
        engine_version=run.engine.version,
        weights_sha256=run.engine.weights_sha256,
        calibrated=run.engine.calibrated,
        device=run.device,
        precision=run.engine.precision,
        threads=run.engine.threads,
        versions=dict(run.versions),
        stages=stages,
        seconds=round(sum(s.seconds for s in stages), 4),
        peak_memory_mib=round(max((s.peak_memory_mib for s in stages), default=0.0), 1),
        preparation=analysis.preparation,
        attention=None
        if maps is None
        else AttentionMethod(
            method=maps.method,
            layers=maps.layers,
            raw_range=dict(maps.raw_range),
            trust=dict(maps.checks),
        ),
        study_uid=analysis.study.uid,
        warnings=all_warnings(analysis, record),
        left_out=dict(record.left_out),
        trained_on=run.trained_on,
        inputs=tuple(InputRow(file=name, sha256=digest) for name, digest in run.inputs),
        series=dict(run.series),
        redrawn=tuple(sorted(run.redrawn)),
        omitted=run.omitted,
        omitted_decided=run.omitted_decided,
    )


def write_run(analysis: Analysis, staged: Path, record: ExportRecord = ExportRecord()) -> None:
    """Write run.json into a staged folder; see `run_file`."""
    text = run_file(analysis, record).file_text()
    (staged / "run.json").write_text(text, encoding="utf-8")
