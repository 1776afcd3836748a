"""Seconds and peak memory of `lesionlens analyze` on one study, cold and warm, as JSON.

    python research/bench_analyze.py [STUDY] [--runs 3] [--device cpu]

Cold is the first run of this script; warm is the median of the others. Each run is a new process,
as a user's is, with its imports. `import` is `import lesionlens` alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def run(command: list[str]) -> tuple[float, float]:
    """Return wall seconds and peak resident memory in MiB of a child process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {' '.join(command)}")
    return seconds, usage.ru_maxrss / 1024


def commit() -> str | None:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sample = REPOSITORY / "sample_data" / "study"
    parser.add_argument("study", type=Path, nargs="?", default=sample)
    parser.add_argument("--runs", type=int, default=3, help="warm runs")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    imports = [run([sys.executable, "-c", "import lesionlens"])[0] for _ in range(5)]
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            str(BIN / "lesionlens"),
            "analyze",
            str(options.study),
            "--out",
            f"{scratch}/out",
        ]
        measured = [run([*command, "--device", options.device]) for _ in range(options.runs + 1)]
        done = json.loads(Path(scratch, "out", "run.json").read_text(encoding="utf-8"))
    warm = [seconds for seconds, _ in measured[1:]]
    figures = {
        "study": options.study.name,
        "cold_seconds": round(measured[0][0], 2),
        "median_seconds": round(statistics.median(warm), 2) if warm else None,
        "runs": len(warm),
        "peak_memory_mib": round(max(memory for _, memory in measured), 1),
        "import_seconds": round(statistics.median(imports), 3),
        "stages": {stage["name"]: stage["seconds"] for stage in done["stages"]},
        "device": done["device"],
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit(),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
