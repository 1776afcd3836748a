"""From logits to probabilities, and from a component's probabilities to its score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

TOP_SHARE = 0.3
"""Share of a component's voxels, the surest ones, whose mean is its score."""


def component_score(probability: Floats) -> NDArray[np.float64]:
    """Score a component by the mean of its surest voxels.

    A mean over all voxels would punish a lesion for its faint edge; the maximum would reward one
    bright voxel of a vessel. The mean of the surest 30 % of the glance's calibrated whole-tumour
    probabilities lies between. It is a probability as far as those are calibrated.

    Parameters
    ----------
    probability : (..., N) float
        Whole-tumour probabilities of the component's N >= 1 voxels; leading axes are variants.

    Returns
    -------
    (...) float64
        0 to 1.

    Examples
    --------
    >>> round(float(component_score(np.array([0.1, 0.2, 0.3, 0.9, 0.8, 0.7, 0.5]))), 3)
    0.8
    """
    count = max(1, round(TOP_SHARE * probability.shape[-1] + 0.5))
    top = np.partition(probability.astype(np.float64), -count, axis=-1)[..., -count:]
    return np.asarray(top.mean(axis=-1))
