"""How long a folder of thousands of DICOM files takes to list, beside dcm2niix converting it.

    python bench/scan_table.py SERIES --files 5000

SERIES is a folder of one classic DICOM series; it is copied under new UIDs into a temporary folder.
CPU seconds of both, in one run; `read` says how many bytes were asked of the system.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pydicom

from lesionlens.study.readers import open_study


def copies(source: Path, target: Path, wanted: int) -> int:
    """Copy a series under new Series and SOP Instance UIDs of the same length; return how many."""
    files = sorted(path for path in source.iterdir() if path.is_file())
    raw = [path.read_bytes() for path in files]
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    count = 0
    for number in range(-(-wanted // len(files))):
        folder = target / f"{number:04d}"
        folder.mkdir()
        for index, (content, head) in enumerate(zip(raw, heads, strict=True)):
            changed = content
            for uid in (str(head.SeriesInstanceUID), str(head.SOPInstanceUID)):
                tail = f"{number:04d}" if uid == str(head.SeriesInstanceUID) else f"{count:06d}"
                changed = changed.replace(uid.encode(), (uid[: -len(tail)] + tail).encode())
            (folder / f"{index:04d}").write_bytes(changed)
            count += 1
    return count


def bytes_read() -> int:
    """Return what this process has read so far, from Linux's own account; 0 elsewhere."""
    place = Path("/proc/self/io")
    lines = place.read_text().splitlines() if place.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("rchar")), 0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path)
    parser.add_argument("--files", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scan-") as scratch:
        place, out = Path(scratch, "in"), Path(scratch, "out")
        place.mkdir()
        out.mkdir()
        count = copies(arguments.series, place, arguments.files)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        before, cpu, wall = bytes_read(), time.process_time(), time.perf_counter()
        study = open_study(place)
        ours = (time.process_time() - cpu, time.perf_counter() - wall)
        read = bytes_read() - before
        listed = len(study.series) + len(study.set_aside)
        wall = time.perf_counter()
        command = [
            "dcm2niix",
            "-z",
            "n",
            "-b",
            "y",
            "-d",
            "9",
            "-f",
            "%j",
            "-o",
            str(out),
            str(place),
        ]
        subprocess.run(command, check=True, capture_output=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        theirs = (used.ru_utime + used.ru_stime, time.perf_counter() - wall)
    sys.stdout.write(
        f"{count} files, {size / 2**20:.0f} MiB\n"
        f"open_study: {ours[0]:.1f} CPU s ({ours[1]:.1f} on the clock), {listed} series, "
        f"{read / 2**20:.0f} MiB read\n"
        f"dcm2niix -z n: {theirs[0]:.1f} CPU s ({theirs[1]:.1f} on the clock)\n"
        f"ratio: {ours[0] / theirs[0]:.2f}\n"
    )


if __name__ == "__main__":
    main()
