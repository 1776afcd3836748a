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
Used = tuple[float, float]


def copies(source: Path, target: Path, file_count: int) -> tuple[int, int]:
    """Copy a series under new Series and SOP Instance UIDs; return how many files and series."""
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


def measured(command: Sequence[str]) -> Used:
    """Run a process; return its CPU seconds, its children's with them, and those on the clock."""
    usage_before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    clock, usage_after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = (
        usage_after.ru_utime + usage_after.ru_stime - usage_before.ru_utime - usage_before.ru_stime
    )
    return cpu_seconds, clock


def converted(folder: Path, zipped: str) -> Used:
    """Convert a folder by dcm2niix and drop what it writes."""
    with tempfile.TemporaryDirectory(prefix="scan-") as out:
        options = ["-z", zipped, "-b", "y", "-d", "9", "-f", "%j", "-o", out]
        return measured(["dcm2niix", *options, str(folder)])


def row(label: str, runs: Sequence[Sequence[Used]]) -> str:
    """Return one row of the table: CPU and clock of each, and ours over theirs by CPU."""
    medians = [tuple(map(statistics.median, zip(*run, strict=True))) for run in runs]
    cells = " | ".join(f"{cpu:.2f} | {clock:.2f}" for cpu, clock in medians)
    own_cpu, *other_cpus = (cpu for cpu, _ in medians)
    return f"| {label} | {cells} | {' / '.join(f'{own_cpu / cpu:.2f}' for cpu in other_cpus)} |"


def main() -> None:
    """Print the table, and put it between the markers of a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scan-") as scratch:
        place = Path(scratch)
        count, series = copies(arguments.series, place, arguments.files)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        listed: list[list[Used]] = [[], [], []]
        opened: list[list[Used]] = [[], [], []]
        python = [sys.executable, "-c"]
        for _ in range(arguments.repeats):
            listed[0].append(measured([*python, LIST, str(place), str(series)]))
            opened[0].append(measured([*python, LOAD, str(arguments.series)]))
            for index, zipped in enumerate("ny", 1):
                listed[index].append(converted(place, zipped))
                opened[index].append(converted(arguments.series, zipped))
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
    sys.stdout.write(text + "\n")
    if arguments.results:
        write_block(arguments.results, "scan", text)


if __name__ == "__main__":
    main()
