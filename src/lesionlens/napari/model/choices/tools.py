"""The tools in the reader's hand while an outline is drawn: frozen, without Qt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import MrSequence

NEW = 0
"""Stands for the id of a candidate that is being drawn and is missing yet."""


class Limit(StrEnum):
    """Where the brush paints within a stroke."""

    ANYWHERE = "anywhere"
    INTENSITY = "intensity"
    """Where the sequence shown lies in a range."""
    PROBABILITY = "probability"
    """Where the network's whole-tumour probability lies in a range."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the reader chose of them."""

    ball: bool = False
    """Whether the brush is a ball; else a disc on the slice."""
    limit: Limit = Limit.ANYWHERE
    """Where it paints."""
    low: float = 0.0
    high: float = 1.0
    """The range."""
    sequence: MrSequence | None = None
    """Whose intensities they are."""
    points: tuple[tuple[float, float, float], ...] | None = None
    """Tuple of (3,). Where to split, RAS+ mm, as far as they were pointed at; None while nothing is
    split."""
    prompting: bool = False
    """Whether the pointer says what belongs, and does not paint."""


def usual_range(values: NDArray[np.float32], mine: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the range of values that a brush begins with: that of what is drawn already.

    Parameters
    ----------
    values : (I, J, K) float32
        The sequence shown.
    mine : (I, J, K) bool
        What is drawn; where it is nothing, the range is that of everything.

    Examples
    --------
    >>> data = np.arange(101, dtype=np.float32).reshape(1, 1, 101)
    >>> usual_range(data, data >= 0)
    (5.0, 95.0)
    """
    inside = values[mine] if mine.any() else values.ravel()
    low, high = np.percentile(inside, (5.0, 95.0))
    return round(float(low), 3), round(float(high), 3)
