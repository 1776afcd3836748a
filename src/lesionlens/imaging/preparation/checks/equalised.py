"""Detect intensities after histogram equalisation, as image editors export them.

Every intensity is then about as frequent as every other, in the brain or in the whole image. No
tissue is like that, and the contrast between tissues is lost.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import QualityCheck
from lesionlens.base.scan_limits import corner_value
from lesionlens.base.text import joined_with_and

EVEN = 0.1
"""Largest distance of the cumulative histogram from a straight line that counts as equalised.

Measured in 71 stripped scans of eighteen people: 0.13 and more as they were acquired, at most 0.08
after equalisation.
"""
_MIN_VOXELS = 1000
_SAMPLE = 50_000


def check(volumes: Mapping[MrSequence, tuple[NDArray[np.float32], Grid]]) -> QualityCheck | None:
    """Check for sequences whose histogram was equalised.

    Parameters
    ----------
    volumes : mapping of MrSequence to (voxels, Grid)
        As acquired, (I, J, K) float32.

    Returns
    -------
    QualityCheck or None
        None if there are none.
    """
    bad = [s.display_name for s, (values, _) in volumes.items() if unevenness(values) < EVEN]
    if not bad:
        return None
    return QualityCheck(
        "intensities",
        False,
        f"All intensities are equally frequent in {joined_with_and(bad)}, as after histogram "
        "equalisation: enhancement and oedema may be missed. Use the scan as it was acquired.",
    )


def unevenness(values: NDArray[np.float32]) -> float:
    """Return the largest distance of an image's cumulative histogram from a straight line, 0-1.

    Parameters
    ----------
    values : (I, J, K) float32
        Voxels of the background's value are ignored.
    """
    some = values[::2, ::2, ::2]
    inside = some[some != corner_value(values)]
    if inside.size < _MIN_VOXELS:
        return 1.0
    ranked = np.sort(inside[:: max(inside.size // _SAMPLE, 1)])
    low, high = np.quantile(ranked, (0.001, 0.999))
    if low == high:
        return 1.0
    shares = np.linspace(0, 1, ranked.size)
    return float(np.abs(np.clip((ranked - low) / (high - low), 0, 1) - shares).max())
