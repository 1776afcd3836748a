"""Score of a connected component from its probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.records.prediction import Scoring

Floats = NDArray[np.floating]

TOP_SHARE = 0.3
"""Share of a component's most certain voxels that determine its score."""
_EDGE = 1e-6


def component_score(
    probability: Floats, volume_ml: float, scoring: Scoring | None = None
) -> NDArray[np.float64]:
    """Score a component by its most certain voxels and its volume.

    The mean over all voxels would be lowered by a faint edge; the maximum would be raised by one
    bright voxel of a vessel. The mean logit of the most certain 30% is a compromise. Small
    components are more often false positives, so the volume is a second feature.

    Parameters
    ----------
    probability : (..., N) float
        Whole-tumour probabilities of the component's N >= 1 voxels; leading axes are inputs.
    scoring : Scoring or None
        The fitted model; None uses the mean logit directly.

    Returns
    -------
    (...) float64
        0 to 1.

    Examples
    --------
    >>> round(float(component_score(np.full(9, 0.8), 1.0)), 6)
    0.8
    """
    model = scoring or Scoring()
    count = max(1, int(np.ceil(TOP_SHARE * probability.shape[-1])))
    highest = np.partition(probability.astype(np.float64), -count, axis=-1)[..., -count:]
    highest = np.clip(highest, _EDGE, 1 - _EDGE)
    logit = np.log(highest / (1 - highest)).mean(axis=-1)
    size = np.log(max(volume_ml, 1e-3))
    total = model.intercept + model.logit * logit + model.log_ml * size
    return np.asarray(1 / (1 + np.exp(-total)))
