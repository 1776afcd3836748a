"""Attention rollout: a token's attention accumulated over all layers."""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.base.array_ops import Array, device_of, floats, softmax, zeros


def layer_weights(q: Array, k: Array) -> Array:
    """Return one layer's attention, averaged over heads, from (heads, N, d) queries and keys.

    Returns
    -------
    (N, N) float32
        Rows sum to one.
    """
    return softmax(floats(q) @ floats(k).swapaxes(-1, -2) / q.shape[-1] ** 0.5).mean(0)


def row(token: int, layers: Sequence[Array]) -> Array:
    """Return the rollout weights of one token of the last layer over the input tokens.

    Parameters
    ----------
    layers : sequence of (N, N) array
        From first to last, from `layer_weights`.

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
    >>> import numpy as np
    >>> row(0, [np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)]).tolist()
    [0.5, 0.5]
    """
    attention = zeros(layers[0].shape[:1], device_of(layers[0]))
    attention[token] = 1.0
    for weights in reversed(layers):
        attention = 0.5 * attention + 0.5 * (attention @ weights)
    return attention
