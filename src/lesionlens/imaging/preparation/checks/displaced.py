"""Detect a sequence that lies beside the others, by what the images show within the brain.

Sequences on one grid that were stripped with one mask count as registered. If one of them was not,
or the registration failed, its outline tells nothing: the mask was applied afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Images, QualityCheck, failed_check
from lesionlens.base.text import joined_with_and

DISPLACED_MM = 1.6
"""Distance from the other sequences above which one is reported."""
_BINS = 24
_REACH = 3
"""Largest displacement that is compared, voxels; longer ones count as this."""
_DEPTH = 5
"""Depth of the compared voxels, in steps of two: the outlines must not matter."""
_MIN_VOXELS = 5000
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
            "coincide, and outlines and enhancement may be wrong. Register them again, or use the "
            "scans before they were registered."
        )
    else:
        names = ", ".join(f"{s.display_name} {distance:.0f} mm" for s, distance in listed.items())
        message = (
            f"Displaced relative to the other sequences: {names}. Outlines and enhancement may be "
            "wrong. Register the sequences again, or use the scans before they were registered."
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
    deep = np.argwhere(ndimage.binary_erosion(brain[::2, ::2, ::2], iterations=_DEPTH)) * 2
    if len(images) < 2 or len(deep) < _MIN_VOXELS:
        return {}
    places = np.ravel_multi_index(tuple(deep.T), brain.shape)
    binned = {s: _binned(values, places) for s, values in images.items()}
    strides = (brain.shape[1] * brain.shape[2], brain.shape[2], 1)
    between = {
        (first, second): np.array(
            [_peak(binned[first], binned[second], places, stride) for stride in strides]
        )
        for first, second in combinations(images, 2)
    }
    return {s: _median_of(s, between) for s in images}


def _binned(values: Floats, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bin of every voxel, flat; bins hold equally many of the compared voxels."""
    smoothed = ndimage.gaussian_filter(values, 0.8, truncate=2.0).ravel()
    inner = np.quantile(smoothed[places[::4]], np.linspace(0, 1, _BINS + 1)[1:-1])
    return np.searchsorted(inner, smoothed)


def _peak(
    first: NDArray[np.int64], second: NDArray[np.int64], places: NDArray[np.int64], stride: int
) -> float:
    """Return the offset of the second image along an axis at which the two fit best, voxels."""
    rows = first[places] * _BINS
    offsets = range(-_REACH, _REACH + 1)
    fits = [_information(rows + second[places + offset * stride]) for offset in offsets]
    best = int(np.argmax(fits))
    if best in (0, 2 * _REACH):
        return float(best - _REACH)
    before, top, after = fits[best - 1 : best + 2]
    curvature = before - 2 * top + after
    return best - _REACH + (0.5 * (before - after) / curvature if curvature < 0 else 0.0)


def _information(cells: NDArray[np.int64]) -> float:
    """Return the mutual information of two binned images, nats; one cell for each voxel."""
    joint = np.bincount(cells, minlength=_BINS * _BINS).reshape(_BINS, _BINS) / cells.size
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    occupied = joint > 0
    return float((joint[occupied] * np.log(joint[occupied] / independent[occupied])).sum())


def _median_of(
    sequence: MrSequence, between: Mapping[tuple[MrSequence, MrSequence], NDArray[np.float64]]
) -> NDArray[np.float64]:
    offsets = [
        vector if second is sequence else -vector
        for (first, second), vector in between.items()
        if sequence in (first, second)
    ]
    return np.asarray(np.median(offsets, axis=0))
