"""Read-only arrays with their voxel grid."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.base.errors import GeometryError
from lesionlens.base.geometry import Affine
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view


def checksums(arrays: Iterable[NDArray[Any]]) -> tuple[int, ...]:
    """Return the CRC-32 of each array's values, to find out later whether one was changed.

    A read-only array can be written to by other libraries, such as torch.

    Examples
    --------
    >>> checksums([np.array([1], np.uint8)]) == checksums([np.array([1], np.uint8)])
    True
    """
    return tuple(zlib.crc32(np.ascontiguousarray(array).data) for array in arrays)


def enhancing_as_core(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return labels with enhancing tumour relabelled as core; the same array if there is none.

    Examples
    --------
    >>> enhancing_as_core(np.array([0, 1, 2, 3], np.uint8)).tolist()
    [0, 1, 2, 1]
    """
    enhancing = labels == Label.ENHANCING
    if not enhancing.any():
        return labels
    return np.where(enhancing, np.uint8(Label.CORE), labels)


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One array on one grid."""

    data: NDArray[Any]
    """(I, J, K) array: voxels; kept as a read-only view."""
    grid: Grid
    """Position of the voxels."""

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise GeometryError(
                found=f"an array of {self.data.shape} voxels",
                expected=f"{self.grid.shape}, the shape of its grid",
                next_step="Report this as a defect of the reader or engine that made it",
            )
        object.__setattr__(self, "data", frozen(self.data))

    @property
    def affine(self) -> Affine:
        """Voxel index to patient RAS+ mm, (4, 4) float64."""
        return self.grid.affine

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.data.shape} {self.data.dtype}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the voxels, so that `np.asarray(volume)` works."""
        return np.array(self.data, dtype=dtype, copy=copy)


def without_cavity(labels: Volume) -> tuple[Volume, Volume]:
    """Return labels of tumour alone, and the resection cavity as a mask."""
    inside = labels.data == Label.CAVITY
    if not inside.any():
        return labels, Volume(inside, labels.grid)
    tumour = np.where(inside, np.uint8(Label.BACKGROUND), labels.data)
    return Volume(tumour, labels.grid), Volume(inside, labels.grid)
