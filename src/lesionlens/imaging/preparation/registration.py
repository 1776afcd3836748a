"""Rigid co-registration of one sequence to the reference, with a measure of its reliability.

All computation is in patient RAS+ millimetres: both images are on axis-aligned RAS grids, which ITK
uses as its physical frame (it does not distinguish left and right).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Affine, Floats, centre_mm, ras_grid
from lesionlens.base.grid import Grid
from lesionlens.base.records.arrays import Volume
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.resampling import resample, resample_mask

COARSE_MM, FINE_MM, FINEST_MM = 4.0, 2.0, 1.0
HEAD_FRACTION, HEAD_MARGIN_MM = 0.1, 8.0
"""Only voxels near a head are compared: brighter than this fraction of the brightest tissue, or
within this distance of such voxels. Halves the time at the same error."""
DOUBTFUL_BELOW = 0.2
"""Relative height of the mutual information peak below which the result is doubtful.

Measured: 0.25 to 0.55 between sequences of one patient, 0.13 to 0.23 between two patients.
"""
DOUBTFUL_ONE_STRIPPED = 0.125
"""The same where one image alone is stripped, as the skull matches nothing.

Measured: 0.14 to 0.39 between sequences of one patient, 0.05 to 0.11 between two patients.
"""
MIN_INFORMATION_NATS = 0.05
"""Mutual information (nats) below which the result is doubtful in any case.

Measured: 0.47 to 1.2 between sequences of one patient, 0.005 between a head and noise.
"""


HALF_TURNS = tuple(np.pi * axis for axis in np.eye(3))
"""Euler angles about each axis, radians."""


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """The rigid transform of a sequence to the reference's frame."""

    reference_to_sequence: Affine
    """(4, 4) float64: reference RAS+ mm to the sequence's own RAS+ mm; rigid."""
    shift_mm: float
    angle_deg: float
    """Displacement of the head's centre, and the rotation angle."""
    information: float
    """Mutual information (nats) of the aligned images."""
    peak_height: float
    """Height of the peak relative to 10 mm off: 1 - I(off) / I(aligned); near 0 is doubtful."""
    one_stripped: bool = False
    """Whether one of the two images alone is stripped."""

    @property
    def doubtful(self) -> bool:
        """Whether the alignment should be checked visually."""
        minimum = DOUBTFUL_ONE_STRIPPED if self.one_stripped else DOUBTFUL_BELOW
        return self.information < MIN_INFORMATION_NATS or self.peak_height < minimum


def itk_image(values: NDArray[np.floating], grid: Grid) -> sitk.Image:
    """Return an image on an axis-aligned RAS grid as ITK's."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T, dtype=np.float32))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


def on_ras_grid(values: Floats, grid: Grid, edge_mm: float) -> tuple[Floats, Grid]:
    """Resample an image to an isotropic, axis-aligned RAS+ grid over its own field of view."""
    affine, shape = ras_grid(grid.affine, grid.shape, edge_mm)
    target = Grid(shape, affine, grid.frame_uid)
    return resample(values, grid, target), target


def bright_quantile(values: Floats, quantile: float) -> float:
    """Return the quantile of an image's positive voxels, from some of them; 1 without any."""
    positive = values[values > 0]
    sample = positive[:: max(positive.size // 50_000, 1)]
    return float(np.quantile(sample, quantile)) if sample.size else 1.0


def _cap_bright(values: Floats) -> Floats:
    """Cap the brightest voxels, so that histogram bins resolve tissue."""
    return np.clip(values, 0.0, bright_quantile(values, 0.99) or 1.0)


def centre_of_mass_mm(values: Floats, grid: Grid) -> NDArray[np.float64]:
    """Return the (3,) intensity centroid, RAS+ mm; the field of view's centre if all is dark."""
    weight = np.sqrt(np.maximum(values, 0.0))
    total = float(weight.sum())
    if total <= 0:
        return centre_mm(grid.affine, grid.shape)
    centre = [
        float(
            (weight.sum(axis=tuple(a for a in range(3) if a != axis)) * np.arange(n)).sum() / total
        )
        for axis, n in enumerate(values.shape)
    ]
    return grid.to_mm(centre)


def rigid_affine(transform: sitk.Euler3DTransform) -> Affine:
    """Return the (4, 4) matrix of a rigid transform about its own centre."""
    linear = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre, shift = np.asarray(transform.GetCenter()), np.asarray(transform.GetTranslation())
    out = np.eye(4)
    out[:3, :3] = linear
    out[:3, 3] = centre + shift - linear @ centre
    return out


def _method(
    sampling: float, iterations: int, step: float, min_step: float = 1e-3, *, filtered: bool = True
) -> sitk.ImageRegistrationMethod:
    """Return a gradient descent on mutual information; steps in mm, stopped below `min_step`.

    `filtered` takes the gradient from a smoothed copy of the whole image, else it is differenced
    at the samples: half of a descent's time where there are few.
    """
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(sampling, 7)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step, min_step, iterations, 0.7, 1e-9)
    method.SetOptimizerScalesFromPhysicalShift()
    method.MetricUseFixedImageGradientFilterOff()
    method.SetMetricUseMovingImageGradientFilter(filtered)
    method.SetNumberOfWorkUnits(1)  # threads sum in any order: the last bits would differ
    return method


class Level(NamedTuple):
    """One image as ITK image, with the mask of the head and its surroundings."""

    image: sitk.Image
    region: sitk.Image
    has_exclusions: bool
    """Whether voxels are excluded from `region`; then the mask also applies to the moving image."""

    def copy(self) -> Level:
        """Return a deep copy: ITK may write into its inputs."""
        return Level(_deep_copy(self.image), _deep_copy(self.region), self.has_exclusions)


def _deep_copy(image: sitk.Image) -> sitk.Image:
    copy = sitk.Image(image)
    copy.MakeUnique()
    return copy


def _head_region(values: Floats, grid: Grid) -> Floats:
    head = (values > HEAD_FRACTION * values.max()).astype(np.float32)
    reach = 2 * round(HEAD_MARGIN_MM / float(grid.spacing_mm[0])) + 1
    return ndimage.maximum_filter(head, reach) if head.any() else np.ones_like(head)


def _make_level(
    values: Floats, grid: Grid, region: Floats | None = None, excluded: Volume | None = None
) -> Level:
    capped = _cap_bright(values)
    region = _head_region(capped, grid) if region is None else region
    if excluded is not None:
        is_excluded = resample_mask(excluded.data, excluded.grid, grid)
        region = np.where(is_excluded, np.float32(0.0), region)
    mask = sitk.Cast(itk_image(region, grid), sitk.sitkUInt8)
    return Level(itk_image(capped, grid), mask, excluded is not None)


@dataclass(frozen=True, slots=True, eq=False)
class ResolutionPyramid:
    """One image at several resolutions as ITK images, reused for every partner."""

    coarse: Level
    fine: Level
    """Isotropic RAS+ grids of 4 and 2 mm."""
    centre_mm: NDArray[np.float64]
    """(3,) float64: intensity centroid."""
    finest: Level | None = None
    """Isotropic RAS+ grid of 1 mm; None if the fine level is sufficient."""

    def copy(self) -> ResolutionPyramid:
        """Return a deep copy for another thread."""
        finest = None if self.finest is None else self.finest.copy()
        return ResolutionPyramid(self.coarse.copy(), self.fine.copy(), self.centre_mm, finest)


def pyramid(
    values: Floats, grid: Grid, *, excluded: Volume | None = None, finest: bool = False
) -> ResolutionPyramid:
    """Resample an image to the resolutions of the registration.

    Parameters
    ----------
    excluded : Volume of bool or None
        Voxels excluded at the fine levels; the coarse level uses all voxels.
    finest : bool
        Whether to add a level of 1 mm, which takes about 4 s more CPU time.
    """
    fine, fine_grid = on_ras_grid(values, grid, FINE_MM)
    coarse, coarse_grid = on_ras_grid(fine, fine_grid, COARSE_MM)
    region = _head_region(_cap_bright(fine), fine_grid)
    finest_level = None
    if finest:
        image, image_grid = on_ras_grid(values, grid, FINEST_MM)
        finest_region = resample_mask(region > 0, fine_grid, image_grid).astype(np.float32)
        finest_level = _make_level(image, image_grid, finest_region, excluded)
    return ResolutionPyramid(
        _make_level(coarse, coarse_grid),
        _make_level(fine, fine_grid, region, excluded),
        centre_of_mass_mm(coarse, coarse_grid),
        finest_level,
    )


def single_level_pyramid(values: Floats, grid: Grid) -> ResolutionPyramid:
    """Use an image of about 3 mm isotropic RAS+ voxels for both resolutions."""
    level = _make_level(values, grid)
    return ResolutionPyramid(level, level, centre_of_mass_mm(values, grid))


def register(
    fixed: ResolutionPyramid, moving: ResolutionPyramid, *, context: RunContext = SILENT
) -> Registration:
    """Register two sequences of one head rigidly.

    Starts from the header position and from equal centres of mass; the better start, by mutual
    information at 4 mm, is refined at 2 mm, and at 1 mm if both have that level. If the result is
    doubtful, half turns are tried too, as after saving an array with an identity as its affine.

    Returns
    -------
    Registration
        Check `doubtful`. Deterministic to the last bit.

    Notes
    -----
    Mattes et al., IEEE TMI 2003, 22(1):120-128, doi 10.1109/TMI.2003.809072.
    """
    found = _register_from(fixed, moving, context, (np.zeros(3),))
    if not found.doubtful:
        return found
    turned = _register_from(fixed, moving, context, HALF_TURNS)
    return found if turned.doubtful or turned.information <= found.information else turned


def _register_from(
    fixed: ResolutionPyramid,
    moving: ResolutionPyramid,
    context: RunContext,
    turns: Sequence[NDArray[np.float64]],
) -> Registration:
    """Register from starts with the given turns, Euler angles in radians."""
    best = _register_coarse(fixed, moving, context, turns=turns)
    if best is None:
        return Registration(np.eye(4), 0.0, 0.0, information=0.0, peak_height=0.0)
    # Few samples first, then more samples: half the error of one descent of the same cost.
    pair = fixed.fine, moving.fine
    steps = [(pair, _method(0.03, 200, 1.0, 3e-4, filtered=False)), (pair, _method(0.12, 20, 0.05))]
    if fixed.finest is not None and moving.finest is not None:
        steps.append(((fixed.finest, moving.finest), _method(0.06, 40, 0.2)))
    for levels, method in steps:
        context.check("registration")
        best = _optimise(levels, best[1], method) or best
    return _assess(best[1], (fixed.coarse.image, moving.coarse.image), fixed.centre_mm)


def register_coarsely(
    fixed: ResolutionPyramid, moving: ResolutionPyramid, *, context: RunContext = SILENT
) -> Affine:
    """Return the (4, 4) transform of the coarse level, unchecked; the identity without overlap."""
    best = _register_coarse(fixed, moving, context, sampling=0.07)
    return np.eye(4) if best is None else rigid_affine(best[1])


def _register_coarse(
    fixed: ResolutionPyramid,
    moving: ResolutionPyramid,
    context: RunContext,
    sampling: float = 0.1,
    turns: Sequence[NDArray[np.float64]] = (np.zeros(3),),
) -> tuple[float, sitk.Euler3DTransform] | None:
    best: tuple[float, sitk.Euler3DTransform] | None = None
    offset_mm = moving.centre_mm - fixed.centre_mm
    shifts = [np.zeros(3)]
    if float(np.linalg.norm(offset_mm)) > 5.0:
        shifts.append(offset_mm)
    for turn, shift in product(turns, shifts):
        context.check("registration")
        start = sitk.Euler3DTransform(fixed.centre_mm.tolist(), *turn.tolist(), shift.tolist())
        result = _optimise((fixed.coarse, moving.coarse), start, _method(sampling, 80, 3.0))
        if result is not None and (best is None or result[0] < best[0]):
            best = result
    return best


def _optimise(
    pair: tuple[Level, Level], start: sitk.Euler3DTransform, method: sitk.ImageRegistrationMethod
) -> tuple[float, sitk.Euler3DTransform] | None:
    """Return minus the best mutual information and its transform; None if images do not overlap."""
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    method.SetMetricFixedMask(pair[0].region)
    if pair[1].has_exclusions:
        method.SetMetricMovingMask(pair[1].region)
    try:
        method.Execute(pair[0].image, pair[1].image)
        value = float(method.GetMetricValue())
    except RuntimeError:
        return None
    return value, transform


def _metric(pair: tuple[sitk.Image, sitk.Image], transform: sitk.Transform) -> float:
    method = _method(0.5, 1, 1.0, filtered=False)
    method.SetInitialTransform(transform)
    try:
        return float(-method.MetricEvaluate(*pair))
    except RuntimeError:
        return 0.0


def _assess(
    transform: sitk.Euler3DTransform,
    pair: tuple[sitk.Image, sitk.Image],
    centre: NDArray[np.float64],
) -> Registration:
    information = _metric(pair, transform)
    displaced = []
    for axis in range(3):
        for sign in (-10.0, 10.0):
            shifted = sitk.Euler3DTransform(transform)
            shift = np.asarray(shifted.GetTranslation())
            shift[axis] += sign
            shifted.SetTranslation(shift.tolist())
            displaced.append(_metric(pair, shifted))
    peak_height = 1.0 - float(np.mean(displaced)) / information if information > 1e-6 else 0.0
    moved = rigid_affine(transform)
    angle = float(np.degrees(np.arccos(np.clip((np.trace(moved[:3, :3]) - 1) / 2, -1.0, 1.0))))
    shift_mm = float(np.linalg.norm(moved[:3, :3] @ centre + moved[:3, 3] - centre))
    return Registration(moved, shift_mm, angle, information, peak_height)
