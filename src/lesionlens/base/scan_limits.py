"""Plausibility limits of head scans: refuse grids and voxels outside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import geometry
from lesionlens.base.errors import GeometryError, ReadError, UnusableInputError
from lesionlens.base.grid import Grid

MAX_VOXELS = 140_000_000
"""More voxels than any MR volume of a head has (about 520 cubed); bounds memory when reading."""
MAX_SHEAR = 0.02
MAX_EDGE_MM = 15.0
MIN_VIEW_MM, MAX_VIEW_MM = 30.0, 600.0
MAX_CENTRE_MM = 5000.0
MIN_SLICES = 5
AIR_HU, AIR_WITHIN_HU, AIR_BELOW_HU = -1000.0, 150.0, -500.0


def check_size(shape: tuple[int, ...], label: str) -> None:
    """Refuse a shape that no MR scan of a head has.

    Raises
    ------
    ReadError
        Not three axes, an empty axis, or more voxels than `MAX_VOXELS`.
    """
    size = "x".join(map(str, shape)) or "no"
    if len(shape) != 3 or min(shape, default=0) < 1:
        raise ReadError(
            f"{label} has the size {size} voxels, which is no volume.",
            hint="Name a file that holds one volume, not a single slice or an empty one.",
        )
    if float(np.prod(np.asarray(shape, dtype=float))) > MAX_VOXELS:
        raise ReadError(
            f"{label} has {size} voxels, too many for a scan of a head.",
            hint="Check the file's header; convert the scan again from its DICOM files.",
        )


def check_grid(grid: Grid, label: str) -> None:
    """Refuse a grid that no head scan has.

    Raises
    ------
    GeometryError
        Sheared, with voxels or a field of view too large or too small, or far from the origin.
    """
    check_shear(grid, label)
    spacing_mm = grid.spacing_mm
    extent_mm = np.round(spacing_mm * np.asarray(grid.shape), 1)  # 29.99998 mm are 30
    offset_mm = float(np.abs(geometry.centre_mm(grid.affine, grid.shape)).max())
    if not offset_mm < MAX_CENTRE_MM:
        raise GeometryError(
            f"The affine of {label} puts it {offset_mm:.3g} mm away from the scanner's isocentre.",
            hint="Convert the scan again from its DICOM files.",
        )
    if spacing_mm.max() > MAX_EDGE_MM:
        raise GeometryError(
            f"{label} has voxels of {_by(spacing_mm)} mm; at most {MAX_EDGE_MM:.0f} mm are used.",
            hint="Check the voxel size in the header, or name a scan of finer resolution.",
        )
    is_in_range = extent_mm.min() >= MIN_VIEW_MM and extent_mm.max() <= MAX_VIEW_MM
    if min(grid.shape) < MIN_SLICES or not is_in_range:
        raise GeometryError(
            f"{label} is no volume of a head: {'x'.join(map(str, grid.shape))} voxels cover "
            f"{_by(extent_mm)} mm.",
            hint="Name the full series rather than a single slice or a slab.",
        )


def _by(lengths: NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)


def check_shear(grid: Grid, label: str) -> None:
    """Refuse voxel axes that are not orthogonal: spacings alone would not give distances.

    Raises
    ------
    GeometryError
        The cosine of two axes is above `MAX_SHEAR`.
    """
    shear = geometry.shear_of(grid.affine)
    if shear > MAX_SHEAR:
        angle = float(np.degrees(np.arccos(min(shear, 1.0))))
        raise GeometryError(
            f"The voxel axes of {label} are sheared: two of them meet at {angle:.0f} degrees.",
            hint="Resample it onto a right-angled grid, or convert the scan again from DICOM.",
        )


def check_voxels(values: NDArray[np.float32], label: str) -> None:
    """Refuse voxel values that cannot be an MR scan of a head.

    Parameters
    ----------
    label : str
        Names the file and sequence in messages.

    Raises
    ------
    UnusableInputError
        Constant, inverted, a label image, a CT, or noise.
    """
    low, high = float(values.min()), float(values.max())
    coarse = values[::2, ::2, ::2] if values.size > 10**6 else values
    inside = coarse[coarse != 0]
    problem, hint = "", "Choose the MR scan itself."
    if low == high:
        problem = f"is blank, with the same value, {low:g}, in every voxel"
    elif high <= 0 and corner_value(values) == np.float32(high):
        problem = f"has intensities of {low:g} to {high:g}, dark where an MR scan is bright"
        hint = "Correct the scale slope in the header, or convert the scan from its DICOM files."
    elif low < AIR_BELOW_HU and _is_ct(coarse):
        problem = f"is CT (intensities of {low:g} to {high:g} Hounsfield units), not MR"
    elif np.unique(inside[:: max(inside.size // 50_000, 1)]).size <= 24:
        problem = "has so few different values that it looks like a label image"
    elif smoothness(values) < 0.3:
        problem = "is noise without a head: neighbouring voxels are unrelated"
    if problem:
        raise UnusableInputError(f"{label} {problem}.", hint=hint)


def corner_value(values: NDArray[np.float32]) -> np.float32:
    """Return the median of the corners: of most scans the background."""
    corners = values[tuple(slice(None, None, max(n - 1, 1)) for n in values.shape)]
    return np.float32(np.median(corners))


def _is_ct(values: NDArray[np.float32]) -> bool:
    """Return whether air is near -1000 and most other voxels are soft tissue, near 0."""
    air, others = values[values < AIR_BELOW_HU], values[values > AIR_BELOW_HU]
    if air.size < 0.05 * values.size or not others.size:
        return False
    padding, near_air = air == air.min(), np.abs(air - AIR_HU) < AIR_WITHIN_HU
    if not near_air.any():
        return False  # an MR scan on padding, such as -32768, around zero
    if float((padding | near_air).mean()) < 0.8:
        return False  # a brain's own dark voxels, as after z-scoring in large units
    return float((np.abs(others) < 150).mean()) > 0.5


def smoothness(values: NDArray[np.float32]) -> float:
    """Return the correlation of neighbouring voxels along the axis where it is highest.

    Near 1 in a head, near 0 in noise; robust against single wild voxels.
    """
    low, top = (float(v) for v in np.quantile(values[::3, ::3, ::3], (0.0, 0.999)))
    best = 0.0
    for lines in (values[:, ::4, ::4], np.moveaxis(values[::4, :, ::4], 1, 0)):
        clipped = (np.minimum(lines, top) - low) / ((top - low) or 1.0)  # squares stay finite
        first, second = clipped[:-1].ravel(), clipped[1:].ravel()
        if first.size > 10 and first.std() > 0 and second.std() > 0:
            best = max(best, float(np.corrcoef(first, second)[0, 1]))
    return best
