"""Distribution of attention over candidates, contralateral regions and dismissed regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.anatomy import head_of
from lesionlens.base.geometry import Mask
from lesionlens.base.records.study import PreparedStudy


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
class AttentionFractions:
    """Shares of all attention in the brain, 0 to 1; None if there is no such region."""

    candidates: float
    contralateral: float
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
    opposite = _mirrored(candidates, prepared) & ~candidates
    return StudyMasks(
        brain, candidates & brain, opposite, dismissed & brain & ~candidates & ~opposite
    )


def _mirrored(mask: Mask, prepared: PreparedStudy) -> Mask:
    """Mirror a mask across the head's midline; empty without a head."""
    out = np.zeros_like(mask)
    head, grid = head_of(prepared), prepared.working
    if head is None:
        return out
    voxels = np.argwhere(prepared.brain)
    mirrored_voxels = grid.nearest_voxel(head.mirrored(grid.to_mm(voxels)))
    inside = grid.contains(mirrored_voxels)
    out[tuple(voxels[inside].T)] = mask[tuple(mirrored_voxels[inside].T)]
    return out


def shares(weights: NDArray[np.float32], masks: StudyMasks) -> AttentionFractions:
    """Return the share of the non-negative weights (working grid) in each mask."""
    total = float(weights[masks.brain].sum(dtype=np.float64)) or 1.0

    def fraction(mask: Mask) -> float:
        return float(weights[mask].sum(dtype=np.float64)) / total

    dismissed = fraction(masks.dismissed) if masks.dismissed.any() else None
    return AttentionFractions(fraction(masks.candidates), fraction(masks.opposite), dismissed)
