"""Variants to compare the hybrid network with: Lens without attention, and attention alone.

Both have about as many parameters as `base` and the same input and output, so that one
configuration trains each of them. Importing this module adds them to the designs and presets of
`lesionlens.network`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.network.attention import SelfAttention
from lesionlens.network.build import DESIGNS
from lesionlens.network.config import PRESETS, NetworkConfig
from lesionlens.network.decoder import Decoder, FeaturePyramid, GatedUp, SubvoxelUp
from lesionlens.network.encoder import STRIDE, Encoder, Features, mix, padded
from lesionlens.network.model import LensNetwork
from lesionlens.network.queries import QueryOutput

_INITIAL_LOG_ODDS = -2.0  # of each region before training, as for the queries


class PlainUp(GatedUp):
    """Upsample and mix with the whole skip, as a U-Net does (Ronneberger et al. 2015)."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__(coarse, fine)
        del self.gate

    @override
    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Map (B, coarse, I/2, ...) and (B, fine, I, ...) to (B, fine, I, ...)."""
        up = functional.interpolate(self.narrow(coarse), scale_factor=2, mode="trilinear")
        combined: Tensor = self.mix(torch.cat([up, skip], 1))
        return combined


class PlainHeads(nn.Module):
    """Masks by one linear map per scale instead of queries; same output as `QueryDecoder`."""

    def __init__(self, count: int, dim: int, features: Sequence[int]) -> None:
        super().__init__()
        self.masks = nn.ModuleList(nn.Conv3d(channels, count, 1) for channels in features)
        self.summary = nn.Linear(features[0], count * dim)
        for mask in self.masks:
            nn.init.constant_(mask.bias, _INITIAL_LOG_ODDS)  # type: ignore[arg-type]

    @override
    def forward(self, scales: Sequence[Tensor], *, trace: bool) -> QueryOutput:
        """Predict masks; there is no attention, so it is returned as uniform."""
        del trace
        masks = tuple(mask(x).float() for mask, x in zip(self.masks, scales, strict=True))
        summary = self.summary(scales[0].mean((2, 3, 4)))
        shape = masks[-1].shape
        uniform = torch.full(shape, 1 / shape[2:].numel(), device=summary.device)
        return QueryOutput(masks, uniform, summary.view(*shape[:2], -1), ())


class ConvolutionalNetwork(LensNetwork):
    """Lens without attention of any kind: neither tokens nor gates nor queries."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        full, half, quarter, eighth = config.channels
        self.decoder.to_quarter = PlainUp(eighth, quarter)
        self.decoder.to_half = PlainUp(quarter, half)
        self.queries = PlainHeads(  # type: ignore[assignment]
            config.regions, config.query_dim, (quarter, half, full)
        )


class PatchEncoder(Encoder):
    """Patches as tokens, then self-attention (Dosovitskiy et al. 2021); no finer features."""

    def __init__(self, config: NetworkConfig) -> None:
        nn.Module.__init__(self)
        dim = config.channels[-1]
        self.patch = nn.Conv3d(config.inputs, dim, STRIDE, STRIDE)
        self.transformer = nn.ModuleList(
            SelfAttention(dim, config.heads, config.ratio) for _ in range(config.layers)
        )

    @override
    def forward(self, x: Tensor, bounds: Tensor, *, trace: bool) -> Features:
        """Encode (B, inputs, I, J, K) as tokens, the coarsest features; finer ones are empty."""
        coarse, traces = mix(self.transformer, self.patch(padded(x)), bounds, trace=trace)
        empty = coarse.new_empty(0)
        return Features(empty, empty, empty, coarse, traces)


class TokenDecoder(Decoder):
    """From tokens to fine features by light upsampling (Zheng et al. 2021), without skips."""

    def __init__(self, config: NetworkConfig) -> None:
        nn.Module.__init__(self)
        full, half, quarter, eighth = config.channels
        self.to_quarter = SubvoxelUp(eighth, quarter)  # type: ignore[assignment]
        self.to_half = SubvoxelUp(quarter, half)  # type: ignore[assignment]
        self.to_full = SubvoxelUp(half, full)

    @override
    def forward(self, encoded: Features) -> FeaturePyramid:
        """Decode the tokens."""
        quarter = self.to_quarter(encoded.eighth)
        half = self.to_half(quarter)
        return FeaturePyramid(quarter, half, self.to_full(half))


class TransformerNetwork(LensNetwork):
    """Lens of attention alone: patches, self-attention, region queries."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.encoder, self.decoder = PatchEncoder(config), TokenDecoder(config)


CNN_ONLY, TRANSFORMER_ONLY = "cnn-only", "transformer-only"
DESIGNS |= {CNN_ONLY: ConvolutionalNetwork, TRANSFORMER_ONLY: TransformerNetwork}
PRESETS |= {
    CNN_ONLY: NetworkConfig(
        channels=(16, 32, 64, 128), blocks=(1, 2, 2), layers=0, design=CNN_ONLY
    ),
    TRANSFORMER_ONLY: NetworkConfig(
        channels=(16, 32, 64, 192), blocks=(0, 0, 0), heads=6, design=TRANSFORMER_ONLY
    ),
}
