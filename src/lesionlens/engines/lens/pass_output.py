"""Protocol of a forward pass's output, independent of the runtime."""

from __future__ import annotations

from typing import Any, Protocol

from lesionlens.base.array_ops import Array


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
        """As `network.model.AttentionTrace`; None if it was not requested."""

    @property
    def lesions(self) -> Any:
        """As `network.lesion_queries.LesionOutput`; None without lesion queries."""
