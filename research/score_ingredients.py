r"""Would more ingredients make a better score? Judged patient by patient.

    python research/score_ingredients.py --data TUMOURS --clear HEALTHY OTHERS --kept rows.jsonl

Beside what `view_agreement.py` collects: what is left of a candidate with its voxels hidden and
without any image, in the mirrored study, and in each sequence alone. Real heads are examined with
every subset of their sequences, and twice degraded; synthetic ones as they are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from view_agreement import FLOOR, RIGHT, auc, cuts, fit, perturbed

from lesionlens.analysis.evaluation.label_conventions import read_conventions, region_mask
from lesionlens.analysis.explain.counterfactual import _grown
from lesionlens.analysis.explain.perturbations import present_in
from lesionlens.analysis.findings.component_scores import score_components
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    component_voxels,
    draw_components,
)
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.component_score import component_score
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth.draw import DrawConfig, draw
from lesionlens.training.config import DataConfig
from lesionlens.training.data import sample_presence
from lesionlens.training.references import find_real_cases

LEAST, EDGE = 0.2, 1e-4
"""Score of what is collected at all; probabilities are clipped to it and its complement."""
SETS = {
    "first pass": ("score",),
    "today": ("score", "overlap"),
    "and hidden": ("score", "overlap", "hidden"),
    "and no image": ("score", "overlap", "no_image"),
    "and mirrored": ("score", "overlap", "mirrored"),
    "and alone": ("score", "overlap", "alone"),
    "and hidden, no image, mirrored": ("score", "overlap", "hidden", "no_image", "mirrored"),
    "without size": ("overlap", "hidden", "no_image", "mirrored"),
}


def rows_of(
    engine: LensEngine, study: PreparedStudy, truth: tuple[np.ndarray, Grid] | None, sizes: set[int]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each candidate of the subsets of these sizes, counted from the full one."""
    full = present_in(study)
    every = [frozenset(c) for k in range(len(full) + 1) for c in combinations(full, k)]
    answers = engine.predict_perturbed(
        study, [InputPerturbation.showing(s) for s in every], context=SILENT
    )
    by, grid = dict(zip(every, answers.probability, strict=True)), answers.grid
    true = None if truth is None else resample(*truth, grid, nearest=True).ravel()
    scoring = engine.first_pass(study, context=SILENT).scoring
    for subset in (s for s in every if s and len(full) - len(s) in sizes):
        cut = cuts.whole_tumour_threshold(subset, 0.5)
        criteria = CandidateCriteria({**dict.fromkeys(Region, 2.0), Region.WT: cut})
        marked = draw_components(dict.fromkeys(Region, by[subset]), grid, criteria)
        spots = component_voxels(marked, grid)
        own = PerturbedPrediction(by[subset][None], grid)
        for spot, score in zip(spots, score_components(own, spots, scoring)[0], strict=True):
            if score < LEAST:
                continue
            at, keep = spot.voxels, InputPerturbation.showing(subset)
            flat = np.zeros(int(np.prod(grid.shape)), bool)
            flat[at] = True
            around = _grown(flat.reshape(grid.shape), float(grid.spacing_mm[0]))
            asked = [replace(keep, mirrored=True), replace(keep, hidden=around)]
            seen = engine.predict_perturbed(study, asked, context=SILENT).probability
            drawn = by[subset].ravel()[at] >= cut
            mirrored, hidden = (one.ravel()[at] for one in seen)
            others = [by[subset - {s}].ravel()[at] >= cut for s in subset if len(subset) > 1]
            yield {
                "score": _log_odds(score),
                "overlap": float(np.mean([_dice(drawn, one) for one in others])) if others else 0.0,
                "hidden": _certain(by[subset].ravel()[at]) - _certain(hidden),
                "no_image": _certain(by[subset].ravel()[at])
                - _certain(by[frozenset()].ravel()[at]),
                "mirrored": _dice(drawn, mirrored >= cut),
                "alone": float(np.mean([by[frozenset([s])].ravel()[at].mean() for s in subset])),
                "left_hidden": bool((hidden >= cut).any()),
                "left_without": bool((by[frozenset()].ravel()[at] >= cut).any()),
                "right": true is not None and float(true[at].mean()) >= RIGHT,
            }


def _log_odds(value: float) -> float:
    clipped = min(max(float(value), EDGE), 1 - EDGE)
    return float(np.log(clipped / (1 - clipped)))


def _certain(values: np.ndarray) -> float:
    """Return the mean logit of the most certain voxels, as a score has it."""
    return _log_odds(float(component_score(values, 1.0)))


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / max(1, int(one.sum()) + int(other.sum()))


def collect(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of all heads."""
    from calibration.calibrate import FIRST_SEED, prepared_of  # noqa: PLC0415  (needs torch)

    engine = LensEngine("cpu", "synthetic")
    cases = find_real_cases(options.data, convention=read_conventions(None, options.data).of)
    heads: list[tuple[str, Any, Any]] = [(c.name, c.study, c.truth) for c in cases]
    clear = [f for group in options.clear for f in sorted(group.iterdir()) if f.is_dir()]
    heads += [(f.name, lambda f=f: open_study(f), None) for f in clear]
    for number, (name, opened, read) in enumerate(heads):
        study, truth = prepare(opened(), SILENT), None
        if read is not None:
            values, grid = read()
            truth = region_mask(values.astype(np.uint8), Region.WT).astype(np.float32), grid
        worse = list(perturbed(study, np.random.default_rng(number)))[number % 2 :: 2]
        for sizes, one in (({0, 1, 2, 3}, study), *(({0, 1, 3}, w) for w in worse)):
            yield from ({"patient": name, **row} for row in rows_of(engine, one, truth, sizes))
    config = replace(DrawConfig(), tumour_free=0.35)
    for number in range(options.drawn):
        seed = FIRST_SEED + number
        head = draw(config, [seed], "cpu")
        study = prepared_of(head, sample_presence(np.random.default_rng(seed), DataConfig()))
        truth = head.labels[0, 0].cpu().numpy().astype(np.float32), study.native
        for row in rows_of(engine, study, truth, {0}):
            yield {"patient": f"drawn {number}", **row}


def report(rows: list[dict[str, Any]]) -> None:
    """Print order (AUC) and Brier score of each set, on patients that it was not fitted on."""
    right, who = np.array([r["right"] for r in rows]), np.array([r["patient"] for r in rows])
    names, counts = np.unique(who, return_counts=True)
    weight = len(rows) / len(names) / counts[np.searchsorted(names, who)]
    flagged = np.array([r["score"] for r in rows]) >= _log_odds(FLOOR)
    real = np.array([not name.startswith("drawn ") for name in who])
    for words, fields in SETS.items():
        x, found = np.array([[r[f] for f in fields] for r in rows]), np.zeros(len(rows))
        for name in names:
            out = who == name
            b = fit(x[~out], right[~out], weight[~out])
            found[out] = 1 / (1 + np.exp(-(b[0] + x[out] @ b[1:])))
        for kind, some in (("all", flagged), ("real", flagged & real), ("drawn", flagged & ~real)):
            if right[some].all() or not right[some].any():
                continue
            brier = np.average((found[some] - right[some]) ** 2, weights=weight[some])
            print(f"{words:32} {kind:6} AUC {auc(found[some], right[some]):.3f} {brier:.3f}")
    for field in ("left_hidden", "left_without"):
        print(field, sum(bool(r[field]) for r, f in zip(rows, flagged, strict=True) if f))


def main() -> None:
    """Collect once, then judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clear", type=Path, nargs="*", default=[])
    parser.add_argument("--drawn", type=int, default=110)
    parser.add_argument("--kept", type=Path, required=True)
    options = parser.parse_args()
    if not options.kept.is_file():
        options.kept.write_text("\n".join(json.dumps(row) for row in collect(options)), "utf-8")
    report([json.loads(line) for line in options.kept.read_text("utf-8").splitlines()])


if __name__ == "__main__":
    main()
