"""Polynomial fits of smooth fields, a robust deviation, log odds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special


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
