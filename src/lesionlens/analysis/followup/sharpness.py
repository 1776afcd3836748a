"""Equalise the sharpness of two registered images by smoothing the sharper one, axis by axis."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask

_WIDTHS_MM = (0.8, 1.2, 1.6, 2.1, 2.7)
_INITIAL_WIDTH_MM = 0.6
_MIN_GAIN = 0.002
"""Minimum gain of correlation for smoothing an image."""
_MAX_COMPARED = 60_000


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
