"""Quick check for exchanged sequence names before registration."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation import brain as brains
from lesionlens.imaging.preparation.brain_extraction import brain_logit, reading_grid
from lesionlens.imaging.preparation.exchanged_names import exchanged
from lesionlens.imaging.preparation.intensity_units import standard_units
from lesionlens.imaging.preparation.resampling import resample

Scans = Mapping[MrSequence, tuple[NDArray[np.float32], Grid]]


def exchanged_before_registration(
    scans: Scans, *, context: RunContext = SILENT
) -> tuple[MrSequence, MrSequence] | None:
    """Return the two sequences whose names are probably exchanged, or None.

    Parameters
    ----------
    scans : mapping of MrSequence to (voxels, Grid)
        (I, J, K) float32, positioned by their headers.
    """
    there = [s for s in REFERENCE_ORDER if s in scans]
    if len(there) < 2:
        return None
    units = {s: standard_units(np.nan_to_num(scans[s][0])) for s in there}
    grid = reading_grid(scans[there[0]][1])
    images = {s: resample(units[s], scans[s][1], grid) for s in MrSequence if s in units}
    if all(brains.is_stripped(units[s], scans[s][1]) for s in there):
        inside = np.all([image > 0 for image in images.values()], axis=0)
    else:
        inside = brains.largest(brain_logit(images, context=context) > 0)
    return exchanged(images, inside, stride=1)
