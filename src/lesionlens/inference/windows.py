"""Windows over the places that matter, and how overlapping answers are blended."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Window = tuple[slice, slice, slice]


def over(wanted: NDArray[np.bool_], size: tuple[int, int, int]) -> Iterator[Window]:
    """Yield windows that overlap by half and together cover every wanted voxel.

    Parameters
    ----------
    wanted : (I, J, K) bool
        What must be covered.
    size : (3,) int
        Voxels of a window; a shorter axis of the volume is taken whole.

    Yields
    ------
    (3,) slices
        Within the volume.

    Examples
    --------
    >>> len(list(over(np.ones((64, 64, 64), bool), (64, 64, 64))))
    1
    """
    filled = np.argwhere(wanted)
    if not filled.size:
        return
    starts = [
        _starts(
            int(filled[:, axis].min()), int(filled[:, axis].max()) + 1, wanted.shape[axis], edge
        )
        for axis, edge in enumerate(size)
    ]
    for corner in product(*starts):
        window = tuple(
            slice(a, min(a + edge, n))
            for a, edge, n in zip(corner, size, wanted.shape, strict=True)
        )
        if wanted[window].any():
            yield window[0], window[1], window[2]


def _starts(first: int, stop: int, length: int, edge: int) -> list[int]:
    """Return evenly laid starts of windows that cover [first, stop), overlapping by half."""
    if edge >= length:
        return [0]
    need = stop - first
    if need <= edge:
        centred = (first + stop - edge) // 2
        return [min(max(centred, 0), length - edge)]
    count = 1 + int(np.ceil((need - edge) / (edge / 2)))
    places = np.rint(np.linspace(first, stop - edge, count)).astype(int)
    return sorted({min(max(int(place), 0), length - edge) for place in places})


def place_in(window: Window, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return where a window lies in a volume that reaches from -1 to 1, (1, 3, 2) float32."""
    edges = [(2 * a.start / n - 1, 2 * a.stop / n - 1) for a, n in zip(window, shape, strict=True)]
    return torch.tensor([edges], dtype=torch.float32, device=device)


class Blend:
    """Adds up overlapping answers, each weighed by its distance from its window's border.

    Parameters
    ----------
    shape : (3,) int
        The whole volume.
    device : torch.device
        Where the sums lie.
    """

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self._sum = torch.zeros(shape, device=device)
        self._weight = torch.zeros(shape, device=device)

    def add(self, window: Window, answer: Tensor) -> None:
        """Take in one (I, J, K) answer."""
        bump = _bump(answer.shape, answer.device)
        self._sum[window] += answer.float() * bump
        self._weight[window] += bump

    def over(self, rest: Tensor, share: float) -> Tensor:
        """Mix the windows' answers into what was known before.

        Parameters
        ----------
        rest : (I, J, K) Tensor
            The answer where no window lay.
        share : float
            Of the windows' answer in the mix, where their summed weight is large; it fades to
            zero towards the outer border of the windows, so that no seam shows.
        """
        mean = self._sum / self._weight.clamp_min(1e-6)
        return rest + share * (self._weight / 0.25).clamp(max=1.0) * (mean - rest)


def _bump(shape: torch.Size, device: torch.device) -> Tensor:
    """Return the product of three raised cosines, positive everywhere."""
    first, second, third = (
        torch.hann_window(n + 2, periodic=False, device=device)[1:-1] + 1e-3 for n in shape
    )
    return first[:, None, None] * second[None, :, None] * third[None, None, :]
