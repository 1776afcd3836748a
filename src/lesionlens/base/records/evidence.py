"""The contribution of each sequence to the prediction at every voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import frozen


@dataclass(frozen=True, slots=True, eq=False)
class SequenceEvidence:
    """Voxelwise Shapley values of the sequences, in units of whole-tumour probability."""

    shares: Mapping[MrSequence, Floats]
    """Mapping of MrSequence to (I, J, K) float32. Contribution of each available sequence at each
    voxel, -1 to 1; negative if it lowers the probability.
    """
    base: Floats
    """(I, J, K) float32: probability without any sequence; with all shares it sums to the first
    pass's probability."""
    grid: Grid
    """Grid of the first pass, axis-aligned RAS+; coarser than the image."""

    def __post_init__(self) -> None:
        shares = {sequence: frozen(share) for sequence, share in self.shares.items()}
        object.__setattr__(self, "shares", shares)
        object.__setattr__(self, "base", frozen(self.base))

    def within(self, voxels: NDArray[np.intp]) -> dict[MrSequence, float]:
        """Return the mean contribution of each sequence over flat voxel indices."""
        return {s: float(share.ravel()[voxels].mean()) for s, share in self.shares.items()}
