"""Resample between grids: linear for images, nearest for labels, exact for coinciding voxels.

Only index maps are used, so that shear, obliqueness and handedness need no special case.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import (
    Affine,
    Box,
    Floats,
    Mask,
    Shape3,
    clipped_box,
    grown,
    mapped_box,
    ras_grid,
)
from lesionlens.base.grid import Grid

_TOLERANCE_VOX = 1e-3
_TIE_MM = np.array([1e-3, 0.9e-3, 0.8e-3])
"""(3,) RAS+: shift of points that are looked up by nearest neighbour. Far below a voxel, and above
the rounding of a file's affine, which would otherwise decide between voxels that are equally near.
"""
_PROBABILITY_STEPS = 4096
"""Quantisation steps of a probability per unit: float32's last bits are noise and make files up to
seven times larger.
"""
HALF = 0.4999
"""Threshold of a resampled mask. Slightly below one half: between symmetric neighbours the value is
exactly one half, and rounding would differ between machines.
"""


def resample(
    values: NDArray[Any],
    source: Grid,
    target: Grid,
    *,
    moved: Affine | None = None,
    nearest: bool = False,
    smooth: bool = True,
) -> Floats:
    """Resample an image from one grid to another.

    Parameters
    ----------
    values : (I, J, K) real numbers
        On `source`.
    moved : (4, 4) float64 or None
        RAS+ mm of the target's frame to RAS+ mm of the source's (a registration's result).
    nearest : bool
        Nearest neighbour, for labels; else linear. Of voxels that are equally near, the one on the
        patient's right, in front and above, however either grid is stored.
    smooth : bool
        Whether to call `antialias` first.

    Returns
    -------
    (I', J', K') float32
        On `target`, zero outside the source's field of view (to the outer edge of its voxels).
    """
    to_source_mm = np.eye(4) if moved is None else moved
    to_source = np.linalg.inv(source.affine) @ to_source_mm @ target.affine
    whole_map = _in_whole_voxels(to_source)
    if whole_map is not None:
        return permuted_voxels(values, whole_map, target.shape).astype(np.float32, copy=False)
    i, j, k = target.shape
    near = mapped_box((slice(0, i), slice(0, j), slice(0, k)), to_source, source.shape)
    near = grown(near, spread_vox(source, target), source.shape)
    part = np.asarray(values[near], np.float32)
    if not part.size:
        return np.zeros(target.shape, np.float32)
    if nearest:
        mm_to_source = np.linalg.inv(source.affine) @ to_source_mm
        to_source[:3, 3] += mm_to_source[:3, :3] @ _TIE_MM
    elif smooth:
        part = antialias(part, source, target)
    to_source[:3, 3] -= [side.start for side in near]
    return _interpolate(part, to_source, target.shape, nearest=nearest)


def on_ras_grid(values: NDArray[np.generic], grid: Grid, edge_mm: float) -> tuple[Floats, Grid]:
    """Resample an image to isotropic, axis-aligned RAS+ voxels over its own field of view."""
    affine, shape = ras_grid(grid.affine, grid.shape, edge_mm)
    target = Grid(shape, affine, grid.frame_uid)
    return resample_coarsely(values, grid, target), target


def resample_coarsely(
    values: NDArray[np.generic], source: Grid, target: Grid, *, moved: Affine | None = None
) -> Floats:
    """Resample as `resample` does, after averaging whole blocks where the target is much coarser.

    A tenth of the time at 1 mm; within half a voxel of the source at the end of an axis.
    """
    ratios = target.nominal_spacing_mm.min() / source.nominal_spacing_mm
    i, j, k = np.clip(ratios.astype(int), 1, source.shape).tolist()
    if max(i, j, k) > 1:
        values, source = block_means(values, source, (i, j, k))
    return resample(values, source, target, moved=moved)


def values_on(values: NDArray[Any], source: Grid, target: Grid) -> NDArray[Any] | None:
    """Return an image's own voxels in the storage order and extent of another grid.

    None unless the voxels of both lie on one lattice, to a hundredth of a millimetre, and those
    beyond the other grid are zero. A view where both have the same extent.
    """
    order = source.storage_order(target, 1e-2)
    if order is not None:
        return np.flip(values.transpose(order[0]), order[1])
    index_map = source.index_map(target, 1e-2)
    if index_map is None:
        return None
    placed = permuted_voxels(values, index_map, target.shape)
    return placed if np.count_nonzero(placed) == np.count_nonzero(values) else None


def resample_probability(
    values: Floats, source: Grid, target: Grid, steps: int = _PROBABILITY_STEPS
) -> Floats:
    """Resample a probability linearly, as `resample` does; 0 to 1 in steps of 1 / `steps`."""
    result = resample(values, source, target).clip(0.0, 1.0)
    result *= np.float32(steps)
    np.rint(result, out=result)
    result /= np.float32(steps)
    return result


def resample_mask(mask: Mask, source: Grid, target: Grid, *, moved: Affine | None = None) -> Mask:
    """Resample a mask: voxels covered by half or more, ties included.

    Returns
    -------
    (I', J', K') bool
        On `target`, False outside of the source's field of view.
    """
    return np.asarray(resample(mask, source, target, moved=moved) > HALF)


def resample_mask_near(
    mask: Mask, source: Grid, target: Grid, points: NDArray[np.int64], reach_mm: float
) -> Mask:
    """Resample a mask to another grid in the same space, only near given points; else False.

    Parameters
    ----------
    points : (N, 3) int
        Voxels of `target`.
    reach_mm : float
        Margin along each axis around the outermost points.
    """
    out = np.zeros(target.shape, bool)
    if not len(points):
        return out
    reach = reach_mm / target.spacing_mm
    box = clipped_box(points.min(0) - reach, points.max(0) + reach, target.shape)
    out[box] = resample_mask(mask, source, cut_grid(target, box))
    return out


def antialias(values: NDArray[Any], source: Grid, target: Grid) -> Floats:
    """Smooth along each source axis to the resolution of a coarser target.

    Gaussian of full width at half maximum sqrt(target² - source²), nothing if the target is
    as fine as the source.
    """
    steps = _steps(source, target)
    sigma = np.sqrt(np.maximum(steps**2 - 1.0, 0.0)) / 2.355
    if sigma.max() < 0.3:
        return np.asarray(values, np.float32)
    return np.asarray(ndimage.gaussian_filter(values, sigma, truncate=2.5, output=np.float32))


def _steps(source: Grid, target: Grid) -> NDArray[np.float64]:
    """Return the length of a target voxel in source voxels, along the source's axes."""
    return np.asarray(
        np.abs(np.linalg.inv(source.affine)[:3, :3] @ target.affine[:3, :3]).max(axis=1)
    )


def spread_vox(source: Grid, target: Grid) -> int:
    """Return how many source voxels away a voxel still contributes to the target."""
    return 2 + int(np.ceil(1.1 * _steps(source, target).max()))


def _in_whole_voxels(index_map: Affine) -> Affine | None:
    """Return the rounded map if it only permutes, flips and shifts voxels."""
    rounded = np.rint(index_map)
    steps = np.abs(rounded[:3, :3])
    if (steps.sum(axis=0) != 1).any() or (steps.sum(axis=1) != 1).any():
        return None
    errors = np.abs(index_map - rounded)
    is_exact = errors[:3, :3].max() * 512 <= _TOLERANCE_VOX * 10
    return rounded if is_exact and errors[:3, 3].max() <= _TOLERANCE_VOX * 5 else None


def permuted_voxels(values: NDArray[Any], index_map: Affine, shape: Shape3) -> Floats:
    """Return an array of `shape` with the voxels to which a map in whole voxels leads, else zero.

    Parameters
    ----------
    index_map : (4, 4) array
        From voxels of the result to those of `values`; permutes, flips and shifts.
    """
    out = np.zeros(shape, dtype=values.dtype)
    axes = np.abs(index_map[:3, :3]).argmax(axis=0)
    source_slices, target_slices = [], []
    for target_axis, axis in enumerate(axes):
        sign, offset = index_map[axis, [target_axis, 3]].astype(int).tolist()
        index = offset + sign * np.arange(shape[target_axis])
        covered = np.flatnonzero((index >= 0) & (index < values.shape[axis]))
        if not covered.size:
            return out
        first, stop = int(index[covered[0]]), int(index[covered[-1]]) + sign
        source_slices.append(slice(first, None if stop < 0 else stop, sign))
        target_slices.append(slice(int(covered[0]), int(covered[-1]) + 1))
    out[tuple(target_slices)] = values.transpose(axes)[tuple(source_slices)]
    return out


def _interpolate(
    values: NDArray[Any], index_map: Affine, shape: Shape3, *, nearest: bool
) -> Floats:
    """Interpolate in index space; ITK's arrays are k, j, i."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T, dtype=np.float32))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(index_map[:3, :3].ravel().tolist())
    transform.SetTranslation(index_map[:3, 3].tolist())
    out = sitk.Resample(
        image,
        list(shape),
        transform,
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        [0.0] * 3,
        [1.0] * 3,
        np.eye(3).ravel().tolist(),
        0.0,
        sitk.sitkFloat32,
    )
    array: Floats = sitk.GetArrayFromImage(out).T
    return array


def block_means(values: NDArray[Any], grid: Grid, edges: Shape3) -> tuple[Floats, Grid]:
    """Average blocks of voxels; an incomplete block at the end of an axis is dropped.

    Parameters
    ----------
    edges : (3,) int
        Block size along each axis.
    """
    shape = np.asarray(values.shape) // edges
    for axis, (edge, count) in enumerate(zip(edges, shape, strict=True)):
        # Slab by slab is several times faster than one mean over blocks.
        slabs = np.moveaxis(values, axis, 0)[: edge * count]
        sums = slabs[::edge].astype(np.float32)
        for offset in range(1, edge):
            sums += slabs[offset::edge]
        sums /= np.float32(edge)
        values = np.moveaxis(sums, 0, axis)
    return values, grid.scaled(edges, (int(shape[0]), int(shape[1]), int(shape[2])))


def cube_means(values: Floats | Mask, grid: Grid, box: Box, edge: int) -> tuple[Floats, Grid]:
    """Average cubes of `edge` voxels of a box; incomplete ones at its end repeat outer voxels."""
    part = values[box].astype(np.float32)
    padded = np.pad(part, [(0, -size % edge) for size in part.shape], mode="edge")
    return block_means(padded, cut_grid(grid, box), (edge, edge, edge))


def cut_grid(grid: Grid, box: Box) -> Grid:
    """Return the grid of a box of another grid.

    Examples
    --------
    >>> cut = cut_grid(Grid((9, 9, 9), np.eye(4)), (slice(2, 5), slice(0, 9), slice(0, 9)))
    >>> cut.shape, float(cut.affine[0, 3])
    ((3, 9, 9), 2.0)
    """
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.to_mm([side.start for side in box])
    i, j, k = (side.stop - side.start for side in box)
    return Grid((i, j, k), affine, grid.frame_uid)
