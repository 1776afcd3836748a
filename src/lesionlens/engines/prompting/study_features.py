"""Inputs of the prompt network that do not depend on the prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import TOUCHING
from lesionlens.base.records.prompts import Points

FLAGGED = 0.5
"""Probability at which the analysis flags a voxel."""
_SMOOTH_MM = 0.8


@dataclass(frozen=True, eq=False)
class PromptStudy:
    """Network input and predictions of a study, on 1 mm voxels over the brain's box."""

    images: NDArray[np.float32]
    """(4, I, J, K): z-scored in the brain, zero outside and for absent sequences."""
    brain: NDArray[np.bool_]
    """(I, J, K)."""
    present: tuple[bool, ...]
    """(4,)."""
    probability: NDArray[np.floating] | None = None
    """(3, I, J, K): predicted probability of WT, TC, ET; None without an analysis."""
    flagged: tuple[NDArray[np.int32], ...] = field(init=False)
    """Connected components of predicted WT, TC and ET, on every second voxel."""

    def __post_init__(self) -> None:
        coarse = () if self.probability is None else self.probability[:, ::2, ::2, ::2]
        parts = tuple(ndimage.label(probability >= FLAGGED, TOUCHING)[0] for probability in coarse)
        object.__setattr__(self, "flagged", parts)

    @cached_property
    def smooth(self) -> NDArray[np.float32]:
        """(4, I, J, K): images with less noise, so that a single voxel shows its tissue.

        Made for the first correction and kept: it takes 50 MB.
        """
        out = np.empty(self.images.shape, np.float32)
        for image, smoothed in zip(self.images, out, strict=True):
            ndimage.gaussian_filter(image, _SMOOTH_MM, output=smoothed)
        return out

    def flags(self, points: Points) -> bool:
        """Return whether the analysis flags one of (N, 3) voxels."""
        return self.probability is not None and bool(
            (self.probability[0][tuple(points.T)] >= FLAGGED).any()
        )
