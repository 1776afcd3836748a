r"""Run every subset of the sequences of real cases, end to end, and hold it against what was said.

    python research/sequence_subsets.py --data CASES --weights synthetic --results RESULTS.md

Two tables: the Dice of each subset's own result with the reference, and how well the figures that
evidence by sequence is made of rank the subsets, by the Dice of each subset's own result with
that of all sequences (Spearman over the subsets of a case).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page import put_between
from scipy.stats import spearmanr

from lesionlens.analysis.evaluation.label_conventions import convention_reader, region_mask
from lesionlens.analysis.explain.shapley import subsets_of
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.readers import open_study
from lesionlens.lens import Lens
from lesionlens.training.references import RealCase, find_real_cases

MARKER = "subsets of sequences"


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap; 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int((a & b).sum()) / total


def name_of(subset: frozenset[MrSequence]) -> str:
    """Name a subset by its sequences."""
    return " + ".join(s.words for s in MrSequence if s in subset)


def run_case(lens: Lens, folder: Path, case: RealCase) -> dict[str, Any]:
    """Return the Dice of every subset's result, and how well the subsets were ranked."""
    there = [s for s in MrSequence if (folder / f"{s.value}.nii.gz").is_file()]
    subsets = subsets_of(there)[1:]
    labels = {}
    for subset in subsets:
        with tempfile.TemporaryDirectory() as place:
            for one in subset:
                file = f"{one.value}.nii.gz"
                (Path(place) / file).symlink_to((folder / file).resolve())
            result = lens(open_study(Path(place)))
            labels[subset] = result.labels.data.copy()
    prediction, prepared = result.prediction, result.analysis.prepared  # of all: the last one
    asked = [InputPerturbation.showing(one) for one in subsets]
    seen = lens.engine.predict_perturbed(prepared, asked, context=SILENT)
    masks = seen.probability >= prediction.thresholds[Region.WT]
    run = [dice(labels[one] > 0, labels[subsets[-1]] > 0) for one in subsets]
    rank = spearmanr([dice(one, masks[-1]) for one in masks], run).statistic
    values, grid = case.truth()
    near = resample(values.astype(np.float32), grid, result.labels.grid, nearest=True)
    truth = near.astype(np.uint8)
    rows = {
        name_of(one): [dice(region_mask(found, r), region_mask(truth, r)) for r in Region]
        for one, found in labels.items()
    }
    return {"dice": rows, "rank": float(rank)}


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return both tables in Markdown."""
    lines = [
        f"Mean Dice over {len(found)} cases:",
        "",
        "| shown | WT | TC | ET |",
        "|---|---|---|---|",
    ]
    for name in next(iter(found.values()))["dice"]:
        means = np.mean([one["dice"][name] for one in found.values()], axis=0)
        cells = [f"{mean:.3f}" for mean in means]
        if "T1c" not in name:
            cells[-1] = ""
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| case | rank correlation |", "|---|---|"]
    lines += [f"| {name} | {one['rank']:.3f} |" for name, one in found.items()]
    return "\n".join(lines)


def main() -> None:
    """Run every case, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", help="names of folders; all by default")
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lens, found = Lens("cpu", weights=options.weights), {}
    convention = convention_reader(None, options.data)
    for case in find_real_cases(options.data, convention=convention):
        if options.cases and case.name not in options.cases:
            continue
        found[case.name] = run_case(lens, options.data / case.name, case)
        print(case.name, found[case.name]["rank"], flush=True)
    text = table(found)
    print(text)
    if options.results:
        put_between(options.results, MARKER, text)


if __name__ == "__main__":
    main()
