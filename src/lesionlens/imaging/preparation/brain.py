"""Brain masks: of skull-stripped images directly, of heads by extraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.numerics import connected_parts
from lesionlens.base.scan_limits import corner_value
from lesionlens.imaging.preparation.lost_slices import find_gaps

MAX_BRAIN_ML = 2300.0
MIN_BRAIN_ML = 150.0
WHOLE_ML = (700.0, 2000.0)
"""Volumes between which a mask may be a whole brain."""
PARTIAL_FROM_MM = 3.0
"""Voxel edge, mm, from which dark voxels are removed: they are mostly not brain."""
PARTIAL_SHARE = 0.35
"""Share of the brain's median below which a voxel is dark. Example: for 5 mm slices of a
real case the mask is 1,505 ml without this rule, 1,370 ml with it and 1,337 ml in the reference;
Dice of that case's core is .42 and .59."""
RIM_SHARE = 0.12
"""Share of the brain's median, on the brightest sequence, below which the outermost layer of voxels
is due to interpolation. Measured: .17 and more in scans as acquired, at most .05 after resampling.
"""
EDGE_SHARE = 0.5
"""Share of the brain's median at which the edge of a smoothed brain lies."""

EMPTY_FACE = 0.1
"""Share of foreground in a face of the image below which no head is cut there. Measured: at most
.098 in seventeen stripped brains that were cropped to their own box."""
PART_SHARE = 0.1
"""Share of a stripped brain's largest part from which another part belongs to the brain, which lost
slices divide.
"""
UNEVEN = 0.12
"""Share of the median intensity above which residuals indicate another material."""
NOISE_SHARE = 0.25
"""Share of the noise of single voxels below which residuals of means over 27 are noise alone, at
any offset of the intensities. Measured: .19 and .20 in synthetic bottles of water; 1.6 and more in
seventeen scans of brains, .28 and more with a signal-to-noise ratio of 2."""


@dataclass(frozen=True, slots=True, eq=False)
class BrainMask:
    """A brain mask with its reliability."""

    mask: Mask
    """(I, J, K) bool: brain; empty if none was found."""
    grid: Grid
    method: str
    doubt: str | None = None
    """Why it should be checked, or None."""

    @property
    def volume_ml(self) -> float:
        """Volume of the mask."""
        return self.grid.volume_ml(self.mask)


def may_be_whole(volume_ml: float) -> bool:
    """Return whether a brain mask has a volume that a whole brain may have."""
    low, high = WHOLE_ML
    return low < volume_ml < high


def foreground(values: Floats) -> Mask:
    """Return all voxels that differ from the background value at the corners."""
    return np.asarray(values != corner_value(values))


def is_stripped(values: Floats, grid: Grid) -> bool:
    """Return whether an image is stripped: constant background, brain-sized object."""
    sampled = foreground(values)[::2, ::2, ::2]
    fraction = float(sampled.mean())
    volume_ml = fraction * values.size * grid.voxel_ml
    face_fractions = [
        float(np.take(sampled, end, axis=axis).mean()) for axis in range(3) for end in (0, -1)
    ]
    empty_faces = sum(face < EMPTY_FACE for face in face_fractions)
    return fraction < 0.8 and MIN_BRAIN_ML < volume_ml < MAX_BRAIN_ML and empty_faces >= 3


def stripped_brain_mask(images: Sequence[Floats], grid: Grid) -> Mask:
    """Return the filled object of stripped images, (I, J, K), without its interpolated rim.

    The outermost voxels of thick slices, and of images resampled or smoothed after stripping, are
    partial-volume voxels that are dark on every sequence. Only voxels that are bright enough to be
    mostly brain are kept.

    Parameters
    ----------
    images : sequence of (I, J, K) float32
        On `grid`, background zero; the object of the first image is used, in its blank slices that
        of the others.
    """
    visible, gaps = foreground(images[0]), find_gaps(images[0], grid)
    for gap in gaps:
        visible[gap.index] = np.any([foreground(image)[gap.index] for image in images], axis=0)
    mask = fill_holes(large_parts(visible))
    if max(grid.nominal_spacing_mm) >= PARTIAL_FROM_MM:
        bright = images[0] >= PARTIAL_SHARE * float(np.median(images[0][mask]))
        for gap in gaps:
            bright[gap.index] = True
        return fill_holes(large_parts(mask & bright))
    box = bounding_box(mask)
    if box is None:
        return mask
    result = np.zeros_like(mask)
    result[box] = _without_rim([image[box] for image in images], mask[box])
    return result


def _without_rim(images: Sequence[Floats], mask: Mask) -> Mask:
    """Return the mask without partial-volume voxels at its rim, if there are any."""
    edge = mask & ~ndimage.binary_erosion(mask)
    if float(np.median(_brightest(images, mask, edge))) > RIM_SHARE:
        return mask
    core = mask
    for _ in range(2):  # the rim itself lowers the first median
        bright = np.zeros_like(mask)
        bright[mask] = _brightest(images, core, mask) >= EDGE_SHARE
        core = fill_holes(large_parts(bright))
    return core


def _brightest(images: Sequence[Floats], mask: Mask, voxels: Mask) -> Floats:
    """Return the relative intensity of voxels on the brightest sequence."""
    scales = [np.float32(max(float(np.median(image[mask])), 1e-12)) for image in images]
    scaled = [image[voxels] / scale for image, scale in zip(images, scales, strict=True)]
    return np.asarray(np.max(scaled, axis=0), dtype=np.float32)


def is_even(values: Floats, mask: Mask) -> bool:
    """Return whether an object is homogeneous, such as a bottle of water.

    Parameters
    ----------
    mask : (I, J, K) bool
        The object; its rim is ignored.
    """
    residuals, _, level = _texture(values, mask)
    return bool(residuals.size and (np.abs(residuals) > UNEVEN * level).mean() < 0.01)


def is_noise(values: Floats, mask: Mask) -> bool:
    """Return whether all texture of an object is noise, at any offset of its intensities.

    Arguments as for `is_even`.
    """
    residuals, noise, _ = _texture(values, mask)
    return bool(residuals.size and residuals.std() < NOISE_SHARE * noise)


def _texture(values: Floats, mask: Mask) -> tuple[NDArray[np.float64], float, float]:
    """Return residuals of means over 27 voxels, the noise of single voxels, the median intensity.

    The residuals are those of a quadratic in the three axes, which removes coil shading. Empty and
    0 if the object is small.
    """
    steps = tuple(slice(None, None, max(length // 48, 1)) for length in values.shape)
    means = ndimage.uniform_filter(values, 3)
    noise, means = (values - means)[steps], means[steps]
    inner = ndimage.binary_erosion(mask[steps], iterations=3)
    if int(inner.sum()) < 200:
        return np.empty(0), 0.0, 0.0
    x, y, z = (np.argwhere(inner) / np.asarray(inner.shape) - 0.5).T
    terms = np.stack([x * 0 + 1, x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], axis=1)
    smoothed = means[inner].astype(np.float64)
    coefficients, *_ = np.linalg.lstsq(terms, smoothed, rcond=None)
    return smoothed - terms @ coefficients, float(noise[inner].std()), float(np.median(smoothed))


def largest(mask: Mask) -> Mask:
    """Return the largest connected component (6-neighbourhood)."""
    return large_parts(mask, 1.0)


def large_parts(mask: Mask, min_fraction: float = PART_SHARE) -> Mask:
    """Return the connected components of at least a share of the largest (6-neighbourhood)."""
    box = bounding_box(mask)  # half of a head's image is air
    if box is None:
        return mask
    parts, sizes = connected_parts(mask[box], None)
    if len(sizes) <= 2:
        return mask
    result = np.zeros_like(mask)
    result[box] = (sizes >= min_fraction * sizes.max())[parts]
    return result


def fill_holes(mask: Mask) -> Mask:
    """Fill enclosed holes of a mask; `ndimage.binary_fill_holes` takes three times as long."""
    box = bounding_box(mask)  # voxels outside the box are never enclosed
    if box is None:
        return mask
    components, count = ndimage.label(np.pad(~mask[box], 1, constant_values=True))
    if count <= 1:
        return mask
    filled = np.zeros_like(mask)
    filled[box] = (components != components[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled
