"""Attention maps and the results of their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.model import stored_as
from lesionlens.base.records.arrays import frozen


@dataclass(frozen=True, slots=True)
class MapChecks:
    """Results of one map's checks; None if a check could not be made."""

    __pydantic_config__: ClassVar = stored_as(verdict="words")

    peak_inside: bool | None
    """Whether the strongest attention lies in a flagged part of its region."""
    mass_inside: float | None
    volume_share: float | None
    """Share of the attention, and of the brain volume, inside that part."""
    near: float | None = None
    """Share of the attention in voxels of 3 mm that hold any of that part."""
    attainable: float = 1.0
    """`near` of a perfect map, the outline itself, whose values are spaced like this map's."""
    others_near: float | None = None
    """The lowest `near` of the other regions' maps, which are of the same layer, as a share of what
    they can attain."""
    reliable: bool | None = None
    """Whether all completed checks passed."""
    verdict: str = ""
    """The verdict with its reason, in words."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMaps:
    """Attention maps on the working grid, normalised as documented in `explain.maps`."""

    maps: Mapping[Region, NDArray[np.float32]]
    """Mapping of Region to (I, J, K) float32. 0 to 1 on the working grid."""
    raw_range: Mapping[Region, tuple[float, float]]
    """Mapping of Region to (minimum, full scale). Values before normalisation, in multiples of
    uniform attention: the minimum, and the value shown as 1, so that two studies can be
    compared.
    """
    method: str
    """In words."""
    layers: tuple[str, ...]
    checks: Mapping[Region, MapChecks] = field(default_factory=dict)
    """Results of the checks of each map; empty if none were made."""

    @property
    def is_attention(self) -> bool:
        """False for maps that their engine does not call attention, such as Grad-CAM."""
        method = self.method.lower().replace("not attention", "")
        return not self.method or "attention" in method

    def scale_of(self, region: Region) -> float:
        """Return the raw value of a map's 1, in multiples of uniform attention; 0 if unknown."""
        return self.raw_range.get(region, (0.0, 0.0))[1]


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
