"""Detect a sequence that lies beside the others, by what the images show within the brain.

Sequences on one grid that were stripped with one mask count as registered. If one of them was not,
or the registration failed, its outline tells nothing: the mask was applied afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Images, QualityCheck, failed_check
from lesionlens.base.text import joined_with_and

DISPLACED_MM = 2.5
"""Distance from the other sequences above which one is reported.

Measured in sixteen tumours: at most 2.35 in 63 sequences, 3.6 in one that is displaced, 2.67 and
more in all 64 that were moved by 4 mm, 2.17 and more in 32 moved by 3 mm.
"""
_REACH = 3
"""Largest displacement that is compared, in steps of two voxels; longer ones count as this."""
_DEPTH = 5
"""Depth of the compared voxels, in steps of two: the outlines must not matter."""
_MARGIN = _REACH + 1
_MIN_VOXELS, _MAX_VOXELS = 3000, 20_000
"""Fewer are not compared, and of more about this many."""
Vectors = dict[MrSequence, NDArray[np.float64]]


def check(images: Images, brain: Mask, edge_mm: float) -> QualityCheck | None:
    """Check for displaced sequences; None if there are none, or too little brain to compare.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        On the grid of `brain`, of voxels of `edge_mm`.
    """
    distances = {
        s: float(np.linalg.norm(vector)) * edge_mm
        for s, vector in displacements(images, brain).items()
    }
    listed = {s: distance for s, distance in distances.items() if distance > DISPLACED_MM}
    if not listed:
        return None
    if len(images) == 2:
        names = joined_with_and([s.display_name for s in images])
        distance = max(listed.values())
        message = (
            f"{names} lie about {distance:.0f} mm apart within the brain: structures do not "
            "coincide, and outlines and enhancement may be wrong. Register them again, or use "
            "the unregistered scans."
        )
    else:
        names = ", ".join(f"{s.display_name} {distance:.0f} mm" for s, distance in listed.items())
        message = (
            f"Displaced relative to the other sequences: {names}. Outlines and enhancement may be "
            "wrong. Register the sequences again, or use the unregistered scans."
        )
    return failed_check("registration", message)


def displacements(images: Images, brain: Mask) -> Vectors:
    """Return how far each sequence lies from where the others show the same structures.

    Returns
    -------
    dict
        (3,) voxels along the axes of the grid: the median over the other sequences. Empty for one
        sequence, or if too little of the brain is deep enough.
    """
    deep = np.argwhere(ndimage.binary_erosion(brain[::2, ::2, ::2], iterations=_DEPTH))
    if len(images) < 2 or len(deep) < _MIN_VOXELS:
        return {}
    low, high = deep.min(axis=0) - _MARGIN, deep.max(axis=0) + _MARGIN + 1
    box = tuple(slice(2 * start, 2 * stop) for start, stop in zip(low, high, strict=True))
    places = (deep - low)[:: max(len(deep) // _MAX_VOXELS, 1)]
    edges = {s: _edges(_halved(values[box]), places) for s, values in images.items()}
    between = {
        (first, second): 2 * _peak(edges[first], edges[second], places)
        for first, second in combinations(images, 2)
    }
    return {s: _median_of(s, between) for s in images}


def _halved(values: Floats) -> Floats:
    """Return the means of two by two by two voxels."""
    halves = (values[0::2] + values[1::2])[:, 0::2] + (values[0::2] + values[1::2])[:, 1::2]
    return np.asarray((halves[..., 0::2] + halves[..., 1::2]) / 8)


def _edges(values: Floats, places: NDArray[np.int64]) -> Floats:
    """Return the directions of an image's edges: gradients (3, I, J, K) of a length below 1."""
    gradients = np.array(np.gradient(values))
    squares = np.square(gradients).sum(axis=0)
    typical = float(np.median(squares[tuple(places.T)]))
    return np.asarray(gradients / np.sqrt(squares + max(typical, 1e-12)), dtype=np.float32)


def _peak(first: Floats, second: Floats, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (3,) offset of the second image at which the edges of two fit best, voxels.

    Notes
    -----
    Normalised gradient fields: Haber and Modersitzki, MICCAI 2006, doi 10.1007/11866763_89. Each
    axis is searched alone.
    """
    edges = first[(slice(None), *places.T)]

    def fit(offset: NDArray[np.int64]) -> float:
        cosines = (edges * second[(slice(None), *(places + offset).T)]).sum(axis=0)
        return float(np.mean(np.square(cosines), dtype=np.float64))

    return np.array([_best_step(fit, axis) for axis in np.eye(3, dtype=np.int64)])


def _best_step(fit: Callable[[NDArray[np.int64]], float], axis: NDArray[np.int64]) -> float:
    """Return the steps along an axis at which a parabola through the fits has its top."""
    fits = [fit(step * axis) for step in range(-_REACH, _REACH + 1)]
    best = int(np.argmax(fits))
    if best in (0, 2 * _REACH):
        return float(best - _REACH)
    before, top, after = fits[best - 1 : best + 2]
    curvature = before - 2 * top + after
    return best - _REACH + (0.5 * (before - after) / curvature if curvature < 0 else 0.0)


def _median_of(
    sequence: MrSequence, between: Mapping[tuple[MrSequence, MrSequence], NDArray[np.float64]]
) -> NDArray[np.float64]:
    offsets = [
        vector if second is sequence else -vector
        for (first, second), vector in between.items()
        if sequence in (first, second)
    ]
    return np.asarray(np.median(offsets, axis=0))
