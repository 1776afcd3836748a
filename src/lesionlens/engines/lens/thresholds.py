"""Probability thresholds of a study's regions, adjusted from those in the weights."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import MrSequence

_WATER_SENSITIVE = frozenset({MrSequence.FLAIR, MrSequence.T2})
_CERTAIN_THRESHOLD = 0.8
_MIN_CORE_THRESHOLD = 0.2
_BINS = 200


def whole_tumour_threshold(sequences: Collection[MrSequence], default: float) -> float:
    """Return the whole-tumour threshold; `default` if FLAIR or T2 is available.

    Without FLAIR and T2 oedema is only inferred from its position around a core, with a lower
    probability, so only nearly certain voxels are included.

    Examples
    --------
    >>> whole_tumour_threshold({MrSequence.T1C}, 0.5)
    0.8
    >>> whole_tumour_threshold({MrSequence.T1C, MrSequence.T2}, 0.5)
    0.5
    """
    return default if _WATER_SENSITIVE & set(sequences) else max(default, _CERTAIN_THRESHOLD)


def coarse_whole_tumour_threshold(probability: NDArray[np.float32], default: float) -> float:
    """Return the whole-tumour threshold of a pass over larger voxels.

    A faint tumour is less certain there, so the threshold is that of the highest expected Dice if
    it is lower. One for nearly certain voxels only stays.

    Parameters
    ----------
    probability : (I, J, K) float32 array
        Probability of the whole tumour.
    default : float
        Threshold as of `whole_tumour_threshold`.
    """
    return default if default >= _CERTAIN_THRESHOLD else core_threshold(probability, default)


def core_threshold(probability: NDArray[np.float32], default: float) -> float:
    """Return the core threshold; `default` if the core is certain enough.

    Parameters
    ----------
    probability : (I, J, K) float32 array
        Probability of the core.

    Returns
    -------
    float
        .2 to `default`.
    """
    return min(default, max(_MIN_CORE_THRESHOLD, of_highest_expected_dice(probability)))


def of_highest_expected_dice(probability: NDArray[np.float32]) -> float:
    """Return the threshold with the highest expected Dice.

    It equals half of that Dice: an object that is uncertain as a whole gets a lower threshold, or
    only its most certain part would be included (Lipton et al. 2014, doi
    10.1007/978-3-662-44851-9_15, for F1, which is Dice).

    Parameters
    ----------
    probability : (I, J, K) float32 array
        0 to 1; values in the lowest of 200 bins are ignored.

    Returns
    -------
    float
        0 to .5.

    Examples
    --------
    >>> sure = np.repeat(np.float32([0, 1]), 500).reshape(10, 10, 10)
    >>> round(of_highest_expected_dice(sure), 2), round(of_highest_expected_dice(sure * 0.4), 2)
    (0.5, 0.29)
    """
    counts = np.histogram(probability, _BINS, (0, 1))[0][:0:-1]
    centres = ((np.arange(_BINS) + 0.5) / _BINS)[:0:-1]
    expected_overlap, sizes = np.cumsum(counts * centres), np.cumsum(counts)
    return float((expected_overlap / np.maximum(sizes + expected_overlap[-1], 1)).max())
