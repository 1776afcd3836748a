"""The Lens network: MRI of a brain in; tumour regions, lesions and attention out.

Start at `LensNetwork.forward`. One pass over volumes of I x J x K voxels takes four steps:

1. `Encoder`: residual convolutions halve the grid three times. At 1/8 each voxel is a token, and
   all tokens of the brain attend to each other (`SelfAttentionBlock`).
2. `Decoder`: back to the full grid; attention gates filter the skip connections.
3. `QueryDecoder`: a learnt query for each region attends to the decoded features from coarse to
   fine (`CrossAttention`), guided by the mask that it predicted one scale before. A query times
   the features is the region's mask; where it attended is the region's attention map.
4. `LesionQueries`: more queries that each predict one lesion, its class and box, or none.

All attention is softmax(Q K^T / sqrt(d) + bias) V, computed in `attend`. Volumes are
(B, C, I, J, K) and tokens (B, N, C). The names of parameters are keys in weights files.

Literature: Vaswani et al. 2017, arXiv:1706.03762 (attention); Hatamizadeh et al. 2022,
arXiv:2103.10504 (transformers on volumes); Oktay et al. 2018, arXiv:1804.03999 (attention gates);
Carion et al. 2020, arXiv:2005.12872 (set prediction); Cheng et al. 2021, arXiv:2107.06278, and
2022, arXiv:2112.01527 (masks by queries, masked attention).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.base.labels import LesionClass, Region
from lesionlens.network.blocks import Conv3d, Residual, residuals

STRIDE = 8
"""Voxels of a token along each axis."""
_MIN_SHARE = 1e-3  # weight of a voxel outside the previous mask, relative to one inside


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Sizes of a network."""

    channels: tuple[int, int, int, int]
    """(4,) int: channels at 1/1, 1/2, 1/4 and 1/8 of the grid."""
    blocks: tuple[int, int, int] = (1, 2, 1)
    """(3,) int: residual blocks of the encoder at 1/2, 1/4 and 1/8."""
    layers: int = 4
    heads: int = 4
    ratio: int = 2
    """Blocks of self-attention, heads of each, and expansion of the MLP."""
    query_dim: int = 64
    """Channels of a query."""
    query_heads: tuple[int, int, int] = (2, 2, 1)
    """(3,) int: heads of cross-attention at 1/4, 1/2 and 1/1."""
    regions: int = len(Region)
    """Region queries: three, or four with the resection cavity."""
    lesions: int = 0
    """Lesion queries; 0 omits that branch."""
    inputs: int = 8
    """Four sequences, and four channels that tell which are present."""


TINY = NetworkConfig(channels=(8, 16, 32, 64), blocks=(1, 1, 1), layers=2, query_dim=32, lesions=8)
"""For tests and trials."""
BASE = NetworkConfig(channels=(16, 32, 64, 128), lesions=12)
"""Of the shipped weights."""


class AttentionTrace(NamedTuple):
    """Attention weights of every layer, float32, averaged over heads."""

    tokens: tuple[int, int, int]
    """Tokens along I, J, K of the padded grid; N is their product, the last axis fastest."""
    self_attention: tuple[Tensor, ...]
    """(B, N, N) for each block, first to last; a row is one token's attention, sum one."""
    cross_attention: tuple[Tensor, ...]
    """(B, R, I, J, K) of the region queries at 1/4, 1/2 and 1/1 of the padded grid, sum one."""


class LesionOutput(NamedTuple):
    """Predictions of the Q lesion queries."""

    classes: Tensor
    """(B, Q, 4) float32 logits of each `LesionClass`, and of no lesion."""
    boxes: Tensor
    """(B, Q, 6) float32: centre and size along I, J, K as shares of the padded grid."""
    masks: tuple[Tensor, Tensor]
    """(B, Q, I, J, K) float32 logits at 1/2 and at 1/4 of the padded grid."""

    def class_probabilities(self) -> Tensor:
        """Return the sum of class probability times mask over queries, (B, 3, I, J, K).

        It is at 1/2 of the padded grid (MaskFormer, Cheng et al. 2021, section 3.4).
        """
        by_query = self.classes.softmax(-1)[..., : len(LesionClass)]
        by_voxel = torch.einsum("bqc,bqijk->bcijk", by_query, self.masks[0].sigmoid())
        return by_voxel.clamp(max=1.0)


class LensOutput(NamedTuple):
    """Output of one pass; R regions in the order WT, TC, ET and, if the network has it, cavity."""

    logits: Tensor
    """(B, R, I, J, K) float32 on the input's grid."""
    deep: tuple[Tensor, Tensor]
    """The queries' masks at 1/2 and 1/4 of the padded grid, for deep supervision."""
    queries: Tensor
    """(B, R, C) after the last layer."""
    attention: Tensor | None
    """(B, R, I, J, K) float32 on the input's grid: last cross-attention of the region queries, sum
    one each. None unless requested."""
    trace: AttentionTrace | None
    """None unless traced."""
    lesions: LesionOutput | None
    """None if not requested, or if the network has no lesion queries."""


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(Q K^T / sqrt(d) + bias), (..., Q, N) float32; rows sum to one.

    Examples
    --------
    >>> attention_weights(torch.zeros(1, 4), torch.ones(2, 4)).tolist()
    [[0.5, 0.5]]
    """
    scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
    return (scores if bias is None else scores + bias).softmax(-1)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, *, trace: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Attend with queries (B, heads, Q, d) to keys and values (B, heads, N, d).

    Torch's fused kernel never holds the weights; to trace them they are computed explicitly.

    `bias`, (B, heads, Q, N), is added to the scores.

    Returns
    -------
    attended : (B, heads, Q, d) Tensor
    weights : (B, heads, Q, N) float32 Tensor or None
    """
    if trace:
        weights = attention_weights(q, k, bias)
        return weights.to(v.dtype) @ v, weights
    mask = None if bias is None else bias.to(q.dtype)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), None


class SelfAttentionBlock(nn.Module):
    """One pre-norm transformer block: every token attends to every token, then an MLP."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"{dim} channels cannot be split into {heads} heads")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim)
        )

    @override
    def forward(self, tokens: Tensor, *, trace: bool = False) -> tuple[Tensor, Tensor | None]:
        """(B, N, dim) to (B, N, dim) and, if traced, (B, N, N) attention."""
        b, n, dim = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(b, n, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, dim / heads) each
        attended, weights = attend(q, k, v, trace=trace)
        tokens = tokens + self.out(attended.transpose(1, 2).reshape(b, n, dim))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens, None if weights is None else weights.detach().mean(1)


class CrossAttention(nn.Module):
    """A few queries attend to all voxels of a grid, whose features F are both K and V.

    Their projections are applied on the side of the few queries, not to every voxel, with the same
    result: Q (F W_k)^T = (Q W_k^T) F^T, and A (F W_v) = (A F) W_v.
    """

    def __init__(self, dim: int, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_query = nn.Linear(dim, heads * features)
        self.from_value = nn.Linear(heads * features, dim)

    @override
    def forward(
        self, query: Tensor, grid: Tensor, bias: Tensor | None = None, *, trace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, Q, dim) queries, (B, N, features) and (B, Q, N) to queries and (B, heads, Q, N)."""
        b, count, _ = query.shape
        q = self.to_query(self.norm(query)).view(b, count, self.heads, -1).transpose(1, 2)
        k = v = grid[:, None].expand(-1, self.heads, -1, -1)
        if bias is not None:
            bias = bias[:, None].expand(-1, self.heads, -1, -1)
        attended, weights = attend(q.to(k.dtype), k, v, bias, trace=trace)
        attended = attended.transpose(1, 2).reshape(b, count, -1)
        return query + self.from_value(attended), weights


class AttentionGate(nn.Module):
    """Weight the voxels of a skip connection, guided by the coarser features (Oktay et al.)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        hidden = max(8, features // 4)
        self.skip = Conv3d(features, hidden, 1)
        self.guide = Conv3d(features, hidden, 1, bias=False)
        self.gate = Conv3d(hidden, 1, 1)
        nn.init.constant_(self.gate.bias, 2.0)  # type: ignore[arg-type]

    @override
    def forward(self, skip: Tensor, guide: Tensor) -> Tensor:
        """Return the weighted skip, (B, features, I, J, K)."""
        weight = self.gate(functional.silu(self.skip(skip) + self.guide(guide)))
        return skip * cast("Tensor", weight).sigmoid()


def position_code(grid: tuple[int, int, int], dim: int, bounds: Tensor) -> Tensor:
    """Return the sinusoidal code of each token's place in the brain, (B, N, dim).

    `bounds`, (B, 3, 2), are the places of the first and last token along each axis, in coordinates
    in which the box of the brain is -1 to 1.
    """
    count = dim // 6
    octaves = torch.linspace(-1, 3, count, dtype=bounds.dtype, device=bounds.device)
    frequency = math.pi * 2**octaves
    codes = []
    for axis, length in enumerate(grid):
        step = torch.arange(length, dtype=bounds.dtype, device=bounds.device) / max(length - 1, 1)
        low, high = bounds[:, axis, :1], bounds[:, axis, 1:]
        angle = (low + (high - low) * step)[..., None] * frequency
        shape = [len(bounds), 1, 1, 1, count]
        shape[1 + axis] = length
        codes += [wave.view(shape).expand(-1, *grid, -1) for wave in (angle.sin(), angle.cos())]
    code = torch.cat(codes, -1).flatten(1, 3)
    return functional.pad(code, (0, dim - code.shape[-1]))


class Encoder(nn.Module):
    """Features at four scales; the coarsest are tokens with global self-attention."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        full, half, quarter, eighth = config.channels
        at_half, at_quarter, at_eighth = config.blocks
        self.stem = Conv3d(config.inputs, full, 3, 1, 1)
        self.to_half = residuals(full, half, at_half)
        self.to_quarter = residuals(half, quarter, at_quarter)
        self.to_eighth = residuals(quarter, eighth, at_eighth)
        self.transformer = nn.ModuleList(
            SelfAttentionBlock(eighth, config.heads, config.ratio) for _ in range(config.layers)
        )

    @override
    def forward(
        self, x: Tensor, bounds: Tensor, *, trace: bool = False
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Encode (B, inputs, I, J, K), all axes multiples of `STRIDE`.

        Returns features (B, C, ...) at 1/1, 1/2, 1/4 and 1/8 and, if traced, every attention.
        """
        full = functional.silu(self.stem(x), inplace=True)
        half = self.to_half(full)
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        b, c, i, j, k = eighth.shape
        tokens = eighth.flatten(2).transpose(1, 2)
        tokens = tokens + position_code((i, j, k), c, bounds).to(tokens.dtype)
        traced: list[Tensor] = []
        for block in self.transformer:
            tokens, weights = block(tokens, trace=trace)
            traced += [] if weights is None else [weights]
        eighth = tokens.transpose(1, 2).reshape(b, c, i, j, k)
        return [full, half, quarter, eighth], tuple(traced)


class GatedUp(nn.Module):
    """Double the grid, gate the skip connection with the result, combine both."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.narrow = Conv3d(coarse, fine, 1)
        self.gate = AttentionGate(fine)
        self.mix = Residual(2 * fine, fine)

    @override
    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(B, coarse, I/2, ...) and (B, fine, I, ...) to (B, fine, I, ...)."""
        up = functional.interpolate(self.narrow(coarse), scale_factor=2, mode="trilinear")
        return cast("Tensor", self.mix(torch.cat([up, self.gate(skip, up)], 1)))


class SubvoxelUp(nn.Module):
    """Double the grid by depth-to-space (Shi et al. 2016), without a norm, which is dear there."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.expand = Conv3d(coarse, 8 * fine, 1)
        self.mix = Conv3d(fine, fine, 3, 1, 1)

    @override
    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(B, coarse, I/2, ...) and (B, fine, I, ...) to (B, fine, I, ...)."""
        b, _, i, j, k = coarse.shape
        cells = self.expand(coarse).permute(0, 2, 3, 4, 1).reshape(b, i, j, k, 2, 2, 2, -1)
        voxels = cells.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, 2 * i, 2 * j, 2 * k, -1)
        combined = functional.silu(voxels.movedim(-1, 1).add_(skip), inplace=True)
        return functional.silu(self.mix(combined), inplace=True).add_(combined)


class Decoder(nn.Module):
    """Three steps from the tokens back to the full grid."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        full, half, quarter, eighth = config.channels
        self.to_quarter = GatedUp(eighth, quarter)
        self.to_half = GatedUp(quarter, half)
        self.to_full = SubvoxelUp(half, full)

    @override
    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Decode the encoder's features; (B, C, ...) at 1/4, 1/2 and 1/1."""
        full, half, quarter, eighth = features
        quarter = self.to_quarter(eighth, quarter)
        half = self.to_half(quarter, half)
        return quarter, half, self.to_full(half, full)


class QueryLayer(nn.Module):
    """Queries attend to one scale, then to each other, and predict a mask at that scale."""

    def __init__(self, dim: int, features: int, heads: int) -> None:
        super().__init__()
        self.cross = CrossAttention(dim, features, heads)
        self.norm = nn.LayerNorm(dim)
        self.among = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )
        self.mask = nn.Linear(dim, features + 1)
        _init_normal(self.mask.weight, 0.02)
        nn.init.zeros_(self.mask.bias)
        with torch.no_grad():
            self.mask.bias[-1] = -2.0  # most voxels are in no mask

    @override
    def forward(
        self, query: Tensor, features: Tensor, previous_mask: Tensor, *, trace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, Q, dim) queries and (B, C, I, J, K) features to queries and (B, Q, I, J, K).

        The log-probability of the previous mask is added to the scores: attention is free where
        no region was found.
        """
        mask = previous_mask.detach().float()
        if mask.shape[2:] != features.shape[2:]:
            mask = functional.interpolate(mask, size=features.shape[2:], mode="trilinear")
        bias = torch.log(mask.sigmoid() + _MIN_SHARE).flatten(2)
        grid = features.flatten(2).transpose(1, 2)
        query, weights = self.cross(query, grid, bias, trace=trace)
        q = self.norm(query)
        query = query + self.among(q, q, q, need_weights=False)[0]
        query = query + self.mlp(query)
        if weights is None:
            return query, None
        return query, weights.mean(1).view(*query.shape[:2], *features.shape[2:])

    def mask_logits(self, query: Tensor, features: Tensor) -> Tensor:
        """Return mask logits (B, Q, I, J, K): query times features, in float32."""
        embedding: Tensor = self.mask(query)
        scores = embedding[..., :-1] @ features.flatten(2).to(embedding.dtype)
        logits = scores.float() + embedding[..., -1:].float()
        return logits.view(*logits.shape[:2], *features.shape[2:])


class QueryDecoder(nn.Module):
    """Learnt queries that attend to scales (features, heads) from coarse to fine (Mask2Former)."""

    def __init__(self, count: int, dim: int, scales: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(count, dim))
        _init_normal(self.query, 0.5)
        self.looks = nn.ModuleList(QueryLayer(dim, *scale) for scale in scales)

    @override
    def forward(
        self, scales: Sequence[Tensor], *, trace: bool = False
    ) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
        """Return queries (B, Q, dim), mask logits of each scale and, if traced, attention."""
        query = self.query.expand(len(scales[0]), -1, -1)
        masks: list[Tensor] = []
        traced: list[Tensor] = []
        for module, features in zip(self.looks, scales, strict=True):
            layer = cast("QueryLayer", module)
            previous = masks[-1] if masks else layer.mask_logits(query, features)
            query, weights = layer(query, features, previous, trace=trace)
            masks.append(layer.mask_logits(query, features))
            traced += [] if weights is None else [weights]
        return query, masks, tuple(traced)


class LesionQueries(nn.Module):
    """Queries that each predict one lesion or none (DETR, Carion et al. 2020), at 1/4 and 1/2."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        _, half, quarter, _ = config.channels
        dim = config.query_dim
        self.decoder = QueryDecoder(config.lesions, dim, ((quarter, 2), (half, 2)))
        self.norm = nn.LayerNorm(dim)
        self.classify = nn.Linear(dim, len(LesionClass) + 1)  # the last: no lesion
        self.box = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 6))
        with torch.no_grad():
            self.classify.bias[:-1] = -2.5  # most queries predict none

    @override
    def forward(self, quarter: Tensor, half: Tensor) -> LesionOutput:
        """Predict lesions from decoded features."""
        query, (mask_quarter, mask_half), _ = self.decoder((quarter, half))
        query = self.norm(query)
        return LesionOutput(
            classes=self.classify(query).float(),
            boxes=self.box(query).float().sigmoid(),
            masks=(mask_half, mask_quarter),
        )


class LensNetwork(nn.Module):
    """Encoder with self-attention, decoder, region queries and lesion queries."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        full, half, quarter, _ = config.channels
        scales = tuple(zip((quarter, half, full), config.query_heads, strict=True))
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.queries = QueryDecoder(config.regions, config.query_dim, scales)
        self.lesions = LesionQueries(config) if config.lesions else None
        self.refine = Conv3d(full, config.regions, 1)
        nn.init.zeros_(self.refine.weight)
        nn.init.zeros_(self.refine.bias)  # type: ignore[arg-type]

    @override
    def forward(
        self, x: Tensor, *, bounds: Tensor | None = None,
        maps: bool = False, trace: bool = False, lesions: bool = True,
    ) -> LensOutput:  # fmt: skip
        """Predict a batch.

        Parameters
        ----------
        x : (B, 8, I, J, K) Tensor
            From `normalise.with_presence`; any I, J, K.
        bounds : (B, 3, 2) Tensor or None
            Ends of a window along each axis, in coordinates in which the box of the brain is -1 to
            1; None for the whole brain.
        maps, trace : bool
            Return the attention map of each region; that and the weights of every layer.
        lesions : bool
            Evaluate the lesion queries, if the network has them.
        """
        i, j, k = x.shape[2:]
        padding = [n for size in (k, j, i) for n in (0, -size % STRIDE)]
        padded = functional.pad(x, padding).contiguous(memory_format=torch.channels_last_3d)
        bounds = x.new_tensor([-1.0, 1.0]).expand(len(x), 3, 2) if bounds is None else bounds
        features, self_attention = self.encoder(padded, bounds, trace=trace)
        tokens = tuple(features[-1].shape[2:])
        quarter, half, full = self.decoder(features)
        queries, masks, cross_attention = self.queries((quarter, half, full), trace=maps or trace)
        logits = masks[2] + self.refine(full).float()
        attention = None
        if maps or trace:
            attention = cross_attention[-1][..., :i, :j, :k]
            attention = attention / attention.sum((2, 3, 4), keepdim=True).clamp_min(1e-12)
        return LensOutput(
            logits=logits[..., :i, :j, :k],
            deep=(masks[1], masks[0]),
            queries=queries,
            attention=attention,
            trace=AttentionTrace(tokens, self_attention, cross_attention) if trace else None,
            lesions=self.lesions(quarter, half) if lesions and self.lesions is not None else None,
        )


def _init_normal(weight: Tensor, std: float) -> None:
    """Draw normal values, but not on `meta`, where torch would import SymPy to draw none."""
    if not weight.is_meta:
        nn.init.normal_(weight, std=std)
