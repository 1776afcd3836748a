"""Attention rollout: where a token attends, followed through all layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def layer_weights(q: Tensor, k: Tensor) -> Tensor:
    """Return one layer's attention, averaged over heads.

    Parameters
    ----------
    q, k : (heads, N, d) Tensor
        Queries and keys of one study.

    Returns
    -------
    (N, N) float32
        Rows add up to one.
    """
    scores = q.float() @ k.float().transpose(-1, -2) / q.shape[-1] ** 0.5
    weights: Tensor = scores.softmax(-1).mean(0)
    return weights


def row(token: int, layers: Sequence[Tensor]) -> Tensor:
    """Return how much one token of the last layer draws from each token of the input.

    Parameters
    ----------
    token : int
        Its index.
    layers : sequence of (N, N) Tensor
        From first to last, as `layer_weights` gives them.

    Returns
    -------
    (N,) float32
        Non-negative, adds up to one.

    Notes
    -----
    Abnar and Zuidema 2020, doi:10.18653/v1/2020.acl-main.385, equation 1: each layer's matrix is
    mixed half and half with the identity for the residual path. Only one row is multiplied
    through, which takes milliseconds where the whole product takes seconds.

    Examples
    --------
    >>> row(0, [torch.tensor([[0.0, 1.0], [1.0, 0.0]])])
    tensor([0.5000, 0.5000])
    """
    found = torch.zeros(layers[0].shape[0], device=layers[0].device)
    found[token] = 1.0
    for weights in reversed(layers):
        found = 0.5 * found + 0.5 * (found @ weights)
    return found
