"""Attention of one voxel on the native grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis import native_grid
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Mask, is_inside
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import Trace
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import engine

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
        The voxel is outside the image or more than 3 mm outside the brain, or the result is not a
        fresh one of an engine with self-attention.
    """
    if trace is None or trace.probe_row is None:
        raise UnusableInputError(
            "The result keeps no self-attention.",
            hint="Analyse the study again, with `lens` or a bundle with self-attention.",
        )
    shape = prepared.native.shape
    if not is_inside(voxel, shape):
        raise UnusableInputError(
            f"The voxel {tuple(voxel)} is outside the reference sequence, whose shape is {shape}.",
            hint="Count voxels from 0 along its axes.",
        )
    working = native_grid.nearest_working_voxels(voxel, prepared)
    brain_voxel = nearest_in_brain(working, prepared.brain)
    if brain_voxel is None:
        raise UnusableInputError(
            "The voxel is outside the brain.", hint="Choose one where the network attends."
        )
    weights = engine.probe(trace, prepared, brain_voxel)
    return Volume(native_grid.to_native(weights, prepared), prepared.native)


def nearest_in_brain(voxel: NDArray[np.int64], brain: Mask) -> tuple[int, int, int] | None:
    """Return the nearest brain voxel within `REACH_VOX`; None if there is none.

    The mask's edge is not exact, and a click on cortex means the brain.
    """
    start = np.maximum(voxel - REACH_VOX, 0)
    part = brain[
        tuple(slice(a, max(p + REACH_VOX + 1, 0)) for a, p in zip(start, voxel, strict=True))
    ]
    inside = np.argwhere(part) + start
    squared = ((inside - voxel) ** 2).sum(1)
    if not len(inside) or squared.min() > REACH_VOX**2:
        return None
    i, j, k = inside[squared.argmin()].tolist()
    return i, j, k
