"""Fit the appearance of each sequence, by which swapped names are noticed.

    python -m training.templates.swapped_names STUDY [STUDY ...]

Writes `imaging/preparation/swapped_names.npz`. Real studies that may be trained on and
synthetic brains are measured under their correct names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import identity_checks as names
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.open import open_study
from training.synth.generator import GeneratorConfig, draw

FIRST_SEED, BRAINS = 500, 30
SYNTHETIC_WEIGHT = 0.3
SHRINK = 0.5
"""Towards a covariance without correlations."""
MODEL_FILE = Path(names.__file__).with_name("swapped_names.npz")


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


def _real(study: Path) -> names.ImageFeatures | None:
    prepared = prepare(open_study(study), RunContext(), PrepareOptions(sides=False))
    images = {s: prepared.channels[i] for i, s in enumerate(MrSequence) if prepared.present[i]}
    return names.measure(images, prepared.brain) if len(images) > 1 else None


def _synthetic(seed: int) -> names.ImageFeatures:
    batch = draw(GeneratorConfig(), [seed])
    images = dict(zip(MrSequence, batch.channels[0].numpy(), strict=True))
    case = names.measure(images, batch.brain[0].numpy())
    assert case is not None, seed
    return case


def main() -> None:
    """Fit and store the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fitted", nargs="+", type=Path)
    real = [case for study in parser.parse_args().fitted if (case := _real(study)) is not None]
    synthetic = [_synthetic(seed) for seed in range(FIRST_SEED, FIRST_SEED + BRAINS)]
    weights = [1.0] * len(real) + [SYNTHETIC_WEIGHT] * len(synthetic)
    keys, means, covariance = fit([*real, *synthetic], weights)
    np.savez(MODEL_FILE, names=np.array(keys), means=means, covariance=covariance)


if __name__ == "__main__":
    main()
