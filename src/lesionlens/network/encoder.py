"""Encoder: stem, residual convolutions and global self-attention over coarse tokens."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.network.attention import SelfAttention, SelfTrace
from lesionlens.network.config import NetworkConfig
from lesionlens.network.convolution import Conv3d
from lesionlens.network.deterministic import GroupNorm, add, silu

STRIDE = 8
"""Voxels per token along each axis."""


def _group_norm(channels: int) -> GroupNorm:
    return GroupNorm(max(1, channels // 8), channels)


class Residual(nn.Module):
    """Two 3x3x3 convolutions with group norm and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = _group_norm(outputs)
        self.conv2 = Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = _group_norm(outputs)
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else Conv3d(inputs, outputs, 1, stride, bias=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, outputs, I / stride, ...)."""
        y = silu(self.norm1(self.conv1(x)))
        return silu(add(self.norm2(self.conv2(y)), self.short(x)))


def position_code(grid: tuple[int, int, int], dim: int, bounds: Tensor) -> Tensor:
    """Return the sinusoidal code of the 3-D position in the brain, (B, I J K, dim).

    Parameters
    ----------
    grid : (3,) int
        Tokens along I, J, K.
    bounds : (B, 3, 2) Tensor
        Outer edges of the grid along each axis, in coordinates in which the brain's box is -1 to 1,
        so that the position of a window in the brain is encoded.
    """
    frequencies = dim // 6
    frequency = math.pi * 2 ** torch.linspace(
        -1, 3, frequencies, dtype=torch.float32, device=bounds.device
    )
    codes = []
    for axis, count in enumerate(grid):
        index = torch.arange(count, dtype=torch.float32, device=bounds.device)
        step = index / max(count - 1, 1)
        low, high = bounds[:, axis, :1], bounds[:, axis, 1:]
        angle = (low + (high - low) * step)[..., None] * frequency
        view = [len(bounds), 1, 1, 1, frequencies]
        view[1 + axis] = count
        codes += [wave.view(view).expand(-1, *grid, -1) for wave in (angle.sin(), angle.cos())]
    code = torch.cat(codes, -1).flatten(1, 3)
    return functional.pad(code, (0, dim - code.shape[-1]))


def mix(
    blocks: nn.ModuleList, coarse: Tensor, bounds: Tensor, *, trace: bool
) -> tuple[Tensor, tuple[SelfTrace, ...]]:
    """Apply the self-attention blocks to coarse features (B, C, I, J, K)."""
    b, c, i, j, k = coarse.shape
    tokens = coarse.flatten(2).transpose(1, 2)
    tokens = tokens + position_code((i, j, k), c, bounds).to(tokens.dtype)
    traces = []
    for block in blocks:
        tokens, query, key = block(tokens)
        if trace:
            traces.append(SelfTrace(query.detach(), key.detach(), (i, j, k)))
    return tokens.transpose(1, 2).reshape(b, c, i, j, k), tuple(traces)


def padded(x: Tensor) -> Tensor:
    """Pad (B, C, I, J, K) with zeros at the far ends to multiples of `STRIDE`; channels-last."""
    _, _, i, j, k = x.shape
    larger = functional.pad(x, [n for size in (k, j, i) for n in (0, -size % STRIDE)])
    return larger.contiguous(memory_format=torch.channels_last_3d)


class Features(NamedTuple):
    """Encoder output, fine to coarse."""

    full: Tensor
    half: Tensor
    quarter: Tensor
    eighth: Tensor
    trace: tuple[SelfTrace, ...]


class Encoder(nn.Module):
    """Encoder with four scales, the coarsest with self-attention."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        full, half, quarter, eighth = config.channels
        self.stem = Conv3d(config.inputs, full, 3, 1, 1)
        at_half, at_quarter, at_eighth = config.blocks
        self.to_half = self._stage(full, half, at_half)
        self.to_quarter = self._stage(half, quarter, at_quarter)
        self.to_eighth = self._stage(quarter, eighth, at_eighth)
        self.transformer = nn.ModuleList(
            SelfAttention(eighth, config.heads, config.ratio) for _ in range(config.layers)
        )

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
        additional = [Residual(outputs, outputs) for _ in range(blocks - 1)]
        return nn.Sequential(Residual(inputs, outputs, stride=2), *additional)

    @override
    def forward(self, x: Tensor, bounds: Tensor, *, trace: bool) -> Features:
        """Return features of (B, inputs, I, J, K), padded by `padded`.

        `bounds` as for `position_code`.
        """
        full = silu(self.stem(padded(x)))
        half = self.to_half(full)
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        eighth, traces = mix(self.transformer, eighth, bounds, trace=trace)
        return Features(full, half, quarter, eighth, traces)
