"""Output of one forward pass of the Lens network, by torch or by an ONNX file; needs no torch."""

from __future__ import annotations

from typing import NamedTuple

from lesionlens.base.array_ops import Array


class SelfTrace(NamedTuple):
    """Queries and keys of one self-attention layer, for probe and rollout."""

    q: Array
    """(B, heads, N, d), detached."""
    k: Array
    """(B, heads, N, d), detached."""
    grid: tuple[int, int, int]
    """Tokens along I, J, K; N = I J K, last axis fastest."""


class AttentionTrace(NamedTuple):
    """All attention of one pass, on padded grids."""

    self_attention: tuple[SelfTrace, ...]
    """One per layer, first to last."""
    cross_attention: tuple[Array, ...]
    """Cross-attention weights at 1/4, 1/2 and 1/1, (B, heads, Q, I, J, K) each."""
    padded: tuple[int, int, int]
    """Grid after padding at the high ends to a multiple of the stride."""


class PassOutput(NamedTuple):
    """Output of one pass for inference; B is 1 where it is traced."""

    logits: Array
    """(B, R, I, J, K), as in `network.model.LensOutput`."""
    attention: Array
    """(B, R, I, J, K); sums to one."""
    trace: AttentionTrace | None
    """None if it was not requested."""
    classes: Array | None
    """(B, 3, I, J, K) at 1/2 of the padded grid: probability of each `LesionClass`; None without
    lesion queries, and if no trace was requested."""
