"""Query decoder: cross-attention to features coarse to fine, guided by the previous mask.

After Mask2Former (Cheng et al. 2022, equations 1 and 2), with two changes: the mask is soft, its
log-probability added to the attention scores, so that a region that was not found leaves the
attention free; and it is taken at three scales, so that the last attention map is as sharp as the
mask. Region queries and lesion queries are two sets of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.network.attention import GridCrossAttention

_FLOOR = 1e-3  # minimum attention share of a voxel with zero mask


class QueryOutput(NamedTuple):
    """Output of the queries."""

    masks: tuple[Tensor, ...]
    """Logits (B, Q, I, J, K), one per scale, coarse to fine."""
    attention: Tensor
    """(B, Q, I, J, K), weights of the last layer, averaged over heads; sum one per query."""
    query: Tensor
    """(B, Q, dim) after the last layer."""


def _init_normal(weight: Tensor, std: float) -> None:
    """Draw normal values, unless weights that are read take their place.

    Torch imports SymPy to draw them without memory, which takes as long as a pass.
    """
    if not weight.is_meta:
        nn.init.normal_(weight, std=std)


class MaskedCrossAttention(nn.Module):
    """One scale: cross-attention to the grid, self-attention between queries, a mask."""

    def __init__(self, dim: int, features: int, heads: int) -> None:
        super().__init__()
        self.cross = GridCrossAttention(dim, features, heads)
        self.norm = nn.LayerNorm(dim)
        self.among = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )
        self.mask = nn.Linear(dim, features + 1)
        _init_normal(self.mask.weight, 0.02)
        nn.init.zeros_(self.mask.bias)
        with torch.no_grad():
            self.mask.bias[-1] = -2.0

    @override
    def forward(
        self, query: Tensor, grid: Tensor, bias: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Update queries (B, Q, dim) by cross-attention to (B, N, features)."""
        query, weights = self.cross(query, grid, bias, keep)
        q = self.norm(query)
        query = query + self.among(q, q, q, need_weights=False)[0]
        out: Tensor = query + self.mlp(query)
        return out, weights

    def mask_logits(self, query: Tensor, features: Tensor) -> Tensor:
        """Return mask logits (B, Q, I, J, K): query times features, in float32."""
        code: Tensor = self.mask(query)
        flat: Tensor = code[..., :-1] @ features.flatten(2).to(code.dtype)
        out = flat.float() + code[..., -1:].float()
        return out.view(*out.shape[:2], *features.shape[2:])


def _as_bias(mask: Tensor, size: torch.Size) -> Tensor:
    """Convert the previous scale's mask logits to log-weights at `size`, (B, Q, N), detached."""
    mask = mask.detach().float()
    if mask.shape[2:] != size:
        mask = functional.interpolate(mask, size=size, mode="trilinear")
    return torch.log(mask.sigmoid() + _FLOOR).flatten(2)


class QueryDecoder(nn.Module):
    """A set of queries with cross-attention to one scale after another.

    Parameters
    ----------
    count, dim : int
        Number of queries, and channels of each.
    scales : sequence of (int, int)
        Features of a scale and heads of the cross-attention to it, coarse to fine.
    """

    def __init__(self, count: int, dim: int, scales: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(count, dim))
        _init_normal(self.query, 0.5)
        self.looks = nn.ModuleList(  # the name is a key in weights files
            MaskedCrossAttention(dim, features, heads) for features, heads in scales
        )

    def _layers(self) -> list[MaskedCrossAttention]:
        return [layer for layer in self.looks if isinstance(layer, MaskedCrossAttention)]

    @override
    def forward(self, scales: Sequence[Tensor]) -> QueryOutput:
        """Apply cross-attention to each scale (B, features, I, J, K) in turn.

        The first layer is guided by the mask of the initial queries.
        """
        query = self.query.expand(len(scales[0]), -1, -1)
        masks: list[Tensor] = []
        weights: Tensor | None = None
        for layer, features in zip(self._layers(), scales, strict=True):
            is_last = features is scales[-1]
            previous_mask = masks[-1] if masks else layer.mask_logits(query, features)
            grid = features.flatten(2).transpose(1, 2)
            bias = _as_bias(previous_mask, features.shape[2:])
            query, weights = layer(query, grid, bias, is_last)
            masks.append(layer.mask_logits(query, features))
        if weights is None:
            raise ValueError("no scale to attend to")
        attention = weights.view(*weights.shape[:3], *scales[-1].shape[2:]).mean(1)
        return QueryOutput(tuple(masks), attention, query)
