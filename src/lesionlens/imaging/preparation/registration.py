"""Rigid co-registration of one sequence to the reference, with a measure of its reliability.

`register` finds the transform; `header_alignment` tells at a tenth of its time whether the headers
align two sequences already. All computation is in patient RAS+ millimetres: images are on
axis-aligned RAS grids, which ITK uses as its physical frame (it does not tell left from right).
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

from lesionlens.base.geometry import Affine, Floats, apply, centre_mm
from lesionlens.base.grid import Grid
from lesionlens.base.records.arrays import Volume
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.resampling import (
    block_means,
    on_ras_grid,
    resample,
    resample_mask,
)

LEVELS_MM, FINEST_MM = (4.0, 2.0), 1.0
HEAD_FRACTION, HEAD_MARGIN_MM = 0.1, 8.0
"""Only voxels near a head are compared: brighter than this fraction of the brightest tissue, or
within this distance of such voxels. Halves the time at the same error."""
DOUBTFUL_BELOW, DOUBTFUL_ONE_STRIPPED = 0.2, 0.125
"""Relative height of the mutual information peak below which the result is doubtful, and the same
where one image alone is stripped, as the skull matches nothing. Measured between sequences of one
patient: 0.25 to 0.55, and 0.14 to 0.39; of two patients: 0.13 to 0.23, and 0.05 to 0.11."""
MIN_INFORMATION_NATS = 0.05
"""Mutual information below which the result is doubtful in any case: 0.47 to 1.2 between sequences
of one patient, 0.005 between a head and noise."""
ALIGNED_MM, ALIGNED_DEG, ALIGNED_PEAK = 0.25, 0.25, 0.4
"""Estimated movement up to which headers are left as they are: half of a registration's own error.
The estimate's error is at most .5 mm and .3 degrees in thirty pairs; the peak is .5 to .85."""
OFFSET_MM, FAR_MM = 10.0, 50.0
"""Displacement that shows how pronounced an alignment is; movement that is implausible within one
session."""
HALF_TURNS = tuple(np.pi * axis for axis in np.eye(3))
"""Euler angles about each axis, radians."""
_POINTS, _STEP = 20_000, 3.0
"""Compared points of `header_alignment`, and its steps in mm and degrees."""
BINS = 32


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


class Level(NamedTuple):
    """One image as ITK image, with the mask of the head and its surroundings."""

    image: sitk.Image
    region: sitk.Image
    has_exclusions: bool
    """Whether voxels are excluded from `region`; then the mask also applies to the moving image."""


@dataclass(frozen=True, slots=True, eq=False)
class Pyramid:
    """One image at several resolutions, the coarsest first; reused for every partner."""

    levels: tuple[Level, ...]
    centre_mm: NDArray[np.float64]
    """(3,) float64: intensity centroid."""


def pyramid(
    values: NDArray[np.generic],
    grid: Grid,
    *,
    levels_mm: Sequence[float] = LEVELS_MM,
    excluded: Volume | None = None,
) -> Pyramid:
    """Resample an image to the resolutions of the registration.

    Parameters
    ----------
    values : (I, J, K) real numbers
        Background zero.
    levels_mm : sequence of float
        Voxel edges, the coarsest first; one of 1 mm takes about 4 s more CPU time.
    excluded : Volume of bool or None
        Voxels excluded but at the coarsest level.
    """
    levels: list[Level] = []
    head: tuple[Floats, Grid] | None = None
    centre = np.zeros(3)
    for edge_mm in levels_mm:
        image, ras = on_ras_grid(values, grid, edge_mm)
        np.clip(image, 0.0, bright_quantile(image, 0.99), out=image)
        if head is None or edge_mm >= LEVELS_MM[-1]:
            head = _head_region(image, ras), ras
        region = head[0] if head[1] is ras else resample(*head, ras, nearest=True)
        is_excluded = excluded is not None and bool(levels)
        if excluded is not None and is_excluded:
            region = region * ~resample_mask(excluded.data, excluded.grid, ras)
        if not levels:
            centre = centre_of_mass_mm(image, ras)
        mask = sitk.Cast(_itk_image(region, ras), sitk.sitkUInt8)
        levels.append(Level(_itk_image(image, ras), mask, is_excluded))
    return Pyramid(tuple(levels), centre)


def _head_region(values: Floats, grid: Grid) -> Floats:
    head = (values > HEAD_FRACTION * values.max()).astype(np.float32)
    reach = 2 * round(HEAD_MARGIN_MM / float(grid.spacing_mm[0])) + 1
    return ndimage.maximum_filter(head, reach) if head.any() else np.ones_like(head)


def _itk_image(values: NDArray[np.floating], grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T, dtype=np.float32))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


def bright_quantile(values: Floats, quantile: float) -> float:
    """Return the quantile of an image's positive voxels, from some of them; 1 without any."""
    positive = values[values > 0]
    sample = positive[:: max(positive.size // 50_000, 1)]
    return float(np.quantile(sample, quantile)) if sample.size else 1.0


def centre_of_mass_mm(values: Floats, grid: Grid) -> NDArray[np.float64]:
    """Return the (3,) intensity centroid, RAS+ mm; the field of view's centre if all is dark."""
    weight = np.sqrt(np.maximum(values, 0.0))
    total = float(weight.sum())
    if total <= 0:
        return centre_mm(grid.affine, grid.shape)
    sums = (weight.sum(axis=(1, 2)), weight.sum(axis=(0, 2)), weight.sum(axis=(0, 1)))
    return grid.to_mm([float((line * np.arange(line.size)).sum() / total) for line in sums])


def register(fixed: Pyramid, moving: Pyramid, *, context: RunContext = SILENT) -> Registration:
    """Register two sequences of one head rigidly.

    Starts from the header position and from equal centres of mass; the better start, by mutual
    information at the coarsest level, is refined at the others. If the result is doubtful or far
    off, half turns are tried too, as after saving an array with an identity as its affine.

    Returns
    -------
    Registration
        Check `doubtful`.

    Notes
    -----
    Mattes et al., IEEE TMI 2003, 22(1):120-128, doi 10.1109/TMI.2003.809072.
    """
    found = _registered(fixed, moving, context, (np.zeros(3),))
    if not found.doubtful and found.shift_mm <= FAR_MM:
        return found
    turned = _registered(fixed, moving, context, HALF_TURNS)
    return found if turned.doubtful or turned.information <= found.information else turned


def _registered(
    fixed: Pyramid, moving: Pyramid, context: RunContext, turns: Sequence[NDArray[np.float64]]
) -> Registration:
    transform = best_start(fixed, moving, context=context, turns=turns)
    if transform is None:
        return Registration(np.eye(4), 0.0, 0.0, information=0.0, peak_height=0.0)
    for level, pair in enumerate(zip(fixed.levels[1:], moving.levels[1:], strict=True)):
        context.check("registration")
        method = _method(0.06, 40, 0.2) if level else _method(0.06, 100, 1.0)
        found = _optimise(pair, transform, method)
        transform = transform if found is None else found[1]
    coarse = fixed.levels[0].image, moving.levels[0].image
    information = _metric(coarse, transform)
    far = [_metric(coarse, _shifted(transform, shift)) for shift in _offsets()]
    peak_height = 1.0 - float(np.mean(far)) / information if information > 1e-6 else 0.0
    moved, centre = rigid_affine(transform), fixed.centre_mm
    angle = float(np.degrees(np.arccos(np.clip((np.trace(moved[:3, :3]) - 1) / 2, -1.0, 1.0))))
    shift_mm = float(np.linalg.norm(apply(moved, centre) - centre))
    return Registration(moved, shift_mm, angle, information, peak_height)


def best_start(
    fixed: Pyramid,
    moving: Pyramid,
    *,
    context: RunContext = SILENT,
    turns: Sequence[NDArray[np.float64]] = (np.zeros(3),),
) -> sitk.Euler3DTransform | None:
    """Return the best transform at the coarsest level; None without overlap."""
    best: tuple[float, sitk.Euler3DTransform] | None = None
    offset_mm = moving.centre_mm - fixed.centre_mm
    shifts = [np.zeros(3)]
    if float(np.linalg.norm(offset_mm)) > 5.0:
        shifts.append(offset_mm)
    for turn, shift in product(turns, shifts):
        context.check("registration")
        start = sitk.Euler3DTransform(fixed.centre_mm.tolist(), *turn.tolist(), shift.tolist())
        found = _optimise((fixed.levels[0], moving.levels[0]), start, _method(0.1, 80, 3.0))
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return None if best is None else best[1]


def _method(sampling: float, iterations: int, step_mm: float) -> sitk.ImageRegistrationMethod:
    """Return a gradient descent on mutual information, differenced at the samples."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(sampling, 7)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step_mm, 1e-3, iterations, 0.7, 1e-9)
    method.SetOptimizerScalesFromPhysicalShift()
    method.MetricUseFixedImageGradientFilterOff()
    method.MetricUseMovingImageGradientFilterOff()
    method.SetNumberOfWorkUnits(1)  # threads sum in any order: the last bits would differ
    return method


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
    method = _method(0.5, 1, 1.0)
    method.SetInitialTransform(transform)
    try:
        return float(-method.MetricEvaluate(*pair))
    except RuntimeError:
        return 0.0


def _offsets() -> list[NDArray[np.float64]]:
    return [sign * OFFSET_MM * axis for axis in np.eye(3) for sign in (-1, 1)]


def _shifted(
    transform: sitk.Euler3DTransform, shift_mm: NDArray[np.float64]
) -> sitk.Euler3DTransform:
    shifted = sitk.Euler3DTransform(transform)
    shifted.SetTranslation((np.asarray(shifted.GetTranslation()) + shift_mm).tolist())
    return shifted


def rigid_affine(transform: sitk.Euler3DTransform) -> Affine:
    """Return the (4, 4) matrix of a rigid transform about its own centre."""
    linear = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre, shift = np.asarray(transform.GetCenter()), np.asarray(transform.GetTranslation())
    out = np.eye(4)
    out[:3, :3] = linear
    out[:3, 3] = centre + shift - linear @ centre
    return out


def header_alignment(
    fixed: NDArray[np.generic], moving: NDArray[np.generic], fixed_grid: Grid, moving_grid: Grid
) -> Registration | None:
    """Return the registration of two sequences that their headers align; None if not sure.

    The mutual information of some points is measured in place, and moved and turned to both sides
    about each axis; the vertex of each parabola estimates how far off the headers are.

    Parameters
    ----------
    fixed, moving : (I, J, K) real numbers
        Background zero.
    """
    (still, grid), (other, other_grid) = (
        _shrunk(values, where) for values, where in ((fixed, fixed_grid), (moving, moving_grid))
    )
    near_head = ndimage.maximum_filter(still > HEAD_FRACTION * bright_quantile(still, 0.99), 3)
    voxels = np.argwhere(near_head)
    voxels = voxels[:: max(len(voxels) // _POINTS, 1)]
    compared, points = still[tuple(voxels.T)], grid.to_mm(voxels)
    if len(points) < BINS * BINS:
        return None
    centre, to_voxel = points.mean(axis=0), np.linalg.inv(other_grid.affine)

    def information(turn_deg: NDArray[np.float64], shift_mm: NDArray[np.float64]) -> float:
        turn = sitk.Euler3DTransform(centre.tolist(), *np.radians(turn_deg).tolist(), shift_mm)
        at = apply(to_voxel @ rigid_affine(turn), points).T
        sampled = ndimage.map_coordinates(other, at, order=1)
        return mutual_information(compared, sampled)

    none = np.zeros(3)
    aligned = information(none, none)
    vertices = []
    for step in _STEP * np.eye(3):
        for turn, shift in ((none, step), (step, none)):
            ahead, behind = information(turn, shift), information(-turn, -shift)
            drop = 2 * aligned - ahead - behind
            vertices.append(_STEP / 2 * (ahead - behind) / drop if drop > 0 else np.inf)
    shift_mm, angle_deg = np.linalg.norm(vertices[::2]), np.linalg.norm(vertices[1::2])
    if shift_mm > ALIGNED_MM or angle_deg > ALIGNED_DEG or aligned < MIN_INFORMATION_NATS:
        return None
    peak_height = 1 - float(np.mean([information(none, shift) for shift in _offsets()])) / aligned
    if peak_height < ALIGNED_PEAK:
        return None
    return Registration(np.eye(4), 0.0, 0.0, aligned, peak_height)


def _shrunk(values: NDArray[np.generic], grid: Grid) -> tuple[Floats, Grid]:
    """Average blocks of about 2.5 mm."""
    i, j, k = np.clip(np.rint(2.5 / grid.nominal_spacing_mm).astype(int), 1, grid.shape).tolist()
    small, where = block_means(values, grid, (i, j, k))
    return small.astype(np.float32, copy=False), where


def mutual_information(first: Floats, second: Floats) -> float:
    """Return the mutual information of two equally long intensity vectors, in nats.

    Bins hold equally many voxels, so that outliers and units have no effect.

    Examples
    --------
    >>> ramp = np.arange(3200, dtype=np.float32)
    >>> 0.98 < mutual_information(ramp, -ramp) / float(np.log(BINS)) < 1.001
    True
    """
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    first_bins, second_bins = (np.searchsorted(np.quantile(v, inner), v) for v in (first, second))
    counts = np.bincount(first_bins * BINS + second_bins, minlength=BINS * BINS)
    joint = counts.reshape(BINS, BINS) / first_bins.size
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    occupied = joint > 0
    return float((joint[occupied] * np.log(joint[occupied] / independent[occupied])).sum())
