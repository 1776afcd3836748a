"""What `bench` found as rows and Markdown, with the state of the machine that it was found on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lesionlens.benchmark.profiler import PassCost

Row = dict[str, Any]
_BUSY = 0.3
"""Share of the cores in use by others from which clock times are worth little."""
_CPUINFO = Path("/proc/cpuinfo")
HEADINGS = (
    "network", "form", "seconds", "CPU s", "ratio", "CPU ratio",
    "GMACs", "M par.", "passes", "peak MiB", "before", "reads",
)  # fmt: skip
_TEXT = ("network", "form", "reads")
BRIEF = ("network", "form", "seconds", "ratio", "CPU ratio", "peak MiB")
"""Those that fit into a terminal of 80 columns."""


def machine() -> Row:
    """Say what the figures were taken on, and how busy it was before."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": _version("monai"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def busy_words(about: Mapping[str, Any]) -> str | None:
    """Return a warning where others used the machine; None where it was quiet or does not tell."""
    load, cores = about["load_before"], about["cores"] or 1
    if load is None or load < _BUSY * cores:
        return None
    return (
        f"the machine was busy before this began (load average {load:g} on {cores} cores): the "
        "seconds are too high; compare by the CPU ratio, or run it again when it is quiet"
    )


def row(effort: PassCost, first: PassCost) -> Row:
    """Return one network's figures as JSON types; ratios are to the first one's."""
    return {
        "network": effort.name,
        "form": effort.form,
        "reads": effort.reads,
        "parameters": effort.parameters,
        "grid": effort.grid,
        "passes": effort.passes,
        "seconds": round(effort.seconds, 6),
        "cpu_seconds": round(effort.cpu_seconds, 6),
        "runs": effort.runs,
        "estimated": effort.estimated,
        "peak_memory_mib": _rounded(effort.peak_mib),
        "before_mib": _rounded(effort.before_mib),
        "gmacs": round(effort.gmacs, 2),
        "ratio": round(effort.seconds / first.seconds, 3),
        "cpu_ratio": round(effort.cpu_seconds / max(first.cpu_seconds, 1e-6), 3),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def against(rows: Sequence[Row], network_stage_s: float | None) -> list[str]:
    """Say in words how often MONAI's time holds ours, alike precision by alike precision.

    Parameters
    ----------
    rows : sequence of dict
        From `row`.
    network_stage_s : float or None
        Seconds of `analyze` in the network, all views together, where that was measured too.
    """
    shipped = [r for r in rows if r["network"] == rows[0]["network"] and "flash" in r["form"]]
    ours = {_precision(r): r for r in shipped}
    lines = []
    for other in (r for r in rows if r["network"].startswith("MONAI")):
        own = ours.get(_precision(other))
        if own is None:
            continue
        clock = other["seconds"] / own["seconds"]
        cpu = other["cpu_seconds"] / max(own["cpu_seconds"], 1e-6)
        line = (
            f"{other['network']}, {other['form']}: {clock:.1f} times one pass of "
            f"{own['network']}, {own['form']} ({cpu:.1f} times its CPU time)"
        )
        if network_stage_s:
            line += f", {other['seconds'] / network_stage_s:.1f} times all passes of an analysis"
        lines.append(line)
    return lines


def _precision(one: Row) -> str:
    return str(one["form"]).rpartition(" ")[2]


def cells(one: Row, headings: Sequence[str] = HEADINGS) -> tuple[str, ...]:
    """Return a row's cells under these headings."""
    about = "≈ " if one["estimated"] else ""
    peak, before = one["peak_memory_mib"], one["before_mib"]
    text = {
        "network": one["network"],
        "form": one["form"],
        "seconds": f"{about}{one['seconds']:.3f}",
        "CPU s": f"{about}{one['cpu_seconds']:.2f}",
        "ratio": f"{one['ratio']:.2f}",
        "CPU ratio": f"{one['cpu_ratio']:.2f}",
        "GMACs": f"{one['gmacs']:.1f}",
        "M par.": f"{one['parameters'] / 1e6:.2f}",
        "passes": str(one["passes"]),
        "peak MiB": "–" if peak is None else f"{peak:.0f}",
        "before": "–" if before is None else f"{before:.0f}",
        "reads": one["reads"],
    }
    return tuple(text[heading] for heading in headings)


def is_text(heading: str) -> bool:
    """Whether a column holds words."""
    return heading in _TEXT


def machine_words(figures: Mapping[str, Any]) -> str:
    """Say in a line what the figures were taken on."""
    about = figures["machine"]
    load = about["load_before"]
    monai = f", MONAI {about['monai']}" if about["monai"] else ""
    return (
        f"LesionLens {figures['lesionlens']}, torch {about['torch']}{monai}; {about['processor']}, "
        f"{about['cores']} cores, {about['threads']} threads of torch; {figures['device']}; load "
        f"average before: {'not told' if load is None else f'{load:g}'}; {about['date']}; "
        f"study: {figures['study']}"
    )


def summary_words(figures: Mapping[str, Any]) -> str:
    """Say in a line how long an analysis takes."""
    return (
        f"{figures['median_seconds']:.2f} s a study (median of {figures['runs']} warm runs), "
        f"{figures['cold_seconds']:.2f} s the first time, {figures['loading_seconds']:.2f} s to "
        f"load; peak {figures['peak_memory_mib']:.0f} MiB"
    )


def markdown(figures: Mapping[str, Any], notes: Sequence[str]) -> str:
    """Return the tables for a page."""
    lines = [machine_words(figures), ""]
    lines += [f"**{note[0].upper()}{note[1:]}.**\n" for note in notes]
    if "stages" in figures:
        lines += [summary_words(figures), "", "| stage | seconds |", "|---|---:|"]
        lines += [f"| {name} | {took:.2f} |" for name, took in figures["stages"].items()]
        lines.append("")
    if figures.get("networks"):
        lines.append(f"| {' | '.join(HEADINGS)} |")
        lines.append("|" + "|".join("---" if is_text(h) else "---:" for h in HEADINGS) + "|")
        lines += [f"| {' | '.join(cells(one))} |" for one in figures["networks"]]
        lines += ["", *(f"- {line}" for line in figures["against"])]
    return "\n".join(lines).rstrip() + "\n"
