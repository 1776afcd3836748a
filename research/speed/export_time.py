"""Measure processor seconds and megabytes of saving one result, by exporter; compare two versions.

    python -m research.speed.export_time --draw HEAD                 # a head of 1 mm, three lesions
    lesionlens analyze HEAD --out RESULT
    python -m research.speed.export_time RESULT HEAD                 # this version
    python -m research.speed.export_time RESULT HEAD --against OTHER # and that of another checkout

The result is reopened, as in `lesionlens export`, and saved. Processor seconds are of all threads;
wall seconds are meaningful only on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.phantoms.acquire import Acquisition
from tests.phantoms.files import write_dicom

from lesionlens import open_study
from lesionlens.base.run_context import RunContext
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.imaging.preparation.prepare import DEFAULT_OPTIONS
from lesionlens.results.export import exporter
from lesionlens.results.review.reopen import prepare_and_reopen

REPOSITORY = Path(__file__).resolve().parents[2]
LESIONS = (((-28.0, 8.0, 26.0), 20.0), ((30.0, -40.0, 12.0), 14.0), ((26.0, 22.0, 38.0), 11.0))
"""Centre in RAS+ mm and radius in mm of each synthetic lesion."""


def write_head(folder: Path) -> None:
    """Write the study: 612 images of 200 by 240 pixels, 0.9 by 0.9 by 1.1 mm."""
    patient = make_patient(spacing_mm=1.0, lesions=tuple(Lesion(*lesion) for lesion in LESIONS))
    write_dicom(patient, folder, how=Acquisition("LPS", (0.9, 0.9, 1.1), matrix_step=8))


def count_exporter_time(writer: Any, seconds: dict[str, float]) -> None:
    """Replace an exporter's `write` by one that records its CPU seconds."""
    write = type(writer).write

    def timed_write(analysis: Any, staged: Path) -> Any:
        start = time.process_time()
        written = write(writer, analysis, staged)
        seconds[writer.name] = time.process_time() - start
        return written

    writer.write = timed_write


def measure(result: Path, study_path: Path, runs: int) -> dict[str, dict[str, float]]:
    """Save a result several times; return the fewest seconds of each exporter, and the size."""
    study = open_study(study_path)
    analysis = prepare_and_reopen(result, study, RunContext(), DEFAULT_OPTIONS)
    fastest: dict[str, float] = {}
    size = 0.0
    exporters: Any = exporter.exporters()  # (by name, problems) since 0.2, a list before
    exporter_list = exporters[0].values() if isinstance(exporters[0], dict) else exporters
    for _ in range(runs):
        seconds: dict[str, float] = {}
        for item in exporter_list:
            count_exporter_time(item, seconds)
        exporter.exporters = lambda: exporters
        with tempfile.TemporaryDirectory() as scratch:
            start, clock = time.process_time(), time.perf_counter()
            exporter.save(analysis, Path(scratch) / "result")
            seconds["whole"] = time.process_time() - start
            seconds["whole, by the clock"] = time.perf_counter() - clock
            files = [p for p in Path(scratch).rglob("*") if p.is_file()]
            size = sum(p.stat().st_size for p in files) / 1e6
        fastest = {
            name: min(fastest.get(name, duration), duration) for name, duration in seconds.items()
        }
    return {"seconds": fastest, "megabytes": {"whole": size}}


def measure_checkout(checkout: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure in a separate process, with the package of a checkout."""
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        str(options.result),
        str(options.study),
        "--json",
    ]
    process = subprocess.run(
        [*command, "--runs", str(options.runs)],
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, dict[str, float]] = json.loads(process.stdout)
    return figures


def main() -> None:
    """Write the head, or measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.draw:
        write_head(options.draw)
    elif options.json:
        sys.stdout.write(json.dumps(measure(options.result, options.study, options.runs)))
    else:
        checkouts = [REPOSITORY, *([options.against] if options.against else [])]
        for checkout in checkouts:
            figures = measure_checkout(checkout.resolve(), options)
            names = "  ".join(f"{k} {v:.2f}" for k, v in figures["seconds"].items())
            print(f"{checkout}: {figures['megabytes']['whole']:.1f} MB; {names}")


if __name__ == "__main__":
    main()
