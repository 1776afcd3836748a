"""Normalise an engine's attention to maps from 0 to 1 that are comparable between studies.

Normalisation, the same for every engine, study and region:

1. The weights of the region's query are normalised over the brain's voxels, so that they sum to 1.
2. They are multiplied by the number of brain voxels: 1 is uniform attention. This is the raw value.
3. The map is the raw value divided by its full scale and clipped at 1. Full scale is the value
above which `TOP_MASS` of the attention is, so that a single spike does not dominate; at least
`FAINT`, so that an almost uniform map stays faint instead of being amplified.

Below full scale the map is proportional to the weights; the full scale is stored with the map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import bounding_box
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import AttentionMaps
from lesionlens.base.records.prediction import Trace

FAINT = 8.0
"""Minimum full scale, as a multiple of uniform attention."""
TOP_MASS = 0.2
"""Share of the attention that is shown at full scale."""


def normalised(trace: Trace, brain: NDArray[np.bool_]) -> AttentionMaps:
    """Normalise the cross-attention of each region.

    Parameters
    ----------
    trace : Trace
        Weights on the working grid.
    brain : (I, J, K) bool
        On the working grid; weights outside it are ignored.

    Returns
    -------
    AttentionMaps
        0 to 1; raw ranges are the minimum raw value in the brain and the one shown as 1, in
        multiples of uniform attention.

    Examples
    --------
    >>> weights = np.zeros((2, 2, 4), np.float32); weights[0, 0, 0] = 3; weights[0, 0, 1] = 1
    >>> maps = normalised(Trace({Region.WT: weights}, "a test", ()), np.ones((2, 2, 4), bool))
    >>> maps.raw_range[Region.WT], float(maps.maps[Region.WT].max())
    ((0.0, 12.0), 1.0)
    """
    maps: dict[Region, NDArray[np.float32]] = {}
    ranges: dict[Region, tuple[float, float]] = {}
    box = bounding_box(brain)
    for region in (region for region in Region if region in trace.cross):
        raw = relative(trace.cross[region], brain)
        inside = raw[brain]
        scale = full_scale(inside)
        maps[region] = np.zeros_like(raw)
        if box is not None:
            maps[region][box] = np.minimum(raw[box] / np.float32(scale), np.float32(1.0))
        ranges[region] = (float(inside.min(initial=scale)), scale)
    return AttentionMaps(maps, ranges, trace.method, trace.layers)


def relative(weights: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (I, J, K) weights in multiples of uniform attention; zero outside the brain."""
    masked = np.where(brain, np.clip(weights, 0.0, None), 0.0).astype(np.float32)
    total = float(masked.sum(dtype=np.float64))
    if total <= 0:
        return masked
    return np.asarray(masked * np.float32(np.count_nonzero(brain) / total))


def full_scale(raw: NDArray[np.float32]) -> float:
    """Return the raw value above which (N,) values are shown as 1.

    Examples
    --------
    >>> full_scale(np.array([1, 1, 1, 1, 1, 1, 1, 1, 20, 100], np.float32))
    100.0
    """
    values = np.sort(raw[raw > FAINT])[::-1]
    if not values.size:
        return FAINT
    rank = np.searchsorted(np.cumsum(values, dtype=np.float64), TOP_MASS * raw.sum())
    return float(values[min(int(rank), values.size - 1)])


def by_logarithm(values: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Return a map on a logarithmic scale: 0 at uniform attention or less, 1 at full scale.

    Of several lesions the largest receives most of the attention; on a logarithmic scale the others
    are visible.

    Parameters
    ----------
    values : (...) float32
        0 to 1, as `normalised` gives them.
    scale : float
        Full scale in multiples of uniform attention; up to 1 it is unknown, and nothing is changed.

    Examples
    --------
    >>> by_logarithm(np.array([0.0, 0.01, 0.1, 1.0], np.float32), 100.0).round(3).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    if scale <= 1:
        return values
    raw = np.maximum(values * np.float32(scale), np.float32(1.0))
    return np.asarray(np.log10(raw) / np.float32(np.log10(scale)), np.float32)
