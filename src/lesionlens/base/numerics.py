"""Masks (connected parts, depth, overlap), polynomial fits, a robust deviation, log odds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from lesionlens.base.geometry import TOUCHING, Floats, Mask, Shape3


def connected_parts(
    mask: Mask, structure: Mask | None = TOUCHING
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Return the connected parts of a mask, numbered, and their sizes.

    Parameters
    ----------
    structure : bool array or None
        Connectivity, as for `scipy.ndimage.label`; None for voxels that share a face.

    Returns
    -------
    numbers : int32
        Of the mask's shape: 1 to N, 0 outside the mask.
    sizes : (N + 1,) int
        Voxels of each part by its number; that of 0 is 0.

    Examples
    --------
    >>> numbers, sizes = connected_parts(np.array([True, False, True, True]), None)
    >>> numbers.tolist(), sizes.tolist()
    ([1, 0, 2, 2], [0, 1, 2])
    """
    numbers, count = ndimage.label(mask, structure)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0
    return numbers, sizes


def depth_inside(
    mask: Mask, spacing_mm: Sequence[float] | NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the distance of each voxel from outside the mask; the array's border is outside.

    Parameters
    ----------
    spacing_mm : (N,) float or None
        Voxel edges along the axes; None for a distance in voxels.

    Examples
    --------
    >>> depth_inside(np.array([True, True, True, False])).tolist()
    [1.0, 2.0, 1.0, 0.0]
    """
    padded = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)
    return np.asarray(padded[(slice(1, -1),) * mask.ndim])


def dice(a: Mask, b: Mask) -> float:
    """Return the Dice coefficient of two masks; 1 if both are empty, 0 if one is.

    Notes
    -----
    Dice, Ecology 26:297-302, 1945, DOI 10.2307/1932409.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([False, True, True]))
    0.5
    """
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 1.0 if total == 0 else 2.0 * int(np.count_nonzero(a & b)) / total


def distances_to(points: NDArray[np.integer], shape: Shape3) -> Floats:
    """Return each voxel's distance, in voxels, to the nearest of (N, 3) voxels inside.

    Examples
    --------
    >>> distances_to(np.array([[0, 0, 1]]), (1, 1, 4)).ravel().tolist()
    [1.0, 0.0, 1.0, 2.0]
    """
    if not 0 < len(points) <= 24:  # slower for a few points
        is_other = np.ones(shape, bool)
        is_other[tuple(points.T)] = False
        return np.asarray(ndimage.distance_transform_edt(is_other), np.float32)
    squares = np.full(shape, np.inf, np.float32)
    i, j, k = (np.arange(n, dtype=np.float32) for n in shape)
    for a, b, c in points:
        plane = ((i - a) ** 2)[:, None] + (j - b) ** 2
        np.minimum(squares, plane[:, :, None] + (k - c) ** 2, out=squares)
    return np.sqrt(squares)


def quadratic(*axes: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the ten terms of a quadratic in three coordinates.

    Parameters
    ----------
    axes : three (I,), (J,), (K,) arrays
        Coordinates along each axis, such as from -1 to 1.

    Returns
    -------
    (10, I, J, K) float32 array
        1, the axes, their squares and products.

    Examples
    --------
    >>> quadratic(*[np.array([2.0])] * 3).ravel().tolist()
    [1.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    """
    a, b, c = np.meshgrid(*axes, indexing="ij")
    terms = [np.ones_like(a), a, b, c, a * a, b * b, c * c, a * b, a * c, b * c]
    return np.stack(terms).astype(np.float32)


def weighted_fit(
    rows: NDArray[np.floating], values: NDArray[np.floating], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return (T,) coefficients: the weighted least-squares fit of (N, T) rows to (N,) values."""
    weighted = (rows * weights[:, None]).T.astype(np.float64)
    return np.asarray(np.linalg.lstsq(weighted @ rows, weighted @ values, rcond=None)[0], float)


def robust_spread(values: NDArray[np.floating]) -> float:
    """Return the standard deviation estimated from the median absolute deviation.

    Examples
    --------
    >>> round(robust_spread(np.array([1.0, 2.0, 3.0, 4.0, 900.0])), 4)
    1.4826
    """
    return 1.4826 * float(np.median(np.abs(values - float(np.median(values)))))


def logit(probability: NDArray[np.floating], eps: float) -> NDArray[np.floating]:
    """Return log(p / (1 - p)), with p clipped to [eps, 1 - eps]."""
    return np.asarray(special.logit(np.clip(probability, eps, 1 - eps)))
