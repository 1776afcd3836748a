"""Uncertainty from the variation of predictions over views of a study."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def undecided(probability: Floats) -> Floats:
    """Return how close the mean of several predictions is to one half, 0 to 1.

    Contradicting predictions move the mean towards one half, and so does a single prediction near
    one half. A region present in five of six predictions has an uncertainty of one third.

    Parameters
    ----------
    probability : (V, I, J, K) float32
        Whole-tumour probabilities: unperturbed, mirrored, and with single sequences omitted.

    Returns
    -------
    (I, J, K) float32
        1 - |2 mean - 1|: 0 if all agree with certainty, 1 if half are positive and half negative.

    Examples
    --------
    >>> undecided(np.array([1.0, 0.0], np.float32).reshape(2, 1, 1, 1)).item()
    1.0
    """
    mean = probability.mean(axis=0, dtype=np.float32)
    return np.asarray(1.0 - np.abs(2.0 * mean - 1.0), dtype=np.float32)
