"""Rotated, mirrored and scaled crops of a volume."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor


class Crop(NamedTuple):
    """A cube of `size` voxels an edge: (3,) centre and (3, 3) step, in voxels of the volume."""

    centre: NDArray[np.float64]
    step: NDArray[np.float64]
    size: int


def sample(volume: NDArray[np.generic], crop: Crop, *, nearest: bool = False) -> Tensor:
    """Sample (C, I, J, K) on a crop: (C, n, n, n) float32, zero outside the volume."""
    along = np.arange(crop.size) - (crop.size - 1) / 2
    offsets = np.stack(np.meshgrid(along, along, along, indexing="ij"))
    at = np.tensordot(crop.step, offsets, 1) + np.reshape(crop.centre, (3, 1, 1, 1))
    low = np.clip(np.floor(at.min((1, 2, 3))).astype(int), 0, np.array(volume.shape[1:]) - 1)
    high = np.ceil(at.max((1, 2, 3))).astype(int) + 1
    i, j, k = (slice(a, max(a + 1, b)) for a, b in zip(low, high, strict=True))
    part, order = np.asarray(volume[:, i, j, k], np.float32), 0 if nearest else 1
    at -= low[:, None, None, None]
    return torch.from_numpy(np.stack([ndimage.map_coordinates(c, at, order=order) for c in part]))
