"""Arrays of zeros that take memory only where they are written."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lesionlens.base.geometry import Box

_MIN_BYTES = 1 << 20


def lazy_zeros(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros with its own pages, on Linux; it is unmapped when released.

    `numpy.zeros` does the same unless freed memory is kept (`process.retained_memory`): it then
    clears and occupies all of its bytes. A map of a brain is zero on most of its grid. Elsewhere,
    and below 1 MiB, this is `numpy.zeros`.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if sys.platform == "linux" and size >= _MIN_BYTES:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return np.frombuffer(pages, dtype).reshape(shape)
    return np.zeros(shape, dtype)


def within(values: NDArray[Any], box: Box | None) -> NDArray[Any]:
    """Return a copy of an array that is zero outside a box, None for everywhere zero."""
    out = lazy_zeros(values.shape, values.dtype)
    if box is not None:
        out[box] = values[box]
    return out
