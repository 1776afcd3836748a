"""Report dark tissue that is blank because an image was stripped by a threshold.

Fluid and dark cores of T1 and T1c are then part of the background: the brain mask lacks them, and
the network sees holes.
"""

from __future__ import annotations

import numpy as np

from lesionlens.base.geometry import Floats
from lesionlens.base.scan_limits import corner_value
from lesionlens.imaging.preparation.brain import fill_holes, foreground, large_parts
from lesionlens.imaging.preparation.draft import Draft

EDGE_SHARE = 0.004
"""Share of tissue within a tenth above the darkest from which a distribution ends abruptly.
Measured: at most .002 in 67 stripped images of seventeen brains; with the darkest 6% blank .005
and more."""
MIN_LEVEL = 0.2
"""Darkest intensity, relative to the median, from which it may be a threshold."""
MIN_BLANK_SHARE = 0.01
"""Share of the brain that another sequence shows from which blank voxels are reported."""


def report_dark_tissue(draft: Draft) -> None:
    """Add a notice for each stripped sequence that lacks tissue which another one shows."""
    on_grid = {
        sequence: scan
        for sequence, scan in draft.loaded.items()
        if scan.stripped and scan.reference_to_sequence is None
    }
    for sequence, scan in on_grid.items():
        if not ends_at_threshold(scan.values):
            continue
        others = (other.values_as_in(scan) for s, other in on_grid.items() if s is not sequence)
        shown = [foreground(values) for values in others if values is not None]
        if not shown:
            continue
        brain = fill_holes(large_parts(np.any(shown, axis=0)))
        blank = brain & ~foreground(scan.values)
        if blank.sum() < MIN_BLANK_SHARE * brain.sum():
            continue
        draft.notices.append(
            f"{sequence.display_name}: {scan.series.grid.volume_ml(blank):.0f} ml of the brain "
            "are blank, as after skull stripping by a threshold. Tumour there may be "
            "underestimated or missed."
        )


def ends_at_threshold(values: Floats) -> bool:
    """Return whether the intensities of a stripped image end abruptly above the background."""
    background = corner_value(values)
    tissue = values[foreground(values)]
    tissue = tissue[:: max(tissue.size // 200_000, 1)] - background
    if not tissue.size:
        return False
    darkest, median = np.quantile(tissue, (0.001, 0.5)).tolist()
    if median <= 0 or darkest < MIN_LEVEL * median:
        return False
    return float((tissue <= 1.1 * darkest).mean()) > EDGE_SHARE
