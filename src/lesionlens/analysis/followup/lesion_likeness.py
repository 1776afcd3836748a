"""Voxelwise lesion probability in two images by one logistic regression for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.followup.sharpness import smoothed_within, thinned
from lesionlens.base.array_ops import sigmoid

Floats = NDArray[np.float32]
Rows = NDArray[np.float64]
Mask = NDArray[np.bool_]
_SMOOTHED_MM = (0.6, 1.5)
_MAX_TRAINING_VOXELS = 20_000
_RIDGE, _STEPS, _ENOUGH = 1.0, 25, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """Predictions of the regression, 0 to 1."""

    before: Rows
    now: Rows
    """(N,) for each requested voxel, in either examination."""
    inside: float
    outside: float
    """Mean over the training voxels, of both examinations."""


def likeness(
    images: Sequence[Floats], brain: Mask, asked: Mask, inside: Mask, outside: Mask
) -> Likeness:
    """Train one logistic regression on two examinations, and apply it to both.

    Parameters
    ----------
    images : sequence of (C, I, J, K) float32
        Both examinations, intensities matched, on one grid of 1 mm.
    brain, asked, inside, outside : (I, J, K) bool
        Brain mask, voxels to predict, and training voxels of lesion and tissue.
    """
    places = [
        thinned(inside, _MAX_TRAINING_VOXELS),
        thinned(outside, _MAX_TRAINING_VOXELS),
        np.flatnonzero(asked),
    ]
    seen = [[_features(image, brain, at) for at in places] for image in images]
    every = np.concatenate([rows for one in seen for rows in one[:2]])
    mean, spread = every.mean(0), every.std(0) + 1e-6
    wide = _products((every - mean) / spread)
    wide_mean, wide_spread = wide.mean(0), wide.std(0) + 1e-6

    def design(looks: Rows) -> Rows:
        rows = (_products((looks - mean) / spread) - wide_mean) / wide_spread
        return np.column_stack([np.ones(len(rows)), rows])

    taught = design(every)
    counts = [len(seen[0][0]), len(seen[0][1])]
    is_lesion = np.tile(np.repeat([1.0, 0.0], counts), len(images))
    weight = np.tile(np.repeat([sum(counts) / (8 * n) for n in counts], counts), len(images))
    slope = _logistic(taught, is_lesion, weight)
    answers = sigmoid(taught @ slope)
    before, now = (sigmoid(design(one[2]) @ slope) for one in seen)
    return Likeness(
        before, now, float(answers[is_lesion > 0].mean()), float(answers[is_lesion == 0].mean())
    )


def _products(plain: Rows) -> Rows:
    """Return features, their squares and products."""
    a, b = np.triu_indices(plain.shape[1])
    return np.concatenate([plain, plain[:, a] * plain[:, b]], axis=1)


def _features(image: Floats, brain: Mask, at: NDArray[np.intp]) -> Rows:
    """Return (n, features): each sequence at two smoothing scales within the brain."""
    rows: list[Floats] = []
    for width in _SMOOTHED_MM:
        rows += [smooth.ravel()[at] for smooth in smoothed_within(brain, image, width)]
    return np.stack(rows, axis=1).astype(np.float64)


def _logistic(rows: Rows, is_lesion: Rows, weight: Rows) -> Rows:
    """Fit a ridge logistic regression by Newton's method."""
    ridge = np.eye(rows.shape[1]) * _RIDGE
    ridge[0, 0] = 1e-9
    slope = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        share = sigmoid(rows @ slope)
        gradient = rows.T @ (weight * (is_lesion - share)) - ridge @ slope
        curvature = (rows * (weight * share * (1 - share))[:, None]).T @ rows + ridge
        step = np.linalg.solve(curvature, gradient)
        slope += step
        if np.abs(step).max() < _ENOUGH:
            break
    return slope
