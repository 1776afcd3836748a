"""Convolution blocks that the networks share; volumes are (B, C, I, J, K)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` that predicts by oneDNN on a CPU at every size.

    Torch leaves 1x1x1 kernels and small grids to slower code: a third of a pass at 3 mm.
    """

    @override
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        predicts = input.device.type == "cpu" and not torch.is_grad_enabled()
        if not predicts or input.dtype != torch.float32 or isinstance(self.padding, str):
            slow: Tensor = super()._conv_forward(input, weight, bias)
            return slow
        out: Tensor = torch.mkldnn_convolution(
            input, weight, bias, self.padding, self.stride, self.dilation, self.groups
        )
        return out


class Residual(nn.Module):
    """Two 3x3x3 convolutions with group normalisation and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        groups = max(1, outputs // 8)
        self.conv1 = Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(groups, outputs)
        self.conv2 = Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs)
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else Conv3d(inputs, outputs, 1, stride, bias=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, I, J, K) to (B, outputs, I / stride, ...)."""
        y = functional.silu(self.norm1(self.conv1(x)), inplace=True)
        return functional.silu(self.norm2(self.conv2(y)).add_(self.short(x)), inplace=True)


def residuals(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """Return residual blocks of which the first halves the grid."""
    more = (Residual(outputs, outputs) for _ in range(count - 1))
    return nn.Sequential(Residual(inputs, outputs, stride=2), *more)


def fold(image: Tensor) -> Tensor:
    """Space-to-depth: (B, C, I, J, K) to (B, 8 C, I / 2, J / 2, K / 2), channels last."""
    b, c, i, j, k = image.shape
    cells = image.view(b, c, i // 2, 2, j // 2, 2, k // 2, 2).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return cells.reshape(b, i // 2, j // 2, k // 2, 8 * c).movedim(-1, 1)


def unfold(cells: Tensor) -> Tensor:
    """Depth-to-space, the inverse of `fold`: (B, 8 C, I, J, K) to (B, C, 2 I, 2 J, 2 K)."""
    b, c, i, j, k = cells.shape
    voxels = cells.view(b, c // 8, 2, 2, 2, i, j, k).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return voxels.reshape(b, c // 8, 2 * i, 2 * j, 2 * k)
