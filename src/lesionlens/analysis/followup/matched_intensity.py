"""Match the intensities of one examination to another by unaffected tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.followup.sharpness import (
    match_sharpness,
    smoothed_within,
    subsampled_indices,
)
from lesionlens.base.array_ops import robust_spread
from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.polynomials import quadratic, weighted_fit

Rows = NDArray[np.float64]
_SMOOTHED_MM = 0.7
_MAX_FIT_VOXELS = 40_000
_NORMAL_ITERATIONS, _NEARBY_ITERATIONS = 3, 4
"""Iterations of the fit with unaffected tissue only, then with all nearby voxels."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchedPair:
    """Log intensities (C, I, J, K) float32, and (C,) correlation of unaffected tissue."""

    before: Floats
    now: Floats
    correlation: Rows


def match_intensities(
    before: Floats, now: Floats, brain: Mask, normal: Mask, near: Mask
) -> MatchedPair:
    """Match each image of `before` to `now`.

    Parameters
    ----------
    before, now : (C, I, J, K) float32
        In one frame.
    brain, normal, near : (I, J, K) bool
        Brain mask of both; tissue outside all lesions; voxels to compare. Voxels that differ by
        more than noise are downweighted in the fit.

    Returns
    -------
    MatchedPair
        The curve is quadratic in log intensity, the field is quadratic in position.
    """
    field = quadratic(*(np.linspace(-1, 1, n) for n in brain.shape))
    scaled = [_scaled(images, brain, normal) for images in (before, now)]
    sharp = [match_sharpness(a, b, normal, field) for a, b in zip(*scaled, strict=True)]
    pairs = [_matched(a, b, brain, normal, near, field) for a, b in sharp]
    first, second, correlations = zip(*pairs, strict=True)
    return MatchedPair(np.stack(first), np.stack(second), np.asarray(correlations))


def _matched(
    before: Floats, now: Floats, brain: Mask, normal: Mask, near: Mask, field: Floats
) -> tuple[Floats, Floats, float]:
    """Return log intensities of both, the first matched to the second, and their correlation."""
    x, y = (_log_intensities(image, brain, normal) for image in (before, now))
    terms = np.concatenate([np.stack([x, x**2]), field]).reshape(2 + len(field), -1)
    indices = subsampled_indices(normal, _MAX_FIT_VOXELS)
    normal_terms, normal_values = terms[:, indices].T.astype(float), y.ravel()[indices]
    coefficients = weighted_fit(normal_terms, normal_values, np.ones(len(normal_values)))
    spread = 1.0
    for _ in range(_NORMAL_ITERATIONS):
        residuals = normal_values - normal_terms @ coefficients
        spread = robust_spread(residuals) + 1e-6
        weights = (1 + (residuals / (2 * spread)) ** 2) ** -2.0
        coefficients = weighted_fit(normal_terms, normal_values, weights)
    indices = subsampled_indices(normal | near, _MAX_FIT_VOXELS)
    nearby_terms, nearby_values = terms[:, indices].T.astype(float), y.ravel()[indices]
    for _ in range(_NEARBY_ITERATIONS):
        residuals = (nearby_values - nearby_terms @ coefficients) / (2 * spread)
        coefficients = weighted_fit(nearby_terms, nearby_values, np.exp(-0.5 * residuals**2))
    fitted = np.tensordot(coefficients, terms, 1).reshape(x.shape).astype(np.float32)
    correlation = float(np.corrcoef(normal_terms @ coefficients, normal_values)[0, 1])
    return fitted, y, correlation


def _log_intensities(image: Floats, brain: Mask, normal: Mask) -> Floats:
    """Return log intensities relative to the median of unaffected tissue, smoothed in the brain."""
    (smooth,) = smoothed_within(brain, [image], _SMOOTHED_MM)
    median = float(np.median(smooth[normal]))
    return np.asarray(np.log(np.maximum(smooth / median, 1e-3)), np.float32)


def _scaled(images: Floats, brain: Mask, normal: Mask) -> list[Floats]:
    """Return images relative to the median of unaffected tissue; 1 outside the brain."""
    medians = [np.median(image[normal]) for image in images]
    return [
        np.where(brain, image / median, np.float32(1.0)).astype(np.float32)
        for image, median in zip(images, medians, strict=True)
    ]
