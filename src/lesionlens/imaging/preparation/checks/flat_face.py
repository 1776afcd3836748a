"""Detect a brain that ends in a plane, as where removal of the face or the field of view cut it.

`quality.cut_off` finds large cuts along the axes, this check also oblique ones. No natural surface
of a brain is as flat.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.records.study import QualityCheck, failed_check
from lesionlens.imaging.preparation.checks.quality import SIDES

MIN_CM2 = 20.0
"""Area from which a face is reported, before `CM2_PER_MM`.

Measured: at most 21 cm2 in 759 outlines of brains, also rotated, tight or wide; 50 and more where
8% of the brain was cut off in front. Masks that are convex hulls are reported falsely.
"""
CM2_PER_MM = 5.0
"""Added for each millimetre of slice thickness: the outermost slice of a curved brain is flat (at
most 30 cm2 in slices of 5 mm, 40 of 7 mm).
"""
EDGE_MM = 2.0
"""Approximate voxel edge at which the surface is examined."""
_MAX_EDGE_MM = 2.5
_FLATNESS_MM = 1.6
"""Voxels of a face lie within so much of a plane."""
_DEPTH_MM = 3.0
"""A face lies within this distance of the outermost voxels."""
_MAX_SIDEWAYS, _MAX_DOWN = 0.5, 0.93
"""Components of a normal to the left or right, and downwards, above which a face is ignored: the
temples are flat, even more so after a craniectomy, and fields of view end below the brain.
"""
_DIRECTIONS, _CANDIDATES, _EVERY = 400, 12, 4
_MIN_POINTS = 3
"""Minimum number of points that define a plane."""
_MIN_FACING = 0.3
"""Component of a normal from which the face is said to lie on that side."""


def check(brain: Mask, edge_mm: float, slice_mm: float) -> QualityCheck | None:
    """Check a stripped brain for a flat face in any direction; None if there is none.

    Parameters
    ----------
    brain : (I, J, K) bool
        RAS+.
    edge_mm : float
        Voxel edge.
    slice_mm : float
        Longest voxel edge of the image that the brain was outlined in.
    """
    area_cm2, normal = flattest_face(brain, edge_mm)
    if area_cm2 < MIN_CM2 + CM2_PER_MM * slice_mm:
        return None
    facing = zip(SIDES[1:], normal[1:], strict=True)
    place = ", ".join(pair[int(n > 0)] for pair, n in facing if abs(n) > _MIN_FACING)
    return failed_check(
        "coverage",
        f"The brain ends at a flat plane of {area_cm2:.0f} cm2 ({place}): part of it was cut off, "
        "as by defacing, or lies outside the field of view, and was not analysed. Check the "
        "original scan.",
    )


def flattest_face(brain: Mask, edge_mm: float) -> tuple[float, NDArray[np.float64]]:
    """Return the area of the largest flat face in cm2, and its (3,) outward normal.

    0 if nothing is flat, or the voxels are too large.
    """
    step = max(round(EDGE_MM / edge_mm), 1)
    coarse, coarse_mm = brain[::step, ::step, ::step], edge_mm * step
    best = 0.0, np.zeros(3)
    surface = coarse & ~ndimage.binary_erosion(coarse)
    if coarse_mm > _MAX_EDGE_MM or not surface.any():
        return best
    points = (np.argwhere(surface) * coarse_mm).astype(np.float32)
    heights = points[::_EVERY] @ _normals().T
    outermost = (heights > heights.max(axis=0) - _DEPTH_MM).sum(axis=0)
    for index in np.argsort(outermost)[-_CANDIDATES:]:
        normal = _fitted(points, _normals()[index])
        if abs(normal[0]) > _MAX_SIDEWAYS or normal[2] < -_MAX_DOWN:
            continue
        heights = np.sort(points @ normal)
        heights = heights[heights > heights[-1] - _DEPTH_MM - _FLATNESS_MM]
        within = np.searchsorted(heights, heights + _FLATNESS_MM) - np.arange(len(heights))
        voxel_cm2 = coarse_mm**2 / 100 / float(np.abs(normal).max())  # of an oblique face more
        best = max(best, (int(within.max()) * voxel_cm2, normal), key=lambda face: face[0])
    return best


@cache
def _normals() -> Floats:
    """Return (N, 3) unit vectors that are spread evenly over the directions of interest."""
    index = np.arange(_DIRECTIONS) + 0.5
    z, angle = 1 - 2 * index / _DIRECTIONS, np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - z**2)
    normals = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
    is_used = (np.abs(normals[:, 0]) <= _MAX_SIDEWAYS) & (normals[:, 2] >= -_MAX_DOWN)
    return np.asarray(normals[is_used], np.float32)


def _fitted(points: Floats, normal: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the normal of the plane through the outermost points in the direction of `normal`."""
    for _ in range(3):
        heights = points @ normal
        outermost = points[heights > heights.max() - _DEPTH_MM]
        if len(outermost) < _MIN_POINTS:  # a spike
            break
        _, axes = np.linalg.eigh(np.cov(outermost.T.astype(np.float64)))
        normal = axes[:, 0] * (1 if axes[:, 0] @ normal > 0 else -1)
    return np.asarray(normal, np.float64)
