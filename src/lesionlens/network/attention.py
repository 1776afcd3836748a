"""Attention in two exact forms: flash, without weights, and readable, which returns them.

Both compute softmax(Q K^T / sqrt(d) + bias) V (Vaswani et al. 2017, equation 1). `flash` is torch's
`scaled_dot_product_attention` (Dao et al. 2022 on devices that support it); `readable` evaluates
the formula in blocks of queries, so that memory is bounded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.network.convolution import Conv3d
from lesionlens.network.deterministic import add, silu

QUERY_BLOCK = 1024
"""Queries per block in `readable` when weights are not returned."""


class SelfTrace(NamedTuple):
    """Queries and keys of one self-attention layer, for probe and rollout."""

    q: Tensor
    """(B, heads, N, d), detached."""
    k: Tensor
    """(B, heads, N, d), detached."""
    grid: tuple[int, int, int]
    """Tokens along I, J, K; N = I J K, last axis fastest."""


def weights(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return attention weights softmax(Q K^T / sqrt(d) + bias), in float32.

    Parameters
    ----------
    q : (..., Q, d) Tensor
    k : (..., N, d) Tensor
    bias : (..., Q, N) Tensor or None

    Returns
    -------
    (..., Q, N) float32 Tensor
        Rows sum to one.
    """
    score = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
    if bias is not None:
        score = score + bias
    return score.softmax(-1)


def readable(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention explicitly, `QUERY_BLOCK` queries at a time; (..., Q, d)."""
    blocks = []
    for start in range(0, q.shape[-2], QUERY_BLOCK):
        rows = q[..., start : start + QUERY_BLOCK, :]
        blocks.append(weights(rows, k).to(v.dtype) @ v)
    return torch.cat(blocks, -2)


def flash(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute attention by torch's fused kernels; (..., Q, d)."""
    mask = None if bias is None else bias.to(q.dtype)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class SelfAttention(nn.Module):
    """One pre-norm transformer block over coarse tokens.

    Parameters
    ----------
    dim, heads, ratio : int
        Channels, attention heads, and expansion ratio of the MLP.
    """

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"{heads} attention heads of {dim} channels")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim)
        )

    @override
    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, N, dim) to tokens, q and k; q and k are (B, heads, N, dim / heads)."""
        b, n, d = tokens.shape
        projected = self.qkv(self.norm1(tokens)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = projected.permute(2, 0, 3, 1, 4).unbind(0)
        is_small = self.training and n <= QUERY_BLOCK
        attended = (readable if is_small else flash)(q, k, v)
        tokens = tokens + self.out(attended.transpose(1, 2).reshape(b, n, d))
        return tokens + self.mlp(self.norm2(tokens)), q, k


class GridCrossAttention(nn.Module):
    """Cross-attention of few queries to a feature grid, softly masked by the previous mask.

    Because there are few queries, the key and value projections are applied on the query side: q
    (W_k f) = (W_k^T q) f, and sum(a W_v f) = W_v sum(a f). The result is the same, and no voxel has
    to be projected, which makes full resolution affordable.

    Parameters
    ----------
    features : int
        Channels of the grid.
    """

    def __init__(self, dim: int, features: int, heads: int) -> None:
        super().__init__()
        self.heads, self.features = heads, features
        self.norm = nn.LayerNorm(dim)
        self.to_query = nn.Linear(dim, heads * features)
        self.from_value = nn.Linear(heads * features, dim)

    @override
    def forward(
        self, query: Tensor, grid: Tensor, bias: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Apply cross-attention once.

        Parameters
        ----------
        query : (B, Q, dim) Tensor
        grid : (B, N, features) Tensor
        bias : (B, Q, N) Tensor
            Logarithm of the soft mask.
        keep : bool
            Also return the weights; this, like training, uses the readable form, which is also
            faster for few queries with gradients.

        Returns
        -------
        query : (B, Q, dim) Tensor
        weights : (B, heads, Q, N) float32 Tensor or None
        """
        b, count, _ = query.shape
        q = (
            self.to_query(self.norm(query))
            .view(b, count, self.heads, self.features)
            .transpose(1, 2)
        )
        features = grid[:, None]
        if keep or self.training:
            attention_weights = weights(q, features, bias[:, None])
            attended = attention_weights.to(features.dtype) @ features
        else:
            attention_weights = None
            shared = features.expand(-1, self.heads, -1, -1)
            attended = flash(
                q.to(shared.dtype), shared, shared, bias[:, None].expand(-1, self.heads, -1, -1)
            )
        update = self.from_value(attended.transpose(1, 2).reshape(b, count, -1))
        return query + update, attention_weights if keep else None


class AttentionGate(nn.Module):
    """Gate a skip connection by the upsampled coarser features (Oktay et al. 2018, figure 2).

    `features` is the number of channels of both.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        hidden = max(8, features // 4)
        self.skip = Conv3d(features, hidden, 1)
        self.guide = Conv3d(features, hidden, 1, bias=False)
        self.gate = Conv3d(hidden, 1, 1)
        with torch.no_grad():
            self.gate.bias.fill_(2.0)  # type: ignore[union-attr]

    @override
    def forward(self, skip: Tensor, guide: Tensor) -> Tensor:
        """Return the gated skip, (B, features, I, J, K)."""
        gate_logits: Tensor = self.gate(silu(add(self.skip(skip), self.guide(guide))))
        return skip * gate_logits.sigmoid()
