"""Attention rollout: where a token attends, followed through all layers."""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.base.array_ops import Array, device_of, floats, softmax, zeros


def layer_weights(q: Array, k: Array) -> Array:
    """Return one layer's attention, averaged over heads.

    Parameters
    ----------
    q, k : (heads, N, d) array
        Queries and keys of one study.

    Returns
    -------
    (N, N) float32
        Rows add up to one.
    """
    return softmax(floats(q) @ floats(k).swapaxes(-1, -2) / q.shape[-1] ** 0.5).mean(0)


def row(token: int, layers: Sequence[Array]) -> Array:
    """Return how much one token of the last layer draws from each token of the input.

    Parameters
    ----------
    token : int
        Its index.
    layers : sequence of (N, N) array
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
    >>> import numpy as np
    >>> row(0, [np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)]).tolist()
    [0.5, 0.5]
    """
    found = zeros(layers[0].shape[:1], device_of(layers[0]))
    found[token] = 1.0
    for weights in reversed(layers):
        found = 0.5 * found + 0.5 * (found @ weights)
    return found
