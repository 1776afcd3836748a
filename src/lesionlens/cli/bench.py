"""`lesionlens bench`: time an analysis on this machine, stage by stage."""

from __future__ import annotations

import json as json_text
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

from lesionlens.base.files.manifest import check_free, listed, write_listed
from lesionlens.base.files.safe_paths import check_outside
from lesionlens.base.files.staging import check_target
from lesionlens.base.process.processors import usable_processors
from lesionlens.base.provenance import version_of
from lesionlens.cli import options
from lesionlens.cli.console import Answer, new_table, plain, progress_bar
from lesionlens.cli.network import NETWORK, ComputeOptions
from lesionlens.cli.option_groups import SOURCE, takes
from lesionlens.engines.choice import EngineChoice
from lesionlens.imaging.samples import STUDY

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.base.run_context import RunContext

JSON_NAME, TABLE_NAME = "bench.json", "bench.md"
LIST_NAME = "bench.files.json"
_BUSY = 0.3  # load per core above which wall times are unreliable
_CPUINFO = Path("/proc/cpuinfo")


@takes(network=ComputeOptions)
def bench(
    study: Annotated[
        Path, typer.Argument(help="A study; the sample patient if none is given.", metavar="STUDY")
    ] = STUDY,
    repeat: Annotated[int, typer.Option(help="Warm runs after the first, cold run.", min=1)] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Write bench.json and bench.md here.", metavar="DIR")
    ] = None,
    network: EngineChoice = NETWORK,
    json: options.Json = False,
) -> Answer:
    """Time the analysis of a study, stage by stage.

    Reports medians of warm runs and the load of the machine. Writes nothing without --out.
    """
    if out is not None:
        check_outside(study, out)
        check_target(out)
        check_free(out, (JSON_NAME, TABLE_NAME), dict.fromkeys(listed(out, LIST_NAME)))
    with progress_bar() as context:
        from lesionlens.engines import device as devices
        from lesionlens.engines.threads import use_threads

        use_threads(network.threads, network.engine)
        place = devices.choose(network.device)
        precision = devices.choose_precision(place, network.precision)
        figures = circumstances(devices.describe(place, precision), study)
        busy = busy_words(figures["machine"])
        figures |= _time_analysis(study, repeat, network, context)
    return _answer(figures, out, () if busy is None else (busy,), json=json)


def _answer(
    figures: dict[str, Any], out: Path | None, notes: tuple[str, ...], *, json: bool
) -> Answer:
    """Write the requested files and return the printed summary."""
    figures["notes"] = list(notes)
    text = json_text.dumps(figures, indent=1)
    if out is not None:
        contents = {JSON_NAME: text + "\n", TABLE_NAME: markdown(figures)}
        write_listed(out, contents, LIST_NAME)
    if json:
        return Answer((text,), notes)
    written = () if out is None else (f"Written: {plain(str(out / JSON_NAME))}, {TABLE_NAME}",)
    return Answer(
        (_table(figures), summary_words(figures), machine_words(figures), *written), notes
    )


def _time_analysis(
    study: Path, repeat: int, network: EngineChoice, context: RunContext
) -> dict[str, Any]:
    context.progress("loading", 0.0)
    start = time.perf_counter()
    from lesionlens.results.lens import Lens

    lens = Lens(network.device, precision=network.precision)
    loading = time.perf_counter() - start
    runs = []
    for turn in range(repeat + 1):
        context.progress(f"run {turn + 1} of {repeat + 1}", turn / (repeat + 1))
        start = time.perf_counter()
        opened = SOURCE.open(study, context)
        result = lens(opened, context=context.quiet())
        runs.append((time.perf_counter() - start, result.analysis.run))
    return _figures(loading, runs)


def _figures(loading: float, runs: list[tuple[float, Any]]) -> dict[str, Any]:
    """Return seconds and memory as JSON types; stages are medians of the warm runs."""
    warm = runs[1:]
    stages: dict[str, list[float]] = {}
    for _, run in warm:
        for stage in run.stages:
            stages.setdefault(stage.name, []).append(stage.seconds)
    last = runs[-1][1]
    return {
        "weights_sha256": last.engine.weights_sha256,
        "loading_seconds": round(loading, 3),
        "cold_seconds": round(runs[0][0], 3),
        "median_seconds": round(statistics.median(seconds for seconds, _ in warm), 3),
        "runs": len(warm),
        "stages": {name: round(statistics.median(found), 3) for name, found in stages.items()},
        "peak_memory_mib": round(max(s.peak_memory_mib for s in last.stages), 1),
    }


def circumstances(device: str, study: Path) -> dict[str, Any]:
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


def busy_words(about: Mapping[str, Any]) -> str | None:
    """Return a warning if other programs used the machine; None if it was idle or unknown."""
    load, cores = about["load_before"], about["cores"] or 1
    if load is None or load < _BUSY * cores:
        return None
    return (
        f"the machine was busy before this began (load average {load:g} on {cores} cores): the "
        "times are too long; run it again on an idle machine"
    )


def machine_words(figures: Mapping[str, Any]) -> str:
    """Describe the machine and versions in one line."""
    about = figures["machine"]
    load = about["load_before"]
    monai = f", MONAI {about['monai']}" if about["monai"] else ""
    return (
        f"LesionLens {figures['lesionlens']}, torch {about['torch']}{monai}; {about['processor']}, "
        f"{about['cores']} cores; {figures['device']}; load average before: "
        f"{'not known' if load is None else f'{load:g}'}; {about['date']}; "
        f"study: {figures['study']}"
    )


def summary_words(figures: Mapping[str, Any]) -> str:
    """Describe the time of an analysis in one line."""
    return (
        f"{figures['median_seconds']:.2f} s a study (median; warm runs: {figures['runs']}), "
        f"{figures['cold_seconds']:.2f} s the first time, {figures['loading_seconds']:.2f} s to "
        f"load; peak {figures['peak_memory_mib']:.0f} MiB"
    )


def markdown(figures: Mapping[str, Any]) -> str:
    """Return the table as Markdown."""
    lines = [machine_words(figures), ""]
    lines += [f"**{note[0].upper()}{note[1:]}.**\n" for note in figures["notes"]]
    lines += [summary_words(figures), "", "| stage | seconds |", "|---|---:|"]
    lines += [f"| {name} | {took:.2f} |" for name, took in figures["stages"].items()]
    return "\n".join(lines) + "\n"


def _table(figures: Mapping[str, Any]) -> Table:
    table = new_table(("stage", "seconds"))
    for name, seconds in figures["stages"].items():
        table.add_row(name, f"{seconds:.2f}")
    return table
