"""A voxel grid in patient space: shape, affine and frame of reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lesionlens.base import geometry
from lesionlens.base.geometry import Affine, Shape3

StorageOrder = tuple[tuple[int, int, int], tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The position of an array's voxels in the patient."""

    shape: Shape3
    """(3,) int: voxels along i, j, k."""
    affine: Affine
    """(4, 4) float64: voxel index, integers at voxel centres, to patient RAS+ mm."""
    frame_uid: str | None = None
    """DICOM Frame of Reference UID, if the source has one."""

    def __post_init__(self) -> None:
        affine = geometry.check_affine(self.affine, where="a grid").copy()
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel edges along i, j, k, mm."""
        return geometry.spacing_mm(self.affine)

    @property
    def nominal_spacing_mm(self) -> NDArray[np.float64]:
        """Voxel edges to a micrometre: compare these with a limit, which scans may have exactly.

        An oblique header in float32 makes 3 mm a little less or more.

        Examples
        --------
        >>> float(Grid((9, 9, 9), np.diag([1, 1, 2.9999998, 1])).nominal_spacing_mm[2])
        3.0
        """
        return np.round(self.spacing_mm, 3)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, ml."""
        return geometry.voxel_ml(self.affine)

    def volume_ml(self, mask: NDArray[np.bool_]) -> float:
        """Return the volume of a mask on this grid, or on a part of it, ml.

        Examples
        --------
        >>> Grid((10, 10, 10), np.eye(4)).volume_ml(np.ones((10, 10, 10), bool))
        1.0
        """
        return float(np.count_nonzero(mask) * self.voxel_ml)

    def to_mm(self, voxel: ArrayLike) -> NDArray[np.float64]:
        """Map (..., 3) voxel indices to RAS+ mm."""
        return geometry.apply(self.affine, voxel)

    def to_voxel(self, point_mm: ArrayLike) -> NDArray[np.float64]:
        """Map (..., 3) RAS+ mm to (fractional) voxel indices."""
        return geometry.apply(np.asarray(np.linalg.inv(self.affine)), point_mm)

    def nearest_voxel(self, point_mm: ArrayLike, *, clip: bool = False) -> NDArray[np.intp]:
        """Map (..., 3) RAS+ mm to indices of the nearest voxels.

        Parameters
        ----------
        clip : bool
            Assign a point outside the grid to the nearest voxel of the grid; else its index is
            outside too (see `contains`).

        Examples
        --------
        >>> Grid((4, 4, 4), np.eye(4)).nearest_voxel((1.2, 2.9, 7.0)).tolist()
        [1, 3, 7]
        """
        index = np.rint(self.to_voxel(point_mm)).astype(np.intp)
        return np.clip(index, 0, np.array(self.shape) - 1) if clip else index

    def flat_voxels(self, points_mm: ArrayLike) -> NDArray[np.intp]:
        """Return sorted flat indices, C order, of the voxels nearest to any of (N, 3) RAS+ mm.

        A point outside the grid counts for the nearest voxel, so that any points have one.
        """
        index = self.nearest_voxel(points_mm, clip=True)
        return np.unique(np.ravel_multi_index(tuple(index.T), self.shape))

    def contains(self, voxel: ArrayLike) -> NDArray[np.bool_]:
        """Return which of (..., 3) voxel indices lie in the grid, as (...) bool."""
        return geometry.is_inside(voxel, self.shape)

    def scaled(self, factors: ArrayLike, shape: Shape3) -> Grid:
        """Return the grid whose voxel edges are multiples of these, from the same outer corner."""
        factors = np.broadcast_to(np.asarray(factors, np.float64), 3)
        affine = self.affine @ np.diag([*factors, 1.0])
        affine[:3, 3] = self.to_mm((factors - 1) / 2)
        return Grid(shape, affine, self.frame_uid)

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Return whether both grids have the same voxels at the same positions."""
        return self.shape == other.shape and bool(
            np.allclose(self.affine, other.affine, atol=tolerance_mm)
        )

    def ras_order(self) -> Affine:
        """Return the (4, 4) map from the voxels that an RAS scan would store here to this grid's.

        Examples
        --------
        >>> geometry.apply(Grid((4, 4, 4), np.diag([-1.0, 1, 1, 1])).ras_order(), (0, 2, 1))
        array([3., 2., 1.])
        """
        from nibabel.orientations import inv_ornt_aff, io_orientation

        return np.asarray(inv_ornt_aff(io_orientation(self.affine), self.shape))

    def index_map(self, other: Grid, tolerance_mm: float = 1e-3) -> Affine | None:
        """Return the map from the voxel indices of another grid to those of this one.

        Returns
        -------
        (4, 4) float64 or None
            Whole numbers. None unless the voxels of both grids lie on one lattice, whatever its
            extent and the order of the axes.

        Examples
        --------
        >>> moved = np.eye(4)
        >>> moved[0, 3] = 2.0
        >>> Grid((2, 3, 4), np.eye(4)).index_map(Grid((5, 5, 5), moved))[0]
        array([1., 0., 0., 2.])
        """
        index_map = np.rint(np.linalg.inv(self.affine) @ other.affine)
        axes = np.abs(index_map[:3, :3])
        if (axes.sum(axis=0) != 1).any() or (axes.sum(axis=1) != 1).any():
            return None
        is_same = np.allclose(self.affine @ index_map, other.affine, atol=tolerance_mm)
        return index_map if is_same else None

    def storage_order(self, other: Grid, tolerance_mm: float = 1e-3) -> StorageOrder | None:
        """Return how the voxels of this grid are stored in the order of another grid.

        Returns
        -------
        (3,) int, up to three int; or None
            The axes of this grid in the order of the other's, and which of the other's axes are
            then mirrored; None unless both have the same voxels at the same positions.

        Examples
        --------
        >>> las = np.array([[-1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> Grid((2, 3, 4), las).storage_order(Grid((2, 3, 4), np.eye(4)))
        ((0, 1, 2), (0,))
        """
        index_map = self.index_map(other, tolerance_mm)
        if index_map is None:
            return None
        first, second, third = (int(axis) for axis in np.abs(index_map[:3, :3]).argmax(axis=0))
        axes = first, second, third
        mirrored = tuple(n for n, axis in enumerate(axes) if index_map[axis, n] < 0)
        starts = [self.shape[axis] - 1 if n in mirrored else 0 for n, axis in enumerate(axes)]
        has_same_voxels = tuple(self.shape[axis] for axis in axes) == other.shape and all(
            index_map[axis, 3] == start for axis, start in zip(axes, starts, strict=True)
        )
        return (axes, mirrored) if has_same_voxels else None


MIN_FRACTION_BEYOND = 0.01
"""Minimum share of an outline outside the images that a notice reports."""


def fraction_beyond(marked: NDArray[np.bool_], source: Grid, target: Grid) -> float:
    """Return the share of marked voxels with centres outside another grid; 0 if none is marked.

    Parameters
    ----------
    marked : (I, J, K) bool
        On `source`, in the same patient space as `target`.

    Examples
    --------
    >>> everywhere = np.ones((4, 1, 1), bool)
    >>> here, aside = np.eye(4), np.eye(4)
    >>> aside[0, 3] = 3.0
    >>> fraction_beyond(everywhere, Grid((4, 1, 1), here), Grid((4, 1, 1), aside))
    0.75
    """
    voxels = np.argwhere(marked)
    if not len(voxels):
        return 0.0
    target_voxels = target.to_voxel(source.to_mm(voxels))
    within = (target_voxels >= -0.5 - 1e-3) & (target_voxels <= np.array(target.shape) - 0.5 + 1e-3)
    return float((~within.all(axis=1)).mean())
