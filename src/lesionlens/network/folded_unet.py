"""A small U-Net that computes on folded voxels.

Blocks of 2x2x2 voxels are folded into channels, on which most computation is done, and unfolded for
the outline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.base.geometry import Floats
from lesionlens.network.concurrent_passes import run_concurrently
from lesionlens.network.convolution import Conv3d
from lesionlens.network.deterministic import predicts_on_cpu, silu
from lesionlens.network.encoder import Residual
from lesionlens.network.shipped_weights import shipped_file

UNet = Callable[[Sequence[Floats]], Iterator[Floats]]
"""Maps (C, I, J, K) images to (I, J, K) logits; axes are multiples of 16."""
WIDTHS = (24, 32, 48, 64)
_FINE = 4
_SLAB_CELLS = 8
"""Folded voxels along the first axis whose outline is predicted at once on a CPU."""


def fold(image: Tensor) -> Tensor:
    """Space-to-depth with factor 2: (B, C, I, ...) to (B, 8 C, I / 2, ...).

    For predictions on a CPU the result is channels-last; a convolution would convert it slower.
    """
    b, c, i, j, k = image.shape
    if predicts_on_cpu(image):
        last = image.new_empty(b, i // 2, j // 2, k // 2, c, 2, 2, 2)
        for x, y, z in product(range(2), repeat=3):
            last[..., x, y, z] = image[:, :, x::2, y::2, z::2].movedim(1, -1)
        return last.flatten(4).movedim(-1, 1)
    cells = image.view(b, c, i // 2, 2, j // 2, 2, k // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return cells.reshape(b, 8 * c, i // 2, j // 2, k // 2)


def unfold(cells: Tensor) -> Tensor:
    """Depth-to-space, the inverse of `fold`: (B, 8 C, I, J, K) to (B, C, 2 I, 2 J, 2 K)."""
    b, c, i, j, k = cells.shape
    voxels = cells.view(b, c // 8, 2, 2, 2, i, j, k).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return voxels.reshape(b, c // 8, 2 * i, 2 * j, 2 * k)


class FoldedUNet(nn.Module):
    """Logits of one structure, voxel by voxel."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        inputs = (8 * channels, *WIDTHS[:-1])
        self.down = nn.ModuleList(
            Residual(a, b, 1 if level == 0 else 2)
            for level, (a, b) in enumerate(zip(inputs, WIDTHS, strict=True))
        )
        self.up = nn.ModuleList(Residual(fine + coarse, fine) for fine, coarse in pairwise(WIDTHS))
        self.open = Conv3d(WIDTHS[0], 8 * _FINE, 1)
        self.fine = Conv3d(_FINE + channels, 2 * _FINE, 3, padding=1)
        self.last = Conv3d(2 * _FINE, 1, 3, padding=1)

    @override
    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, I, J, K) to logits, (B, 1, I, J, K)."""
        x, skips = fold(image), []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for level in reversed(range(len(self.up))):
            upsampled = functional.interpolate(x, scale_factor=2, mode="trilinear")
            x = self.up[level](torch.cat([skips.pop(), upsampled], 1))
        if predicts_on_cpu(image):
            return self._slab_logits(x, image)
        return self._fine_logits(x, image)

    def _fine_logits(self, cells: Tensor, image: Tensor) -> Tensor:
        """Logits of folded features and the image at its own voxels."""
        fine = torch.cat([unfold(self.open(cells)), image], 1)
        out: Tensor = self.last(silu(self.fine(fine)))
        return out

    def _slab_logits(self, cells: Tensor, image: Tensor) -> Tensor:
        """Return the logits of `_fine_logits` slab by slab, which takes less memory."""
        cell_rows = cells.shape[2]
        slabs = []
        for start in range(0, cell_rows, _SLAB_CELLS):
            stop = min(start + _SLAB_CELLS, cell_rows)
            first, last = max(start - 1, 0), min(stop + 1, cell_rows)  # two 3x3x3 convolutions
            logits = self._fine_logits(cells[:, :, first:last], image[:, :, 2 * first : 2 * last])
            slabs.append(logits[:, :, 2 * (start - first) : 2 * (stop - first)])
        return torch.cat(slabs, 2)


def load_folded_unet(path: Path, channels: int = 1) -> FoldedUNet:
    """Load weights (safetensors) in evaluation mode; the caller's torch defaults change nothing."""
    with torch.device("meta"):  # draws no random numbers
        network = FoldedUNet(channels)
    # copied: the file may be replaced while the network is used
    state = {n: value.to(torch.float32, copy=True) for n, value in load_file(path).items()}
    network.load_state_dict(state, assign=True)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.eval()


@cache
def load_shipped_unet(name: str, channels: int) -> UNet:
    """Load a shipped U-Net by the name of its files, without ending.

    Raises
    ------
    WeightsError
        The weights are missing or altered.
    """
    network = load_folded_unet(shipped_file(name), channels)

    @torch.inference_mode()
    def run(image: Floats) -> Floats:
        x = torch.from_numpy(np.ascontiguousarray(image))[None]
        logit = network(x.contiguous(memory_format=torch.channels_last_3d))[0, 0]
        return np.asarray(logit.numpy(), np.float32)

    return partial(run_concurrently, run)
