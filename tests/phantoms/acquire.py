"""Simulate the acquisition of a synthetic head: orientation, voxel size, thickness and tilt."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Affine, Shape3, Vec3
from lesionlens.base.grid import Grid
from lesionlens.base.records.arrays import Volume

AXIAL, SAGITTAL, CORONAL = "LPS", "PIR", "LIP"
"""Directions of increasing column, row and slice index in the three standard planes."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Geometry of the acquisition of one sequence."""

    orientation: str = "RAS"
    """Directions of the axes i, j, k, such as RAS, LPS (axial DICOM) or PIR (sagittal)."""
    spacing_mm: Vec3 | None = None
    """(3,) float or None: voxel edges along i, j, k; the last is the slice thickness. None keeps
    those of the head."""
    tilt_deg: float = 0.0
    """Rotation about the left-right axis, then half as much about the vertical one."""
    matrix_step: int = 1
    """The matrix is padded with air to multiples of this along i and j, like those of scanners."""

    def __post_init__(self) -> None:
        axes = {frozenset("LR"), frozenset("AP"), frozenset("SI")}
        letters = self.orientation.upper()
        if len(letters) != 3 or not all(any(c in axis for c in letters) for axis in axes):
            raise UnusableInputError(
                found=f"the orientation {self.orientation!r}",
                expected="three letters, one of each of L/R, A/P and S/I",
                next_step="Write for example RAS, LPS or PIR",
            )


AS_IS = Acquisition()
AXIAL_SLICES = Acquisition(AXIAL)


def grid_of(source: Grid, how: Acquisition) -> Grid:
    """Return the grid of an acquisition with the centre of the source's field of view.

    Padding by `matrix_step` adds whole voxels and does not move the others.

    Examples
    --------
    >>> grid_of(Grid((10, 20, 30), np.eye(4)), Acquisition("PIR")).shape
    (20, 30, 10)
    >>> grid_of(Grid((10, 20, 30), np.eye(4)), Acquisition("PIR", matrix_step=8)).shape
    (24, 32, 10)
    """
    orientation = nib.orientations.axcodes2ornt(tuple(how.orientation.upper()))
    world = orientation[:, 0].astype(int)
    extent = np.abs(source.affine[:3, :3]) @ np.asarray(source.shape)
    spacing = np.asarray(how.spacing_mm or np.abs(source.affine[:3, :3]).max(axis=1)[world])
    counts = np.maximum(np.round(extent[world] / spacing), 1).astype(int)
    directions = np.zeros((3, 3))
    directions[world, range(3)] = orientation[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = _rotation(how.tilt_deg) @ directions * spacing
    middle = geometry.centre_mm(source.affine, source.shape)
    added = np.array([-counts[0] % how.matrix_step, -counts[1] % how.matrix_step, 0])
    affine[:3, 3] = middle - affine[:3, :3] @ ((counts - 1) / 2 + added // 2)
    counts = counts + added
    return Grid((int(counts[0]), int(counts[1]), int(counts[2])), affine)


def acquire(volume: Volume, how: Acquisition) -> Volume:
    """Resample a volume as acquired; labels (integers, bool) by nearest neighbour, else linearly.

    Thick slices are averaged (a Gaussian of the slice's width) before they are sampled. A change
    of orientation alone keeps every voxel's value.

    Parameters
    ----------
    volume : Volume
        On an axis-aligned grid.
    how : Acquisition
        Orientation, spacing, tilt.

    Returns
    -------
    Volume
        Same dtype; zero outside the source.
    """
    target = grid_of(volume.grid, how)
    labels = volume.data.dtype.kind in "iub"
    step = np.round(geometry.index_map(target.affine, volume.grid.affine), 9)
    data = volume.data if labels else _blur(volume, target.affine)
    sampled = _sample(data, step, target.shape, order=0 if labels else 1)
    return Volume(np.asarray(sampled, dtype=volume.data.dtype), target)


def _rotation(degrees: float) -> NDArray[np.float64]:
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x)


def _blur(volume: Volume, target: Affine) -> NDArray[np.float32]:
    """Average over the size of the target's voxels, along the source's axes."""
    source_mm = volume.grid.spacing_mm
    target_mm = np.abs(np.linalg.inv(volume.grid.affine[:3, :3]) @ target[:3, :3]).max(axis=1)
    width = np.sqrt(np.maximum((target_mm * source_mm) ** 2 - source_mm**2, 0)) / 2.355
    sigma = np.where(width > 0.1, width / source_mm, 0.0)
    return np.asarray(ndimage.gaussian_filter(volume.data, sigma), dtype=np.float32)


def _sample(
    data: NDArray[np.generic], step: Affine, shape: Shape3, order: int
) -> NDArray[np.generic]:
    source = data.astype(np.uint8) if data.dtype == bool else data
    return np.asarray(
        ndimage.affine_transform(source, step[:3, :3], step[:3, 3], output_shape=shape, order=order)
    )
