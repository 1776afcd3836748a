"""Attention of the Lens network in the patient: maps of the regions, and the probe of one voxel.

`trace_of` turns the weights of one pass into a `Trace`: cross-attention of each region's query, and
rollout of self-attention for the probe.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lesionlens.base.geometry import Floats
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import Trace
from lesionlens.engines.grid import InputFrame, resample, smooth, with_maximum_one, with_sums_one
from lesionlens.engines.refinement import WINDOW_WEIGHT
from lesionlens.network.lens_net import STRIDE, LensOutput

BLUR_VOX = 0.7
"""On the network's grid: removes the checkerboard pattern of its upsampling."""
METHOD = (
    "cross-attention of the region query to every voxel in the network's last layer, "
    "averaged over heads, smoothed over 0.7 voxels of the network's grid"
)
REFINED_METHOD = (
    f"{METHOD}; {10 * WINDOW_WEIGHT:.0f} tenths of the enhancing tumour's map, "
    "as of its outline, are from windows of finer voxels"
)


def region_attention(out: LensOutput) -> Tensor:
    """Return the (3, i, j, k) attention of the regions' queries in a pass that kept it."""
    if out.attention is None:
        raise TypeError("this pass kept no attention")
    return out.attention[0, : len(Region)]


def trace_of(out: LensOutput, frame: InputFrame, refined: Tensor | None = None) -> Trace:
    """Return the attention of a traced pass on the working grid.

    Parameters
    ----------
    refined : (I, J, K) Tensor or None
        Attention of the enhancing tumour from finer windows, in the brain's box.
    """
    smoothed = smooth(region_attention(out), BLUR_VOX)
    attention = with_sums_one(frame.in_brain(smoothed))
    if refined is not None:
        finer = with_sums_one((refined * frame.brain_on(refined.device))[None])[0]
        attention[-1] += WINDOW_WEIGHT * (finer - attention[-1])
    maps = frame.pasted(attention.float().cpu().numpy())
    probe = None
    if out.trace is not None:
        layers = [weights[0] for weights in out.trace.self_attention]
        probe = AttentionRollout(layers, out.trace.tokens, frame)
    return Trace(
        dict(zip(Region, maps, strict=True)),
        METHOD if refined is None else REFINED_METHOD,
        ("full resolution",),
        probe_row=probe,
    )


class AttentionRollout:
    """Where the token at a voxel of the working grid attends, through all layers."""

    def __init__(
        self, layers: Sequence[Tensor], tokens: tuple[int, int, int], frame: InputFrame
    ) -> None:
        self._layers = layers
        self._grid = frame.grid.scaled(STRIDE, tokens)
        self._working, self._brain = frame.prepared.working, frame.prepared.brain

    def __call__(self, voxel: tuple[int, int, int]) -> Floats:
        """Return the (I, J, K) rollout of one working voxel, maximum 1."""
        index = self._grid.nearest_voxel(self._working.to_mm(voxel), clip=True)
        token = int(np.ravel_multi_index(tuple(index), self._grid.shape))
        weights = rollout(self._layers, token).reshape(self._grid.shape)
        resampled = resample(weights, self._grid, self._working).cpu().numpy()
        return with_maximum_one(resampled * self._brain)


def rollout(layers: Sequence[Tensor], start: int | Tensor) -> Tensor:
    """Return how much of each input token reaches some of the last layer's tokens.

    Parameters
    ----------
    layers : sequence of (N, N) Tensor
        Attention of each layer, first to last; rows sum to one.
    start : int or (N,) Tensor
        A token of the last layer, or weights of them that sum to one.

    Returns
    -------
    (N,) Tensor
        Non-negative, sum one.

    Notes
    -----
    Abnar and Zuidema 2020, doi:10.18653/v1/2020.acl-main.385, equation 1: each layer's matrix is
    averaged with the identity for the residual connection. Only one row is propagated, which takes
    milliseconds instead of seconds for the whole product.

    Examples
    --------
    >>> rollout([Tensor([[0.0, 1.0], [1.0, 0.0]])], 0).tolist()
    [0.5, 0.5]
    """
    if isinstance(start, int):
        attention = layers[0].new_zeros(len(layers[0]))
        attention[start] = 1.0
    else:
        attention = start
    for weights in reversed(layers):
        attention = 0.5 * attention + 0.5 * (attention @ weights)
    return attention
