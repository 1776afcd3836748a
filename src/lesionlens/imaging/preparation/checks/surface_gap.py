"""Detect a gap in a stripped brain's surface, as left where a superficial lesion was removed.

Skull stripping can remove a superficial tumour from every sequence. The brain mask then has a dent.
Fissures are dents too, but they lie in both hemispheres or in the midline. Only a dent that is
filled in the other hemisphere counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.records.study import QualityCheck, failed_check
from lesionlens.imaging.preparation.checks.quality import SIDES

MIN_ML = 2.0
"""Volume from which a gap is reported.

Measured: at most .32 ml in twenty stripped people, .6 rotated by 20 degrees, 1.4 in twenty
synthetic heads; 4.0 ml and more in sixteen tumours after the core was removed through the surface.
"""
EDGE_MM = 3.0
"""Voxel edge at which the surface is examined."""
DENT_MM = 40.0
"""Radius of the closing that fills dents."""
TOLERANCE_MM = 6.0
"""Distance within which a dent of the other hemisphere counts as its counterpart."""
THIN_MM = 4.0
"""Radius of the opening that removes thin gaps."""


class Mirror(NamedTuple):
    """A plane of symmetry, in voxels."""

    normal: NDArray[np.float64]
    """(3,): unit vector, towards the higher end of the first axis."""
    point: NDArray[np.float64]
    """(3,): a point of the plane."""


class _Fit(NamedTuple):
    """One stage of the search for the plane of symmetry."""

    step: int
    """Every n-th voxel along each axis is used."""
    smoothing: float
    """Standard deviation, in those voxels."""
    iterations: int
    outlier: float
    """Difference to the mirror image from which a point has less than half of its weight."""


_STAGES = (_Fit(2, 2.0, 10, 9.0), _Fit(1, 1.5, 6, 0.3))
_EVERY = 7
"""One in so many points of the smoothed surface is compared with the mirror image."""
_SURFACE = (0.05, 0.95)


def check(brain: Mask, edge_mm: float) -> QualityCheck | None:
    """Look for a gap in the surface of one hemisphere; None if there is none.

    Parameters
    ----------
    brain : (I, J, K) bool
        The filled outline of a whole, stripped brain, on an isotropic RAS+ grid.
    edge_mm : float
        Voxel edge of that grid.
    """
    step = max(round(EDGE_MM / edge_mm), 1)
    sampled = brain[step // 2 :: step, step // 2 :: step, step // 2 :: step]
    if not sampled.any():
        return None
    mirror = symmetry(sampled)
    labels, _ = ndimage.label(gaps(sampled, mirror, edge_mm * step))
    sizes = np.bincount(labels.ravel())[1:]
    volume_ml = int(sizes.max(initial=0)) * (edge_mm * step) ** 3 / 1000
    if volume_ml < MIN_ML:
        return None
    place = np.argwhere(labels == 1 + sizes.argmax()).mean(axis=0) - mirror.point
    heights = place @ mirror.normal, place[1], place[2]
    side, along, height = (pair[int(h > 0)] for pair, h in zip(SIDES, heights, strict=True))
    return failed_check(
        "coverage",
        f"About {volume_ml:.0f} ml are missing from the brain's surface ({side}, {along}, "
        f"{height}), compared with the other side: skull stripping may have removed a lesion. "
        "Check the unstripped scan.",
    )


def gaps(brain: Mask, mirror: Mirror, edge_mm: float) -> Mask:
    """Return the dents of a brain without a counterpart in the other hemisphere; (I, J, K) bool."""
    dents = _closed(brain, DENT_MM / edge_mm) & ~brain
    near_dents = within(dents, TOLERANCE_MM / edge_mm)
    alone = dents & _mirrored(brain, mirror) & ~_mirrored(near_dents, mirror)
    radius = THIN_MM / edge_mm
    return within(~within(~alone, radius), radius)


def within(mask: Mask, radius: float) -> Mask:
    """Return the voxels at most `radius` voxels away from those of a mask; (I, J, K) bool.

    Much faster than a whole distance transform; for radii below 100 voxels.

    Examples
    --------
    >>> mask = np.zeros((1, 1, 7), bool)
    >>> mask[0, 0, 2] = True
    >>> within(mask, 2.5)[0, 0].astype(int)
    array([1, 1, 1, 1, 1, 0, 0])
    """
    limit = int(radius * radius)
    squared: NDArray[np.int16] = np.where(mask, 0, limit + 1).astype(np.int16)
    for axis in range(3):
        lines = np.moveaxis(squared, axis, 0)
        nearest = lines.copy()
        for step in range(1, min(int(radius), len(lines) - 1) + 1):
            further = lines + np.int16(step * step)
            np.minimum(nearest[step:], further[:-step], out=nearest[step:])
            np.minimum(nearest[:-step], further[step:], out=nearest[:-step])
        squared = np.moveaxis(nearest, 0, axis)
    return np.asarray(squared <= limit)


def symmetry(brain: Mask) -> Mirror:
    """Return the plane at which a brain on a RAS+ grid resembles its mirror image most.

    Points of the surface that differ much, as in a gap, hardly count. Measured: no false gap in
    66 heads rotated by 20 degrees and 22 by 30, but in 3 of 22 by 35 and in 8 of 22 by 40 degrees.
    """
    centre = np.argwhere(brain).mean(axis=0)
    mirror = Mirror(np.array([1.0, 0.0, 0.0]), centre)
    for stage in _STAGES:
        part = brain[:: stage.step, :: stage.step, :: stage.step].astype(np.float32)
        soft = ndimage.gaussian_filter(part, stage.smoothing)
        fitted = _fit(soft, Mirror(mirror.normal, mirror.point / stage.step), stage)
        mirror = Mirror(fitted.normal, fitted.point * stage.step)
    return mirror


def _fit(soft: Floats, mirror: Mirror, stage: _Fit) -> Mirror:
    """Improve a plane of symmetry by Gauss-Newton steps with weights."""
    low, high = _SURFACE
    places = np.flatnonzero((soft > low) & (soft < high))[::_EVERY]
    if not places.size:
        return mirror
    own = soft.ravel()[places]
    points = np.stack(np.unravel_index(places, soft.shape), axis=1).astype(np.float64)
    gradients = np.gradient(soft)
    normal, point = mirror
    around, offset = points - point, 0.0
    for _ in range(stage.iterations):
        distance = around @ normal - offset
        other = (points - 2 * distance[:, None] * normal).T
        residual = ndimage.map_coordinates(soft, other, order=1) - own
        slopes = [ndimage.map_coordinates(g, other, order=1) for g in gradients]
        along = np.stack(slopes, axis=1) @ normal
        tilts = [-2 * (around[:, k] * along + distance * slopes[k]) for k in (1, 2)]
        weight = 1 / (1 + (residual / stage.outlier) ** 2)
        terms = np.stack([2 * along, *tilts], axis=1) * weight[:, None]
        change = np.linalg.lstsq(terms, -residual * weight, rcond=None)[0]
        offset += float(change[0])
        normal = normal + np.array([0.0, change[1], change[2]])
        normal = normal / np.linalg.norm(normal)
    return Mirror(normal, point + offset * normal)


def _closed(mask: Mask, radius: float) -> Mask:
    """Return a mask with its dents filled where no ball of a radius in voxels fits."""
    margin = int(radius) + 1
    padded = np.pad(mask, margin)
    inner = (slice(margin, -margin),) * 3
    return np.asarray(~within(~within(padded, radius), radius)[inner])


def _mirrored(mask: Mask, mirror: Mirror) -> Mask:
    """Return the mirror image of a mask; (I, J, K) bool."""
    matrix = np.eye(3) - 2 * np.outer(mirror.normal, mirror.normal)
    shift = mirror.point - matrix @ mirror.point
    image = ndimage.affine_transform(mask.astype(np.float32), matrix, shift, order=1)
    return np.asarray(image > 0.5)
