"""run.json: how a result was made, so that another can make it again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.stages import StageTime
from lesionlens.records.analysis import Analysis


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class StageRow(_Strict):
    """What one stage took."""

    name: str
    seconds: float
    peak_memory_mib: float


class InputRow(_Strict):
    """One file that was read, by its path below the study."""

    file: str
    sha256: str


class StepRow(_Strict):
    """One step of preparation."""

    step: str
    sequence: str | None
    done: bool
    message: str
    figure: float | None


class RunFile(_Strict):
    """The whole of run.json."""

    schema_: Literal["lesionlens/run/1"] = Field(
        default="lesionlens/run/1", validation_alias="schema", serialization_alias="schema"
    )
    started: str
    engine: str
    engine_version: str
    weights_sha256: str | None
    calibrated: bool
    device: str
    versions: dict[str, str]
    stages: tuple[StageRow, ...]
    seconds: float
    peak_memory_mib: float
    preparation: tuple[StepRow, ...]
    warnings: tuple[str, ...]
    inputs: tuple[InputRow, ...]
    notice: str = RESEARCH_USE_NOTICE


def warnings_of(analysis: Analysis) -> tuple[str, ...]:
    """Return everything a reader is warned of, once each, in the order of the work."""
    failed = (c.message for c in analysis.findings.quality if not c.passed)
    said = (
        *analysis.study.notices,
        *analysis.prepared.notices,
        *analysis.run.notices,
        *analysis.findings.notices,
        *failed,
    )
    return tuple(dict.fromkeys(said))


def run_file(analysis: Analysis, further: Iterable[StageTime] = ()) -> RunFile:
    """Build run.json's content; `further` stages (the export's own) follow the analysis's."""
    run = analysis.run
    stages = (*run.stages, *further)
    return RunFile(
        started=run.started,
        engine=run.engine.name,
        engine_version=run.engine.version,
        weights_sha256=run.engine.weights_sha256,
        calibrated=run.engine.calibrated,
        device=run.device,
        versions=dict(run.versions),
        stages=tuple(
            StageRow(
                name=s.name,
                seconds=round(s.seconds, 4),
                peak_memory_mib=round(s.peak_memory_mib, 1),
            )
            for s in stages
        ),
        seconds=round(sum(s.seconds for s in stages), 4),
        peak_memory_mib=round(max((s.peak_memory_mib for s in stages), default=0.0), 1),
        preparation=tuple(
            StepRow(
                step=s.step,
                sequence=s.sequence.value if s.sequence else None,
                done=s.done,
                message=s.message,
                figure=s.figure,
            )
            for s in analysis.prepared.steps
        ),
        warnings=warnings_of(analysis),
        inputs=tuple(InputRow(file=name, sha256=digest) for name, digest in run.inputs),
    )


def write_run(analysis: Analysis, staged: Path, further: Iterable[StageTime] = ()) -> Path:
    """Write run.json into a staged folder."""
    path = staged / "run.json"
    text = run_file(analysis, further).model_dump_json(by_alias=True, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    return path
