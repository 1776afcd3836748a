"""`lesionlens bench`: how long an analysis takes on this machine, stage by stage."""

from __future__ import annotations

import json as json_text
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lesionlens.cli import options
from lesionlens.cli.console import STOP, Answer, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

SAMPLE = Path(__file__).resolve().parent.parent / "sample_data" / "study"


def bench(
    study: Annotated[
        Path, typer.Argument(help="A study; the sample patient if none is given.", metavar="STUDY")
    ] = SAMPLE,
    repeat: Annotated[
        int, typer.Option("--repeat", help="Analyses after the first, cold one.", min=1)
    ] = 3,
    device: options.Device = "auto",
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Time the analysis of a study: the first run, then the median of the warm ones."""
    del debug
    with progress_bar() as progress:
        progress("loading", 0.0)
        start = time.perf_counter()
        from lesionlens.lens import Lens

        lens = Lens(device)
        loading = time.perf_counter() - start
        runs = []
        for turn in range(repeat + 1):
            progress(f"run {turn + 1} of {repeat + 1}", turn / (repeat + 1))
            start = time.perf_counter()
            opened = options.open_named(study, {}, None, progress)
            result = lens(opened, cancel=STOP)
            runs.append((time.perf_counter() - start, result.analysis.run))
    figures = _figures(loading, runs)
    if json:
        return Answer((json_text.dumps(figures, indent=1),))
    return Answer((_table(figures), _summary(figures)))


def _figures(loading: float, runs: list[tuple[float, Any]]) -> dict[str, Any]:
    """Return seconds and memory as JSON types; stages are medians of the warm runs."""
    warm = runs[1:]
    stages: dict[str, list[float]] = {}
    for _, run in warm:
        for stage in run.stages:
            stages.setdefault(stage.name, []).append(stage.seconds)
    last = runs[-1][1]
    return {
        "lesionlens": metadata.version("lesionlens"),
        "device": last.device,
        "weights_sha256": last.engine.weights_sha256,
        "loading_seconds": round(loading, 3),
        "cold_seconds": round(runs[0][0], 3),
        "median_seconds": round(statistics.median(seconds for seconds, _ in warm), 3),
        "runs": len(warm),
        "stages": {name: round(statistics.median(found), 3) for name, found in stages.items()},
        "peak_memory_mib": round(max(s.peak_memory_mib for s in last.stages), 1),
    }


def _table(figures: dict[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for name, seconds in figures["stages"].items():
        table.add_row(name, f"{seconds:.2f}")
    return table


def _summary(figures: dict[str, Any]) -> str:
    return (
        f"{figures['median_seconds']:.2f} s a study (median of {figures['runs']} warm runs), "
        f"{figures['cold_seconds']:.2f} s the first time, {figures['loading_seconds']:.2f} s to "
        f"load; peak {figures['peak_memory_mib']:.0f} MiB; {figures['device']}"
    )
