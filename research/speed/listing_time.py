r"""Measure how long listing a folder of thousands of DICOM files takes, beside dcm2niix.

    python -m research.speed.listing_time SERIES --files 5000 --repeats 3 \
        --results research/RESULTS.md

SERIES is a folder of one classic DICOM series; it is copied under new UIDs into a temporary folder.
Both run by turns, each in a process of its own. Measured are processor seconds of the whole
process, with the interpreter and its imports, and wall seconds, as medians. Then the series is
opened with its voxels. `--results` names the page whose block between the markers is replaced.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pydicom

from research.common.page import write_block

LIST = """
import sys
from lesionlens.imaging.reading.readers import open_study
study = open_study(sys.argv[1])
assert len(study.series) + len(study.set_aside) == int(sys.argv[2])
"""
LOAD = """
import sys
from lesionlens.imaging.reading.readers import open_study
study = open_study(sys.argv[1])
for series in study.series.values():
    series.load()
"""
Times = tuple[float, float]


def copy_series(source: Path, target: Path, file_count: int) -> tuple[int, int]:
    """Copy a series under new Series and SOP Instance UIDs; return the counts of both."""
    files = sorted(path for path in source.iterdir() if path.is_file())
    raw = [path.read_bytes() for path in files]
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    count, times = 0, -(-file_count // len(files))
    for number in range(times):
        folder = target / f"{number:04d}"
        folder.mkdir()
        for index, (content, header) in enumerate(zip(raw, headers, strict=True)):
            changed = content
            for uid in (str(header.SeriesInstanceUID), str(header.SOPInstanceUID)):
                tail = f"{number:04d}" if uid == str(header.SeriesInstanceUID) else f"{count:06d}"
                changed = changed.replace(uid.encode(), (uid[: -len(tail)] + tail).encode())
            (folder / f"{index:04d}").write_bytes(changed)
            count += 1
    return count, times


def run_timed(command: Sequence[str]) -> Times:
    """Run a process; return its CPU seconds, with its children, and its wall seconds."""
    usage_before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    clock, usage_after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = (
        usage_after.ru_utime + usage_after.ru_stime - usage_before.ru_utime - usage_before.ru_stime
    )
    return cpu_seconds, clock


def time_dcm2niix(folder: Path, compression: str) -> Times:
    """Convert a folder by dcm2niix, discarding the output; return the times."""
    with tempfile.TemporaryDirectory(prefix="scan-") as out:
        options = ["-z", compression, "-b", "y", "-d", "9", "-f", "%j", "-o", out]
        return run_timed(["dcm2niix", *options, str(folder)])


def row(label: str, runs: Sequence[Sequence[Times]]) -> str:
    """Return one row of the table: CPU and wall seconds, and the CPU ratio to each dcm2niix run."""
    medians = [tuple(map(statistics.median, zip(*run, strict=True))) for run in runs]
    cells = " | ".join(f"{cpu:.2f} | {clock:.2f}" for cpu, clock in medians)
    own_cpu, *other_cpus = (cpu for cpu, _ in medians)
    return f"| {label} | {cells} | {' / '.join(f'{own_cpu / cpu:.2f}' for cpu in other_cpus)} |"


def main() -> None:
    """Measure, print the table and store it in a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scan-") as scratch:
        folder = Path(scratch)
        count, series = copy_series(arguments.series, folder, arguments.files)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        listed: list[list[Times]] = [[], [], []]
        opened: list[list[Times]] = [[], [], []]
        python = [sys.executable, "-c"]
        for _ in range(arguments.repeats):
            listed[0].append(run_timed([*python, LIST, str(folder), str(series)]))
            opened[0].append(run_timed([*python, LOAD, str(arguments.series)]))
            for index, compression in enumerate("ny", 1):
                listed[index].append(time_dcm2niix(folder, compression))
                opened[index].append(time_dcm2niix(arguments.series, compression))
    lines = [
        f"Listing {count} DICOM files ({series} series, {size / 2**20:.0f} MiB) and opening one "
        f"series with its voxels, beside dcm2niix converting the same folder; whole processes, "
        f"median of {arguments.repeats}; load average {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores.",
        "",
        "| | LesionLens CPU s | clock s | dcm2niix -z n CPU s | clock s | -z y CPU s | clock s "
        "| CPU ratio to -z n / -z y |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
        row(f"list {count} files", listed),
        row("open one series", opened),
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.results:
        write_block(arguments.results, "scan", text)


if __name__ == "__main__":
    main()
