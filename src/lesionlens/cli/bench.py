"""`lesionlens bench`: how long an analysis takes here, and networks side by side."""

from __future__ import annotations

import json as json_text
import statistics
import time
from collections.abc import Sequence
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lesionlens.base.staging import check_target, staged
from lesionlens.cli import options
from lesionlens.cli.console import STOP, Answer, plain, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.base.stages import Progress
    from lesionlens.records.study import PreparedStudy
    from lesionlens.training.stopwatch import Effort

SAMPLE = Path(__file__).resolve().parent.parent / "sample_data" / "study"
JSON_NAME, TABLE_NAME = "bench.json", "bench.md"
_NO_MONAI = 'MONAI\'s networks are left out: they need MONAI, pip install "lesionlens[train]"'


class Part(StrEnum):
    """What is timed."""

    ANALYSIS = "analysis"
    """The whole of `analyze`, stage by stage."""
    NETWORKS = "networks"
    """Networks alone, side by side."""


def bench(
    study: Annotated[
        Path, typer.Argument(help="A study; the sample patient if none is given.", metavar="STUDY")
    ] = SAMPLE,
    repeat: Annotated[
        int, typer.Option("--repeat", help="Runs after the first, cold one.", min=1)
    ] = 3,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="One run each; of many windows, one is run and the rest reckoned."
        ),
    ] = False,
    only: Annotated[
        Part | None, typer.Option("--only", help="The whole analysis, or the networks alone.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write bench.json and bench.md here.", metavar="DIR"),
    ] = None,
    device: options.Device = "auto",
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Time the analysis of a study, and our network beside MONAI's on the same brain.

    Medians of warm runs: every stage of the analysis; then Lens with its shipped weights (flash and
    readable attention, fp32 and bf16), each size, and MONAI's SegResNet and Swin UNETR in the
    settings of its BraTS bundle and tutorial. Writes nothing without --out.
    """
    del debug
    if out is not None:
        check_target(out)
    repeat = 1 if quick else repeat
    figures: dict[str, Any] = {"lesionlens": metadata.version("lesionlens")}
    notes: list[str] = []
    with progress_bar() as progress:
        if only is not Part.NETWORKS:
            figures |= _time_analysis(study, repeat, device, progress)
        if only is not Part.ANALYSIS:
            rows = _time_networks(_prepared(study, progress), device, (repeat, quick), progress)
            figures |= {"networks": rows, "device": _device_words(device)}
            notes += _notes_on_networks()
    text = json_text.dumps(figures, indent=1)
    if out is not None:
        with staged(out, ours=(JSON_NAME, TABLE_NAME)) as aside:
            (aside / JSON_NAME).write_text(text + "\n", encoding="utf-8")
            (aside / TABLE_NAME).write_text(_markdown(figures), encoding="utf-8")
    if json:
        return Answer((text,), tuple(notes))
    return Answer(_parts(figures, out), tuple(notes))


def _parts(figures: dict[str, Any], out: Path | None) -> tuple[str | Table, ...]:
    parts: list[str | Table] = []
    if "stages" in figures:
        parts += [_table(figures), _summary(figures)]
    if "networks" in figures:
        parts += [_network_table(figures["networks"]), f"Networks alone on {figures['device']}"]
    if out is not None:
        parts.append(f"Written: {plain(str(out / JSON_NAME))}, {TABLE_NAME}")
    return tuple(parts)


def _time_analysis(study: Path, repeat: int, device: str, progress: Progress) -> dict[str, Any]:
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
        "device": last.device,
        "weights_sha256": last.engine.weights_sha256,
        "loading_seconds": round(loading, 3),
        "cold_seconds": round(runs[0][0], 3),
        "median_seconds": round(statistics.median(seconds for seconds, _ in warm), 3),
        "runs": len(warm),
        "stages": {name: round(statistics.median(found), 3) for name, found in stages.items()},
        "peak_memory_mib": round(max(s.peak_memory_mib for s in last.stages), 1),
    }


def _prepared(study: Path, progress: Progress) -> PreparedStudy:
    from lesionlens.base.stages import StageClock
    from lesionlens.study.prepare import prepare

    opened = options.open_named(study, {}, None, progress)
    return prepare(opened, StageClock(progress, STOP))


def _device_words(device: str) -> str:
    from lesionlens.inference import device as devices

    return devices.describe(devices.choose(device))


def _notes_on_networks() -> list[str]:
    from lesionlens.training.contenders import has_monai

    return [] if has_monai() else [_NO_MONAI]


def _time_networks(
    prepared: PreparedStudy, device: str, how: tuple[int, bool], progress: Progress
) -> list[dict[str, Any]]:
    """Return a row a network; the ratio is of its seconds to the first one's."""
    from lesionlens.inference import device as devices
    from lesionlens.training.contenders import contenders
    from lesionlens.training.stopwatch import Patience, measure

    place = devices.choose(device)
    all_of_them = list(contenders(prepared, place))
    efforts = []
    for number, contender in enumerate(all_of_them):
        progress(f"{contender.name}", number / len(all_of_them))
        patience = Patience(repeat=how[0], estimate=how[1])
        efforts.append(measure(contender, place, patience, STOP))
    return [_row(effort, efforts) for effort in efforts]


def _row(effort: Effort, efforts: Sequence[Effort]) -> dict[str, Any]:
    peak = effort.peak_mib
    return {
        "network": effort.name,
        "setting": effort.setting,
        "parameters": effort.parameters,
        "grid": effort.grid,
        "passes": effort.passes,
        "seconds": round(effort.seconds, 4),
        "runs": effort.runs,
        "estimated": effort.estimated,
        "peak_memory_mib": None if peak is None else round(peak, 1),
        "gmacs": round(effort.gmacs, 2),
        "ratio": round(effort.seconds / efforts[0].seconds, 2),
    }


def _new_table(headings: Sequence[str], left: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right")
    return table


def _table(figures: dict[str, Any]) -> Table:
    table = _new_table(("stage", "seconds"), 1)
    for name, seconds in figures["stages"].items():
        table.add_row(name, f"{seconds:.2f}")
    return table


_HEADINGS = ("network", "reads", "seconds", "ratio", "GMACs", "M par.", "peak MiB")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    about = "≈ " if row["estimated"] else ""
    peak = row["peak_memory_mib"]
    return (
        row["network"],
        row["setting"],
        f"{about}{row['seconds']:.3f}",
        f"{row['ratio']:.1f}",
        f"{row['gmacs']:.0f}",
        f"{row['parameters'] / 1e6:.1f}",
        "–" if peak is None else f"{peak:.0f}",
    )


def _network_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = _new_table(_HEADINGS, 2)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _summary(figures: dict[str, Any]) -> str:
    return (
        f"{figures['median_seconds']:.2f} s a study (median of {figures['runs']} warm runs), "
        f"{figures['cold_seconds']:.2f} s the first time, {figures['loading_seconds']:.2f} s to "
        f"load; peak {figures['peak_memory_mib']:.0f} MiB; {figures['device']}"
    )


def _markdown(figures: dict[str, Any]) -> str:
    """Return the same tables for a document."""
    lines = [f"LesionLens {figures['lesionlens']} on {figures['device']}", ""]
    if "stages" in figures:
        lines += [_summary(figures), "", "| stage | seconds |", "|---|---:|"]
        lines += [f"| {name} | {took:.2f} |" for name, took in figures["stages"].items()]
        lines.append("")
    if "networks" in figures:
        lines += [f"| {' | '.join(_HEADINGS)} |", "|---|---|" + "---:|" * (len(_HEADINGS) - 2)]
        lines += [f"| {' | '.join(_cells(row))} |" for row in figures["networks"]]
        lines.append("")
    return "\n".join(lines)
