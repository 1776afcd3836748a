"""Affines, points and index boxes; the only place that converts between RAS and LPS.

An affine maps a voxel index (i, j, k), integers at voxel centres, to patient RAS+ millimetres
(NIfTI's frame) unless a name says `lps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lesionlens.base.errors import GeometryError

Floats = NDArray[np.float32]
"""An image or map; in public functions (I, J, K), unless their docstring says otherwise."""
Mask = NDArray[np.bool_]
"""True at the voxels that are meant; shape as for `Floats`."""
Labels = NDArray[np.uint8]
"""The label of each voxel; shape as for `Floats`."""
Affine = NDArray[np.float64]
Shape3 = tuple[int, int, int]
Vec3 = tuple[float, float, float]
Box = tuple[slice, slice, slice]
TOUCHING = np.ones((3, 3, 3), bool)
"""26-connectivity for `scipy.ndimage`: voxels that share a face, an edge or a corner."""
VOLUME_TOLERANCE = 1e-5
"""Relative error of volumes by the rounding of headers, in single precision or to six decimals: a
region of exactly a minimum volume reaches it in every orientation.
"""

_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ROUNDING = 3  # decimals of a number of voxels: a float32 header (in metres, say) adds no voxel
_NOISE = 6  # decimals of a voxel index


def as_vec3(values: ArrayLike) -> Vec3:
    """Return three numbers, such as a row of an array, as a tuple of float."""
    x, y, z = np.asarray(values, np.float64).tolist()
    return x, y, z


def ras_from_lps(affine_lps: ArrayLike) -> Affine:
    """Convert an affine to LPS+ (DICOM, ITK) into one to RAS+ (NIfTI), or back.

    Parameters
    ----------
    affine_lps : (4, 4) float64
        Voxel index to patient LPS+, mm.

    Returns
    -------
    (4, 4) float64
        Voxel index to patient RAS+, mm. The function is its own inverse.

    Examples
    --------
    >>> ras_from_lps(np.eye(4))[0, 0]
    np.float64(-1.0)
    """
    return np.asarray(_RAS_LPS @ np.asarray(affine_lps, dtype=np.float64))


lps_from_ras = ras_from_lps
"""RAS+ to LPS+; the same flip of the first two axes."""


def points_lps_from_ras(points_mm: ArrayLike) -> NDArray[np.float64]:
    """Flip the first two coordinates of (..., 3) points: RAS+ mm to LPS+ mm, or back."""
    flipped: NDArray[np.float64] = np.asarray(points_mm, dtype=np.float64) * (-1.0, -1.0, 1.0)
    return flipped


def plane_matrix(
    position: ArrayLike, orientation: ArrayLike, spacing: ArrayLike
) -> NDArray[np.float64]:
    """Return the (3, 3) map of (column, row, 1) to LPS+ mm of a DICOM image.

    Parameters
    ----------
    position, orientation, spacing : (3,), (6,), (2,) float
        Image Position and Orientation (Patient) and Pixel Spacing (PS3.3, C.7.6.2.1.1).
    """
    origin, cosines = np.asarray(position, float), np.asarray(orientation, float)
    row_mm, column_mm = np.asarray(spacing, float)
    return np.stack([cosines[:3] * column_mm, cosines[3:] * row_mm, origin], axis=1)


def apply(affine: Affine, points: ArrayLike) -> NDArray[np.float64]:
    """Map (..., 3) points through an affine.

    Examples
    --------
    >>> apply(np.diag([2.0, 2.0, 5.0, 1.0]), [1, 2, 3])
    array([ 2.,  4., 15.])
    """
    return np.asarray(np.asarray(points, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3])


def nearest(index_map: Affine, points: ArrayLike) -> NDArray[np.int64]:
    """Map (..., 3) voxel indices to the nearest voxels of another grid.

    Midway between two voxels is the even one, whatever the numerical noise of the map.

    Examples
    --------
    >>> nearest(np.diag([0.1, 0.3, 1.0, 1.0]), [15, 5, 2])
    array([2, 2, 2])
    """
    return np.rint(np.round(apply(index_map, points), _NOISE)).astype(np.int64)


def is_inside(voxels: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return which of (..., 3) voxel indices lie in an array of `shape`, (...) bool."""
    index = np.asarray(voxels)
    return np.asarray(((index >= 0) & (index < np.array(shape))).all(axis=-1))


def spacing_mm(affine: Affine) -> NDArray[np.float64]:
    """Return the (3,) voxel edges along i, j, k in mm."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def voxel_ml(affine: Affine) -> float:
    """Return the volume of one voxel in ml.

    Examples
    --------
    >>> voxel_ml(np.diag([1.0, 1.0, 5.0, 1.0]))
    0.005
    """
    return round(float(abs(np.linalg.det(affine[:3, :3]))) / 1000.0, 12)


def centre_mm(affine: Affine, shape: Shape3) -> NDArray[np.float64]:
    """Return the (3,) centre of the field of view, RAS+ mm."""
    return apply(affine, (np.asarray(shape, dtype=np.float64) - 1) / 2)


def shear_of(affine: Affine) -> float:
    """Return the largest absolute cosine between two voxel axes; 0 for an orthogonal grid."""
    unit = affine[:3, :3] / spacing_mm(affine)
    gram = unit.T @ unit - np.eye(3)
    return float(np.abs(gram).max())


def bounding_box(mask: NDArray[np.bool_], margin: int | NDArray[np.int_] = 0) -> Box | None:
    """Return the smallest index box that contains all True voxels; None if there are none.

    Parameters
    ----------
    margin : int or (3,) int
        Padding in voxels on each side, clipped to the array.

    Examples
    --------
    >>> mask = np.zeros((9, 8, 7), bool)
    >>> mask[2:4, 5, 6] = True
    >>> bounding_box(mask, 1)
    (slice(1, 5, None), slice(4, 7, None), slice(5, 7, None))
    """
    sides: list[slice] = []
    for axis in range(3):
        other_axes = tuple(other for other in range(3) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=other_axes))
        if not occupied.size:
            return None
        sides.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return grown((sides[0], sides[1], sides[2]), margin, mask.shape)


def grown(box: Box, margin: int | NDArray[np.int_], shape: Sequence[int]) -> Box:
    """Return a box padded on each side, clipped to an array of `shape`."""
    i, j, k = (
        slice(max(side.start - int(pad), 0), min(side.stop + int(pad), length))
        for side, pad, length in zip(box, np.broadcast_to(margin, 3), shape, strict=True)
    )
    return i, j, k


def overlap(box: Box, other: Box) -> Box:
    """Return the intersection of two boxes; empty along an axis on which they are disjoint.

    Examples
    --------
    >>> overlap((slice(0, 4), slice(2, 9), slice(0, 2)), (slice(1, 9), slice(3, 5), slice(5, 9)))
    (slice(1, 4, None), slice(3, 5, None), slice(5, 5, None))
    """
    i, j, k = (
        slice(low := max(a.start, b.start), max(low, min(a.stop, b.stop)))
        for a, b in zip(box, other, strict=True)
    )
    return i, j, k


def relative(box: Box, outer: Box) -> Box:
    """Return a box as indices into the part of an array that an outer box cuts out.

    Examples
    --------
    >>> relative((slice(3, 4), slice(2, 9), slice(5, 6)), (slice(1, 9), slice(2, 9), slice(5, 9)))
    (slice(2, 3, None), slice(0, 7, None), slice(0, 1, None))
    """
    i, j, k = (
        slice(side.start - first.start, side.stop - first.start)
        for side, first in zip(box, outer, strict=True)
    )
    return i, j, k


def corners(low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """Return the (8, 3) corners between the lowest and the highest one of a box.

    Examples
    --------
    >>> corners((0, 0, 0), (1, 2, 3))[[0, 1, -1]].tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]]
    """
    ends = np.stack([np.asarray(low, np.float64), np.asarray(high, np.float64)], axis=1)
    return np.array(list(product(*ends)))


def winding_numbers(corners: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return how many times a closed line goes round each pixel's centre, by direction.

    Parameters
    ----------
    corners : (N, 2) float or int
        Rows and columns; the last corner is joined to the first.
    shape : (2,) int
        Rows and columns of the plane.

    Examples
    --------
    >>> square = np.array([[0.5, 0.5], [0.5, 2.5], [2.5, 2.5], [2.5, 0.5]])
    >>> winding_numbers(np.concatenate([square, square]), (3, 3)).tolist()
    [[0, 0, 0], [0, 2, 2], [0, 2, 2]]
    """
    turns = np.zeros(shape, np.int64)
    columns = np.arange(shape[1])
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high, direction = (start, end, -1) if start[0] <= end[0] else (end, start, 1)
        first, last = int(np.ceil(low[0])), int(np.ceil(high[0]))
        for row in range(max(first, 0), min(last, shape[0])):
            fraction = (row - low[0]) / (high[0] - low[0])
            turns[row] += direction * (columns > low[1] + fraction * (high[1] - low[1]))
    return turns


def clipped_box(low: ArrayLike, high: ArrayLike, shape: Sequence[int]) -> Box:
    """Return the box of voxels from `low` to `high`, both included, clipped to an array of `shape`.

    Examples
    --------
    >>> clipped_box((-2, 1.5, 7), (3, 2.5, 9), (9, 9, 9))
    (slice(0, 4, None), slice(1, 4, None), slice(7, 9, None))
    """
    first = np.clip(np.floor(low), 0, shape).astype(int)
    last = np.clip(np.ceil(high) + 1, first, shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return i, j, k


def mapped_box(box: Box, index_map: Affine, shape: Sequence[int], margin: float = 0.5) -> Box:
    """Map a box of one array to the box of another array that covers it.

    Parameters
    ----------
    index_map : (4, 4) float64
        Voxel of this array to voxel of the other.
    shape : (3,) int
        Voxels of the other array.
    margin : float
        Padding in voxels of this array, added on each side before mapping; one half includes the
        voxels' outer edges.
    """
    low = [side.start - margin for side in box]
    high = [side.stop - 1 + margin for side in box]
    mapped = apply(index_map, corners(low, high))
    return clipped_box(mapped.min(axis=0), mapped.max(axis=0), shape)


def check_affine(affine: ArrayLike, *, where: str) -> Affine:
    """Validate an affine and return it as float64.

    Raises
    ------
    GeometryError
        Not (4, 4), not finite, flat, or its last row is not 0, 0, 0, 1.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    is_valid = (
        matrix.shape == (4, 4)
        and bool(np.isfinite(matrix).all())
        and np.allclose(matrix[3], (0, 0, 0, 1))
    )
    if is_valid:
        edges = spacing_mm(matrix)
        volume = abs(float(np.linalg.det(matrix[:3, :3])))
        is_valid = (
            bool((edges > 1e-3).all() and (edges < 100).all()) and volume > 1e-3 * edges.prod()
        )
    if not is_valid:
        raise GeometryError(
            f"The orientation matrix of {where} is impossible: {matrix.tolist()}.",
            hint="Convert the scan again from its DICOM files, for example with dcm2niix.",
        )
    return matrix


def respace(affine: Affine, shape: Shape3, wanted_mm: Vec3) -> tuple[Affine, Shape3]:
    """Return a grid with another voxel size over the same field of view.

    The centre of the field of view is preserved, even if no voxel is at the centre.

    Parameters
    ----------
    affine : (4, 4) float64
        Voxel index (i, j, k) to patient RAS+, mm.
    shape : (3,) int
        Voxels along i, j, k.
    wanted_mm : (3,) float
        Wanted voxel edges along i, j, k.

    Returns
    -------
    affine, shape
        Same frame and axes; the fewest voxels that cover the old field of view.

    Raises
    ------
    GeometryError
        An edge is not a positive, finite length.

    Examples
    --------
    >>> respace(np.eye(4), (10, 10, 10), (2.0, 2.0, 5.0))[1]
    (5, 5, 2)
    """
    target_mm = np.asarray(wanted_mm, dtype=np.float64)
    if not (np.isfinite(target_mm).all() and (target_mm > 0).all()):
        raise GeometryError(
            f"Voxel edges of {wanted_mm} mm are not three positive lengths.",
            hint="Check PixelSpacing (DICOM) or pixdim (NIfTI) of this series.",
        )
    edges = spacing_mm(affine)
    i, j, k = (
        np.ceil(np.round(np.asarray(shape) * edges / target_mm, _ROUNDING)).astype(int).tolist()
    )
    out = affine.copy()
    out[:3, :3] = affine[:3, :3] / edges * target_mm
    out[:3, 3] = centre_mm(affine, shape) - out[:3, :3] @ ((np.array([i, j, k]) - 1) / 2)
    return out, (i, j, k)


def ras_grid(affine: Affine, shape: Shape3, edge_mm: float) -> tuple[Affine, Shape3]:
    """Return an isotropic, axis-aligned RAS+ grid around a (possibly oblique) field of view.

    Returns
    -------
    affine, shape
        Diagonal, positive affine; the fewest voxels that contain every source voxel's centre,
        centred on the field of view.

    Examples
    --------
    >>> ras_grid(np.diag([-1.0, -1.0, 2.0, 1.0]), (10, 10, 10), 1.0)[1]
    (10, 10, 20)
    """
    half_extent_mm = np.abs(affine[:3, :3]) @ (np.asarray(shape) / 2)
    counts = np.maximum(np.ceil(np.round(2 * half_extent_mm / edge_mm, _ROUNDING)).astype(int), 1)
    out = np.diag([edge_mm, edge_mm, edge_mm, 1.0])
    out[:3, 3] = centre_mm(affine, shape) - edge_mm * (counts - 1) / 2
    return out, (int(counts[0]), int(counts[1]), int(counts[2]))


def index_map(source: Affine, target: Affine) -> Affine:
    """Return the (4, 4) map from voxel indices of `source` to those of `target`.

    Examples
    --------
    >>> index_map(np.eye(4), np.diag([2.0, 2.0, 2.0, 1.0]))[0, 0]
    np.float64(0.5)
    """
    return np.asarray(np.linalg.inv(target) @ source)
