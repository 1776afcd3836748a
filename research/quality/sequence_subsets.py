r"""Analyse real cases with every subset of their sequences; compare with the stated contributions.

    python -m research.quality.sequence_subsets --data CASES --weights synthetic --kept DIR \
        --results RESULTS.md

Two tables: the Dice of each subset's result, its candidates and the number of them that do not
touch the reference; and how well the contributions of sequences rank the subsets, by the Dice of
each subset's result with that of all sequences (Spearman over the subsets of a case). A study is
prepared once for all of its subsets; no explanation is computed. Cases already in DIR are not
measured again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from lesionlens.analysis.evaluation.label_conventions import read_conventions, region_mask
from lesionlens.analysis.explain.perturbation_runner import perturbation_runner
from lesionlens.analysis.explain.perturbations import quick_passes_suffice, subset_overlap
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.masks import dice
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.engines.perturbation_order import subsets_of
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.readers import open_study
from lesionlens.training.references import RealCase, find_real_cases
from research.attention.broken_maps import outlined
from research.common.page import put_between

MARKER = "subsets of sequences"


def name_of(subset: frozenset[MrSequence]) -> str:
    """Name a subset by its sequences."""
    return " + ".join(s.display_name for s in MrSequence if s in subset)


def showing(prepared: PreparedStudy, subset: frozenset[MrSequence]) -> PreparedStudy:
    """Return a study as if the other sequences had not been there."""
    keep = np.array([s in subset for s in MrSequence])
    return replace(prepared, channels=prepared.channels * keep[:, None, None, None], present=keep)


def run_case(engine: LensEngine, folder: Path, case: RealCase) -> dict[str, Any]:
    """Return the Dice of every subset's result, its candidates, and what ranked the subsets."""
    available = [s for s in MrSequence if (folder / f"{s.value}.nii.gz").is_file()]
    files = {s: str(folder / f"{s.value}.nii.gz") for s in available}
    prepared = prepare(open_study(folder, named=files), RunContext())
    subsets = subsets_of(available)[1:]
    labels, components = {}, {}
    prediction, marked = None, None
    for subset in subsets:
        visible = showing(prepared, subset)
        prediction = engine.predict(visible, context=SILENT)
        marked = outlined(prediction, visible)
        labels[subset], components[subset] = marked.labels, marked.components
    assert prediction is not None
    assert marked is not None
    runner = perturbation_runner(engine, prepared, prediction, SILENT)
    fine = runner is not None and not quick_passes_suffice(runner, prediction, marked)
    perturbations = [InputPerturbation.showing(subset, fine=fine) for subset in subsets]
    predictions = engine.predict_perturbed(prepared, perturbations, context=SILENT)
    pairs = zip(predictions.probability, predictions.thresholds or (), strict=True)
    masks = [probability >= cut for probability, cut in pairs]  # of all: the last one
    owner = np.zeros(predictions.grid.shape, np.intp)
    predicted = [float(subset_overlap(mask, masks[-1], owner, 1)[0]) for mask in masks]
    values, grid = case.reference()
    resampled = resample(values.astype(np.float32), grid, prepared.native, nearest=True)
    truth = resampled.astype(np.uint8)
    rows = {}
    for (subset, subset_labels), predicted_dice in zip(labels.items(), predicted, strict=True):
        parts = components[subset]
        flagged = np.unique(parts[parts > 0])
        true_ids = np.unique(parts[(truth > 0) & (parts > 0)])
        rows[name_of(subset)] = {
            "dice": [dice(region_mask(subset_labels, r), region_mask(truth, r)) for r in Region],
            "candidates": len(flagged),
            "false": len(flagged) - len(true_ids),
            "run": dice(subset_labels > 0, labels[subsets[-1]] > 0),
            "predicted": predicted_dice,
        }
    return {"subsets": rows, "rank": rank_of(rows)}


def rank_of(rows: dict[str, dict[str, Any]]) -> float:
    """Rank correlation of what was predicted of the subsets with what they flag."""
    pairs = [[row["predicted"], row["run"]] for row in rows.values()]
    return float(spearmanr(pairs).statistic)


def table(cases: dict[str, dict[str, Any]]) -> str:
    """Return both tables in Markdown."""
    lines = [
        f"Mean Dice over {len(cases)} cases, and candidates in all of them:",
        "",
        "| shown | WT | TC | ET | found in | candidates | false ones |",
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
    """Run every case, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", help="names of folders; all by default")
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--kept", type=Path, required=True, help="folder of a JSON file a case")
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
                json.dumps(run_case(engine, options.data / name, cases[name]), indent=1)
            )
        cases_done[name] = json.loads(output.read_text())
        print(name, cases_done[name]["rank"], flush=True)
    text = table(cases_done)
    print(text)
    if options.results:
        put_between(options.results, MARKER, text)


if __name__ == "__main__":
    main()
