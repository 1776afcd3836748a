"""The shipped tissue template, and its rigid registration to a head.

It locates grey matter, white matter and fluid in an image of unknown sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Affine, Floats, Mask, centre_mm
from lesionlens.base.grid import Grid
from lesionlens.base.shipped_arrays import shipped_arrays
from lesionlens.imaging.preparation.brain import largest
from lesionlens.imaging.preparation.registration import bright_quantile, itk_image, rigid_affine

COARSE_MM = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """Tissue maps in MNI space: grey, white, mask as (I, J, K) float32 0-1."""

    grey: Floats
    white: Floats
    mask: Floats
    grid: Grid


def load_template() -> Template:
    """Load the shipped maps."""
    with shipped_arrays("lesionlens.imaging.preparation", "template.npz") as stored:
        grey, white, mask = stored["maps"].astype(np.float32) / np.float32(255)
        affine = stored["affine"]
    return Template(grey, white, mask, Grid((mask.shape[0], mask.shape[1], mask.shape[2]), affine))


def head_mask(image: Floats) -> Mask:
    """Return the mask of the head without the surrounding air."""
    level = 0.15 * bright_quantile(image, 0.95)
    return largest(np.asarray(ndimage.uniform_filter(image, 3) > level))


def _initial_centre_mm(image: Floats, grid: Grid) -> NDArray[np.float64]:
    """Estimate the brain's centre: below the top of the head, at the centroid of what is there."""
    head = head_mask(image)
    if not head.any():
        return centre_mm(grid.affine, grid.shape)
    planes = np.flatnonzero(head.sum(axis=(0, 1)) * grid.spacing_mm[0] ** 2 > 1500.0)
    top = int(planes[-1]) if planes.size else grid.shape[2] - 1
    low = max(top - int(140 / grid.spacing_mm[2]), 0)
    centroid = np.argwhere(head[:, :, low : top + 1]).mean(axis=0)
    centre = grid.to_mm(centroid + np.array([0.0, 0.0, low]))
    centre[2] = float(grid.to_mm((0, 0, (top + low) / 2))[2])
    return centre


def register_template(template: Template, image: Floats, grid: Grid) -> Affine:
    """Register the template to the head rigidly; return template mm to head mm."""
    pseudo = template.white * 3 + template.grey * 2 + (template.mask > 0.5) * np.float32(0.5)
    fixed = itk_image(pseudo, template.grid)
    surroundings = ndimage.binary_dilation(template.mask > 0.5, iterations=2)
    region = itk_image(surroundings.astype(np.float32), template.grid)
    sigma = COARSE_MM / 2 / grid.spacing_mm / 2
    capped = np.minimum(image, bright_quantile(image, 0.98))
    moving = itk_image(ndimage.gaussian_filter(capped, sigma), grid)
    brain_centre_mm = np.asarray(template.grid.to_mm(ndimage.center_of_mass(template.mask)))
    shift = _initial_centre_mm(image, grid) - brain_centre_mm
    best: tuple[float, Affine] = (0.0, np.eye(4))
    for pitch in (0.0, 0.25, -0.25):
        start = sitk.Euler3DTransform(brain_centre_mm.tolist(), pitch, 0.0, 0.0, shift.tolist())
        result = _optimise(fixed, moving, region, start)
        if result is not None and result[0] < best[0]:
            best = result
    return best[1]


def _optimise(
    fixed: sitk.Image, moving: sitk.Image, region: sitk.Image, start: sitk.Euler3DTransform
) -> tuple[float, Affine] | None:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(24)
    method.SetMetricFixedMask(sitk.Cast(region, sitk.sitkUInt8))
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5, 7)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(4.0, 0.05, 40, 0.6, 1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetNumberOfWorkUnits(1)  # as in `register`: bit-identical on every run
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # no overlap from this start
        return None
    return float(method.GetMetricValue()), rigid_affine(start)
