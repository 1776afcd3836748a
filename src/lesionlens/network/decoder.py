"""Decoder from coarse tokens to fine features, with attention gates on the skips."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.network.attention import AttentionGate
from lesionlens.network.config import NetworkConfig
from lesionlens.network.convolution import Conv3d
from lesionlens.network.deterministic import add, predicts_on_cpu, silu
from lesionlens.network.encoder import Features, Residual

_SLAB_ROWS = 8
"""Coarse rows that are upsampled to full resolution at once on a CPU."""


class FeaturePyramid(NamedTuple):
    """Decoded features, (B, C, I, J, K) each."""

    quarter: Tensor
    half: Tensor
    full: Tensor


class GatedUp(nn.Module):
    """Upsample, gate the skip connection with the result, and combine both."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.narrow = Conv3d(coarse, fine, 1)
        self.gate = AttentionGate(fine)
        self.mix = Residual(2 * fine, fine)

    @override
    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(B, coarse, I/2, ...) and (B, fine, I, ...) to (B, fine, I, ...)."""
        up = functional.interpolate(self.narrow(coarse), scale_factor=2, mode="trilinear")
        combined: Tensor = self.mix(torch.cat([up, self.gate(skip, up)], 1))
        return combined


class SubvoxelUp(nn.Module):
    """Upsample to full resolution by depth-to-space (Shi et al. 2016) and one light convolution.

    Without normalisation, which would cost as much as the convolution at full resolution.
    """

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.expand = Conv3d(coarse, 8 * fine, 1)
        self.mix = Conv3d(fine, fine, 3, 1, 1)

    @override
    def forward(self, coarse: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, coarse, I/2, ...) and (B, fine, I, ...) to (B, fine, I, ...).

        Where a CPU predicts, `skip` is overwritten.
        """
        if skip is not None and predicts_on_cpu(coarse):
            combined = self._added_to(skip, coarse)
        else:
            upsampled = self._upsampled(coarse)
            combined = silu(upsampled if skip is None else upsampled + skip)
        return add(silu(self.mix(combined)), combined)

    def _added_to(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Combine slab by slab, so that the upsampled features never exist as a whole."""
        for start in range(0, coarse.shape[2], _SLAB_ROWS):
            stop = start + _SLAB_ROWS
            slab = skip[:, :, 2 * start : 2 * stop]
            silu(slab.add_(self._upsampled(coarse[:, :, start:stop])))
        return skip

    def _upsampled(self, coarse: Tensor) -> Tensor:
        """(B, coarse, I/2, ...) to (B, fine, I, ...)."""
        b, _, i, j, k = coarse.shape
        fine = self.mix.in_channels
        parts = self.expand(coarse).permute(0, 2, 3, 4, 1).reshape(b, i, j, k, 2, 2, 2, fine)
        up = parts.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, 2 * i, 2 * j, 2 * k, fine)
        # Keep channels last: mixed with the skip's layout, every later step would be slower.
        upsampled: Tensor = up.permute(0, 4, 1, 2, 3)
        return upsampled


class Decoder(nn.Module):
    """Three upsampling steps."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        full, half, quarter, eighth = config.channels
        self.to_quarter = GatedUp(eighth, quarter)
        self.to_half = GatedUp(quarter, half)
        self.to_full = SubvoxelUp(half, full)

    @override
    def forward(self, encoded: Features) -> FeaturePyramid:
        """Decode the encoder's features."""
        quarter = self.to_quarter(encoded.eighth, encoded.quarter)
        half = self.to_half(quarter, encoded.half)
        return FeaturePyramid(quarter, half, self.to_full(half, encoded.full))
