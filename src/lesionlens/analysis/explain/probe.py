"""Attention of one voxel on the native grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import Trace
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import engine, native_grid

REACH_VOX = 3
"""A voxel this close to the brain is mapped to the nearest brain voxel; working voxels are 1 mm."""


def voxel_attention(
    trace: Trace | None, prepared: PreparedStudy, voxel: tuple[int, int, int]
) -> Volume:
    """Return where a voxel of the reference attends to.

    Parameters
    ----------
    voxel : (3,) int
        Index on the native grid.

    Returns
    -------
    Volume
        float32 on the native grid, 0 to 1, maximum 1.

    Raises
    ------
    UnusableInputError
        The voxel is outside the image or more than 3 mm outside the brain, or the engine does not
        support probes.
    """
    weights = _voxel_weights(trace, prepared, voxel)
    return Volume(native_grid.resample_map(weights, prepared), prepared.native)


def _voxel_weights(
    trace: Trace | None, prepared: PreparedStudy, voxel: tuple[int, int, int]
) -> NDArray[np.float32]:
    if trace is None or trace.probe_row is None:
        raise UnusableInputError(
            found="a result that was reopened, or whose engine keeps no self-attention",
            expected="one whose prediction has `trace.probe_row`",
            next_step="Analyse the study again, with `lens` or a bundle with self-attention",
        )
    shape = prepared.native.shape
    if not all(0 <= v < n for v, n in zip(voxel, shape, strict=True)):
        raise UnusableInputError(
            found=f"the voxel {tuple(voxel)}",
            expected=f"an index within {shape}, the shape of the reference sequence",
            next_step="Count voxels from 0 along the axes of the reference sequence",
        )
    brain_voxel = _nearest_in_brain(native_grid.to_working(voxel, prepared), prepared.brain)
    if brain_voxel is None:
        raise UnusableInputError(
            found="a voxel outside the brain",
            expected="one inside it, where the network attends",
            next_step="Click inside the brain",
        )
    return engine.probe(trace, prepared, brain_voxel)


def _nearest_in_brain(
    voxel: tuple[int, int, int], brain: NDArray[np.bool_]
) -> tuple[int, int, int] | None:
    """Return a working voxel, or the nearest brain voxel within `REACH_VOX`; None if there is none.

    The mask's edge is not exact, and a click on cortex means the brain.
    """
    start = np.maximum(np.array(voxel) - REACH_VOX, 0)
    brain_voxels = np.argwhere(
        brain[tuple(slice(a, max(p + REACH_VOX + 1, 0)) for a, p in zip(start, voxel, strict=True))]
    )
    if not len(brain_voxels):
        return None
    squared_distances = ((brain_voxels + start - voxel) ** 2).sum(1)
    if squared_distances.min() > REACH_VOX**2:
        return None
    i, j, k = (int(v) for v in brain_voxels[squared_distances.argmin()] + start)
    return i, j, k
