"""Patch refinement: the network again, in finer windows round what the first pass suspects.

It sharpens the enhancing tumour, whose rim is thin; what is wide needs the context of the
whole brain, so the whole tumour and the core are left as the first pass drew them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionlens.base.array_ops import (
    Array,
    device_of,
    namespace,
    sigmoid,
    to_device,
    to_numpy,
    zeros,
)
from lesionlens.base.grid import Grid
from lesionlens.engines import separable, windows
from lesionlens.engines.network_input import NetworkInput
from lesionlens.imaging.preparation.resampling import HALF

SHARE = 0.7
"""Weight of the refinement in the prediction, and in the attention map."""
_WINDOW_VOX = 96
_FROM = 0.25  # probability of whole tumour from which a voxel is refined
_MARGIN_MM = 6.0
_FADE_VOX = 1.0  # of the first pass: how softly the surroundings of what is suspected end


@dataclass(frozen=True, slots=True, eq=False)
class WindowPlan:
    """Which windows to refine."""

    near: Array
    """(I, J, K) float32 array: 1 within 6 mm of what the first pass suspects, on its grid."""
    there: separable.Matrices
    """(3,) arrays: matrices from that grid to the finer one; see `separable`."""
    places: Sequence[windows.Window]
    """Sequence of Window. On the finer grid."""


def plan(whole: Array, grid: Grid, fine: Grid) -> WindowPlan:
    """Lay windows over everything that may be tumour.

    Parameters
    ----------
    whole : (I, J, K) array
        The first pass's logits of the whole tumour, on `grid`.
    grid, fine : Grid
        Of the first pass and of the refinement; axis-aligned, over the same brain.

    Returns
    -------
    WindowPlan
        Without a place if nothing is suspected.
    """
    there = separable.matrices(grid, fine, antialias=False)
    suspected = to_numpy(sigmoid(whole)) >= _FROM
    if not suspected.any():
        return WindowPlan(zeros(whole.shape, device_of(whole)), there, ())
    away = ndimage.distance_transform_edt(~suspected, sampling=grid.spacing_mm)
    near = to_device((away <= _MARGIN_MM).astype(np.float32), device_of(whole))
    wanted = to_numpy(separable.apply(near, there)) > HALF
    return WindowPlan(near, there, tuple(windows.over(wanted, (_WINDOW_VOX,) * 3)))


def refine(
    chosen: WindowPlan, known: Array, study: NetworkInput, answers: Sequence[tuple[Array, Array]]
) -> Array:
    """Put together what the network made of every window of a plan.

    Parameters
    ----------
    chosen : WindowPlan
        Of the same study.
    known : (I, J, K) array
        The first pass's logits of the enhancing tumour.
    study : NetworkInput
        At the finer voxel size.
    answers : sequence of pairs of (i, j, k) arrays
        For each of its places the enhancing tumour's logits and its query's attention.

    Returns
    -------
    (2, i, j, k) array
        On the finer grid: what is to be added to the logits, and the query's attention, each
        window weighed by how much of the region it holds.
    """
    device, shape = device_of(known), study.grid.shape
    blend, attended = windows.Blend(shape, device), zeros(shape, device)
    for window, (logits, attention) in zip(chosen.places, answers, strict=True):
        blend.add(window, logits)
        attended[window] += attention * sigmoid(logits).sum()
    faded = separable.smooth(chosen.near, _FADE_VOX)
    stack = namespace(known).stack
    before, soft = separable.apply(stack([known, faded]), chosen.there)
    return stack([(blend.over(before, SHARE) - before) * soft, attended])
