"""Attention maps of a bundle's network, and its probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lesionlens.base.geometry import Box, Floats
from lesionlens.base.labels import Region
from lesionlens.engines import gradcam, separable, windows
from lesionlens.engines.bundle import attention as bundle_attention
from lesionlens.engines.network_input import InputFrame

Run = Callable[[Tensor], Tensor]


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

    def layers(self, part: Tensor) -> list[bundle_attention.Layer]:
        """Run one (1, C, i, j, k) part of the input, at most a window; see `recording`."""
        recording = bundle_attention.recording(self.network, self.window)
        with recording as layers, torch.inference_mode():
            self.run(padded(part, self.window))
        return layers


def attention(reader: Reader, x: Tensor, probabilities: Tensor) -> Tensor:
    """Sum the regions' attention over windows that together cover them.

    Parameters
    ----------
    x : (1, C, I, J, K) Tensor
        The input.
    probabilities : (R, I, J, K) Tensor
        Predicted probabilities.

    Returns
    -------
    (R, I, J, K) float32 Tensor
        Windows are weighted by their share of the region.
    """
    focus = torch.stack([gradcam.mask_above(weight, 0.5) for weight in probabilities]).float()
    total = torch.zeros_like(focus)
    for window in windows.over(focus.any(0).cpu().numpy(), reader.window):
        layers = reader.layers(x[(slice(None), slice(None), *window)])
        window_focus = focus[(slice(None), *window)]
        if layers:
            seeds = padded(window_focus, reader.window)
            window_attention = bundle_attention.of_regions(layers, seeds)
            i, j, k = window_focus.shape[1:]
            weight = window_focus.sum((1, 2, 3), keepdim=True)
            total[(slice(None), *window)] += weight * window_attention[:, :i, :j, :k]
    return total


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


class Probe:
    """Computes a voxel's attention on request.

    It runs the network on the window around the voxel, whose attention is cached until a voxel near
    its border or outside is requested.

    Parameters
    ----------
    image : callable
        Returns the (1, C, I, J, K) input of the analysed study.
    frame : InputFrame
        Of the input.
    """

    def __init__(
        self,
        reader: Reader,
        image: Callable[[], Tensor],
        frame: InputFrame,
    ) -> None:
        self._reader, self._image, self._frame = reader, image, frame
        self._last: tuple[Box, list[bundle_attention.Layer]] | None = None

    def __call__(self, voxel: tuple[int, int, int]) -> Floats:
        """Return the (I, J, K) rollout of one working voxel within its window, maximum 1."""
        point_mm = self._frame.prepared.working.to_mm(voxel)
        i, j, k = self._frame.grid.nearest_voxel(point_mm, clip=True).tolist()
        window, layers = self._layers_at((i, j, k))
        seed = torch.zeros(self._frame.grid.shape)
        seed[i, j, k] = 1.0
        part = padded(seed[None][(slice(None), *window)], self._reader.window)
        attention = bundle_attention.of_regions(layers, part.to(layers[0].weights.device))[0]
        volume = torch.zeros(self._frame.grid.shape, device=attention.device)
        crop = tuple(slice(0, side.stop - side.start) for side in window)
        volume[window] = attention[crop]
        return separable.with_maximum_one(self._frame.to_working(volume))

    def _layers_at(self, voxel: tuple[int, int, int]) -> tuple[Box, list[bundle_attention.Layer]]:
        """Return a window that contains a voxel away from its border, and its attention."""
        if self._last is None or not _well_inside(voxel, self._last[0], self._frame.grid.shape):
            box = window_about(voxel, self._reader.window, self._frame.grid.shape)
            part = self._image()[(slice(None), slice(None), *box)]
            self._last = (box, self._reader.layers(part))
        return self._last


def window_about(
    centre: tuple[int, int, int], window: tuple[int, int, int], shape: tuple[int, ...]
) -> Box:
    """Return the window around a voxel, within the volume; short axes are covered entirely.

    Examples
    --------
    >>> window_about((1, 9, 5), (4, 4, 20), (10, 10, 10))
    (slice(0, 4, None), slice(6, 10, None), slice(0, 10, None))
    """
    sides = []
    for voxel, size, length in zip(centre, window, shape, strict=True):
        start = min(max(voxel - size // 2, 0), max(length - size, 0))
        sides.append(slice(start, min(start + size, length)))
    return sides[0], sides[1], sides[2]


def window_about_peak(values: Tensor, window: tuple[int, int, int]) -> Box:
    """Return the window around the maximum of (I, J, K) values."""
    i, j, k = (int(v) for v in np.unravel_index(int(values.argmax()), tuple(values.shape)))
    return window_about((i, j, k), window, tuple(values.shape))


def _well_inside(position: tuple[int, int, int], box: Box, shape: tuple[int, ...]) -> bool:
    """Return whether a voxel is a quarter window away from borders that could be shifted."""
    for voxel, side, length in zip(position, box, shape, strict=True):
        margin = (side.stop - side.start) // 4
        low = 0 if side.start == 0 else side.start + margin
        high = length if side.stop == length else side.stop - margin
        if not low <= voxel < high:
            return False
    return True
