r"""Fit the effect of other views of a study on a candidate's score; cross-validate by patient.

    python -m research.quality.view_agreement --data TUMOURS --clear HEALTHY OTHERS \
        --kept rows.jsonl

Every subset of the sequences of every head is a study of its own. A coarse pass segments its
candidates, also at half of the threshold; the passes without each of its
sequences are its other views. Weights `synthetic` were trained on none of these patients. Real
heads are also examined with noise, with one sequence moved, with shading and with blur. Patients
have equal weights, and each is scored by a fit without them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize

from lesionlens.analysis.evaluation.label_conventions import read_conventions, region_mask
from lesionlens.analysis.findings.component_scores import score_components
from lesionlens.analysis.findings.components import CandidateCriteria, segment_components
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens import thresholds
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.training.config import DataConfig
from lesionlens.training.data import sample_presence
from lesionlens.training.references import find_real_cases
from research.training.calibration.calibrate import FIRST_SEED, prepared_of

MIN_TUMOUR_FRACTION, RIDGE_PENALTY, SCORE_FLOOR = 0.1, 0.2, 0.4
"""Tumour fraction of a correct candidate; ridge penalty on slopes; lowest score that is flagged."""


def candidate_rows(
    engine: LensEngine,
    study: PreparedStudy,
    reference: tuple[np.ndarray, Grid] | None,
    *,
    every: bool,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each candidate, of every subset or of the complete study only."""
    present = study.sequences
    subsets = [frozenset(c) for k in range(len(present) + 1) for c in combinations(present, k)]
    if not every:
        subsets = [s for s in subsets if len(s) >= len(present) - 1]
    views = [InputPerturbation.showing(s) for s in subsets]
    predictions = engine.predict_perturbed(study, views, context=SILENT)
    by_subset, grid = dict(zip(subsets, predictions.probability, strict=True)), predictions.grid
    scoring = engine.first_pass(study, context=SILENT).scoring
    reference_mask = None if reference is None else resample(*reference, grid, nearest=True)
    for subset in subsets:
        if not subset or (not every and subset != frozenset(present)):
            continue
        threshold = thresholds.whole_tumour_threshold(subset, 0.5)
        other_views = [by_subset[subset - {s}] >= threshold for s in subset if len(subset) > 1]
        for level in (threshold, threshold / 2):
            criteria = CandidateCriteria({**dict.fromkeys(Region, 2.0), Region.WT: level})
            marked = segment_components(dict.fromkeys(Region, by_subset[subset]), grid, criteria)
            components = marked.voxels_on(grid)
            subset_prediction = PerturbedPrediction(by_subset[subset][None], grid)
            scores = score_components(subset_prediction, components, scoring)[0]
            for component, score in zip(components, scores, strict=True):
                values = by_subset[subset].ravel()[component.voxels]
                if level < threshold <= values.max():
                    continue
                is_flagged = values >= threshold
                dice = [_dice(is_flagged, o.ravel()[component.voxels]) for o in other_views]
                yield {
                    "score": float(score),
                    "overlap": float(np.mean(dice)) if dice else 0.0,
                    "right": reference_mask is not None
                    and float(reference_mask.ravel()[component.voxels].mean())
                    >= MIN_TUMOUR_FRACTION,
                }


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * float((first & second).sum()) / max(1, int(first.sum()) + int(second.sum()))


def perturbed(study: PreparedStudy, rng: np.random.Generator) -> Iterator[PreparedStudy]:
    """Yield the study with noise, with one sequence shifted, with shading, and blurred."""
    images, brain = study.channels, study.brain
    deviation = np.array([0.35 * image[brain].std() for image in images])[:, None, None, None]
    noisy = np.where(brain, images + deviation * rng.normal(size=images.shape), 0)
    shifted, channel = images.copy(), int(rng.integers(4))
    shifted[channel] = ndimage.shift(images[channel], rng.normal(0, 4, 3), order=1)
    slope = np.linspace(-0.45, 0.45, images.shape[1])[:, None, None]
    blurred = [ndimage.gaussian_filter(image, 2.2) for image in images]
    for channels in (noisy, shifted, images * np.exp(slope), np.stack(blurred)):
        yield dataclasses.replace(study, channels=channels.astype(np.float32))


def collect(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of all real and synthetic heads."""
    engine = LensEngine("cpu", "synthetic")
    cases = find_real_cases(options.data, convention=read_conventions(None, options.data).of)
    heads: list[tuple[str, Any, Any]] = [(c.name, c.study, c.reference) for c in cases]
    tumour_free_folders = [
        f for group in options.clear for f in sorted(group.iterdir()) if f.is_dir()
    ]
    heads += [(f.name, lambda f=f: open_study(f), None) for f in tumour_free_folders]
    for number, (name, open_head, read_reference) in enumerate(heads):
        study = prepare(open_head(), SILENT)
        reference = None
        if read_reference is not None:
            values, grid = read_reference()
            reference = region_mask(values.astype(np.uint8), Region.WT).astype(np.float32), grid
        for variant_index, variant in enumerate(
            (study, *perturbed(study, np.random.default_rng(number)))
        ):
            for row in candidate_rows(engine, variant, reference, every=not variant_index):
                yield {"patient": name, **row}
    config = dataclasses.replace(GeneratorConfig(), tumour_free=0.35)
    for number in range(options.drawn):
        seed = FIRST_SEED + number
        head = draw(config, [seed], "cpu")
        study = prepared_of(head, sample_presence(np.random.default_rng(seed), DataConfig()))
        reference = head.labels[0, 0].cpu().numpy().astype(np.float32), study.native
        for row in candidate_rows(engine, study, reference, every=False):
            yield {"patient": f"drawn {number}", **row}


def fit(x: np.ndarray, correct: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the intercept and the non-negative slopes of a weighted logistic model."""
    mean, scale = x.mean(0), x.std(0) + 1e-9
    columns = np.column_stack([np.ones(len(x)), (x - mean) / scale])

    def cost(b: np.ndarray) -> float:
        total = columns @ b
        loss = np.logaddexp(0, total) - correct * total
        return float((weight * loss).sum() + RIDGE_PENALTY * (b[1:] ** 2).sum() / 2)

    bounds = [(None, None), *[(0, None)] * x.shape[1]]
    solution = minimize(cost, np.zeros(x.shape[1] + 1), bounds=bounds).x
    slopes = solution[1:] / scale
    return np.array([solution[0] - slopes @ mean, *slopes])


def auc(score: np.ndarray, correct: np.ndarray) -> float:
    """Return the probability that a correct candidate scores above a false one."""
    score_difference = score[correct][:, None] - score[~correct]
    return float((score_difference > 0).mean() + (score_difference == 0).mean() / 2)


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print the fit and its leave-one-patient-out performance."""
    score_before = np.array([r["score"] for r in rows]).clip(1e-9, 1 - 1e-9)
    x = np.column_stack([np.log(score_before / (1 - score_before)), [r["overlap"] for r in rows]])
    is_correct, patients = (
        np.array([r["right"] for r in rows]),
        np.array([r["patient"] for r in rows]),
    )
    names, counts = np.unique(patients, return_counts=True)
    if len(names) < 2 or is_correct.all() or not is_correct.any():
        raise SystemExit(
            f"{len(rows)} candidates of {len(names)} patients, {is_correct.sum()} of them correct: "
            "a fit needs correct and false candidates of at least two patients "
            "(more --clear or --drawn)"
        )
    weight = len(rows) / len(names) / counts[np.searchsorted(names, patients)]
    real = {
        w
        for w, r, s in zip(patients, is_correct, score_before, strict=True)
        if r and s >= SCORE_FLOOR
    }
    count = sum(not name.startswith("drawn ") for name in real)
    max_score, score_after = 1 - 1 / (count + 2), np.zeros(len(rows))
    for name in names:
        is_left_out = patients == name
        b = fit(x[~is_left_out], is_correct[~is_left_out], weight[~is_left_out])
        score_after[is_left_out] = np.clip(
            max_score / (1 + np.exp(-(b[0] + x[is_left_out] @ b[1:]))), SCORE_FLOOR, None
        )
    flagged = score_before >= SCORE_FLOOR
    for heading, score in (("before", score_before[flagged]), ("after", score_after[flagged])):
        correct, weights = is_correct[flagged], weight[flagged]
        print(heading, f"AUC {auc(score, correct):.3f}")
        print(
            "  Brier, patients weighted equally",
            np.average((score - correct) ** 2, weights=weights),
        )
        for kind, scores in (("correct", score[correct]), ("false", score[~correct])):
            print(" ", kind, len(scores), np.quantile(scores, (0, 0.05, 0.25, 0.5, 1)).round(2))
    print(
        "fitted on all:", fit(x, is_correct, weight).round(2), "highest score", round(max_score, 3)
    )


def main() -> None:
    """Collect the rows unless they are stored, then fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clear", type=Path, nargs="*", default=[])
    parser.add_argument("--drawn", type=int, default=40)
    parser.add_argument("--kept", type=Path, required=True)
    options = parser.parse_args()
    if not options.kept.is_file():
        lines = [json.dumps(row) for row in collect(options)]
        options.kept.write_text("\n".join(lines), "utf-8")
    report([json.loads(line) for line in options.kept.read_text("utf-8").splitlines()])


if __name__ == "__main__":
    main()
