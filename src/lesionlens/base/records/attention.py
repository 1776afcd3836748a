"""Attention maps and the results of their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import Region, without_enhancing


@dataclass(frozen=True, slots=True)
class MapChecks:
    """Results of one map's checks; None if a check could not be made."""

    peak_inside: bool | None
    """Whether the strongest attention lies in a flagged part of its region."""
    mass_inside: float | None
    volume_share: float | None
    """Share of the attention, and of the brain volume, inside that part."""
    deletion: float | None = None
    deletion_random: float | None = None
    deletion_centre: float | None = None
    deletion_half: float | None = None
    """Share of the region's probability that remains when n voxels are occluded, n being the number
    of flagged voxels: those with most attention; at random; around the brain's centre; and half
    of n with most attention. Low is good for the first and the last.
    """
    seen: bool = True
    """Whether the region is detected by the pass whose attention the map shows."""
    reliable: bool | None = None
    """Whether all completed checks passed."""
    words: str = ""
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
    """The layers used."""
    checks: Mapping[Region, MapChecks] = field(default_factory=dict)
    """Results of the checks of each map; empty if none were made."""

    def without_enhancing(self) -> AttentionMaps:
        """Return a copy without the map of the enhancing tumour."""
        return replace(
            self,
            maps=without_enhancing(self.maps),
            raw_range=without_enhancing(self.raw_range),
            checks=without_enhancing(self.checks),
        )

    def scale_of(self, region: Region) -> float:
        """Return the raw value of a map's 1, in multiples of uniform attention; 0 if unknown."""
        return self.raw_range.get(region, (0.0, 0.0))[1]
