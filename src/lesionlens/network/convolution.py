"""Convolutions that take oneDNN on a CPU, whatever their size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from lesionlens.network.steady import predicts_on_cpu


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, by oneDNN wherever a CPU predicts in float32.

    Torch keeps oneDNN for large volumes: small ones, and kernels of one voxel on one thread, go
    through code of its own that copies channels-last volumes and takes twice as long. Weights and
    their names are those of `nn.Conv3d`, results equal but for rounding.
    """

    @override
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out: Tensor
        if isinstance(self.padding, str) or not _by_onednn(input):
            out = super()._conv_forward(input, weight, bias)
        else:
            out = torch.mkldnn_convolution(
                input, weight, bias, self.padding, self.stride, self.dilation, self.groups
            )
        return out


def _by_onednn(x: Tensor) -> bool:
    return predicts_on_cpu(x) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
