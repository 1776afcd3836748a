"""Distribution of attention over candidates, contralateral regions and dismissed regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.records.study import PreparedStudy

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class StudyMasks:
    """Masks of a study for measuring attention, (I, J, K) bool on the working grid, disjoint."""

    brain: Mask
    candidates: Mask
    """The brain, and the flagged candidates."""
    opposite: Mask
    """The mirrored position of the candidates in the other hemisphere."""
    dismissed: Mask
    """Regions below the score threshold; may be empty."""


@dataclass(frozen=True, slots=True)
class Attended:
    """Shares of all attention in the brain, 0 to 1; None if there is no such region."""

    candidates: float
    opposite: float
    dismissed: float | None


def masks_of(prepared: PreparedStudy, candidates: Mask, dismissed: Mask) -> StudyMasks:
    """Return the masks of a study.

    Parameters
    ----------
    prepared : PreparedStudy
        The study with brain mask and working grid.
    candidates, dismissed : (I, J, K) bool
        On the working grid.
    """
    brain = prepared.brain
    opposite = mirrored(candidates, brain) & brain & ~candidates
    return StudyMasks(
        brain, candidates & brain, opposite, dismissed & brain & ~candidates & ~opposite
    )


def mirrored(mask: Mask, brain: Mask) -> Mask:
    """Mirror a mask across the midline, left to right.

    Parameters
    ----------
    mask, brain : (I, J, K) bool
        On an axis-aligned RAS+ grid, whose first axis is left to right; the midline is the median
        centre of the brain's rows.

    Examples
    --------
    >>> brain = np.ones((6, 2, 2), bool); mask = np.zeros((6, 2, 2), bool); mask[1] = True
    >>> np.flatnonzero(mirrored(mask, brain).any((1, 2))).tolist()
    [4]
    """
    rows = brain.any(axis=0)
    if not rows.any():
        return np.zeros_like(mask)
    first = brain.argmax(axis=0)[rows]
    last = brain.shape[0] - 1 - brain[::-1].argmax(axis=0)[rows]
    twice = round(float(np.median(first + last)))
    at = twice - np.arange(mask.shape[0])
    inside = (at >= 0) & (at < mask.shape[0])
    out = np.zeros_like(mask)
    out[inside] = mask[at[inside]]
    return out


def shares(weights: NDArray[np.float32], masks: StudyMasks) -> Attended:
    """Return the share of attention in each mask.

    Parameters
    ----------
    weights : (I, J, K) float32
        Non-negative, on the working grid.
    """
    total = float(weights[masks.brain].sum(dtype=np.float64)) or 1.0

    def share(mask: Mask) -> float:
        return float(weights[mask].sum(dtype=np.float64)) / total

    dismissed = share(masks.dismissed) if masks.dismissed.any() else None
    return Attended(share(masks.candidates), share(masks.opposite), dismissed)
