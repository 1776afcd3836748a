"""Quick check for swapped sequence names before registration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation import brain as brains
from lesionlens.imaging.preparation.brain_extraction import brain_logit, reading_grid
from lesionlens.imaging.preparation.checks.swapped_names import judge
from lesionlens.imaging.preparation.intensity_units import standard_units
from lesionlens.imaging.preparation.resampling import resample

Scans = Mapping[MrSequence, tuple[NDArray[np.number[Any]], Grid]]


def swapped_before_registration(
    scans: Scans, *, context: RunContext = SILENT
) -> tuple[MrSequence, ...]:
    """Return the sequences whose names are probably swapped.

    Empty if the names fit or cannot be told apart; two if one swap clearly fits best; more if
    several fit about equally well.

    Parameters
    ----------
    scans : mapping of MrSequence to (voxels, Grid)
        (I, J, K) of any real type, positioned by their headers. One scan at a time is converted.
    """
    sequences = [s for s in REFERENCE_ORDER if s in scans]
    if len(sequences) < 2:
        return ()
    grid = reading_grid(scans[sequences[0]][1])
    loaded = {s: _load_on_grid(*scans[s], grid) for s in sequences}
    images = {s: loaded[s][0] for s in MrSequence if s in loaded}
    if all(stripped for _, stripped in loaded.values()):
        mask = brains.stripped_brain_mask([loaded[s][0] for s in sequences], grid)
    else:
        mask = brains.largest(brain_logit(images, context=context) > 0)
    verdict = judge(images, mask, grid, stride=1)
    return () if verdict is None else verdict.swapped


def _load_on_grid(voxels: NDArray[np.number[Any]], native: Grid, grid: Grid) -> tuple[Floats, bool]:
    """Return a scan on `grid` and whether it is stripped; its own voxels as float are freed.

    Stripped scans are not interpolated: a rim mixed with the empty background is dark on every
    sequence, which makes different sequences look alike.
    """
    values = np.nan_to_num(np.array(voxels, dtype=np.float32), copy=False)
    units = standard_units(values)
    stripped = brains.is_stripped(units, native)
    return resample(units, native, grid, nearest=stripped), stripped
