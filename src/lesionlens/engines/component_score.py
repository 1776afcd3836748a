"""From a component's probabilities to its score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.records.prediction import Scoring

Floats = NDArray[np.floating]

TOP_SHARE = 0.3
"""Share of a component's voxels, the surest ones, that its score is taken from."""
_EDGE = 1e-6


def component_score(
    probability: Floats, volume_ml: float, scoring: Scoring | None = None
) -> NDArray[np.float64]:
    """Score a component by its surest voxels and its size.

    A mean over all voxels would punish a lesion for its faint edge; the maximum would reward one
    bright voxel of a vessel. The mean logit of the surest 30 % lies between. Small regions are
    wrong more often than large ones, so the volume counts too.

    Parameters
    ----------
    probability : (..., N) float
        Whole-tumour probabilities of the component's N >= 1 voxels; leading axes are inputs.
    volume_ml : float
        Of the component.
    scoring : Scoring or None
        The fitted model; None takes the mean logit as it is.

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
    top = np.partition(probability.astype(np.float64), -count, axis=-1)[..., -count:]
    top = np.clip(top, _EDGE, 1 - _EDGE)
    logit = np.log(top / (1 - top)).mean(axis=-1)
    size = np.log(max(volume_ml, 1e-3))
    total = model.intercept + model.logit * logit + model.log_ml * size
    return np.asarray(1 / (1 + np.exp(-total)))
