"""New lesions thinner than two slices: the voxels of the scan that keep their volume.

The middle of at most two slices lies in such a lesion. If only those slices were labelled, it
would be kept between an eighth and four times as large, depending on its position.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base import geometry
from lesionlens.base.geometry import TOUCHING, Affine, Labels, Mask
from lesionlens.base.records.study import PreparedStudy

TIE_BREAK_VOX = 1e-6
"""Offset that keeps a position off the midpoint of two voxels, where rounding is arbitrary."""
_SAMPLES_PER_VOXEL = 2
"""Samples along each axis of a native voxel, per working voxel or part of one."""


def thin_parts(
    before: Labels, after: Labels, by_hand: Mask | None, prepared: PreparedStudy
) -> NDArray[np.int32]:
    """Return numbers of the parts added beside the outline that are thinner than two slices.

    A part that a stroke touches is none: a stroke changes the whole thickness of its slice.

    Parameters
    ----------
    before, after : (I, J, K) uint8
        Labels of a candidate on the working grid.
    by_hand : (I, J, K) bool or None
        Voxels that a stroke painted or erased; None for all.

    Returns
    -------
    (I, J, K) int32
        Zero elsewhere.
    """
    thin, box = np.zeros(after.shape, np.int32), geometry.bounding_box(after > 0, margin=1)
    if by_hand is None or box is None:
        return thin
    parts = ndimage.label(after[box] > 0, TOUCHING)[0]
    drawn = ndimage.binary_dilation(by_hand[box], TOUCHING)
    excluded = {0, *np.unique(parts[(before[box] > 0) | drawn]).tolist()}
    axis, numbered = through_slices(prepared), thin[box]
    step_mm = float(np.linalg.norm((prepared.native.affine @ prepared.to_native)[:3, axis]))
    for number, sides in enumerate(ndimage.find_objects(parts), 1):
        thickness_mm = (sides[axis].stop - sides[axis].start) * step_mm
        if number not in excluded and thickness_mm < 2 * prepared.native.spacing_mm.max():
            numbered[sides][parts[sides] == number] = number
    return thin


def paint_thin_parts(
    labels: Labels, free: Mask, after: Labels, parts: NDArray[np.int32], to_native: Affine
) -> None:
    """Label the most covered native voxels of each part, as many as have nearest its volume.

    Parameters
    ----------
    labels : (i, j, k) uint8
        Labels of the candidate in a native box, changed in place.
    free : (i, j, k) bool
        Voxels of the box that no other candidate has.
    after : (I, J, K) uint8
        Labels of the candidate on the working grid.
    parts : (I, J, K) int32
        From `thin_parts`.
    to_native : (4, 4)
        From working voxels to voxels of the native box.
    """
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        if box is None:
            continue
        drawn = np.where(parts[box] == number, after[box], np.uint8(0))
        corner = np.array([side.start for side in box])
        ends = geometry.apply(
            to_native, geometry.corners(corner, corner + np.array(drawn.shape) - 1)
        )
        native_box = geometry.clipped_box(
            np.floor(ends.min(0)) - 1, np.ceil(ends.max(0)) + 1, labels.shape
        )
        shift = np.eye(4)
        shift[:3, 3] = corner
        origin = np.eye(4)
        origin[:3, 3] = [-side.start for side in native_box]
        values = np.array([value for value in np.unique(drawn).tolist() if value], np.uint8)
        shares = _coverage(drawn, values, labels[native_box].shape, origin @ to_native @ shift)
        volume_vox = np.count_nonzero(drawn) * abs(np.linalg.det(to_native[:3, :3]))
        chosen = _most_covered(
            np.where(free[native_box] & (labels[native_box] == 0), shares.sum(0), 0), volume_vox
        )
        labels[native_box][chosen] = values[shares.argmax(0)][chosen]


def _most_covered(coverage: NDArray[np.intp], volume_vox: float) -> Mask:
    """Return the most covered voxels, as many as have nearest a volume.

    Of equally covered ones, those with more covered neighbours are preferred; the others are all
    returned, or none, so that the storage order of the scan changes nothing.
    """
    neighbours = ndimage.gaussian_filter(coverage.astype(np.float64), 1.0)
    rank = np.round(coverage + neighbours / (2 * max(1, coverage.max(initial=0))), 6)
    levels, counts = np.unique(rank[coverage > 0], return_counts=True)
    if not len(levels):
        return np.zeros(coverage.shape, bool)
    kept = counts[::-1].cumsum()
    level = levels[::-1][np.abs(kept - volume_vox).argmin()]
    return np.asarray((coverage > 0) & (rank >= level))


def _coverage(
    labels: Labels, values: Labels, shape: tuple[int, ...], to_native: Affine
) -> NDArray[np.intp]:
    """Count the samples of each native voxel that have each value on the working grid."""
    to_working = np.linalg.inv(to_native)
    edges = np.linalg.norm(to_working[:3, :3], axis=0)
    samples = [_SAMPLES_PER_VOXEL * max(1, int(np.ceil(edge - 1e-3))) for edge in edges]
    fine = to_working @ np.diag([*(1 / n for n in samples), 1.0])
    fine[:3, 3] += to_working[:3, :3] @ [0.5 / n - 0.5 for n in samples] + TIE_BREAK_VOX
    sampled = ndimage.affine_transform(
        labels,
        fine[:3, :3],
        fine[:3, 3],
        tuple(n * size for n, size in zip(samples, shape, strict=True)),
        order=0,
        mode="grid-constant",  # "constant" leaves out the outer half of the outermost voxels
    )
    pairs = [number for size, n in zip(shape, samples, strict=True) for number in (size, n)]
    by_voxel = sampled.reshape(pairs)
    return np.stack([np.count_nonzero(by_voxel == value, axis=(1, 3, 5)) for value in values])


def through_slices(prepared: PreparedStudy) -> int:
    """Return the working axis nearest to the longest native voxel edge; of equal ones the first."""
    nearest = np.abs(np.linalg.inv(prepared.to_native)[:3, :3]).argmax(axis=0)
    edges_mm = np.zeros(3)
    np.maximum.at(edges_mm, nearest, np.round(prepared.native.spacing_mm, 3))
    return int(edges_mm.argmax())
