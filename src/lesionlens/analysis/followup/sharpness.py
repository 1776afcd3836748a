"""Equalise the sharpness of two registered images by smoothing the sharper one, axis by axis."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
_WIDTHS_MM = (0.8, 1.2, 1.6, 2.1, 2.7)
_FIRST_MM = 0.6
_WORTH = 0.002
"""Minimum gain of correlation for smoothing an image."""
_MAX_COMPARED = 60_000


def equally_sharp(
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
    at = thinned(normal, _MAX_COMPARED)
    basis = np.linalg.qr(field.reshape(len(field), -1)[:, at].T.astype(float))[0]

    def detail(image: Floats) -> NDArray[np.float64]:
        values = image.ravel()[at].astype(float)
        values = values - basis @ (basis.T @ values)
        return np.asarray(values / (np.linalg.norm(values) + 1e-9))

    pair = [ndimage.gaussian_filter(image, _FIRST_MM) for image in (before, now)]
    best = float(detail(pair[0]) @ detail(pair[1]))
    for axis in range(3):
        found = (best + _WORTH, pair)
        still = [detail(image) for image in pair]
        for which in (0, 1):
            last = best
            for width in _WIDTHS_MM:
                smoothed = ndimage.gaussian_filter1d(pair[which], width, axis=axis)
                alike = float(detail(smoothed) @ still[1 - which])
                if alike > found[0]:
                    other = list(pair)
                    other[which] = smoothed
                    found = (alike, other)
                if alike < last:
                    break
                last = alike
        if found[1] is not pair:
            best, pair = found
    return pair[0], pair[1]


def smoothed_within(brain: Mask, images: Iterable[Floats], width_mm: float) -> list[Floats]:
    """Smooth (I, J, K) images of 1 mm with a Gaussian restricted to the brain."""
    share = ndimage.gaussian_filter(brain.astype(np.float32), width_mm) + 1e-6
    return [ndimage.gaussian_filter(np.where(brain, one, 0), width_mm) / share for one in images]


def thinned(mask: Mask, most: int) -> NDArray[np.intp]:
    """Return flat indices of evenly subsampled mask voxels, at most about so many."""
    found = np.flatnonzero(mask)
    return found[:: max(1, -(-len(found) // most))]
