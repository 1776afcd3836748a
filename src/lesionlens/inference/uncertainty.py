"""How sure the network is: by how much its answer changes when it sees the study otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def spread(probability: Floats) -> Floats:
    """Return the disagreement of several answers, 0 to 1.

    Parameters
    ----------
    probability : (V, I, J, K) float32
        Whole-tumour probabilities: as seen, mirrored, and with single sequences left out.

    Returns
    -------
    (I, J, K) float32
        Twice the standard deviation over the answers: 0 where all agree, 1 where half say yes and
        half say no.

    Examples
    --------
    >>> spread(np.array([1.0, 0.0], np.float32).reshape(2, 1, 1, 1)).item()
    1.0
    """
    return np.asarray(np.clip(2.0 * probability.std(axis=0), 0.0, 1.0), dtype=np.float32)
