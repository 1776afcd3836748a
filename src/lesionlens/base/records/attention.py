"""Attention maps and what was checked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import Region, without_enhancing


@dataclass(frozen=True, slots=True)
class MapChecks:
    """What one map's checks came to; None if a check could not be made."""

    peak_inside: bool | None
    """Whether the strongest attention lies in a flagged part of its region."""
    mass_inside: float | None
    volume_share: float | None
    """Share of the attention, and of the brain, that lies there."""
    deletion: float | None = None
    deletion_random: float | None = None
    deletion_centre: float | None = None
    deletion_half: float | None = None
    """Share of the region's probability that is left when as many of the most attended voxels are
    hidden as were flagged; when as many are hidden at random or about the brain's centre; and when
    half as many of the most attended are hidden. Low is good for the first and the last."""
    seen: bool = True
    """Whether the pass whose attention the map is sees what was flagged."""
    reliable: bool | None = None
    """Whether all checks that were made were passed."""
    words: str = ""
    """The verdict for a reader, with its reason."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMaps:
    """Maps on the working grid, normalised in one documented way (see `explain.maps`)."""

    maps: Mapping[Region, NDArray[np.float32]]
    """Mapping of Region to (I, J, K) float32. 0 to 1 on the working grid."""
    raw_range: Mapping[Region, tuple[float, float]]
    """Mapping of Region to (least, full scale). Before normalisation, in multiples of attending
    everywhere alike: the least value, and the one drawn as 1, so that two studies can be compared.
    """
    method: str
    """In words."""
    layers: tuple[str, ...]
    """Which layers went in."""
    checks: Mapping[Region, MapChecks] = field(default_factory=dict)
    """What was checked of each map; empty if nothing was."""

    def without_enhancing(self) -> AttentionMaps:
        """Return them without that of the enhancing tumour."""
        return replace(
            self,
            maps=without_enhancing(self.maps),
            raw_range=without_enhancing(self.raw_range),
            checks=without_enhancing(self.checks),
        )

    def scale_of(self, region: Region) -> float:
        """Return what a map's 1 stands for, in multiples of even attention; 0 if unknown."""
        return self.raw_range.get(region, (0.0, 0.0))[1]
