"""Patch refinement: run the network on finer windows around suspected tumour.

It sharpens the enhancing tumour, whose rim is thin. The whole tumour and the core need the context
of the whole brain and are kept from the first pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lesionlens.base.grid import Grid
from lesionlens.engines import separable, windows
from lesionlens.engines.network_input import NetworkInput
from lesionlens.imaging.preparation.resampling import HALF

WEIGHT = 0.7
"""Weight of the refinement in the prediction, and in the attention map."""
_WINDOW_VOX = 96
_MIN_PROBABILITY = 0.25  # whole-tumour probability at which a voxel is refined
_MARGIN_MM = 6.0
_FADE_VOX = 1.0  # of the first pass: width of the soft border around suspected tumour


@dataclass(frozen=True, slots=True, eq=False)
class WindowPlan:
    """The windows to refine."""

    neighbourhood: Tensor
    """(I, J, K) float32 Tensor: 1 within 6 mm of suspected tumour, on the first pass's grid."""
    to_fine: separable.Matrices
    """(3,) arrays: resampling matrices from that grid to the finer one; see `separable`."""
    windows: Sequence[windows.Window]
    """Sequence of Window. On the finer grid."""


def plan(whole: Tensor, grid: Grid, fine: Grid) -> WindowPlan:
    """Plan windows over all suspected tumour.

    Parameters
    ----------
    whole : (I, J, K) Tensor
        Whole-tumour logits of the first pass, on `grid`.
    grid, fine : Grid
        Grids of the first pass and of the refinement; axis-aligned, over the same brain.

    Returns
    -------
    WindowPlan
        Without windows if nothing is suspected.
    """
    to_fine = separable.matrices(grid, fine, antialias=False)
    suspected = whole.sigmoid().cpu().numpy() >= _MIN_PROBABILITY
    if not suspected.any():
        return WindowPlan(
            torch.zeros(whole.shape, dtype=torch.float32, device=whole.device), to_fine, ()
        )
    distance_mm = ndimage.distance_transform_edt(~suspected, sampling=grid.spacing_mm)
    neighbourhood = torch.from_numpy((distance_mm <= _MARGIN_MM).astype(np.float32)).to(
        whole.device
    )
    selected = separable.apply(neighbourhood, to_fine).cpu().numpy() > HALF
    return WindowPlan(neighbourhood, to_fine, tuple(windows.over(selected, (_WINDOW_VOX,) * 3)))


def refine(
    window_plan: WindowPlan,
    first_pass_logits: Tensor,
    network_input: NetworkInput,
    outputs: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """Blend the network's output of all planned windows.

    Parameters
    ----------
    first_pass_logits : (I, J, K) Tensor
        Enhancing-tumour logits of the first pass.
    network_input : NetworkInput
        At the finer voxel size.
    outputs : sequence of pairs of (i, j, k) Tensors
        For each window the enhancing tumour's logits and its query's attention.

    Returns
    -------
    (2, i, j, k) Tensor
        On the finer grid: the correction of the logits, and the query's attention, windows weighted
        by their share of the region.
    """
    device, shape = first_pass_logits.device, network_input.grid.shape
    blend, attention_sum = (
        windows.Blend(shape, device),
        torch.zeros(shape, dtype=torch.float32, device=device),
    )
    for window, (logits, attention) in zip(window_plan.windows, outputs, strict=True):
        blend.add(window, logits)
        attention_sum[window] += attention * logits.sigmoid().sum()
    faded = separable.smooth(window_plan.neighbourhood, _FADE_VOX)
    coarse = torch.stack([first_pass_logits, faded])
    coarse_logits, fade = separable.apply(coarse, window_plan.to_fine)
    return torch.stack([(blend.over(coarse_logits, WEIGHT) - coarse_logits) * fade, attention_sum])
