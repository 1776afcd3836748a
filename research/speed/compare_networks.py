"""Time Lens and MONAI's networks on the same brain, each in a process of its own.

    python -m research.speed.compare_networks --out out/networks            # the sample patient
    python -m research.speed.compare_networks STUDY --quick --results research/RESULTS.md

Lens with its shipped weights and each preset (flash and readable attention, fp32 and bf16), Lens
without attention and of attention alone, and MONAI's SegResNet and Swin UNETR in the settings of
its BraTS bundle and tutorial. docs/how-to/bench.md explains the columns.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lesionlens.base.errors import LesionLensError, ResourceError
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.cli.bench import benchmark_conditions, busy_warning, machine_line
from lesionlens.engines import device as devices
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.samples import STUDY
from research.common import page
from research.speed import baselines, profiler

Row = dict[str, Any]
HEADINGS = (
    "network", "form", "seconds", "CPU s", "ratio", "CPU ratio",
    "GMACs", "M par.", "passes", "peak MiB", "before", "reads",
)  # fmt: skip
_TEXT = ("network", "form", "reads")
MARKER = "networks"
_NO_MONAI = "MONAI's networks are omitted: MONAI is not installed"


def row(cost: profiler.PassCost, first: profiler.PassCost) -> Row:
    """Return one network's figures as JSON types; ratios are to the first one's."""
    return {
        "network": cost.name,
        "form": cost.form,
        "reads": cost.reads,
        "parameters": cost.parameters,
        "grid": cost.grid,
        "passes": cost.passes,
        "seconds": round(cost.seconds, 6),
        "cpu_seconds": round(cost.cpu_seconds, 6),
        "runs": cost.runs,
        "estimated": cost.estimated,
        "peak_memory_mib": _rounded(cost.peak_mib),
        "before_mib": _rounded(cost.before_mib),
        "gmacs": round(cost.gmacs, 2),
        "ratio": round(cost.seconds / first.seconds, 3),
        "cpu_ratio": round(cost.cpu_seconds / max(first.cpu_seconds, 1e-6), 3),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def comparison_lines(rows: Sequence[Row]) -> list[str]:
    """Return a line for each of MONAI's networks: its time over that of Lens, equal precision."""
    shipped = [r for r in rows if r["network"] == rows[0]["network"] and "flash" in r["form"]]
    lens_rows = {_precision(r): r for r in shipped}
    lines = []
    for monai_row in (r for r in rows if r["network"].startswith("MONAI")):
        lens_row = lens_rows.get(_precision(monai_row))
        if lens_row is None:
            continue
        clock = monai_row["seconds"] / lens_row["seconds"]
        cpu = monai_row["cpu_seconds"] / max(lens_row["cpu_seconds"], 1e-6)
        lines.append(
            f"{monai_row['network']}, {monai_row['form']}: {clock:.1f} times one pass of "
            f"{lens_row['network']}, {lens_row['form']} ({cpu:.1f} times its CPU time)"
        )
    return lines


def _precision(entry: Row) -> str:
    return str(entry["form"]).rpartition(" ")[2]


def cells(entry: Row) -> tuple[str, ...]:
    """Return a row's cells under `HEADINGS`."""
    approximately = "≈ " if entry["estimated"] else ""
    peak, before = entry["peak_memory_mib"], entry["before_mib"]
    text = {
        "network": entry["network"],
        "form": entry["form"],
        "seconds": f"{approximately}{entry['seconds']:.3f}",
        "CPU s": f"{approximately}{entry['cpu_seconds']:.2f}",
        "ratio": f"{entry['ratio']:.2f}",
        "CPU ratio": f"{entry['cpu_ratio']:.2f}",
        "GMACs": f"{entry['gmacs']:.1f}",
        "M par.": f"{entry['parameters'] / 1e6:.2f}",
        "passes": str(entry["passes"]),
        "peak MiB": "–" if peak is None else f"{peak:.0f}",
        "before": "–" if before is None else f"{before:.0f}",
        "reads": entry["reads"],
    }
    return tuple(text[heading] for heading in HEADINGS)


def markdown(rows: Sequence[Row], notes: Sequence[str], about: dict[str, Any]) -> str:
    """Return the table in Markdown, with the machine and its load."""
    lines = [machine_line(about), "", *(f"**{note}.**\n" for note in notes)]
    lines.append(f"| {' | '.join(HEADINGS)} |")
    lines.append("|" + "|".join("---" if h in _TEXT else "---:" for h in HEADINGS) + "|")
    lines += [f"| {' | '.join(cells(entry))} |" for entry in rows]
    return "\n".join([*lines, "", *(f"- {line}" for line in comparison_lines(rows))]) + "\n"


def time_networks(
    prepared: PreparedStudy, device: str, measurement: profiler.MeasurementOptions
) -> tuple[list[Row], list[str]]:
    """Return a row for each network, and why others could not be measured."""
    torch_device, costs, missing = devices.choose(device), [], []
    for index, baseline in enumerate(baselines.all_baselines(prepared, torch_device)):
        print(f"{baseline.name} {baseline.form}", file=sys.stderr)
        try:
            costs.append(profiler.measure_in_process(prepared, index, torch_device, measurement))
        except ResourceError as error:
            missing.append(f"{baseline.name}, {baseline.form}: {error.found}")
    if not baselines.has_monai():
        missing.append(_NO_MONAI)
    return [row(cost, costs[0]) for cost in costs], missing


def main() -> int:
    """Measure, print the table and store it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", type=Path, nargs="?", default=STUDY)
    parser.add_argument("--repeat", type=int, default=3, help="runs after the first, cold one")
    parser.add_argument(
        "--quick", action="store_true", help="one run; of several windows only one, scaled"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write networks.json here")
    parser.add_argument("--results", type=Path, help="put the table into this Markdown page")
    options = parser.parse_args()
    try:
        prepared = prepare(open_study(options.study), RunContext())
        about = benchmark_conditions(
            devices.describe(devices.choose(options.device)), options.study
        )
        busy = busy_warning(about["machine"])
        measurement = profiler.MeasurementOptions(
            1 if options.quick else options.repeat, estimate=options.quick
        )
        rows, notes = time_networks(prepared, options.device, measurement)
    except LesionLensError as error:
        print(error, file=sys.stderr)
        return 1
    text = markdown(rows, [*([busy] if busy else []), *notes], about)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        figures = {**about, "networks": rows, "notes": notes}
        (options.out / "networks.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if options.results is not None:
        page.write_block(options.results, MARKER, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
