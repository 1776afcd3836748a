"""A Conv3d that always uses oneDNN on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from lesionlens.network.deterministic import predicts_on_cpu


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` that uses oneDNN for every float32 prediction on a CPU.

    Torch uses oneDNN only for large volumes; for small ones, and 1x1x1 kernels on one thread, its
    own code copies channels-last volumes and takes twice as long. Parameters are those of
    `nn.Conv3d`, results equal up to rounding.
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
