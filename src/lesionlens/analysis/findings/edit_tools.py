"""Editing tools for outlines: pure functions on labels, in millimetres.

An outline is (I, J, K) uint8 of `base.labels.Label` on any grid; 0 is outside. Every tool returns
new labels of the same shape and is equivariant: another order or direction of axes gives the same
result in the patient. `spacing_mm` are the voxel edges, (3,); `allowed`, (I, J, K), is where
something may be drawn.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.components import ROUNDING_MM, fill_planar_holes
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import TOUCHING, Labels, Mask, bounding_box, index_map
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, Region
from lesionlens.base.numerics import connected_parts, depth_inside
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.resampling import HALF, resample

Voxel = tuple[int, int, int]

SMOOTHING_MM = 1.5
"""Standard deviation of the smoothing: removes corners of one or two voxels, keeps a lesion of 6
mm."""
ISLAND = 0.1
"""Parts with less than this share of the largest part's voxels are removed as islands."""
_AIR_FRACTION = 0.15
_FLOOD_LEVELS = 24
_MAX_WAIST_FRACTION = 0.75
"""A waist is narrower than this share of the smaller part's depth."""
_MIN_LEVEL = 0.3
_MIN_DRAWN_FRACTION = 0.7
"""A slice is drawn if it has this fraction of the area of the slices that reach into it."""
_NESTED_LABELS = (
    (Region.WT.labels, Label.OEDEMA),
    (Region.TC.labels, Label.CORE),
    (Region.ET.labels, Label.ENHANCING),
    ((Label.CAVITY,), Label.CAVITY),
)
"""Labels within each region, and the label of the region's outermost part."""


def editable_tissue(prepared: PreparedStudy, others: Mask) -> Mask:
    """Return the mask of voxels of the working grid that a reader may label.

    They are the brain, and tissue in any sequence: below 15% of the brain's median there is air.
    `others` are the voxels of other candidates.
    """
    tissue = prepared.brain.copy()
    for image in prepared.images.values():
        inside = image[prepared.brain]
        median = float(np.median(inside)) if inside.size else 0.0
        if median > 0:
            tissue |= image > _AIR_FRACTION * median
    return tissue & ~others


def smoothed(labels: Labels, spacing_mm: NDArray[np.float64], allowed: Mask) -> Labels:
    """Smooth every border, approximately preserving the volume.

    Parameters
    ----------
    labels : (I, J, K) uint8
        An outline; one that is too thin is returned unchanged.
    """
    used_labels = [label for label in Label if label and (labels == label).any()]
    if not used_labels:
        return labels.copy()
    sigma = SMOOTHING_MM / np.asarray(spacing_mm)
    box = _grown_box(labels, np.ceil(3 * sigma).astype(int))
    weights = np.stack(
        [
            ndimage.gaussian_filter((labels[box] == label).astype(np.float32), sigma)
            for label in used_labels
        ]
    )
    changed = np.array(used_labels, np.uint8)[weights.argmax(axis=0)]
    total_weight = weights.sum(axis=0)
    count = min(np.count_nonzero(labels), total_weight.size)
    # a fixed level of one half would shrink round lesions
    level = np.partition(total_weight.ravel(), -count)[-count]
    changed[(total_weight < float(np.clip(level, _MIN_LEVEL, 0.5))) | ~allowed[box]] = 0
    out = labels.copy()
    if changed.any():
        out[box] = changed
    return out


def without_holes(labels: Labels, label: Label, allowed: Mask) -> Labels:
    """Fill holes that are enclosed in at least two of the three planes."""
    box = _grown_box(labels, np.ones(3, int))
    part = labels[box].copy()
    part[fill_planar_holes(part > 0) & (part == 0) & allowed[box]] = label
    out = labels.copy()
    out[box] = part
    return out


def without_islands(labels: Labels) -> Labels:
    """Drop parts that are much smaller than the largest one (`ISLAND`)."""
    parts, sizes = connected_parts(labels > 0)
    return np.where((sizes >= ISLAND * sizes.max())[parts], labels, np.uint8(0)).astype(np.uint8)


def interpolated(
    labels: Labels, axis: int, spacing_mm: NDArray[np.float64], allowed: Mask
) -> Labels:
    """Interpolate empty slices between labelled slices by shape.

    The signed distance to the border of each nested region is interpolated linearly between two
    labelled slices; a region missing in one of them tapers off towards it.

    Parameters
    ----------
    labels : (I, J, K) uint8
        An outline with empty slices between labelled ones.
    axis : int
        Axis perpendicular to the slices.

    Notes
    -----
    Shape-based interpolation: Raya and Udupa 1990, doi:10.1109/42.52980.
    """
    slices = np.moveaxis(labels, axis, 0).copy()
    edges = np.delete(np.asarray(spacing_mm, dtype=np.float64), axis)
    labelled = np.flatnonzero(slices.any(axis=(1, 2))).tolist()
    for low, high in itertools.pairwise(labelled):
        if high - low > 1:
            between = _interpolated_slices(slices[low], slices[high], high - low, edges)
            slices[low + 1 : high] = between
    out = np.ascontiguousarray(np.moveaxis(slices, 0, axis))
    out[~allowed & (labels == 0)] = 0
    return out


def interpolated_across(labels: Labels, grid: Grid, slices: Grid, allowed: Mask) -> Labels:
    """Interpolate empty slices that are oblique to the outline's own grid; see `interpolated`.

    Parameters
    ----------
    slices : Grid
        Covers the outline, with one voxel for each slice along its last axis.
    """
    matrix, drawn = index_map(slices.affine, grid.affine), np.zeros(slices.shape, np.uint8)
    for region_labels, label in _NESTED_LABELS:
        inside = np.isin(labels, region_labels).astype(np.float32)
        at_centres = ndimage.affine_transform(
            inside, matrix[:3, :3], matrix[:3, 3], output_shape=slices.shape, order=1
        )
        drawn[at_centres > HALF] = label
    # voxels of a slice reach into those that are less than a voxel away
    reach = int(np.ceil(float((grid.spacing_mm.min() - ROUNDING_MM) / slices.spacing_mm[2]))) - 1
    areas = np.count_nonzero(drawn, axis=(0, 1))
    largest = ndimage.maximum_filter1d(areas, 2 * reach + 1)
    drawn[:, :, areas < _MIN_DRAWN_FRACTION * largest] = 0
    every_voxel = np.ones(slices.shape, bool)
    between = interpolated(drawn, 2, slices.spacing_mm, every_voxel) * (drawn == 0)
    added = resample(between.astype(np.float32), slices, grid, nearest=True).astype(np.uint8)
    return np.where((labels == 0) & allowed, added, labels)


def _interpolated_slices(
    first: Labels, last: Labels, steps: int, edges_mm: NDArray[np.float64]
) -> Labels:
    """Return the `steps` - 1 slices between two slices."""
    slices = np.zeros((steps - 1, *first.shape), np.uint8)
    fractions = np.arange(1, steps, dtype=np.float64)[:, None, None] / steps
    for labels, label in _NESTED_LABELS:
        depths = [_depth(np.isin(outline, labels), edges_mm) for outline in (first, last)]
        depth = next((d for d in depths if d is not None), None)
        if depth is None:
            continue
        absent = np.full(depth.shape, -float(depth.max()))
        a, b = (absent if d is None else d for d in depths)
        slices[(1 - fractions) * a + fractions * b > 0] = label
    return slices


def _depth(mask: Mask, edges_mm: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the signed distance to a region's border, positive inside; None if it is empty."""
    if not mask.any():
        return None
    inside = depth_inside(mask, edges_mm)
    outside = ndimage.distance_transform_edt(~mask, sampling=edges_mm)
    half = float(edges_mm.min()) / 2
    return np.asarray(np.where(mask, inside - half, half - outside))


def split_between(
    labels: Labels, first: Voxel, second: Voxel, spacing_mm: NDArray[np.float64]
) -> Mask:
    """Split an outline where it is narrowest between two of its voxels, else midway.

    Parameters
    ----------
    first, second : (3,) int
        A voxel in, or nearest to, each half.

    Returns
    -------
    (I, J, K) bool
        The half of `second`.

    Raises
    ------
    UnusableInputError
        Both voxels are the same, or one half would be empty.

    Notes
    -----
    Watershed by flooding (Vincent and Soille 1991, doi:10.1109/34.87344) on the distance to the
    border, from the deepest voxels of the two parts. Without a waist between them, or if both
    points are in one part, each voxel belongs to the nearer point: flooding from a point near the
    border would assign it that voxel alone.
    """
    inside = labels > 0
    seeds = [_nearest_voxel(inside, voxel, spacing_mm) for voxel in (first, second)]
    if seeds[0] == seeds[1]:
        raise _split_error("two points at the same position in the outline")
    box = _grown_box(labels, np.ones(3, int))
    box_seeds = np.array(seeds) - [side.start for side in box]
    depth = depth_inside(inside[box], spacing_mm)
    deepest = [_deepest_voxel(depth, seed, spacing_mm) for seed in box_seeds]
    half = np.zeros(labels.shape, bool)
    if _waist(depth, *deepest) < _MAX_WAIST_FRACTION * min(depth[voxel] for voxel in deepest):
        half[box] = _flooded(depth, *deepest)
    else:
        voxels = np.moveaxis(np.indices(depth.shape), 0, -1)
        to_first, to_second = (
            np.linalg.norm((voxels - seed) * spacing_mm, axis=-1) for seed in box_seeds
        )
        half[box] = (to_second < to_first) & inside[box]
    return _checked_half(half, inside)


def _deepest_voxel(
    depth: NDArray[np.float64], seed: NDArray[np.int64], spacing_mm: NDArray[np.float64]
) -> Voxel:
    """Return the deepest voxel of a seed's part of the outline, by hill climbing."""
    smooth = ndimage.gaussian_filter(depth, SMOOTHING_MM / spacing_mm)
    local_maximum = ndimage.maximum_filter(smooth, size=3)
    voxel = tuple(seed.tolist())
    while smooth[voxel] < local_maximum[voxel]:
        low = np.maximum(np.array(voxel) - 1, 0)
        neighbourhood = smooth[tuple(slice(a, b + 2) for a, b in zip(low, voxel, strict=True))]
        voxel = tuple(
            (low + np.unravel_index(neighbourhood.argmax(), neighbourhood.shape)).tolist()
        )
    i, j, k = voxel
    return i, j, k


def _waist(depth: NDArray[np.float64], first: Voxel, second: Voxel) -> float:
    """Return the depth of the waist: the highest level at which two voxels are connected."""
    for level in np.linspace(min(depth[first], depth[second]), 0.0, _FLOOD_LEVELS):
        numbers, _ = ndimage.label(depth >= level, structure=TOUCHING)
        if numbers[first] == numbers[second]:
            return float(level)
    return 0.0


def _flooded(depth: NDArray[np.float64], first: Voxel, second: Voxel) -> Mask:
    """Grow two seeds from the depth outwards, a voxel at a time; return the region of `second`."""
    inside = depth > 0
    grown = [np.zeros(depth.shape, bool) for _ in range(2)]
    grown[0][first] = grown[1][second] = True
    for level in np.linspace(depth.max(), 0.0, _FLOOD_LEVELS):
        floodable = inside & (depth >= level)
        while True:
            free = floodable & ~grown[0] & ~grown[1]
            new = [ndimage.binary_dilation(g, TOUCHING, mask=free | g) for g in grown]
            new[1] &= ~new[0] | grown[1]
            if all((a == b).all() for a, b in zip(new, grown, strict=True)):
                break
            grown = new
    return grown[1]


def split_at(
    labels: Labels, voxel: Voxel, normal: NDArray[np.float64], spacing_mm: NDArray[np.float64]
) -> Mask:
    """Split an outline by the plane through a voxel: return the half from the plane on.

    Parameters
    ----------
    normal : (3,) float64
        Direction through the plane along the axes of the grid, towards the half.

    Raises
    ------
    UnusableInputError
        The outline is on one side of the plane.
    """
    inside = labels > 0
    voxels = np.argwhere(inside)
    beyond = (voxels - voxel) * spacing_mm @ normal >= -ROUNDING_MM
    half = np.zeros(labels.shape, bool)
    half[tuple(voxels[beyond].T)] = True
    return _checked_half(half, inside)


def _checked_half(half: Mask, inside: Mask) -> Mask:
    if not half.any() or (half == inside).all():
        raise _split_error("a cut that leaves one half empty")
    return half


def _split_error(problem: str) -> UnusableInputError:
    return UnusableInputError(
        found=problem,
        expected="a cut through the outline, with some of it on both sides",
        next_step="Point at both halves, or go to a slice that lies within the outline",
    )


def _nearest_voxel(inside: Mask, voxel: Voxel, spacing_mm: NDArray[np.float64]) -> Voxel:
    voxels = np.argwhere(inside)
    if not len(voxels):
        raise _split_error("an empty outline")
    squared_distances = (((voxels - np.asarray(voxel)) * spacing_mm) ** 2).sum(axis=1)
    i, j, k = voxels[int(squared_distances.argmin())].tolist()
    return i, j, k


def _grown_box(labels: Labels, margin: NDArray[np.intp]) -> tuple[slice, ...]:
    """Return the padded bounding box of an outline; the whole array if it is empty."""
    box = bounding_box(labels > 0, margin)
    return tuple(slice(0, size) for size in labels.shape) if box is None else box
