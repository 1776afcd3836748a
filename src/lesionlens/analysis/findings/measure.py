"""Volumes and diameters of a mask, and the RANO rule for measurable lesions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import find_contours

from lesionlens.base import geometry
from lesionlens.base.geometry import TOUCHING, Mask, Shape3
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.numerics import connected_parts
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import MEASURABLE_MM, Candidate, Findings, Point
from lesionlens.imaging.preparation.resampling import HALF

Points = NDArray[np.float64]

RANO_SMALLEST_ML = np.pi / 6 * (MEASURABLE_MM / 10) ** 3
"""A ball with the minimum diameter has 0.52 ml."""
_MIN_MEAN_PROBABILITY = 0.5
_PLANE_MM = 1.0
_SUBDIVISIONS = 3
"""Fraction of a voxel's edge: on so fine a grid a point is near every voxel's centre, even if
oblique."""


@dataclass(frozen=True, slots=True)
class Diameters:
    """The longest diameter on one axial plane and the longest one perpendicular to it."""

    longest_mm: float
    perpendicular_mm: float
    """Lengths."""
    ends_mm: tuple[Point, Point]
    """((3,), (3,)) of float: ends of the longest diameter, patient RAS+ mm."""
    across_mm: tuple[Point, Point]
    """((3,), (3,)) of float: ends of the perpendicular diameter."""


def diameters(mask: Mask, grid: Grid) -> Diameters | None:
    """Return the longest axial diameter and the perpendicular one, by RANO.

    Objects too small for planes of 1 mm are measured on finer ones.

    Parameters
    ----------
    mask : (I, J, K) bool
        The region on any grid.
    grid : Grid
        Grid of the mask; may be oblique.

    Returns
    -------
    Diameters or None
        None if the mask is empty.

    Notes
    -----
    Wen et al. 2010, doi:10.1200/JCO.2009.26.3541: the longest diameter on any axial plane, and
    the longest line at right angles to it on the same plane. Planes are axial in the patient
    (RAS), 1 mm apart, whatever the acquisition. Both ends of a line lie in one connected part of
    that plane; holes are filled, so that a rim is measured across. A line may leave a concave
    outline between its ends, where RANO leaves that to the reader's judgement.
    """
    box = geometry.bounding_box(mask)
    if box is None:
        return None
    sides = tuple((side.start, side.stop) for side in box)
    return _diameters_of(np.packbits(mask[box]).tobytes(), sides, mask.shape, grid.affine.tobytes())


def diameters_of_region(
    findings: Findings, labels: Volume, candidate: Candidate, region: Region
) -> Diameters | None:
    """Return the `diameters` of one region of a candidate; `labels` are on the findings' grid."""
    mask = findings.components == candidate.id
    box = geometry.bounding_box(mask)
    if box is not None:
        mask[box] &= np.isin(labels.data[box], region.labels)
    return diameters(mask, labels.grid)


@lru_cache(maxsize=64)
def _diameters_of(
    packed: bytes, sides: tuple[tuple[int, int], ...], shape: Shape3, affine: bytes
) -> Diameters | None:
    """Return cached diameters, which report, sentences and DICOM objects need.

    Parameters
    ----------
    packed : bytes
        The voxels within `sides`, eight a byte.
    sides : three (int, int)
        Start and stop along each axis of an array of `shape`.
    shape, affine
        The grid, its (4, 4) float64 matrix as bytes.
    """
    mask = np.zeros(shape, bool)
    part = mask[tuple(slice(*side) for side in sides)]
    voxels = np.unpackbits(np.frombuffer(packed, np.uint8), count=part.size)
    part[...] = voxels.reshape(part.shape)
    grid = Grid(shape, np.frombuffer(affine).reshape(4, 4))
    result = _longest_diameters(mask, grid, _PLANE_MM)
    if result is None:
        parts, sizes = connected_parts(mask)
        result = _longest_diameters(
            parts == sizes.argmax(), grid, float(grid.spacing_mm.min()) / _SUBDIVISIONS
        )
    return result


def _longest_diameters(mask: Mask, grid: Grid, edge_mm: float) -> Diameters | None:
    """Return the longest diameter on axial planes with this pixel edge; None if they are empty."""
    longest_mm, best = 0.0, None
    for plane, origin_mm in _axial_planes(mask, grid, edge_mm):
        for outline, corner_mm in _outlines(plane, edge_mm, longer_than=longest_mm):
            ends = _farthest_points(outline)
            length = float(np.hypot(*(ends[0] - ends[1])))
            if best is None or length > longest_mm:
                longest_mm, best = length, (outline, ends, origin_mm + corner_mm)
    return None if best is None else _with_perpendicular(*best)


def slices_touched(mask: Mask, grid: Grid) -> int:
    """Count the acquired slices that contain the region.

    The slice axis is the coarsest voxel axis; for isotropic voxels, the one nearest to the
    head-foot direction.
    """
    edges = grid.spacing_mm
    coarsest = np.flatnonzero(edges > edges.max() - 1e-3)
    upward = np.abs(grid.affine[2, :3]) / edges
    axis = int(coarsest[np.argmax(upward[coarsest])])
    others = tuple(other for other in range(3) if other != axis)
    return int(np.count_nonzero(mask.any(axis=others)))


def is_rano_measurable(
    enhancing: Mask,
    grid: Grid,
    measured: Diameters | None,
    probability: NDArray[np.float32] | None = None,
) -> bool:
    """Return whether a lesion is measurable by RANO: both diameters >= 10 mm, on two slices.

    This must hold for one connected part that is at least as large as a ball of that diameter: RANO
    assumes slices of 5 mm, and a thin film on two thin slices is not measurable.

    Parameters
    ----------
    probability : (I, J, K) float32 or None
        Probability of enhancement, if known: a part that is undecided on average does not count.
    """
    if measured is None or measured.perpendicular_mm < MEASURABLE_MM:
        return False
    parts, count = ndimage.label(enhancing, structure=TOUCHING)
    for number in range(1, count + 1):
        part: Mask = parts == number
        if grid.volume_ml(part) < RANO_SMALLEST_ML or slices_touched(part, grid) < 2:
            continue
        if probability is not None and float(probability[part].mean()) < _MIN_MEAN_PROBABILITY:
            continue
        part_diameters = measured if count == 1 else diameters(part, grid)
        if part_diameters is not None and part_diameters.perpendicular_mm >= MEASURABLE_MM:
            return True
    return False


def _axial_planes(mask: Mask, grid: Grid, edge_mm: float) -> Iterator[tuple[Mask, Points]]:
    """Yield the region on RAS axial planes, each padded, with its origin."""
    box = geometry.bounding_box(mask)
    if box is None:
        return
    part = np.pad(mask[box], 1)
    start = np.array([side.start - 1 for side in box])
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_mm(start)
    target, shape = geometry.ras_grid(affine, part.shape, edge_mm)
    if shape == part.shape and np.allclose(target, affine, atol=1e-6):
        cube = part
    else:
        matrix = geometry.index_map(target, affine)
        cube = (
            ndimage.affine_transform(
                part.astype(np.float32),
                matrix[:3, :3],
                matrix[:3, 3],
                output_shape=shape,
                order=1,
                mode="constant",
            )
            > HALF
        )
    for k in range(cube.shape[2]):
        if cube[:, :, k].any():
            yield np.pad(cube[:, :, k], 1), geometry.apply(target, (-1, -1, k))


def _outlines(
    plane: Mask, edge_mm: float, *, longer_than: float
) -> Iterator[tuple[Points, Points]]:
    """Yield the (N, 2) outline, mm, of each connected part longer than `longer_than`.

    Also yields the position of its origin, (3,) RAS+ mm.
    """
    parts, _ = ndimage.label(ndimage.binary_fill_holes(plane), structure=np.ones((3, 3)))
    for index, box in enumerate(ndimage.find_objects(parts), start=1):
        diagonal = np.hypot(*(side.stop - side.start for side in box)) * edge_mm
        if diagonal <= longer_than:
            continue
        padded = np.pad((parts[box] == index).astype(np.float64), 1)
        corner = np.array([box[0].start - 1, box[1].start - 1, 0]) * edge_mm
        # "high": pixels that touch at a corner alone are one part, which must have one outline
        outline, *_ = find_contours(padded, 0.5, fully_connected="high")
        yield outline * edge_mm, corner


def _farthest_points(outline: Points) -> Points:
    """Return the two outline points that are farthest apart, (2, 2)."""
    corners: Points = outline[ConvexHull(outline).vertices]
    offsets = corners[:, None] - corners[None]
    lengths = np.hypot(offsets[..., 0], offsets[..., 1])
    return corners[[*np.unravel_index(int(lengths.argmax()), lengths.shape)]]


def _with_perpendicular(outline: Points, ends: Points, origin_mm: Points) -> Diameters:
    """Return the diameter between two ends, and the longest line of the outline across it.

    `origin_mm` is the outline's origin in the patient.
    """
    offset = ends[0] - ends[1]
    longest_mm = float(np.hypot(*offset))
    direction = offset / longest_mm
    axes = np.array([direction, (-direction[1], direction[0])])
    perpendicular = _widest_line(outline @ axes.T)
    return Diameters(
        longest_mm,
        float(np.ptp(perpendicular[:, 1])),
        _in_patient(ends, origin_mm),
        _in_patient(perpendicular @ axes, origin_mm),
    )


def _in_patient(ends: Points, origin_mm: Points) -> tuple[Point, Point]:
    """Convert two points of a plane, (2, 2) mm, to RAS+ mm."""
    points_mm = np.pad(ends, ((0, 0), (0, 1))) + origin_mm
    start, end = ((float(x), float(y), float(z)) for x, y, z in points_mm)
    return start, end


def _widest_line(rotated: Points) -> Points:
    """Return the ends, (2, 2), of the longest line along the second axis."""
    start, end = rotated[:-1], rotated[1:]
    cuts = np.linspace(rotated[:, 0].min(), rotated[:, 0].max(), 257)[1:-1, None]
    step = end[:, 0] - start[:, 0]
    crosses = (np.minimum(start[:, 0], end[:, 0]) <= cuts) & (
        cuts <= np.maximum(start[:, 0], end[:, 0])
    )
    fraction = np.divide(cuts - start[:, 0], step, out=np.zeros(crosses.shape), where=step != 0)
    height = start[:, 1] + np.clip(fraction, 0, 1) * (end[:, 1] - start[:, 1])
    top = np.where(crosses, height, -np.inf).max(axis=1)
    bottom = np.where(crosses, height, np.inf).min(axis=1)
    spans = np.where(np.isfinite(top) & np.isfinite(bottom), top - bottom, -1.0)
    best = int(spans.argmax())
    return np.array([[cuts[best, 0], bottom[best]], [cuts[best, 0], top[best]]])


def bounding_box_mm(mask: Mask, grid: Grid) -> tuple[Points, Points]:
    """Return the lower and upper RAS corner at the voxels' outer edges of a non-empty mask.

    For an oblique grid it is the box of the voxels themselves, not of their index box.
    """
    voxels = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    centres = grid.to_mm(voxels)
    corners = geometry.corners((-0.5,) * 3, (0.5,) * 3) @ grid.affine[:3, :3].T
    return centres.min(0) + corners.min(0), centres.max(0) + corners.max(0)
