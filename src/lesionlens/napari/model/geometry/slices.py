"""Slices through volumes: voxel by voxel along their own axes, interpolated only where oblique.

A `Frame` is three directions in the patient that the planes follow: the patient's own axes, or
those of an acquisition. On the screen x grows to the right and y downwards, in millimetres:
the patient's right is on the left of axial and coronal planes, the face on the left of sagittal
ones, in every frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lesionlens.base import geometry
from lesionlens.base.geometry import Affine
from lesionlens.base.grid import Grid
from lesionlens.base.records.findings import Point
from lesionlens.napari.model.geometry.planes import Edges, Plane, edges_of

MAX_TILT = 0.25
"""Voxels by which the far corner of a volume may be off before its slices are interpolated."""
_AXES = {Plane.AXIAL: (2, 0, 1), Plane.CORONAL: (1, 0, 2), Plane.SAGITTAL: (0, 1, 2)}
"""Axes of a frame: through the plane, opposite to the screen's x, opposite to its y."""
_MAX_ISOTROPIC_RATIO = 1.5  # maximum edge ratio of voxels without a plane of acquisition
_MAX_SLAB_RATIO = 0.6
"""Maximum ratio of the shortest to the next side of a slab-shaped field of view."""
_MAX_PIXELS = 320
_ROUNDING = 1e-6  # of positions in steps or voxels


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Three orthogonal directions in the patient; columns grow to the right, front and top."""

    axes: NDArray[np.float64]

    @classmethod
    def patient(cls) -> Frame:
        """Return the patient's own axes."""
        return cls(np.eye(3))

    @classmethod
    def acquired(cls, grid: Grid) -> Frame:
        """Return the axes of a grid; the patient's if they differ by less than a step."""
        affine = _reordered(grid)[1]
        if tilt(affine, grid.shape) <= MAX_TILT:
            return cls.patient()
        u, _, vh = np.linalg.svd(affine[:3, :3] / geometry.spacing_mm(affine))
        return cls(np.asarray(u @ vh))

    @property
    def key(self) -> bytes:
        """Hashable key."""
        return self.axes.round(9).tobytes()

    @property
    def tilted(self) -> bool:
        """Whether the axes differ from the patient's."""
        return not np.allclose(self.axes, np.eye(3))

    def normal(self, plane: Plane) -> NDArray[np.float64]:
        """Return the direction through a plane (RAS+), towards right, front or top."""
        return np.asarray(self.axes[:, _AXES[plane][0]])

    def screen(self, plane: Plane) -> NDArray[np.float64]:
        """Return the (2, 3) directions of the screen's x and y in the patient."""
        _, x, y = _AXES[plane]
        return np.asarray([-self.axes[:, x], -self.axes[:, y]])

    def on_screen(self, plane: Plane, point_mm: ArrayLike) -> NDArray[np.float64]:
        """Map (..., 3) RAS+ mm to (..., 2) millimetres on the screen."""
        return np.asarray(np.asarray(point_mm, np.float64) @ self.screen(plane).T)

    def depth(self, plane: Plane, point_mm: ArrayLike) -> Any:
        """Map (..., 3) RAS+ mm to millimetres through the plane."""
        return np.asarray(point_mm, np.float64) @ self.normal(plane)

    def in_patient(self, plane: Plane, screen_mm: ArrayLike, depth: float) -> NDArray[np.float64]:
        """Map (..., 2) millimetres on the screen, at a depth, to (..., 3) RAS+ mm."""
        in_plane = np.asarray(screen_mm, np.float64) @ self.screen(plane)
        return np.asarray(in_plane + depth * self.normal(plane))

    def edges(self, plane: Plane) -> Edges:
        """Return the patient's side at each edge of the screen."""
        return edges_of(*self.screen(plane))


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A drawn plane through a volume."""

    data: NDArray[Any]
    """(rows, columns) array: rows go down the screen, columns to the right; NaN beyond the volume
    where the values of an image are interpolated."""
    corner: tuple[float, float]
    """(2,) float: outer corner at the top left, in millimetres on the screen."""
    size: tuple[float, float]
    """(2,) float: width and height in millimetres."""
    number: int
    count: int
    """Number of the slice, from 1 (0 outside the volume), and number of slices."""
    step_mm: float
    interpolated: bool


@dataclass(frozen=True, slots=True, eq=False)
class OrientedVolume:
    """A volume with axes reordered towards the patient's right, front and top."""

    data: NDArray[Any]
    """(I, J, K) array of any dtype; a view of the loaded array, never a copy."""
    grid: Grid
    source: NDArray[Any]
    """Array before reordering."""

    @classmethod
    def of(cls, data: NDArray[Any], grid: Grid) -> OrientedVolume:
        """Reorder the axes of a volume without changing voxels."""
        orientation, affine = _reordered(grid)
        reordered = np.asarray(nib.orientations.apply_orientation(data, orientation))
        i, j, k = reordered.shape
        return cls(reordered, Grid((i, j, k), affine, grid.frame_uid), data)

    def straight(self, frame: Frame) -> bool:
        """Whether the voxels are aligned with a frame, so that slices need no interpolation."""
        rotation = np.eye(4)
        rotation[:3, :3] = frame.axes.T
        return tilt(rotation @ self.grid.affine, self.grid.shape) <= MAX_TILT

    def step_mm(self, frame: Frame, plane: Plane) -> float:
        """Return the distance between slices, mm: one voxel, or the finest edge if oblique."""
        edges = self.grid.spacing_mm
        return float(edges[_AXES[plane][0]] if self.straight(frame) else edges.min())

    def depths(self, frame: Frame, plane: Plane) -> tuple[float, int, float]:
        """Return depth of the first slice (mm), number of slices, step (mm).

        Oblique to the voxels, slices lie on their outermost centre, and reach their outer edges.
        """
        step = self.step_mm(frame, plane)
        if self.straight(frame):
            through = _AXES[plane][0]
            count = self.grid.shape[through]
            centre_depth = frame.depth(plane, geometry.centre_mm(self.grid.affine, self.grid.shape))
            return float(centre_depth - (count - 1) / 2 * step), count, step
        lowest = float(frame.depth(plane, self._corners_mm()).min())
        edges = frame.depth(plane, self._corners_mm(0.5))
        first = lowest - _steps(lowest - edges.min(), step) * step
        return first, _steps(edges.max() - first, step) + 1, step

    def _corners_mm(self, beyond: float = 0.0) -> NDArray[np.float64]:
        """Return the eight outermost voxels, RAS+ mm: their centres, or further by voxels."""
        last = np.array(self.grid.shape) - 1
        return self.grid.to_mm(geometry.corners([-beyond] * 3, last + beyond))

    def number_at(self, frame: Frame, plane: Plane, depth: float) -> int:
        """Return the slice nearest to a depth, from 0; it may lie outside the volume."""
        first, _, step = self.depths(frame, plane)
        return int(np.floor((depth - first) / step + 0.5))

    def depth_of(self, frame: Frame, plane: Plane, number: int) -> float:
        """Return the depth (mm) of a slice, from 0."""
        first, _, step = self.depths(frame, plane)
        return first + number * step

    def cut(
        self,
        frame: Frame,
        plane: Plane,
        number: int,
        *,
        nearest: bool = False,
        beyond: float = 0.0,
    ) -> Slice:
        """Return one slice; empty outside the volume.

        Parameters
        ----------
        number : int
            Number of the slice, from 0, as counted by `depths`.
        nearest : bool
            Whether to interpolate by nearest neighbour, for labels.
        beyond : float
            Value beyond the volume where slices are interpolated; NaN for floats only.
        """
        if self.straight(frame):
            return self._aligned_slice(frame, plane, number)
        return self._interpolated_slice(frame, plane, number, nearest=nearest, beyond=beyond)

    def value_at(self, point_mm: Point, *, nearest: bool = True) -> float | None:
        """Return the value at a point (RAS+ mm), of the nearest voxel or interpolated.

        None beyond the volume, and where there is no value.
        """
        voxel = self.grid.nearest_voxel(point_mm)
        if not self.grid.contains(voxel):
            return None
        value = self.data[tuple(voxel)]
        if not nearest:
            position = self.grid.to_voxel(point_mm).reshape(3, 1)
            (value,) = ndimage.map_coordinates(
                self.data, position, order=1, mode="nearest", prefilter=False
            )
        return float(value) if np.isfinite(value) else None

    def _aligned_slice(self, frame: Frame, plane: Plane, number: int) -> Slice:
        through, x, y = _AXES[plane]
        count, edges = self.grid.shape[through], self.grid.spacing_mm
        volume = np.transpose(self.data, (through, y, x))
        rows = volume[number] if 0 <= number < count else np.zeros(volume.shape[1:], volume.dtype)
        centre = frame.on_screen(plane, geometry.centre_mm(self.grid.affine, self.grid.shape))
        width, height = self.grid.shape[x] * edges[x], self.grid.shape[y] * edges[y]
        return Slice(
            data=rows[::-1, ::-1],
            corner=(float(centre[0] - width / 2), float(centre[1] - height / 2)),
            size=(float(width), float(height)),
            number=number + 1 if 0 <= number < count else 0,
            count=count,
            step_mm=float(edges[through]),
            interpolated=False,
        )

    def _interpolated_slice(
        self, frame: Frame, plane: Plane, number: int, *, nearest: bool, beyond: float
    ) -> Slice:
        first, count, step = self.depths(frame, plane)
        corners = frame.on_screen(plane, self._corners_mm(0.5))
        low, high = corners.min(axis=0), corners.max(axis=0)
        pixel_mm = max(float(self.grid.spacing_mm.min()), float((high - low).max()) / _MAX_PIXELS)
        columns, rows = (int(n) for n in np.ceil((high - low) / pixel_mm - _ROUNDING))
        to_voxel = np.linalg.inv(self.grid.affine[:3, :3])
        x, y = frame.screen(plane)
        matrix = to_voxel @ np.stack(
            [frame.normal(plane) * step, y * pixel_mm, x * pixel_mm], axis=1
        )
        start = frame.in_patient(plane, low + pixel_mm / 2, first + number * step)
        offset, shape = self.grid.to_voxel(start), (1, rows, columns)
        data = ndimage.affine_transform(
            self.data,
            matrix,
            offset=offset,
            output_shape=shape,
            order=0 if nearest else 1,
            mode="nearest",
            prefilter=False,
        )
        within = _within(matrix, offset, shape, self.grid.shape)
        data[~within if 0 <= number < count else ...] = beyond
        return Slice(
            data=data[0],
            corner=(float(low[0]), float(low[1])),
            size=(columns * pixel_mm, rows * pixel_mm),
            number=number + 1 if 0 <= number < count else 0,
            count=count,
            step_mm=step,
            interpolated=True,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """The slices of one plane, as stepped through by Up and Down."""

    frame: Frame
    plane: Plane
    first_mm: float
    """Depth of the first slice along the plane's normal, mm."""
    count: int
    step_mm: float
    interpolated: bool
    """Whether slices are interpolated because the plane is oblique to the voxels."""

    @classmethod
    def of(cls, picture: OrientedVolume, frame: Frame, plane: Plane) -> Slices:
        """Count the slices of a volume, without reading its voxels."""
        first, count, step = picture.depths(frame, plane)
        return cls(frame, plane, first, count, step, not picture.straight(frame))

    def number(self, point_mm: Point) -> int:
        """Return the slice nearest to a point (RAS+), from 1, clipped to the volume."""
        depth = float(self.frame.depth(self.plane, point_mm))
        nearest = int(np.floor((depth - self.first_mm) / self.step_mm + 0.5))
        return min(max(nearest, 0), self.count - 1) + 1

    def at(self, point_mm: Point, number: int) -> Point:
        """Return a point (RAS+) projected onto a slice, from 1, along the normal."""
        depth = self.first_mm + (number - 1) * self.step_mm
        offset = depth - float(self.frame.depth(self.plane, point_mm))
        return geometry.as_vec3(point_mm + offset * self.frame.normal(self.plane))

    def grid_over(self, points_mm: NDArray[np.float64], edge_mm: float) -> Grid:
        """Return a grid of these slices over (N, 3) points (RAS+ mm), one a voxel of its last axis.

        `edge_mm` is the voxel edge within a slice.
        """
        through, x, y = _AXES[self.plane]
        axes = self.frame.axes[:, [x, y, through]]
        edges = np.array([edge_mm, edge_mm, self.step_mm])
        start = np.array([0.0, 0.0, self.first_mm])
        steps = (points_mm @ axes - start) / edges
        first, last = np.floor(steps.min(axis=0)), np.ceil(steps.max(axis=0))
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = axes * edges, axes @ (start + first * edges)
        i, j, k = (last - first + 1).astype(int).tolist()
        return Grid((i, j, k), affine)

    def stepped(self, point_mm: Point, by: int) -> Point:
        """Return the point moved by slices, at the middle of a slice, clipped to the volume."""
        return self.at(point_mm, min(max(self.number(point_mm) + by, 1), self.count))


def plane_of_acquisition(grid: Grid) -> Plane | None:
    """Return the plane of acquisition; None for nearly isotropic voxels.

    Examples
    --------
    >>> plane_of_acquisition(Grid((9, 9, 9), np.diag([0.5, 5.0, 0.5, 1.0])))
    <Plane.CORONAL: 'coronal'>
    """
    affine = _reordered(grid)[1]
    edges = geometry.spacing_mm(affine)
    if edges.max() < _MAX_ISOTROPIC_RATIO * edges.min():
        return None
    longest = int(edges.argmax())
    return next(plane for plane, (through, _, _) in _AXES.items() if through == longest)


def plane_to_open(grid: Grid) -> Plane | None:
    """Return the plane in which a volume fills the screen best, or None.

    It is the plane of acquisition; for a slab of isotropic voxels, the one across its thin side.

    Examples
    --------
    >>> plane_to_open(Grid((30, 256, 256), np.eye(4))), plane_to_open(Grid((9, 9, 9), np.eye(4)))
    (<Plane.SAGITTAL: 'sagittal'>, None)
    """
    acquired = plane_of_acquisition(grid)
    if acquired is not None:
        return acquired
    picture = OrientedVolume.of(np.broadcast_to(np.uint8(0), grid.shape), grid)
    sides = picture.grid.spacing_mm * np.asarray(picture.grid.shape)
    thin, next_thin = np.sort(sides)[:2]
    if thin > _MAX_SLAB_RATIO * next_thin:
        return None
    return next(plane for plane, (through, _, _) in _AXES.items() if sides[through] == thin)


def _steps(distance_mm: float, step_mm: float) -> int:
    """Return the steps to a slice at most half a step from the end of a distance."""
    return max(0, int(np.ceil(distance_mm / step_mm - 0.5 - _ROUNDING)))


def _within(
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, int, int],
    voxels: tuple[int, int, int],
) -> NDArray[np.bool_]:
    """Return which samples of an affine transform lie in a volume, to its voxels' outer edges."""
    s, r, c = np.ogrid[tuple(slice(n) for n in shape)]
    inside = np.ones(shape, bool)
    for row, start, count in zip(matrix, offset, voxels, strict=True):
        off_centre = (start - (count - 1) / 2 + row[0] * s + row[1] * r) + row[2] * c
        inside &= np.abs(off_centre, out=off_centre) <= count / 2 + _ROUNDING
    return inside


def tilt(affine: Affine, shape: tuple[int, ...]) -> float:
    """Return the corner error of an axis-aligned approximation, in voxels of the finest edge."""
    edges = geometry.spacing_mm(affine)
    deviation = np.abs(affine[:3, :3] - np.diag(edges)) @ ((np.asarray(shape) - 1) / 2)
    return float(deviation.max() / edges.min())


def _reordered(grid: Grid) -> tuple[NDArray[Any], Affine]:
    """Return the axis permutation and flips towards right, front and top, and the new affine."""
    orientation = nib.orientations.io_orientation(grid.affine)
    inverse = nib.orientations.inv_ornt_aff(orientation, grid.shape)
    return orientation, np.asarray(grid.affine @ inverse, dtype=np.float64)
