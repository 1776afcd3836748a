"""Attention maps and what was checked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import Region


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMaps:
    """Maps on the working grid, normalised in one documented way (see `explain.maps`).

    Parameters
    ----------
    maps : mapping of Region to (I, J, K) float32
        0 to 1 on the working grid.
    raw_range : mapping of Region to (minimum, maximum)
        Of the weights before normalisation, so that two studies can be compared.
    method : str
        In words.
    layers : tuple of str
        Which layers went in.
    """

    maps: Mapping[Region, NDArray[np.float32]]
    raw_range: Mapping[Region, tuple[float, float]]
    method: str
    layers: tuple[str, ...]
