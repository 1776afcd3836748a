"""How sure the network is: by how much its answer changes when it sees the study otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def undecided(probability: Floats) -> Floats:
    """Return how near the mean of several answers is to undecided, 0 to 1.

    Answers that contradict each other pull their mean towards a half, and so does a single answer
    that is itself near a half: both kinds of doubt count. A part that is seen in all but one of
    six answers scores a third.

    Parameters
    ----------
    probability : (V, I, J, K) float32
        Whole-tumour probabilities: as acquired, mirrored, and with single sequences left out.

    Returns
    -------
    (I, J, K) float32
        1 - |2 mean - 1|: 0 if all say the same with certainty, 1 where half say yes and half
        say no.

    Examples
    --------
    >>> undecided(np.array([1.0, 0.0], np.float32).reshape(2, 1, 1, 1)).item()
    1.0
    """
    mean = probability.mean(axis=0, dtype=np.float32)
    return np.asarray(1.0 - np.abs(2.0 * mean - 1.0), dtype=np.float32)
