"""From which probability the regions of a study are drawn, beside what the weights say."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import MrSequence

_WATER = frozenset({MrSequence.FLAIR, MrSequence.T2})
_CERTAIN = 0.8
_LEAST_OF_CORE = 0.2
_BINS = 200


def whole_tumour_threshold(shown: Collection[MrSequence], usual: float) -> float:
    """Return the lowest probability that is drawn as whole tumour, `usual` where water is shown.

    Without FLAIR and T2 oedema is guessed from what lies round a core. The guess differs from
    what is visible by its probability, so only what is nearly certain is drawn.

    Examples
    --------
    >>> whole_tumour_threshold({MrSequence.T1C}, 0.5)
    0.8
    >>> whole_tumour_threshold({MrSequence.T1C, MrSequence.T2}, 0.5)
    0.5
    """
    return usual if _WATER & set(shown) else max(usual, _CERTAIN)


def of_core(probability: NDArray[np.float32], usual: float) -> float:
    """Return the lowest probability that is drawn as core, `usual` where that is sure enough.

    Parameters
    ----------
    probability : (I, J, K) float32 array
        Of the core.
    usual : float
        What the weights say.

    Returns
    -------
    float
        .2 to `usual`: what is less probable than that everywhere is no core.
    """
    return min(usual, max(_LEAST_OF_CORE, of_highest_expected_dice(probability)))


def of_highest_expected_dice(probability: NDArray[np.float32]) -> float:
    """Return the cut at which the expected Dice of what is drawn is highest.

    It is half of that Dice: what a network is unsure of as a whole is drawn from lower on, or the
    surest part of it alone would stand for all (Lipton et al. 2014,
    doi 10.1007/978-3-662-44851-9_15, for F1, which is Dice).

    Parameters
    ----------
    probability : (I, J, K) float32 array
        0 to 1; what lies in the lowest of 200 steps counts as nothing.

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
    middle = ((np.arange(_BINS) + 0.5) / _BINS)[:0:-1]
    hit, drawn = np.cumsum(counts * middle), np.cumsum(counts)
    return float((hit / np.maximum(drawn + hit[-1], 1)).max())
