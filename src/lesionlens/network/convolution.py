"""Convolutions that take oneDNN on a CPU, whatever their size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, by oneDNN wherever a CPU predicts in float32.

    Torch keeps oneDNN for large volumes: small ones, and kernels of one voxel on one thread, go
    through code of its own that copies channels-last volumes and takes twice as long. Weights and
    their names are those of `nn.Conv3d`, results equal but for rounding.
    """

    @override
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out: Tensor
        if isinstance(self.padding, str) or not _predicts_on_cpu(input):
            out = super()._conv_forward(input, weight, bias)
        else:
            out = torch.mkldnn_convolution(
                input, weight, bias, self.padding, self.stride, self.dilation, self.groups
            )
        return out


def _predicts_on_cpu(x: Tensor) -> bool:
    """Whether this is a prediction in float32 on a CPU that has oneDNN, not traced for export."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
