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

from lesionlens.base.errors import ResourceError
from lesionlens.base.staging import check_target, staged
from lesionlens.cli import options
from lesionlens.cli.console import STOP, Answer, new_table, plain, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.base.stages import Progress
    from lesionlens.records.study import PreparedStudy

SAMPLE = Path(__file__).resolve().parent.parent / "sample_data" / "study"
JSON_NAME, TABLE_NAME, MARKER = "bench.json", "bench.md", "bench"
_NO_MONAI = 'MONAI\'s networks are left out: they need MONAI, pip install "lesionlens[train]"'


class BenchPart(StrEnum):
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
        BenchPart | None, typer.Option("--only", help="The whole analysis, or the networks alone.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write bench.json and bench.md here.", metavar="DIR"),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            help="Put the tables into this Markdown page, between its markers "
            "<!-- bench: begin --> and <!-- bench: end -->.",
            metavar="FILE",
        ),
    ] = None,
    device: options.Device = "auto",
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Time the analysis of a study, and our network beside MONAI's on the same brain.

    Medians of warm runs: every stage of the analysis; then, each in a process of its own, Lens with
    its shipped weights and each preset (flash and readable attention, fp32 and bf16), Lens without
    attention and of attention alone, and MONAI's SegResNet and Swin UNETR in the settings of its
    BraTS bundle and tutorial. The load of the machine is recorded beside. Writes nothing without
    --out or --results.
    """
    del debug
    if out is not None:
        check_target(out)
    options.check_file(results)
    repeat = 1 if quick else repeat
    with progress_bar() as progress:
        figures, notes = _begin(study, device)
        if only is not BenchPart.NETWORKS:
            figures |= _time_analysis(study, repeat, device, progress)
        if only is not BenchPart.ANALYSIS:
            prepared = _prepared(study, progress)
            rows, missing = _time_networks(prepared, device, repeat, quick, progress)
            figures |= {"networks": rows, "against": _against(rows, figures.get("stages", {}))}
            notes += [*missing, *_notes_on_networks()]
    figures["notes"] = notes
    return _answer(figures, out, results, json=json)


def _begin(study: Path, device: str) -> tuple[dict[str, Any], list[str]]:
    """Say where the figures come from, before anything is timed."""
    from lesionlens.benchmark.comparison import busy_words, machine
    from lesionlens.inference import device as devices

    about = machine()
    busy = busy_words(about)
    figures = {
        "lesionlens": metadata.version("lesionlens"),
        "study": "sample" if study == SAMPLE else plain(study.name),
        "machine": about,
        "device": devices.describe(devices.choose(device)),
    }
    return figures, [] if busy is None else [busy]


def _answer(
    figures: dict[str, Any], out: Path | None, results: Path | None, *, json: bool
) -> Answer:
    """Write what is wanted and say it."""
    from lesionlens.benchmark.comparison import markdown
    from lesionlens.benchmark.tables import put_between

    notes = tuple(figures["notes"])
    text, page = json_text.dumps(figures, indent=1), markdown(figures, notes)
    if out is not None:
        with staged(out, ours=(JSON_NAME, TABLE_NAME)) as aside:
            (aside / JSON_NAME).write_text(text + "\n", encoding="utf-8")
            (aside / TABLE_NAME).write_text(page, encoding="utf-8")
    if results is not None:
        put_between(results, MARKER, page)
    if json:
        return Answer((text,), notes)
    return Answer((*_parts(figures), *_written(out, results)), notes)


def _written(out: Path | None, results: Path | None) -> tuple[str, ...]:
    lines = () if out is None else (f"Written: {plain(str(out / JSON_NAME))}, {TABLE_NAME}",)
    return lines if results is None else (*lines, f"Written into: {plain(str(results))}")


def _parts(figures: dict[str, Any]) -> tuple[str | Table, ...]:
    from lesionlens.benchmark.comparison import machine_words, summary_words

    parts: list[str | Table] = []
    if "stages" in figures:
        parts += [_table(figures), summary_words(figures)]
    if "networks" in figures:
        parts += [_network_table(figures["networks"]), *figures["against"]]
    return (*parts, machine_words(figures))


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
    from lesionlens.preparation.prepare import prepare

    opened = options.open_named(study, {}, None, progress)
    return prepare(opened, StageClock(progress, STOP))


def _notes_on_networks() -> list[str]:
    from lesionlens.benchmark.baselines import has_monai

    return [] if has_monai() else [_NO_MONAI]


def _time_networks(
    prepared: PreparedStudy, device: str, repeat: int, quick: bool, progress: Progress
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row a network, and why others have none."""
    from lesionlens.benchmark import profiler
    from lesionlens.benchmark.baselines import all_baselines
    from lesionlens.benchmark.comparison import row
    from lesionlens.inference import device as devices

    place, efforts, missing = devices.choose(device), [], []
    all_of_them = list(all_baselines(prepared, place))
    patience = profiler.Patience(repeat=repeat, estimate=quick)
    for number, contender in enumerate(all_of_them):
        progress(f"{contender.name} {contender.form}", number / len(all_of_them))
        try:
            efforts.append(profiler.apart(prepared, number, place, patience, STOP))
        except ResourceError as error:
            missing.append(f"{contender.name}, {contender.form}: {error.found}")
    return [row(effort, efforts[0]) for effort in efforts], missing


def _against(rows: list[dict[str, Any]], stages: dict[str, float]) -> list[str]:
    from lesionlens.benchmark.comparison import against

    return against(rows, stages.get("network")) if rows else []


def _table(figures: dict[str, Any]) -> Table:
    table = new_table(("stage", "seconds"))
    for name, seconds in figures["stages"].items():
        table.add_row(name, f"{seconds:.2f}")
    return table


def _network_table(rows: Sequence[dict[str, Any]]) -> Table:
    from lesionlens.benchmark.comparison import BRIEF, cells, is_text

    table = new_table(BRIEF, sum(map(is_text, BRIEF)))
    for row in rows:
        table.add_row(*cells(row, BRIEF))
    return table
