r"""Analyse real cases with every subset of their sequences; compare with the stated contributions.

    python -m research.quality.sequence_subsets --data CASES --weights synthetic --kept DIR \
        --results RESULTS.md

Two tables: the Dice of each subset's result, its candidates and the number of them that do not
overlap the reference; and how well the contributions of sequences rank the subsets, by the Dice of
each subset's result with that of all sequences (Spearman over the subsets of a case). A study is
prepared once for all of its subsets; no explanation is computed. Cases already in DIR are not
measured again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from lesionlens.analysis.evaluation.label_conventions import read_conventions, region_mask
from lesionlens.analysis.explain.perturbation_runner import perturbation_runner
from lesionlens.analysis.explain.perturbations import quick_passes_suffice, subset_overlap
from lesionlens.base.labels import Region
from lesionlens.base.masks import dice
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.engines.perturbation_order import subsets_of
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.training.references import RealCase, find_real_cases
from research.attention.broken_maps import flagged_components
from research.common.cases import resample_labels, restricted_to, sequence_files, subset_name
from research.common.page import write_block

MARKER = "subsets of sequences"


def measure_case(engine: LensEngine, folder: Path, case: RealCase) -> dict[str, Any]:
    """Return the Dice and candidates of every subset's result, and the rank correlation."""
    files = sequence_files(folder)
    prepared = prepare(open_study(folder, named=files), RunContext())
    subsets = subsets_of(tuple(files))[1:]
    labels, components = {}, {}
    prediction, mask = None, None
    for subset in subsets:
        visible = restricted_to(prepared, subset)
        prediction = engine.predict(visible, context=SILENT)
        mask = flagged_components(prediction, visible)
        labels[subset], components[subset] = mask.labels, mask.components
    assert prediction is not None
    assert mask is not None
    runner = perturbation_runner(engine, prepared, prediction, SILENT)
    fine = runner is not None and not quick_passes_suffice(runner, prediction, mask)
    perturbations = [InputPerturbation.showing(subset, fine=fine) for subset in subsets]
    predictions = engine.predict_perturbed(prepared, perturbations, context=SILENT)
    pairs = zip(predictions.probability, predictions.thresholds or (), strict=True)
    masks = [
        probability >= threshold for probability, threshold in pairs
    ]  # the last one is of all sequences
    owner = np.zeros(predictions.grid.shape, np.intp)
    predicted = [float(subset_overlap(mask, masks[-1], owner, 1)[0]) for mask in masks]
    values, grid = case.reference()
    reference = resample_labels(values, grid, prepared.native)
    rows = {}
    for (subset, subset_labels), predicted_dice in zip(labels.items(), predicted, strict=True):
        parts = components[subset]
        flagged = np.unique(parts[parts > 0])
        true_ids = np.unique(parts[(reference > 0) & (parts > 0)])
        rows[subset_name(subset)] = {
            "dice": [
                dice(region_mask(subset_labels, r), region_mask(reference, r)) for r in Region
            ],
            "candidates": len(flagged),
            "false": len(flagged) - len(true_ids),
            "run": dice(subset_labels > 0, labels[subsets[-1]] > 0),
            "predicted": predicted_dice,
        }
    return {"subsets": rows, "rank": rank_of(rows)}


def rank_of(rows: dict[str, dict[str, Any]]) -> float:
    """Return the rank correlation of predicted and measured overlap over the subsets."""
    pairs = [[row["predicted"], row["run"]] for row in rows.values()]
    return float(spearmanr(pairs).statistic)


def table(cases: dict[str, dict[str, Any]]) -> str:
    """Return both tables in Markdown."""
    lines = [
        f"Mean Dice over {len(cases)} cases, and candidates in all of them:",
        "",
        "| sequences | WT | TC | ET | found in | candidates | false |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in next(iter(cases.values()))["subsets"]:
        rows = [case["subsets"][name] for case in cases.values()]
        cells = [f"{mean:.3f}" for mean in np.mean([row["dice"] for row in rows], axis=0)]
        if "T1c" not in name:
            cells[-1] = ""
        cases_found = sum(row["candidates"] > row["false"] for row in rows)
        counts = [cases_found, *(sum(row[key] for row in rows) for key in ("candidates", "false"))]
        lines.append(f"| {name} | {' | '.join(cells)} | {' | '.join(map(str, counts))} |")
    lines += ["", "| case | rank correlation |", "|---|---|"]
    lines += [f"| {name} | {case['rank']:.3f} |" for name, case in cases.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure every case; write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", help="names of folders; all by default")
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--kept", type=Path, required=True, help="folder for a JSON file per case")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine, cases_done = LensEngine("cpu", options.weights), {}
    options.kept.mkdir(parents=True, exist_ok=True)
    convention = read_conventions(None, options.data).of
    cases = {c.name: c for c in find_real_cases(options.data, convention=convention)}
    for name in options.cases or cases:
        output = options.kept / f"{name}.json"
        if not output.is_file():
            output.write_text(
                json.dumps(measure_case(engine, options.data / name, cases[name]), indent=1)
            )
        cases_done[name] = json.loads(output.read_text())
        print(name, cases_done[name]["rank"], flush=True)
    text = table(cases_done)
    print(text)
    if options.results:
        write_block(options.results, MARKER, text)


if __name__ == "__main__":
    main()
