"""Sliding windows over selected voxels, and blending of overlapping outputs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Window = tuple[slice, slice, slice]


def over(selected: NDArray[np.bool_], size: tuple[int, int, int]) -> Iterator[Window]:
    """Yield windows that overlap by half and together cover every selected voxel.

    Parameters
    ----------
    selected : (I, J, K) bool
        Voxels to cover.
    size : (3,) int
        Window size in voxels; a shorter axis of the volume is covered entirely.

    Yields
    ------
    (3,) slices
        Within the volume.

    Examples
    --------
    >>> len(list(over(np.ones((64, 64, 64), bool), (64, 64, 64))))
    1
    """
    voxels = np.argwhere(selected)
    if not voxels.size:
        return
    starts = [
        _starts(
            int(voxels[:, axis].min()), int(voxels[:, axis].max()) + 1, selected.shape[axis], edge
        )
        for axis, edge in enumerate(size)
    ]
    for corner in product(*starts):
        window = tuple(
            slice(a, min(a + edge, n))
            for a, edge, n in zip(corner, size, selected.shape, strict=True)
        )
        if selected[window].any():
            yield window[0], window[1], window[2]


def _starts(first: int, stop: int, length: int, edge: int) -> list[int]:
    """Return evenly spaced starts of windows that cover [first, stop), overlapping by half."""
    if edge >= length:
        return [0]
    extent = stop - first
    if extent <= edge:
        centred = (first + stop - edge) // 2
        return [min(max(centred, 0), length - edge)]
    count = 1 + int(np.ceil((extent - edge) / (edge / 2)))
    starts = np.rint(np.linspace(first, stop - edge, count)).astype(int)
    return sorted({min(max(int(start), 0), length - edge) for start in starts})


def relative_bounds(window: Window, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a window's position relative to the volume, from -1 to 1, (1, 3, 2) float32."""
    edges = [(2 * a.start / n - 1, 2 * a.stop / n - 1) for a, n in zip(window, shape, strict=True)]
    return torch.tensor([edges], dtype=torch.float32, device=device)


class Blend:
    """Accumulates overlapping outputs, weighted by the distance from the window's border."""

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self._sum = torch.zeros(shape, dtype=torch.float32, device=device)
        self._weight = torch.zeros(shape, dtype=torch.float32, device=device)

    def add(self, window: Window, output: Tensor) -> None:
        """Add one (I, J, K) output."""
        weight = torch.from_numpy(_window_weight(output.shape)).to(output.device)
        self._sum[window] += output.float() * weight
        self._weight[window] += weight

    def over(self, previous: Tensor, fraction: float) -> Tensor:
        """Blend the windows' outputs into a previous result.

        Parameters
        ----------
        previous : (I, J, K) Tensor
            The result outside the windows.
        fraction : float
            Weight of the windows' output where their summed weight is large; it fades to zero
            towards the outer border of the windows, to avoid seams.
        """
        mean = self._sum / self._weight.clip(1e-6)
        return previous + fraction * (self._weight / 0.25).clip(0.0, 1.0) * (mean - previous)


def _window_weight(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the product of three raised cosines, positive everywhere."""
    first, second, third = (np.hanning(n + 2)[1:-1].astype(np.float32) + 1e-3 for n in shape)
    return np.asarray(first[:, None, None] * second[None, :, None] * third[None, None, :])
