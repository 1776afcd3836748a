"""What each sequence contributed to the answer at every voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import frozen

Floats = NDArray[np.float32]
LEAST_SHARE = 0.05
"""Mean probability that a sequence must add for a place to count as showing in it."""


@dataclass(frozen=True, slots=True, eq=False)
class SequenceEvidence:
    """Voxelwise Shapley values of the sequences, in units of whole-tumour probability."""

    shares: Mapping[MrSequence, Floats]
    """Mapping of MrSequence to (I, J, K) float32. What each present sequence adds at each voxel, -1
    to 1; negative where it contradicts."""
    base: Floats
    """(I, J, K) float32: probability without any sequence; with all shares it sums to the first
    pass's probability."""
    grid: Grid
    """Of the first pass, axis-aligned RAS+; coarser than the image."""

    def __post_init__(self) -> None:
        shares = {sequence: frozen(share) for sequence, share in self.shares.items()}
        object.__setattr__(self, "shares", shares)
        object.__setattr__(self, "base", frozen(self.base))

    @property
    def probability(self) -> Floats:
        """The (I, J, K) float32 sum of base and shares: the first pass's probability."""
        total = np.sum([self.base, *self.shares.values()], axis=0, dtype=np.float64)
        return np.asarray(total, np.float32)

    def within(self, voxels: NDArray[np.intp]) -> dict[MrSequence, float]:
        """Return the mean of each map over flat indices of voxels, such as a candidate's."""
        return {s: float(share.ravel()[voxels].mean()) for s, share in self.shares.items()}

    def named(self, voxels: NDArray[np.intp]) -> MrSequence | None:
        """Return the sequence that adds most over flat indices of voxels.

        None if none adds `LEAST_SHARE`: nothing carries what the network does not see there.
        """
        means = self.within(voxels)
        first = max(means, key=lambda sequence: means[sequence])
        return first if means[first] >= LEAST_SHARE else None


@dataclass(frozen=True, slots=True, eq=False)
class SequenceScores:
    """What each sequence shows of each component of a `ComponentMask`, in its order."""

    relevance: Sequence[Mapping[str, float | None]]
    """Signed Shapley values of `RelevanceMeasure.OVERLAP`."""
    alone: Sequence[Mapping[str, float | None]]
    left_out: Sequence[Mapping[str, float | None]]
    """The same measure with each sequence alone, and with all but it."""
    by_voxel: SequenceEvidence
    """What each sequence adds at every voxel."""
