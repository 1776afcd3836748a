"""Window levels: the values shown black and white."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.napari.model.choices.views import WindowPreset
from lesionlens.napari.model.overlays.maps import contrast_limits

Limits = tuple[float, float]
_HEAD_MARGIN = 0.25
"""Margin of the head's box, at each side, that is omitted for the brain window."""


def full_range(data: NDArray[Any]) -> Limits:
    """Return the lowest and highest finite value of a volume; always low < high."""
    finite = data[np.isfinite(data)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def limits_of(data: NDArray[Any], window: WindowPreset) -> Limits:
    """Return the limits of a preset.

    Parameters
    ----------
    data : (I, J, K) array
        Scanner units.
    window : WindowPreset
        Auto: without background and the brightest 0.5%; brain: the 2nd to 99th percentile of
        the inner part of the head, without fat of the scalp; wide: full range.
    """
    if window is WindowPreset.WIDE:
        return full_range(data)
    auto = contrast_limits(data)
    if window is WindowPreset.AUTO:
        return auto
    strides = tuple(max(size // 64, 1) for size in data.shape)
    coarse = np.asarray(data[:: strides[0], :: strides[1], :: strides[2]], dtype=np.float32)
    head = np.argwhere(coarse > auto[0] + 0.1 * (auto[1] - auto[0]))
    if not len(head):
        return auto
    first, last = head.min(axis=0), head.max(axis=0) + 1
    inset = ((last - first) * _HEAD_MARGIN).astype(int)
    inner = coarse[tuple(slice(a + n, b - n) for a, b, n in zip(first, last, inset, strict=True))]
    inner = inner[np.isfinite(inner) & (inner > auto[0])]
    if not inner.size:
        return auto
    low, high = (float(v) for v in np.percentile(inner, (2.0, 99.0)))
    return (low, high) if high > low else auto


def dragged(limits: Limits, auto: Limits, drag: tuple[float, float]) -> Limits:
    """Return the limits after a drag: right widens, down darkens.

    Parameters
    ----------
    limits, auto : (low, high)
        Current limits, and those of the preset, which scale a pixel.
    drag : (right, down)
        Pixels.

    Examples
    --------
    >>> dragged((0.0, 100.0), (0.0, 100.0), (40.0, 0.0))
    (-5.0, 105.0)
    """
    pixel = (auto[1] - auto[0]) / 400.0
    width = max(limits[1] - limits[0] + drag[0] * pixel, pixel)
    level = (limits[0] + limits[1]) / 2 + drag[1] * pixel
    return level - width / 2, level + width / 2
