"""`lesionlens bench`: time an analysis on this machine, stage by stage."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lesionlens.base.process.processors import usable_processors
from lesionlens.base.provenance import version_of
from lesionlens.cli import options
from lesionlens.cli.console import CommandOutput, new_table, plain, progress_bar
from lesionlens.cli.engine_options import DEFAULT_ENGINE, Compute
from lesionlens.cli.option_groups import SOURCE
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.imaging.samples import STUDY

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.base.run_context import RunContext

_BUSY_LOAD = 0.3  # load per core above which wall times are unreliable
_CPUINFO = Path("/proc/cpuinfo")


def bench(
    study: Annotated[
        Path, typer.Argument(help="A study.", metavar="STUDY", show_default="the sample patient")
    ] = STUDY,
    repeat: Annotated[int, typer.Option(help="Warm runs after the first, cold run.", min=1)] = 3,
    engine_choice: Compute = DEFAULT_ENGINE,
    json: options.Json = False,
) -> CommandOutput:
    """Time the analysis of a study, stage by stage.

    Reports medians of warm runs and the load of the machine.
    """
    with progress_bar() as context:
        from lesionlens.engines import device as devices
        from lesionlens.engines.threads import use_threads

        use_threads(engine_choice.threads)
        chosen_device = devices.choose(engine_choice.device)
        precision = devices.choose_precision(chosen_device, engine_choice.precision)
        report = benchmark_conditions(devices.describe(chosen_device, precision), study)
        warning = busy_warning(report["machine"])
        report |= _time_analysis(study, repeat, engine_choice, context)
    notes = () if warning is None else (warning,)
    report["notes"] = list(notes)
    if json:
        return CommandOutput.of_json(report, notes)
    return CommandOutput((_table(report), summary_line(report), machine_line(report)), notes)


def _time_analysis(
    study: Path, repeat: int, engine_choice: EngineChoice, context: RunContext
) -> dict[str, Any]:
    context.progress("loading", 0.0)
    start = time.perf_counter()
    from lesionlens.results.lens import Lens

    lens = Lens(engine_choice.device, precision=engine_choice.precision)
    loading_seconds = time.perf_counter() - start
    runs = []
    for run_index in range(repeat + 1):
        context.progress(f"run {run_index + 1} of {repeat + 1}", run_index / (repeat + 1))
        start = time.perf_counter()
        opened_study = SOURCE.open(study, context)
        result = lens(opened_study, context=context.quiet())
        runs.append((time.perf_counter() - start, result.analysis.run))
    return _report(loading_seconds, runs)


def _report(loading_seconds: float, runs: list[tuple[float, Any]]) -> dict[str, Any]:
    """Return seconds and memory as JSON types; stages are medians of the warm runs."""
    warm = runs[1:]
    stages: dict[str, list[float]] = {}
    for _, run in warm:
        for stage in run.stages:
            stages.setdefault(stage.name, []).append(stage.seconds)
    last_run = runs[-1][1]
    return {
        "weights_sha256": last_run.engine.weights_sha256,
        "loading_seconds": round(loading_seconds, 3),
        "cold_seconds": round(runs[0][0], 3),
        "median_seconds": round(statistics.median(run_seconds for run_seconds, _ in warm), 3),
        "runs": len(warm),
        "stages": {name: round(statistics.median(times), 3) for name, times in stages.items()},
        "peak_memory_mib": round(max(s.peak_memory_mib for s in last_run.stages), 1),
    }


def benchmark_conditions(device: str, study: Path) -> dict[str, Any]:
    """Return the study, the machine, and its load before the run."""
    import torch

    machine = {
        "processor": _processor(),
        "cores": usable_processors(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": version_of("monai"),
        "date": datetime.now(UTC).date().isoformat(),
    }
    return {
        "lesionlens": metadata.version("lesionlens"),
        "study": "sample" if study == STUDY else plain(study.name),
        "machine": machine,
        "device": device,
    }


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def busy_warning(machine: Mapping[str, Any]) -> str | None:
    """Return a warning if other programs used the machine; None if it was idle or unknown."""
    load, cores = machine["load_before"], machine["cores"] or 1
    if load is None or load < _BUSY_LOAD * cores:
        return None
    return (
        f"the machine was busy before this began (load average {load:g} on {cores} cores): the "
        "times are too long; run it again on an idle machine"
    )


def machine_line(report: Mapping[str, Any]) -> str:
    """Describe the machine and versions in one line."""
    machine = report["machine"]
    load = machine["load_before"]
    monai = f", MONAI {machine['monai']}" if machine["monai"] else ""
    return (
        f"LesionLens {report['lesionlens']}, torch {machine['torch']}{monai}; "
        f"{machine['processor']}, {machine['cores']} cores; {report['device']}; "
        f"load average before: {'not known' if load is None else f'{load:g}'}; "
        f"{machine['date']}; study: {report['study']}"
    )


def summary_line(report: Mapping[str, Any]) -> str:
    """Describe the time of an analysis in one line."""
    return (
        f"{report['median_seconds']:.2f} s per study (median; warm runs: {report['runs']}), "
        f"{report['cold_seconds']:.2f} s the first time, {report['loading_seconds']:.2f} s to "
        f"load; peak {report['peak_memory_mib']:.0f} MiB"
    )


def _table(report: Mapping[str, Any]) -> Table:
    table = new_table(("stage", "seconds"))
    for name, seconds in report["stages"].items():
        table.add_row(name, f"{seconds:.2f}")
    return table
