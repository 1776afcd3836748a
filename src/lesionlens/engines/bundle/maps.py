"""Explanation maps of a bundle's network: self-attention and occlusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.visualize import OcclusionSensitivity
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.base.geometry import Floats
from lesionlens.base.labels import Region
from lesionlens.base.process.ignored_warnings import warnings_ignored
from lesionlens.engines import gradcam, separable, windows
from lesionlens.engines.bundle import attention as bundle_attention
from lesionlens.engines.network_input import InputFrame

Run = Callable[[Tensor], Tensor]
Follow = Callable[[Sequence[bundle_attention.Layer], Tensor], Tensor]
"""Maps the layers of one pass and the region weights to attention maps."""
_MIN_BLOCKS = 4  # minimum number of occluded blocks along the longest side of a region


def padded(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pad (..., I, J, K) volumes at the high ends to a size."""
    amounts = [n for a, b in zip(x.shape[-3:], size, strict=True) for n in (max(0, b - a), 0)]
    return functional.pad(x, amounts[::-1])


@dataclass(frozen=True, slots=True)
class Reader:
    """A network with self-attention that can be recorded."""

    network: nn.Module
    """A network with blocks supported by `bundle.attention`."""
    run: Run
    """Callable. The same network, (1, C, i, j, k) to logits."""
    window: tuple[int, int, int]
    """(3,) int: window size in voxels."""

    def layers(self, part: Tensor, head: int | None = None) -> list[bundle_attention.Layer]:
        """Run one (1, C, i, j, k) part of the input, at most a window; see `recording`."""
        recording = bundle_attention.recording(self.network, self.window, head)
        with recording as layers, torch.inference_mode():
            self.run(padded(part, self.window))
        return layers


def attention(
    reader: Reader,
    x: Tensor,
    probabilities: Tensor,
    follow: Follow = bundle_attention.of_regions,
    head: int | None = None,
) -> Tensor:
    """Sum the regions' attention over windows that together cover them.

    Parameters
    ----------
    x : (1, C, I, J, K) Tensor
        The input.
    probabilities : (R, I, J, K) Tensor
        Predicted probabilities.
    follow : callable
        How attention is propagated from the segmented regions.
    head : int or None
        Head to use instead of the mean over heads.

    Returns
    -------
    (R, I, J, K) float32 Tensor
        Windows are weighted by their share of the region.
    """
    focus = torch.stack([gradcam.mask_above(weight, 0.5) for weight in probabilities]).float()
    total = torch.zeros_like(focus)
    for window in windows.over(focus.any(0).cpu().numpy(), reader.window):
        layers = reader.layers(x[(slice(None), slice(None), *window)], head)
        window_focus = focus[(slice(None), *window)]
        if layers:
            window_attention = follow(layers, padded(window_focus, reader.window))
            i, j, k = window_focus.shape[1:]
            weight = window_focus.sum((1, 2, 3), keepdim=True)
            total[(slice(None), *window)] += weight * window_attention[:, :i, :j, :k]
    return total


class _Score(nn.Module):
    """Mean probability of a region over the voxels where it was segmented."""

    def __init__(self, run: Run, channel: int, inside: Tensor) -> None:
        super().__init__()
        self._run, self._channel, self._inside = run, channel, inside

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) to (B, 1)."""
        probability = torch.sigmoid(self._run(x)[:, self._channel].float())
        return probability[:, self._inside].mean(1, keepdim=True)


def occlusion(run: Run, x: Tensor, channel: int) -> Tensor:
    """Return the drop in a region's probability when parts in and around it are occluded.

    Cubes of a quarter of the region's longest side are set to the brain's mean, one at a time, by
    `monai.visualize.OcclusionSensitivity`: about 125 passes at the most.

    Parameters
    ----------
    run : callable
        (B, C, I, J, K) to logits.
    x : (1, C, I, J, K) Tensor
        z-scored, so that zero is the brain's mean.

    Returns
    -------
    (I, J, K) float32 Tensor
        Non-negative, zero away from the region.
    """
    with torch.inference_mode():
        inside = gradcam.mask_above(torch.sigmoid(run(x)[0, channel].float()), 0.5)
        score = _Score(run, channel, inside)
        voxels = inside.nonzero()
        low, high = voxels.amin(0).tolist(), (voxels.amax(0) + 1).tolist()
        edge = max(2, -(-max(b - a for a, b in zip(low, high, strict=True)) // _MIN_BLOCKS))
        occluder = OcclusionSensitivity(
            score, mask_size=edge, n_batch=1, verbose=False, mode=0.0, overlap=0.0, activate=False
        )
        box = [n for pair in zip(low, high, strict=True) for n in pair]
        # MONAI indexes by a list of slices, which torch deprecates
        with warnings_ignored(message="Using a non-tuple sequence"):
            occluded_score, _ = occluder(x, b_box=box)
        drop = (score(x) - torch.as_tensor(occluded_score)[0, 0]).clamp_min(0.0)
    out = torch.zeros(x.shape[2:], device=x.device)
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = drop
    return out


def weights(maps: Mapping[Region, Tensor], frame: InputFrame) -> dict[Region, Floats]:
    """Resample maps to the working grid, normalised to sum one over the brain."""
    return {r: separable.with_sum_one(frame.to_working(values)) for r, values in maps.items()}


def nested(
    probabilities: Tensor, channels: Mapping[Region, int], frame: InputFrame
) -> dict[Region, Floats]:
    """Resample (R, I, J, K) probabilities to the working grid, nested; zero without a channel."""
    out: dict[Region, Floats] = {}
    shape = frame.prepared.working.shape
    inside = np.ones(shape, np.float32)
    for region in Region:
        channel = channels.get(region)
        if channel is None:
            out[region] = np.zeros(shape, np.float32)
            continue
        inside = np.minimum(inside, frame.to_working(probabilities[channel]))
        out[region] = inside
    return out
