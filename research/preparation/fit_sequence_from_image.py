"""Fit `preparation.checks.tissue_contrast` on synthetic brains; print a confusion table.

    python -m research.preparation.fit_sequence_from_image --brains 36
    # folders of t1, t1c, t2, flair; nothing is fitted
    python -m research.preparation.fit_sequence_from_image --judge DIR

Four classes with one common covariance: the posterior is a softmax of linear functions, and an
image far from every class is none of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.checks import tissue_contrast
from lesionlens.imaging.preparation.tissue_template import load_template
from lesionlens.imaging.reading import sequence_from_image
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth.generator import GeneratorConfig, draw

FIRST_SEED = 7_000_000


def synthetic_features(brains: int) -> np.ndarray:
    """Return the features of synthetic brains, (brains, sequences, 5)."""
    template = load_template()
    config = GeneratorConfig(
        shape=(56, 68, 56), spacing_mm=(tissue_contrast.EDGE_MM, tissue_contrast.EDGE_MM)
    )
    edge = config.spacing_mm[0]
    affine = np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = -edge * (np.asarray(config.shape) - 1) / 2
    grid = Grid(config.shape, affine)
    rows = []
    start = time.process_time()
    for seed in range(FIRST_SEED, FIRST_SEED + brains):
        channels = draw(config, [seed]).channels[0].numpy()
        fractions, brain = tissue_contrast.register_tissues(channels[0], grid, template)
        figures = [tissue_contrast.measure_tissues(image, fractions, brain) for image in channels]
        measured = [item.features for item in figures if item is not None]
        if len(measured) == len(figures):
            rows.append(measured)
        sys.stderr.write(f"\r{len(rows)} brains, {time.process_time() - start:.0f} CPU seconds")
        sys.stderr.flush()
    return np.array(rows)


def fit(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return class means (4, 5) and the inverse of the common covariance (5, 5)."""
    means = np.median(features, axis=0)
    residuals = (features - means).reshape(-1, features.shape[-1])
    limit = 4.0 * np.median(np.abs(residuals), axis=0)
    inliers = residuals[(np.abs(residuals) < limit).all(axis=1)]
    return means, np.linalg.inv(np.cov(inliers.T) + 1e-4 * np.eye(residuals.shape[1]))


def print_guesses(folder: Path) -> None:
    """Print the recognised sequence of every image below a folder, beside its name."""
    for case in sorted(p for p in folder.rglob("*") if p.is_dir() and any(p.glob("*.nii.gz"))):
        for sequence, series in open_study(case).series.items():
            guess = sequence_from_image.guess(series.load(), series.grid)
            guessed = guess.sequence.value if guess.sequence else "-"
            print(f"{case.name}\t{sequence.value}\t{guessed}\t{guess.evidence}", flush=True)


def main() -> None:
    """Fit on synthetic brains, or evaluate on a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--brains", type=int, default=40)
    parser.add_argument("--judge", type=Path)
    arguments = parser.parse_args()
    if arguments.judge:
        print_guesses(arguments.judge)
        return
    features = synthetic_features(arguments.brains)
    means, inverse = fit(features)
    with np.printoptions(precision=3, suppress=True, linewidth=100):
        print(f"{means!r}\n{inverse!r}")
    for index, sequence in enumerate(MrSequence):
        predicted = [
            tissue_contrast.posterior(f, means, inverse)[0].argmax() for f in features[:, index]
        ]
        print(f"{sequence.value}: {np.bincount(predicted, minlength=4)}")


if __name__ == "__main__":
    main()
