"""Tools for drawing an outline: frozen, without Qt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import MrSequence

NEW = 0
"""Id of a new candidate being drawn."""
DRAWN_CAVITY = -1
"""In place of the id of a candidate while the resection cavity is drawn."""


class Limit(StrEnum):
    """Limit of the brush."""

    ANYWHERE = "anywhere"
    INTENSITY = "intensity"
    """Voxels whose intensity in the shown sequence is within a range."""
    PROBABILITY = "probability"
    """Voxels whose whole-tumour probability is within a range."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The reader's choices."""

    ball: bool = False
    """Whether the brush is a ball instead of a disc on the slice."""
    limit: Limit = Limit.ANYWHERE
    low: float = 0.0
    high: float = 1.0
    """Range of the limit."""
    sequence: MrSequence | None = None
    """Sequence of an intensity range."""
    points: tuple[tuple[float, float, float], ...] | None = None
    """Tuple of (3,). Split points set so far, RAS+ mm; None if no split is in progress."""
    prompting: bool = False
    """Whether the pointer makes prompts instead of painting."""
    excluding: bool = False
    """Whether prompts exclude, and with Alt include."""


def default_range(values: NDArray[np.float32], drawn: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the initial range of the brush, with six digits: that of the drawn voxels.

    Parameters
    ----------
    values : (I, J, K) float32
        Values of the shown sequence.
    drawn : (I, J, K) bool
        Drawn voxels; if there are none, the range is that of all voxels.

    Examples
    --------
    >>> data = np.arange(101, dtype=np.float32).reshape(1, 1, 101)
    >>> default_range(data, data >= 0), default_range(data / 1e6, data >= 0)
    ((5.0, 95.0), (5e-06, 9.5e-05))
    """
    selected = values[drawn] if drawn.any() else values.ravel()
    low, high = np.percentile(selected, (5.0, 95.0))
    return float(f"{low:.6g}"), float(f"{high:.6g}")
