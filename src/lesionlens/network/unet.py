"""The small U-Net that finds the brain and searches for small lesions.

`brain_logits` and `lesion_logits` run the shipped networks. The U-Net computes on folded voxels:
blocks of 2x2x2 become channels, on which most of the work is done at an eighth of the size, and are
unfolded for the outline. The brain network is trained as SynthStrip (Hoopes et al. 2022,
doi:10.1016/j.neuroimage.2022.119474): one image of any contrast is enough.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.base.geometry import Floats
from lesionlens.network.blocks import Conv3d, Residual, fold, unfold
from lesionlens.network.weights import shipped_file

WIDTHS = (24, 32, 48, 64)
_FINE = 4
_MULTIPLE = 16
_SLAB = 14
"""Folded voxels along the first axis whose outline is predicted at once."""
SMALL_LESIONS_SPACING_MM = 1.3
"""Voxel edge of the input of `lesion_logits`."""


class FoldedUNet(nn.Module):
    """U-Net for the logits of one structure; all axes must be multiples of 16."""

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
        if torch.is_grad_enabled():
            return self._outline(x, image)
        slabs = []  # less than half of the memory
        for start in range(0, x.shape[2], _SLAB):
            stop = min(start + _SLAB, x.shape[2])
            first, last = max(start - 1, 0), stop + 1  # two convolutions of 3x3x3
            logits = self._outline(x[:, :, first:last], image[:, :, 2 * first : 2 * last])
            slabs.append(logits[:, :, 2 * (start - first) : 2 * (stop - first)])
        return torch.cat(slabs, 2)

    def _outline(self, cells: Tensor, image: Tensor) -> Tensor:
        fine = torch.cat([unfold(self.open(cells)), image], 1)
        out: Tensor = self.last(functional.silu(self.fine(fine), inplace=True))
        return out


def load_unet(path: Path, channels: int = 1) -> FoldedUNet:
    """Load weights (safetensors) in evaluation mode, channels last."""
    with torch.device("meta"):
        network = FoldedUNet(channels)
    state = {name: value.to(torch.float32, copy=True) for name, value in load_file(path).items()}
    network.load_state_dict(state, assign=True)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.eval()


@cache
def _shipped(name: str, channels: int) -> FoldedUNet:
    return load_unet(shipped_file(name), channels)


@torch.inference_mode()
def _predict(name: str, images: Floats, before: Sequence[int] = (0, 0, 0)) -> Floats:
    """Return the (I, J, K) logits of (C, I, J, K) images, padded; `before` them on each axis."""
    axes = list(zip(before, images.shape[1:], strict=True))
    pads = [(0, 0), *((first, -size % _MULTIPLE - first) for first, size in axes)]
    padded = torch.from_numpy(np.pad(images.astype(np.float32, copy=False), pads))[None]
    padded = padded.contiguous(memory_format=torch.channels_last_3d)
    logits = _shipped(name, len(images))(padded)[0, 0]
    inside = tuple(slice(first, first + size) for first, size in axes)
    return np.ascontiguousarray(logits[inside].numpy())


def scaled(image: Floats) -> Floats:
    """Scale a positive image to about 0-1, by its bright voxels.

    Examples
    --------
    >>> scaled(np.full((2, 2, 2), 7, np.float32)).max()
    np.float32(1.0)
    """
    values = image[image > 0]
    if not len(values):
        return image
    step = max(len(values) // 50_000, 1)
    top = max(np.quantile(values[::step], np.float32(0.98)), np.float32(1e-6))
    return (image / top).clip(0, 1.5)


def brain_logits(images: Sequence[Floats]) -> Generator[Floats, None, None]:
    """Yield the logit of brain in each (I, J, K) image of a head, RAS+, 2.5 mm, in any units."""
    for image in images:
        before = [-size % _MULTIPLE // 2 for size in image.shape]
        positive = image.astype(np.float32, copy=False).clip(0)
        yield _predict("brain", scaled(positive)[None], before)


def lesion_logits(images: Floats) -> Floats:
    """Return the logit of a small enhancing lesion, (I, J, K).

    Parameters
    ----------
    images : (5, I, J, K) float32
        z-scores in the order of `MrSequence`, zero outside the brain and for absent sequences, and
        the brain as 0 or 1; voxels are `SMALL_LESIONS_SPACING_MM` wide on RAS+ axes.
    """
    return _predict("small_lesions", images)
