"""Protocols of a forward pass's output, independent of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lesionlens.base.array_ops import Array


class SelfAttentionOutput(Protocol):
    """Queries and keys of one self-attention layer, like `network.attention.SelfTrace`."""

    @property
    def q(self) -> Array:
        """(1, heads, N, d)."""

    @property
    def k(self) -> Array:
        """(1, heads, N, d)."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along I, J, K."""


class AttentionOutput(Protocol):
    """All attention of one pass, like `network.model.AttentionTrace`."""

    @property
    def self_attention(self) -> Sequence[SelfAttentionOutput]:
        """One per layer, first to last."""

    @property
    def cross_attention(self) -> tuple[Array, ...]:
        """(1, heads, Q, I, J, K) weights at 1/4, 1/2 and 1/1."""

    @property
    def padded(self) -> tuple[int, int, int]:
        """Grid after padding."""


class LesionShares(Protocol):
    """Output of the lesion queries, like `network.lesion_queries.LesionOutput`."""

    def class_shares(self) -> Array:
        """Return class probabilities at 1/2 of the padded grid, (1, 3, I, J, K)."""


class PassOutput(Protocol):
    """Output of one pass, like `network.model.LensOutput`; batch size one."""

    @property
    def logits(self) -> Array:
        """(1, 3, I, J, K)."""

    @property
    def attention(self) -> Array:
        """(1, 3, I, J, K); sums to one."""

    @property
    def trace(self) -> Any:
        """An `AttentionOutput`; None if it was not requested."""

    @property
    def lesions(self) -> Any:
        """`LesionShares`; None of networks without lesion queries."""
