"""Detect intensities that overflowed the number type of their file.

A value above the largest that a type holds continues at its smallest: in 8 bits 256 becomes 0, in
signed 16 bits 32,768 becomes -32,768. Bright tissue then has dark islands, and neighbouring voxels
differ by the whole range, which no tissue does.
"""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.records.study import Acquired, QualityCheck, failed_check
from lesionlens.base.scan_limits import corner_value
from lesionlens.base.text import joined_with_and
from lesionlens.imaging.preparation.lost_slices import TISSUE_FRACTION

JUMP = 0.9
"""Share of the range by which neighbours differ where a value overflowed."""
JUMPS_SHARE = 5e-4
"""Such neighbours by voxel of tissue and axis. Measured: none in the 71 scans of twenty people, at
most 3e-4 after they were cut off and smoothed; 7e-4 and more where the brightest 3% overflowed.
"""
_TOP_FRACTION = 0.002
"""Share of the range within which a voxel has the highest value: a cut-off one, not an overflow."""
_MIN_JUMPS_PER_TOP_VOXEL = 0.02
"""Minimum ratio of such neighbours to voxels with the highest value; at most .007 in scans that
were cut off, .03 and more where values overflowed.
"""


def check(volumes: Acquired) -> QualityCheck | None:
    """Check for sequences whose bright values continue at the dark end; None if there are none."""
    bad = [s.display_name for s, (values, _) in volumes.items() if _overflowed(values)]
    if not bad:
        return None
    return failed_check(
        "saturation",
        f"Bright tissue wraps around to dark values in {joined_with_and(bad)}, as after integer "
        "overflow: enhancement and oedema may be missed. Convert the scan again.",
    )


def _overflowed(values: Floats) -> bool:
    low, high = float(values.min()), float(values.max())
    background, value_range = corner_value(values), high - low
    sample = values[::2, ::2, ::2]
    bright = float(np.quantile(sample, 0.995))
    tissue = int((sample > low + TISSUE_FRACTION * (bright - low)).sum())
    top = high - _TOP_FRACTION * value_range
    jumps = 0
    for axis in range(3):
        lines = np.moveaxis(values, axis, 0)[:, ::2, ::2]
        is_jump = np.abs(np.diff(lines, axis=0)) > JUMP * value_range
        pairs = np.stack([lines[:-1][is_jump], lines[1:][is_jump]])
        jumps += int(((pairs.max(axis=0) < top) & (pairs.min(axis=0) != background)).sum())
    jump_rate = jumps / max(6 * tissue, 1)
    return jump_rate > max(
        JUMPS_SHARE, _MIN_JUMPS_PER_TOP_VOXEL * int((sample >= top).sum()) / max(tissue, 1)
    )
