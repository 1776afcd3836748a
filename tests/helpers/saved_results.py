"""Result folders with only the files that worklists read."""

from __future__ import annotations

import json
from pathlib import Path

from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.files import InputRow, RunFile


def write_saved_result(folder: Path, inputs: tuple[Path, ...] = (), **findings: object) -> None:
    """Write a result for these input files; `findings` are fields of findings.json."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"candidates": [], "quality": [], "conclusion": "no candidate region", **findings}
    (folder / "findings.json").write_text(json.dumps(content))
    (folder / "findings.csv").write_text("")
    write_run_file(folder, inputs)


def write_run_file(folder: Path, inputs: tuple[Path, ...]) -> None:
    """Write a run.json for these input files; without any, for a file of no study."""
    rows = tuple(InputRow(file=path.name, sha256=sha256_of(path)) for path in inputs)
    run = RunFile(
        started="2026-01-05T10:15:00Z",
        engine="phantom",
        engine_version="1",
        weights_sha256=None,
        calibrated=False,
        device="cpu",
        versions={},
        stages=(),
        seconds=0.0,
        peak_memory_mib=0.0,
        preparation=(),
        warnings=(),
        inputs=rows or (InputRow(file="t1.nii", sha256=64 * "0"),),
    )
    (folder / "run.json").write_text(run.model_dump_json(by_alias=True))
