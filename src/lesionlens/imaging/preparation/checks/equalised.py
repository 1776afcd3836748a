"""Detect intensities after histogram equalisation, as image editors export them.

Every intensity is then about as frequent as every other, in the brain or in the whole image. No
tissue is like that, and the contrast between tissues is lost.
"""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.records.study import Acquired, QualityCheck, failed_check
from lesionlens.base.scan_limits import corner_value
from lesionlens.base.text import joined_with_and

EVEN = 1.4
"""Voxels in the fullest tenth of the range, as a multiple of a tenth of all, that count as even.

Measured in 70 scans of nineteen people: 1.5 and more as they were acquired, at most 1.34 after
equalisation of the brain or of the whole image.
"""
_TENTHS = 10
_MIN_VOXELS = 1000


def check(volumes: Acquired) -> QualityCheck | None:
    """Check for sequences whose histogram was equalised; None if there are none."""
    bad = [s.display_name for s, (values, _) in volumes.items() if fullest_tenth(values) < EVEN]
    if not bad:
        return None
    return failed_check(
        "intensities",
        f"All intensities are equally frequent in {joined_with_and(bad)}, as after "
        "histogram equalisation: enhancement and oedema may be missed. Use the scan as it was "
        "acquired.",
    )


def fullest_tenth(values: Floats) -> float:
    """Return the voxels in the fullest tenth of the range, as a multiple of a tenth of all.

    Parameters
    ----------
    values : (I, J, K) float32
        Voxels of the background's value are ignored.
    """
    sample = values[::2, ::2, ::2]
    inside = sample[sample != corner_value(values)]
    if inside.size < _MIN_VOXELS:
        return _TENTHS
    low, high = np.quantile(inside, (0.001, 0.999))
    if low == high:
        return _TENTHS
    counts, _ = np.histogram(inside.clip(low, high), _TENTHS, (low, high))
    return float(_TENTHS * counts.max() / inside.size)
