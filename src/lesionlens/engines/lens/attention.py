"""Attention of one pass of the Lens network, resampled to the working grid on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from lesionlens.base.geometry import Floats
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import Trace
from lesionlens.engines import separable
from lesionlens.engines.lens import patch_refinement
from lesionlens.engines.lens.ensemble import PassOutput
from lesionlens.engines.network_input import InputFrame

_TOKEN_VOX = 8
BLUR_VOX = 0.7
"""On the network's grid: removes the checkerboard pattern from upsampling."""
METHOD = (
    "cross-attention of the region query to every voxel in the network's last layer, "
    "averaged over heads, smoothed over 0.7 voxels of the network's grid"
)
REFINED_METHOD = (
    f"{METHOD}; {10 * patch_refinement.WEIGHT:.0f} tenths of the enhancing tumour's map, "
    "as of its outline, are from patch refinement"
)


def region_attention(weights: Tensor, frame: InputFrame, refined: Tensor | None) -> Tensor:
    """Return (3, I, J, K) attention in the brain's box; each region's sums to one.

    Parameters
    ----------
    weights : (3, i, j, k) Tensor
        Attention on the network's grid.
    frame : InputFrame
        Of that grid.
    refined : (2, I, J, K) Tensor or None
        Of patch refinement; the second map is the enhancing tumour's attention.
    """
    attention = separable.normalise_sums(frame.in_brain(separable.smooth(weights, BLUR_VOX)))
    if refined is not None:
        brain = frame.brain_on(weights.device)
        refined_attention = separable.normalise_sums(refined[1:] * brain)[0]
        attention[-1] += patch_refinement.WEIGHT * (refined_attention - attention[-1])
    return attention


def rollout_row(token: int, layers: Sequence[Tensor]) -> Tensor:
    """Return the rollout weights of one token of the last layer over the input tokens.

    Parameters
    ----------
    layers : sequence of (N, N) Tensor
        Attention from first to last layer, averaged over heads; rows sum to one.

    Returns
    -------
    (N,) float32
        Non-negative, sum one.

    Notes
    -----
    Abnar and Zuidema 2020, doi:10.18653/v1/2020.acl-main.385, equation 1: each layer's matrix is
    averaged with the identity for the residual connection. Only one row is propagated, which takes
    milliseconds instead of seconds for the whole product.

    Examples
    --------
    >>> rollout_row(0, [Tensor([[0.0, 1.0], [1.0, 0.0]])]).tolist()
    [0.5, 0.5]
    """
    attention = layers[0].new_zeros(layers[0].shape[:1])
    attention[token] = 1.0
    for weights in reversed(layers):
        attention = 0.5 * attention + 0.5 * (attention @ weights)
    return attention


class AttentionRollout:
    """Attention rollout of the token at a working voxel."""

    def __init__(
        self, layers: list[Tensor], tokens: tuple[int, int, int], frame: InputFrame
    ) -> None:
        self._layers, self._grid = layers, frame.grid.scaled(_TOKEN_VOX, tokens)
        self._working, self._brain = frame.prepared.working, frame.prepared.brain

    def __call__(self, voxel: tuple[int, int, int]) -> Floats:
        """Return the (I, J, K) rollout of one working voxel, maximum 1."""
        token_index = self._grid.nearest_voxel(self._working.to_mm(voxel), clip=True)
        token = int(np.ravel_multi_index(tuple(token_index), self._grid.shape))
        weights = rollout_row(token, self._layers).reshape(1, *self._grid.shape)
        matrices = separable.matrices(self._grid, self._working, antialias=False)
        resampled = separable.apply(weights, matrices)[0].cpu().numpy() * self._brain
        return separable.with_maximum_one(resampled)


def trace_of(
    out: PassOutput, cross: Mapping[Region, Floats], method: str, frame: InputFrame
) -> Trace:
    """Return the attention of a pass, with the probe if it was traced."""
    probe = None
    if out.trace is not None:
        matrices = [weights[0] for weights in out.trace.self_attention]
        probe = AttentionRollout(matrices, out.trace.tokens, frame)
    return Trace(cross, method, ("full resolution",), probe_row=probe)
