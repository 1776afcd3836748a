"""Outlines of a slice as smooth lines, thin at any zoom, never further than half a voxel off."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from lesionlens.napari.model.geometry.slices import Slice

Line = NDArray[np.float64]
"""(N, 2) millimetres on the screen, x and y; closed where the first point is the last."""
_CORNER_CUTS = 2  # iterations of corner cutting: two remove the steps of voxels
_RING_SEGMENTS = 72


def lines_around(mask: NDArray[np.bool_], image_slice: Slice) -> tuple[Line, ...]:
    """Return the outline of the (rows, columns) voxels of a slice.

    Returns
    -------
    tuple of (N, 2) float
        Closed lines in millimetres on the screen, halfway between inside and outside.
    """
    inside = np.argwhere(mask)
    if not len(inside):
        return ()
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    cropped = np.pad(mask[low[0] : high[0], low[1] : high[1]].astype(np.float32), 1)
    return tuple(
        on_screen(smooth(line) + low - 1, image_slice) for line in find_contours(cropped, 0.5)
    )


def smooth(line: NDArray[np.float64], cuts: int = _CORNER_CUTS) -> NDArray[np.float64]:
    """Cut the corners of a closed line (Chaikin): each edge keeps its central half."""
    for _ in range(cuts):
        ahead = np.roll(line[:-1], -1, axis=0)
        starts, ends = 0.75 * line[:-1] + 0.25 * ahead, 0.25 * line[:-1] + 0.75 * ahead
        line = np.stack([starts, ends], axis=1).reshape(-1, 2)
        line = np.concatenate([line, line[:1]])
    return line


def on_screen(line: NDArray[np.float64], image_slice: Slice) -> Line:
    """Map rows and columns of a slice (integers at voxel centres) to millimetres on the screen."""
    pixel_size = np.divide(image_slice.size, image_slice.data.shape[::-1])
    return np.asarray((line[:, ::-1] + 0.5) * pixel_size + np.asarray(image_slice.corner))


def box_on_screen(corners: Iterable[NDArray[np.float64]]) -> tuple[float, float, float, float]:
    """Return left, top, width and height of the box around (…, 2) points on the screen."""
    points = np.asarray(tuple(corners))
    low, high = points.min(axis=0), points.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def ring(centre: tuple[float, float], radius_mm: float) -> Line:
    """Return a closed circle around a point on the screen."""
    angles = np.linspace(0.0, 2 * np.pi, _RING_SEGMENTS + 1)
    return np.asarray(centre + radius_mm * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def rectangle(box: tuple[float, float, float, float]) -> Line:
    """Return the closed line along the edges of left, top, width and height."""
    left, top, width, height = box
    right, bottom = left + width, top + height
    return np.asarray([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
