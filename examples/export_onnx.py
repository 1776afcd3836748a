"""Export the network to ONNX, for a runtime of your own.

python examples/export_onnx.py lens.onnx

Needs `pip install onnx onnxscript`. The input `x` is (1, 8, I, J, K): the four sequences, z-scored
in the brain, and the brain mask for each that is present; axes are multiples of 8.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from typing_extensions import override

from lesionlens.plugin import load_network


class Logits(nn.Module):
    """The network with one output: logits of whole tumour, core and enhancing tumour."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(1, 8, I, J, K) to (1, 3, I, J, K)."""
        logits: Tensor = self.network(x, lesions=False).logits
        return logits


def main(out: str, weights: str | None = None) -> None:
    """Write the network in use, or a file of weights, to `out`."""
    network, _ = load_network(weights)
    sizes = {2 + n: 8 * torch.export.Dim(axis, min=2, max=64) for n, axis in enumerate("ijk")}
    torch.onnx.export(
        Logits(network).to(memory_format=torch.contiguous_format).eval(),  # type: ignore[call-overload]
        (torch.zeros(1, 8, 40, 24, 32),),
        out,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes={"x": sizes},
        external_data=False,
        dynamo=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
