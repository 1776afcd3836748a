"""Voxelwise lesion probability in two images by one logistic regression for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from lesionlens.analysis.followup.matched_intensity import (
    VoxelRoles,
    smoothed_within,
    subsampled_indices,
)
from lesionlens.base.geometry import Floats, Mask

Rows = NDArray[np.float64]
_SMOOTHED_MM = (0.6, 1.5)
_MAX_TRAINING_VOXELS = 20_000
_RIDGE, _MAX_ITERATIONS, _TOLERANCE = 1.0, 25, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class LesionProbability:
    """Predictions of the regression, 0 to 1."""

    before: Rows
    now: Rows
    """(N,) for each voxel of the band, in either examination."""
    inside: float
    outside: float
    """Mean over the training voxels, of both examinations."""


def fit_probability(images: Sequence[Floats], roles: VoxelRoles) -> LesionProbability:
    """Train one logistic regression on two examinations, and apply it to both.

    Parameters
    ----------
    images : sequence of (C, I, J, K) float32
        Both examinations, intensities matched, on one grid of 1 mm.
    """
    index_sets = [
        subsampled_indices(roles.inside, _MAX_TRAINING_VOXELS),
        subsampled_indices(roles.outside, _MAX_TRAINING_VOXELS),
        np.flatnonzero(roles.band),
    ]
    features = [
        [_features(image, roles.brain, indices) for indices in index_sets] for image in images
    ]
    training = np.concatenate([rows for row_sets in features for rows in row_sets[:2]])
    mean, spread = training.mean(0), training.std(0) + 1e-6
    products = _products((training - mean) / spread)
    products_mean, products_spread = products.mean(0), products.std(0) + 1e-6

    def design(samples: Rows) -> Rows:
        standardised = (_products((samples - mean) / spread) - products_mean) / products_spread
        return np.column_stack([np.ones(len(standardised)), standardised])

    design_matrix = design(training)
    counts = [len(features[0][0]), len(features[0][1])]
    is_lesion = np.tile(np.repeat([1.0, 0.0], counts), len(images))
    weight = np.tile(np.repeat([sum(counts) / (8 * n) for n in counts], counts), len(images))
    coefficients = _logistic(design_matrix, is_lesion, weight)
    predictions = expit(design_matrix @ coefficients)
    before, now = (expit(design(row_sets[2]) @ coefficients) for row_sets in features)
    inside_mean = float(predictions[is_lesion > 0].mean())
    outside_mean = float(predictions[is_lesion == 0].mean())
    return LesionProbability(before, now, inside_mean, outside_mean)


def _products(plain: Rows) -> Rows:
    """Return features, their squares and products."""
    a, b = np.triu_indices(plain.shape[1])
    return np.concatenate([plain, plain[:, a] * plain[:, b]], axis=1)


def _features(image: Floats, brain: Mask, indices: NDArray[np.intp]) -> Rows:
    """Return (n, features): each sequence at two smoothing scales within the brain."""
    rows: list[Floats] = []
    for width in _SMOOTHED_MM:
        rows += [smooth.ravel()[indices] for smooth in smoothed_within(brain, image, width)]
    return np.stack(rows, axis=1).astype(np.float64)


def _logistic(rows: Rows, is_lesion: Rows, weight: Rows) -> Rows:
    """Fit a ridge logistic regression by Newton's method."""
    ridge = np.eye(rows.shape[1]) * _RIDGE
    ridge[0, 0] = 1e-9
    coefficients = np.zeros(rows.shape[1])
    for _ in range(_MAX_ITERATIONS):
        probability = expit(rows @ coefficients)
        gradient = rows.T @ (weight * (is_lesion - probability)) - ridge @ coefficients
        curvature = (rows * (weight * probability * (1 - probability))[:, None]).T @ rows + ridge
        step = np.linalg.solve(curvature, gradient)
        coefficients += step
        if np.abs(step).max() < _TOLERANCE:
            break
    return coefficients
