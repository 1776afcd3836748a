"""Match sharpness and intensities of one examination to another by unaffected tissue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.numerics import quadratic, robust_spread, weighted_fit

Rows = NDArray[np.float64]
_SMOOTHED_MM = 0.7
_MAX_FIT_VOXELS = 40_000
_NORMAL_ITERATIONS, _NEARBY_ITERATIONS = 3, 4
"""Iterations of the fit with unaffected tissue only, then with all nearby voxels."""
_WIDTHS_MM = (0.8, 1.2, 1.6, 2.1, 2.7)
_INITIAL_WIDTH_MM = 0.6
_MIN_GAIN = 0.002
"""Minimum gain of correlation for smoothing an image."""
_MAX_COMPARED = 60_000


@dataclass(frozen=True, slots=True, eq=False)
class VoxelRoles:
    """Which voxels of two examinations serve for what; all (I, J, K) bool."""

    brain: Mask
    """In both examinations."""
    near: Mask
    """Near the lesion; compared and used for training."""
    band: Mask
    """Those of `near` that may be of the lesion."""
    normal: Mask
    """Tissue outside all lesions."""
    inside: Mask
    outside: Mask
    """Those of `near` that both outlines place inside, and outside of the lesion."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchedPair:
    """Log intensities (C, I, J, K) float32, and (C,) correlation of unaffected tissue."""

    before: Floats
    now: Floats
    correlation: Rows


def match_intensities(before: Floats, now: Floats, roles: VoxelRoles) -> MatchedPair:
    """Match each image of `before` to `now`.

    Parameters
    ----------
    before, now : (C, I, J, K) float32
        In one frame. Voxels that differ by more than noise are downweighted in the fit.

    Returns
    -------
    MatchedPair
        The curve is quadratic in log intensity, the field is quadratic in position.
    """
    field = quadratic(*(np.linspace(-1, 1, n) for n in roles.brain.shape))
    scaled = [_scaled(images, roles) for images in (before, now)]
    sharp = [match_sharpness(a, b, roles.normal, field) for a, b in zip(*scaled, strict=True)]
    pairs = [_matched(a, b, roles, field) for a, b in sharp]
    first, second, correlations = zip(*pairs, strict=True)
    return MatchedPair(np.stack(first), np.stack(second), np.asarray(correlations))


def _matched(
    before: Floats, now: Floats, roles: VoxelRoles, field: Floats
) -> tuple[Floats, Floats, float]:
    """Return log intensities of both, the first matched to the second, and their correlation."""
    x, y = (_log_intensities(image, roles) for image in (before, now))
    terms = np.concatenate([np.stack([x, x**2]), field]).reshape(2 + len(field), -1)
    indices = subsampled_indices(roles.normal, _MAX_FIT_VOXELS)
    normal_terms, normal_values = terms[:, indices].T.astype(float), y.ravel()[indices]
    coefficients = weighted_fit(normal_terms, normal_values, np.ones(len(normal_values)))
    spread = 1.0
    for _ in range(_NORMAL_ITERATIONS):
        residuals = normal_values - normal_terms @ coefficients
        spread = robust_spread(residuals) + 1e-6
        weights = (1 + (residuals / (2 * spread)) ** 2) ** -2.0
        coefficients = weighted_fit(normal_terms, normal_values, weights)
    indices = subsampled_indices(roles.normal | roles.near, _MAX_FIT_VOXELS)
    nearby_terms, nearby_values = terms[:, indices].T.astype(float), y.ravel()[indices]
    for _ in range(_NEARBY_ITERATIONS):
        residuals = (nearby_values - nearby_terms @ coefficients) / (2 * spread)
        coefficients = weighted_fit(nearby_terms, nearby_values, np.exp(-0.5 * residuals**2))
    fitted = np.tensordot(coefficients, terms, 1).reshape(x.shape).astype(np.float32)
    correlation = float(np.corrcoef(normal_terms @ coefficients, normal_values)[0, 1])
    return fitted, y, correlation


def _log_intensities(image: Floats, roles: VoxelRoles) -> Floats:
    """Return log intensities relative to the median of unaffected tissue, smoothed in the brain."""
    (smooth,) = smoothed_within(roles.brain, [image], _SMOOTHED_MM)
    median = float(np.median(smooth[roles.normal]))
    return np.asarray(np.log(np.maximum(smooth / median, 1e-3)), np.float32)


def _scaled(images: Floats, roles: VoxelRoles) -> list[Floats]:
    """Return images relative to the median of unaffected tissue; 1 outside the brain."""
    medians = [np.median(image[roles.normal]) for image in images]
    return [
        np.where(roles.brain, image / median, np.float32(1.0)).astype(np.float32)
        for image, median in zip(images, medians, strict=True)
    ]


def match_sharpness(
    before: Floats, now: Floats, normal: Mask, field: Floats
) -> tuple[Floats, Floats]:
    """Smooth the sharper image along each axis to maximise the similarity of unaffected tissue.

    Parameters
    ----------
    before, now : (I, J, K) float32
        On one 1 mm grid.
    normal : (I, J, K) bool
        Unaffected tissue.
    field : (N, I, J, K) float32
        Smooth differences to ignore.
    """
    indices = subsampled_indices(normal, _MAX_COMPARED)
    basis = np.linalg.qr(field.reshape(len(field), -1)[:, indices].T.astype(float))[0]

    def detail(image: Floats) -> NDArray[np.float64]:
        values = image.ravel()[indices].astype(float)
        values = values - basis @ (basis.T @ values)
        return np.asarray(values / (np.linalg.norm(values) + 1e-9))

    pair = [ndimage.gaussian_filter(image, _INITIAL_WIDTH_MM) for image in (before, now)]
    best = float(detail(pair[0]) @ detail(pair[1]))
    for axis in range(3):
        best_smoothed = (best + _MIN_GAIN, pair)
        details = [detail(image) for image in pair]
        for side in (0, 1):
            previous = best
            for width in _WIDTHS_MM:
                smoothed = ndimage.gaussian_filter1d(pair[side], width, axis=axis)
                correlation = float(detail(smoothed) @ details[1 - side])
                if correlation > best_smoothed[0]:
                    candidate = list(pair)
                    candidate[side] = smoothed
                    best_smoothed = (correlation, candidate)
                if correlation < previous:
                    break
                previous = correlation
        if best_smoothed[1] is not pair:
            best, pair = best_smoothed
    return pair[0], pair[1]


def smoothed_within(brain: Mask, images: Iterable[Floats], width_mm: float) -> list[Floats]:
    """Smooth (I, J, K) images of 1 mm with a Gaussian restricted to the brain."""
    weight = ndimage.gaussian_filter(brain.astype(np.float32), width_mm) + 1e-6
    masked = (np.where(brain, image, 0) for image in images)
    return [ndimage.gaussian_filter(image, width_mm) / weight for image in masked]


def subsampled_indices(mask: Mask, max_count: int) -> NDArray[np.intp]:
    """Return flat indices of evenly subsampled mask voxels, at most about so many."""
    indices = np.flatnonzero(mask)
    return indices[:: max(1, -(-len(indices) // max_count))]
