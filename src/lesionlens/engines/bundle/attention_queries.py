"""Probes and layer attention of a bundle's network, computed on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lesionlens.base.geometry import Box, Floats
from lesionlens.base.labels import Region
from lesionlens.engines import gradcam, separable
from lesionlens.engines.bundle import attention as bundle_attention
from lesionlens.engines.bundle import maps
from lesionlens.engines.bundle.maps import Reader
from lesionlens.engines.network_input import InputFrame


class AttentionQueries:
    """Computes a voxel's attention, and the attention of single blocks and heads, on request.

    Only the segmented regions of the analysis are kept: each request runs the network on the
    windows that cover the region; a probe runs it on the window around the voxel, whose attention
    is cached until a voxel near its border or outside is requested.

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
        probabilities: Mapping[Region, Tensor],
        frame: InputFrame,
    ) -> None:
        self._reader, self._image = reader, image
        self._masks = {
            region: gradcam.mask_above(probability, 0.5)
            for region, probability in probabilities.items()
        }
        self._frame = frame
        self._blocks = bundle_attention.blocks(reader.network)
        self._last: tuple[Box, list[bundle_attention.Layer]] | None = None

    @property
    def attention_layers(self) -> tuple[tuple[str, int], ...]:
        """Name and number of heads of each block."""
        return tuple((f"block {n}", heads) for n, heads in enumerate(self._blocks.values(), 1))

    def probe(self, voxel: tuple[int, int, int]) -> Floats:
        """Return the (I, J, K) rollout of one working voxel within its window, maximum 1."""
        point_mm = self._frame.prepared.working.to_mm(voxel)
        i, j, k = self._frame.grid.nearest_voxel(point_mm, clip=True).tolist()
        window, layers = self._layers_at((i, j, k))
        seed = torch.zeros(self._frame.grid.shape)
        seed[i, j, k] = 1.0
        part = maps.padded(seed[None][(slice(None), *window)], self._reader.window)
        attention = bundle_attention.of_regions(layers, part.to(layers[0].weights.device))[0]
        volume = torch.zeros(self._frame.grid.shape, device=attention.device)
        crop = tuple(slice(0, side.stop - side.start) for side in window)
        volume[window] = attention[crop]
        return separable.with_maximum_one(self._frame.to_working(volume))

    def layer_attention(self, region: Region, layer: int, head: int | None) -> Floats:
        """Return (I, J, K) weights on the working grid that sum to one over the brain."""
        follow = partial(bundle_attention.of_layer, list(self._blocks)[layer])
        mask = self._masks[region].float()[None]
        attention = maps.attention(self._reader, self._image(), mask, follow, head)[0]
        return separable.with_sum_one(self._frame.to_working(attention))

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
