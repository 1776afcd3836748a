r"""Fit the appearance of each sequence (`preparation/swapped_names.npz`), and evaluate it.

    python -m training.templates.swapped_names FITTED... \
        --judged FOLDER...   # each one real study

Real studies and synthetic brains are measured under their correct names. Give only studies that may
be trained on as FITTED; those of `--judged` are in no fit. Then every pair of names is swapped in
every subset of the sequences, with a fit that leaves out the case in question, real or synthetic.
The margin between two swaps was chosen on fresh synthetic brains.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np

from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.checks import swapped_names as names
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth.generator import GeneratorConfig, draw

FIRST_SEED, BRAINS = 500, 30
HELD_OUT_SEEDS = (*range(700, 740), *range(800, 860))
"""Of synthetic brains that are not in the fit."""
SYNTHETIC_WEIGHT = 0.3
SHRINK = 0.5
"""Towards a covariance without correlations."""
MODEL_FILE = Path(names.__file__).with_name("swapped_names.npz")


Assignment = dict[MrSequence, MrSequence]


def fit(cases: list[names.ImageFeatures], weights: list[float]) -> names.Model:
    """Return names, weighted means and shrunken covariance of the cases' features."""
    rows = [case.features({s: s for s in case.own}) for case in cases]
    keys = sorted({key for row in rows for key in row})
    table = np.array([[row.get(key, np.nan) for key in keys] for row in rows])
    table_weights = np.where(np.isnan(table), 0.0, np.array(weights)[:, None])
    means = np.nansum(table * table_weights, axis=0) / table_weights.sum(axis=0)
    deviations = np.where(np.isnan(table), 0.0, table - means)
    covariance = (deviations * np.array(weights)[:, None]).T @ deviations / np.sum(weights)
    return keys, means, (1 - SHRINK) * covariance + SHRINK * np.diag(np.diag(covariance))


def count_verdicts(
    case: names.ImageFeatures, model: names.Model, counts: Counter[tuple[int, str]]
) -> None:
    """Count the verdicts on every swap in every subset, and on the correct names."""
    for size in range(2, len(case.own) + 1):
        for subset in combinations(case.own, size):
            assignment = {s: s for s in subset}
            counts[size, f"correct names: {_verdict_text(case, assignment, model)}"] += 1
            for a, b in combinations(subset, 2):
                text = _verdict_text(case, {**assignment, a: b, b: a}, model, (a, b))
                counts[size, f"swapped: {text}"] += 1


def _verdict_text(
    case: names.ImageFeatures,
    assignment: Assignment,
    model: names.Model,
    pair: tuple[MrSequence, ...] = (),
) -> str:
    verdict = names.verdict(case, assignment, model)
    if verdict.undecided:
        return "undecided"
    if not verdict.swapped:
        return "confirmed"
    if verdict.swapped == pair:
        return "that pair"
    if len(verdict.swapped) == 2 or not set(pair) <= set(verdict.swapped):
        return "another pair"
    return "unclear how"


def _real(study: Path) -> names.ImageFeatures | None:
    prepared = prepare(open_study(study), RunContext(), PrepareOptions(sides=False))
    images = {s: prepared.channels[i] for i, s in enumerate(MrSequence) if prepared.present[i]}
    return names.measure(images, prepared.brain) if len(images) > 1 else None


def _synthetic(seed: int) -> names.ImageFeatures:
    batch = draw(GeneratorConfig(), [seed])
    images = dict(zip(MrSequence, batch.channels[0].numpy(), strict=True))
    case = names.measure(images, batch.brain[0].numpy())
    if case is None:
        raise ValueError(seed)
    return case


def main() -> None:
    """Fit, store the model and evaluate it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fitted", nargs="+", type=Path)
    parser.add_argument("--judged", nargs="*", type=Path, default=[])
    parser.add_argument(
        "--fresh", type=int, default=len(HELD_OUT_SEEDS), help="number of held-out synthetic brains"
    )
    options = parser.parse_args()
    real = [case_or_none for case_or_none in map(_real, options.fitted) if case_or_none is not None]
    synthetic = [_synthetic(seed) for seed in range(FIRST_SEED, FIRST_SEED + BRAINS)]
    weights = [1.0] * len(real) + [SYNTHETIC_WEIGHT] * len(synthetic)
    fitted = [*real, *synthetic]
    model = fit(fitted, weights)
    np.savez(MODEL_FILE, names=np.array(model[0]), means=model[1], covariance=model[2])
    for title, cases, first in (("real", real, 0), ("synthetic", synthetic, len(real))):
        counts: Counter[tuple[int, str]] = Counter()
        for index, case in enumerate(cases):
            other_cases = [i for i in range(len(fitted)) if i != first + index]
            count_verdicts(
                case,
                fit([fitted[i] for i in other_cases], [weights[i] for i in other_cases]),
                counts,
            )
        _report(title, counts)
    counts = Counter()
    for case_or_none in map(_real, options.judged):
        if case_or_none is not None:
            count_verdicts(case_or_none, model, counts)
    _report("real, in no fit", counts)
    counts = Counter()
    for seed in HELD_OUT_SEEDS[: options.fresh]:
        count_verdicts(_synthetic(seed), model, counts)
    _report("synthetic, in no fit", counts)


def _report(title: str, counts: Counter[tuple[int, str]]) -> None:
    print(f"{title}: {dict(sorted(counts.items(), key=str))}", flush=True)


if __name__ == "__main__":
    main()
