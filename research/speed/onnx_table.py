"""Time and score the engine onnx beside the engine lens on the same CPU, by turns.

    python -m research.speed.onnx_table CASE [CASE ...] --results research/RESULTS.md

A case is a folder with t1, t1c, t2, flair and seg as .nii.gz on one grid. Every engine analyses
every case in a process of its own, with the same number of threads; memory is the peak of that
process, imports included. CPU seconds are given because other programs may share the machine. The
difference is the largest one in probability within the brain, from torch in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lesionlens.base.labels import WeightPrecision
from lesionlens.network.onnx_export import export_lens
from lesionlens.network.shipped_weights import shipped_path
from lesionlens.network.weights import load_shipped
from research.common import page

MARKER = "onnx"
REGIONS = ("wt", "tc", "et")
_TORCH = "torch, float32"
_CHILD = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
import nibabel as nib
engine, weights, case, output = sys.argv[1:5]
from lesionlens import Lens, open_study
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.prepare import PrepareOptions
lens = Lens("cpu", engine=engine, weights=weights)
# resident memory now: the recorded peak starts with that of the parent process
loaded = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
names = {s: str(Path(case) / f"{s.value}.nii.gz") for s in MrSequence}
study = open_study(case, named={s: n for s, n in names.items() if Path(n).is_file()})
before, wall = time.process_time(), time.perf_counter()
result = lens(study, PrepareOptions(cache=False))
cpu, wall = time.process_time() - before, time.perf_counter() - wall
stages = {str(s.name): s.seconds for s in result.analysis.run.stages}
reference = np.asarray(nib.load(Path(case) / "seg.nii.gz").dataobj)
found = np.asarray(result.labels.data)
pairs = {"wt": (found > 0, reference > 0),
         "tc": (np.isin(found, (1, 3)), (reference == 1) | (reference >= 3)),
         "et": (found == 3, reference >= 3)}
np.savez(output, *(result.probability[r].data for r in pairs))
dice = {r: float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1)) for r, (a, b) in pairs.items()}
print(json.dumps({"cpu": cpu, "wall": wall, "network": stages["network"], "loaded": loaded,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "dice": dice,
                  "torch": "torch" in sys.modules}))
"""


def measure(engine: str, weights: Path, case: Path, output: Path) -> dict[str, Any]:
    """Return the figures of one engine on one case; its probabilities are written to `output`."""
    command = [sys.executable, "-c", _CHILD, engine, str(weights), str(case), str(output)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stderr)
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return figures


def difference(first: Path, second: Path) -> float:
    """Return the largest difference between two runs' probabilities."""
    with np.load(first) as first_values, np.load(second) as second_values:
        return max(
            float(np.abs(first_values[n] - second_values[n]).max()) for n in first_values.files
        )


def export_engines(folder: Path) -> dict[str, tuple[str, Path]]:
    """Export the shipped weights; return the engine and file of each table row."""
    rows = {_TORCH: ("lens", shipped_path())}
    for precision in WeightPrecision:
        path = folder / f"{precision}.onnx"
        export_lens(*load_shipped(), path, precision)
        rows[f"onnxruntime, {precision} weights"] = ("onnx", path)
    return rows


def table_row(name: str, size_mb: float, runs: list[dict[str, Any]]) -> str:
    """Return one table row: means over the cases."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    dice = " | ".join(f"{mean([r['dice'][region] for r in runs]):.3f}" for region in REGIONS)
    return (
        f"| {name} | {size_mb:.1f} | {mean([r['loaded'] for r in runs]):.0f} | "
        f"{max(r['peak'] for r in runs):.0f} | {mean([r['wall'] for r in runs]):.1f} | "
        f"{mean([r['cpu'] for r in runs]):.1f} | {dice} | "
        f"{max(r['difference'] for r in runs):.1e} |"
    )


def main() -> None:
    """Measure, print the table and store it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--results", type=Path, help="put the table into this Markdown page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = export_engines(Path(folder))
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
        reference = Path()
        for case in options.cases:  # by turns, so that other load affects all engines
            for name, (engine, path) in rows.items():
                output = Path(folder) / f"{engine}-{path.stem}.npz"
                reference = output if name == _TORCH else reference
                figures = measure(engine, path, case, output)
                runs[name].append({**figures, "difference": difference(output, reference)})
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        lines = [
            f"{len(options.cases)} cases, {threads} thread(s) of torch or onnxruntime; means over "
            "the cases, of the whole analysis without cache.",
            "",
            "| engine | file MB | MiB loaded | peak MiB | seconds | CPU s | WT | TC | ET "
            "| difference |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for name, (_, path) in rows.items():
            lines.append(table_row(name, path.stat().st_size / 1e6, runs[name]))
    text = "\n".join(lines) + "\n"
    print(text)
    if options.results is not None:
        page.write_block(options.results, MARKER, text)


if __name__ == "__main__":
    main()
