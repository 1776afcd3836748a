"""Volumes with permuted and mirrored axes, as other scanners store them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from lesionlens.base.grid import Grid

Order = tuple[Sequence[int], Sequence[bool]]


def orders() -> st.SearchStrategy[Any]:
    """Return a strategy for an order of the three axes, and which of the new ones are mirrored."""
    return st.tuples(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))


def stored(array: NDArray[Any], order: Order) -> NDArray[Any]:
    """Return the same voxels stored in this order."""
    axes, mirrored = order
    flipped = [axis for axis in range(3) if mirrored[axis]]
    return np.ascontiguousarray(np.flip(array.transpose(axes), flipped))


def grid_stored(grid: Grid, order: Order) -> Grid:
    """Return the grid of voxels stored in this order; each keeps its position."""
    axes, mirrored = order
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, old in enumerate(axes):
        to_old[old, new] = -1 if mirrored[new] else 1
        to_old[old, 3] = grid.shape[old] - 1 if mirrored[new] else 0
    i, j, k = (grid.shape[axis] for axis in axes)
    return Grid((i, j, k), grid.affine @ to_old)
