"""Find the brain in a head with its skull: a template, whose surface then finds the skull.

A light method of our own for the default; HD-BET and SynthStrip are better where installed.
Three steps: (1) the MNI152 tissue maps are laid on the head by a rigid registration; (2) the
template's surface is stretched so that it lies where brain turns into the dark of the skull, as a
whole at first (nine parameters); (3) then each point of it along its normal, smoothly. Every
sequence adds its say. The skull is dark on all four, which makes one rule do for them.

Notes
-----
The surface model follows the idea of Smith, Human Brain Mapping 2002, 17(3):143-155,
doi 10.1002/hbm.10062; the start from a template and the several sequences are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage, optimize, sparse, spatial
from skimage import measure

from lesionlens.base.geometry import Affine, apply
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.stages import NEVER, Cancel, check
from lesionlens.preparation.brain import BrainMask, eroded, filled, largest
from lesionlens.preparation.resampling import resample

COARSE_MM = 4.0
REACH_MM = 14.0
"""How far the surface may move beyond the template, and behind it."""
DEPTH_MM = 5.0
"""Thickness that is compared inside and outside of the surface."""
RIM_MM = 1.0
"""Added beyond the surface, which stops where brain turns dark, half a voxel or so too early."""
MAX_MIDDLE_MM, MAX_SPREAD_MM = 8.0, 15.0
"""Median, and distance of the 5th and 95th percentile, of the surface's movement in a mask that is
believed: up to 1.8 and 9 mm where the mask was good (Dice .97), 13.5 or 17 mm where it was not."""
FAT = 1.9
"""Times as bright as brain on T1: fat, not brain."""
SMOOTHING = 12
"""Rounds in which the surface's displacement is averaged with its neighbours'."""


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """Tissue maps in MNI space: grey, white, mask as (I, J, K) float32 0-1."""

    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    mask: NDArray[np.float32]
    grid: Grid


def load_template() -> Template:
    """Read the maps that the package holds."""
    with (resources.files("lesionlens.preparation") / "template.npz").open("rb") as stream:
        stored = np.load(stream, allow_pickle=False)
        grey, white, mask = stored["maps"].astype(np.float32) / np.float32(255)
        affine = stored["affine"]
    return Template(grey, white, mask, Grid((mask.shape[0], mask.shape[1], mask.shape[2]), affine))


def find_brain(
    images: Mapping[MrSequence, NDArray[np.float32]], grid: Grid, *, cancel: Cancel = NEVER
) -> BrainMask:
    """Find the brain in a head with skull.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        The sequences together on `grid`, the reference first; zero outside a field of view.
    grid : Grid
        Axis-aligned RAS+ cubes of about 2 mm.
    cancel : Cancel
        Asked between steps.

    Returns
    -------
    BrainMask
        On `grid`; says where it is doubtful.
    """
    template = load_template()
    check(cancel, "finding the brain")
    placed = place(template, next(iter(images.values())), grid)
    surface = _surface(template)
    check(cancel, "finding the brain")
    flat = [_levelled(s, image, template, placed, grid) for s, image in images.items()]
    stretched = _stretched(surface, placed, flat, grid)
    check(cancel, "finding the brain")
    shift = _displacement(surface, stretched, flat, grid)
    mask = _voxelised(template, surface, stretched, shift, grid)
    volume = float(mask.sum()) * grid.voxel_ml
    prior = resample(template.mask, template.grid, grid, moved=np.asarray(np.linalg.inv(stretched)))
    doubt = _doubt(mask, prior, volume, stretched) or _bent(shift - RIM_MM)
    return BrainMask(mask, "template and skull", volume, doubt)


def _doubt(
    mask: NDArray[np.bool_], prior: NDArray[np.float32], volume_ml: float, stretched: Affine
) -> str | None:
    """Return why a reader should check the mask, or None."""
    expected = prior > 0.5
    overlap = 2.0 * float((mask & expected).sum()) / max(float(mask.sum() + expected.sum()), 1.0)
    scale = float(np.cbrt(abs(np.linalg.det(stretched[:3, :3]))))
    if not 700.0 < volume_ml < 2000.0:
        return f"it measures {volume_ml:.0f} ml"
    if overlap < 0.85:
        return f"it agrees with the template only to {overlap:.2f} (Dice)"
    if not 0.8 < scale < 1.15:
        return f"the template had to be scaled by {scale:.2f}"
    return None


def _bent(shift_mm: NDArray[np.float64]) -> str | None:
    """Return how far the template's surface had to be bent where that is more than heads differ."""
    low, middle, high = np.percentile(shift_mm, (5, 50, 95))
    if max(abs(middle) / MAX_MIDDLE_MM, (high - low) / MAX_SPREAD_MM) <= 1.0:
        return None
    return f"the template's surface had to move by {low:.0f} to {high:.0f} mm to meet the skull"


def _sitk(values: NDArray[np.floating[Any]], grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T, dtype=np.float32))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


def _top(image: NDArray[np.float32], share: float = 0.98) -> float:
    inside = image[image > 0]
    return (
        float(np.quantile(inside[:: max(inside.size // 50_000, 1)], share)) if inside.size else 1.0
    )


def head_mask(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the head without the air around it."""
    level = 0.15 * _top(image, 0.95)
    return largest(np.asarray(ndimage.uniform_filter(image, 3) > level))


def _start_mm(image: NDArray[np.float32], grid: Grid) -> NDArray[np.float64]:
    """Guess the middle of the brain: below the top of the head, amid what lies there."""
    head = head_mask(image)
    if not head.any():
        return grid.to_mm((np.asarray(grid.shape) - 1) / 2)
    planes = np.flatnonzero(head.sum(axis=(0, 1)) * grid.spacing_mm[0] ** 2 > 1500.0)
    top = int(planes[-1]) if planes.size else grid.shape[2] - 1
    low = max(top - int(140 / grid.spacing_mm[2]), 0)
    inside = np.argwhere(head[:, :, low : top + 1]).mean(axis=0)
    centre = grid.to_mm(inside + np.array([0.0, 0.0, low]))
    centre[2] = float(grid.to_mm((0, 0, (top + low) / 2))[2])
    return centre


def place(template: Template, image: NDArray[np.float32], grid: Grid) -> Affine:
    """Register the template to the head rigidly; return template mm to head mm."""
    pseudo = template.white * 3 + template.grey * 2 + (template.mask > 0.5) * np.float32(0.5)
    fixed = _sitk(pseudo, template.grid)
    near = ndimage.binary_dilation(template.mask > 0.5, iterations=2)
    region = _sitk(near.astype(np.float32), template.grid)
    sigma = COARSE_MM / 2 / grid.spacing_mm / 2
    moving = _sitk(ndimage.gaussian_filter(np.minimum(image, _top(image)), sigma), grid)
    middle = np.asarray(template.grid.to_mm(ndimage.center_of_mass(template.mask)))
    shift = _start_mm(image, grid) - middle
    best: tuple[float, Affine] = (0.0, np.eye(4))
    for pitch in (0.0, 0.25, -0.25):
        start = sitk.Euler3DTransform(middle.tolist(), pitch, 0.0, 0.0, shift.tolist())
        found = _optimise(fixed, moving, region, start)
        if found is not None and found[0] < best[0]:
            best = found
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
    method.SetNumberOfWorkUnits(1)  # as in `register`: the same bits on every run
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # no overlap from this start
        return None
    linear = np.asarray(start.GetMatrix()).reshape(3, 3)
    centre, shift = np.asarray(start.GetCenter()), np.asarray(start.GetTranslation())
    out = np.eye(4)
    out[:3, :3] = linear
    out[:3, 3] = centre + shift - linear @ centre
    return float(method.GetMetricValue()), out


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """The template's surface: points (N, 3), outward normals in template mm, who touches whom."""

    points_mm: NDArray[np.float64]
    normals: NDArray[np.float64]
    neighbours: sparse.csr_matrix


def _surface(template: Template) -> Surface:
    soft = ndimage.gaussian_filter(np.pad(template.mask, 2), 0.7)
    found, faces, normals, _ = measure.marching_cubes(soft, 0.5, gradient_direction="ascent")
    points = apply(template.grid.affine, found - 2)
    inward = np.asarray(template.grid.to_mm(ndimage.center_of_mass(template.mask))) - points
    if float((normals * inward).sum(axis=1).mean()) > 0:
        normals = -normals
    edges = np.vstack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = points.shape[0]
    ones = np.ones(edges.shape[0])
    one_way = sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(count, count))
    both = ((one_way + one_way.T) > 0).astype(np.float64)
    mean = sparse.diags(1.0 / np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1.0)) @ both
    return Surface(points, np.asarray(normals, dtype=np.float64), mean.tocsr())


def _levelled(
    sequence: MrSequence,
    image: NDArray[np.float32],
    template: Template,
    placed: Affine,
    grid: Grid,
) -> NDArray[np.float32]:
    """Divide by the smooth local brightness of brain, and cap: brain 1, skull near 0.

    Fat is far brighter than brain on T1 and T1c and counts as dark there.
    """
    prior = resample(template.mask, template.grid, grid, moved=np.asarray(np.linalg.inv(placed)))
    edge = float(grid.spacing_mm.mean())
    inner = eroded(prior > 0.5, 15.0 / edge) & (image > 0)
    usual = float(np.median(image[inner])) if inner.any() else _top(image, 0.5)
    capped = np.minimum(image, 1.5 * usual)
    weight = inner.astype(np.float32)
    sigma = 25.0 / edge
    total = ndimage.gaussian_filter(capped * weight, sigma, truncate=2.5)
    share = ndimage.gaussian_filter(weight, sigma, truncate=2.5)
    middle = np.where(share > 1e-4, total / np.maximum(share, 1e-4), usual)
    relative = image / np.maximum(middle, 1e-6)
    if sequence in (MrSequence.T1, MrSequence.T1C):
        relative = np.where(relative > FAT, 0.0, relative)
    return np.clip(relative, 0.0, 1.0).astype(np.float32)


def _at(
    image: NDArray[np.float32], grid: Grid, points_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample (..., 3) RAS+ mm linearly."""
    index = grid.to_voxel(points_mm)
    out = ndimage.map_coordinates(image, np.moveaxis(index, -1, 0), order=1, mode="nearest")
    return np.asarray(out, dtype=np.float32)


def _placed(surface: Surface, stretched: Affine) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points and unit normals in the head."""
    points = apply(stretched, surface.points_mm)
    normals = surface.normals @ np.linalg.inv(stretched[:3, :3])
    return points, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _stretched(
    surface: Surface, placed: Affine, flat: Sequence[NDArray[np.float32]], grid: Grid
) -> Affine:
    """Move, turn and stretch the surface as a whole to where bright turns into dark."""
    middle = surface.points_mm.mean(axis=0)
    few = slice(None, None, 4)
    some = Surface(surface.points_mm[few], surface.normals[few], surface.neighbours)
    steps = np.array([-14.0, -10.0, -7.0, -4.0, -2.0, 2.0, 4.0, 6.0])
    soft = [ndimage.gaussian_filter(image, 3.0 / grid.spacing_mm / 1.5) for image in flat]

    def affine_of(x: NDArray[np.float64]) -> Affine:
        change = np.eye(4)
        turn = spatial.transform.Rotation.from_rotvec(x[3:6] * 0.01).as_matrix()
        change[:3, :3] = turn * np.exp(x[6:9] * 0.01)
        change[:3, 3] = middle + x[:3] - change[:3, :3] @ middle
        return np.asarray(placed @ change)

    def cost(x: NDArray[np.float64]) -> float:
        points, normals = _placed(some, affine_of(x))
        rays = points[:, None] + normals[:, None] * steps[:, None]
        gain = 0.0
        for image in soft:
            values = _at(image, grid, rays)
            gain += float((values[:, :5].min(axis=1) - values[:, 5:].mean(axis=1)).mean())
        return (
            -gain / len(flat)
            + 2e-4 * float((x[6:9] ** 2).mean())
            + 1e-4 * float((x[:6] ** 2).mean())
        )

    best: tuple[float, NDArray[np.float64]] = (np.inf, np.zeros(9))
    for size in (-18.0, -12.0, -6.0, 0.0):
        start = np.zeros(9)
        start[6:9] = size
        found = optimize.minimize(
            cost, start, method="Powell", options={"maxiter": 2, "xtol": 0.3, "ftol": 1e-3}
        )
        if float(found.fun) < best[0]:
            best = (float(found.fun), np.asarray(found.x))
    return affine_of(best[1])


def _displacement(
    surface: Surface, stretched: Affine, flat: Sequence[NDArray[np.float32]], grid: Grid
) -> NDArray[np.float64]:
    """Return how far each point moves along its normal, (N,) mm, smooth over the surface."""
    points, normals = _placed(surface, stretched)
    steps = np.arange(-REACH_MM - DEPTH_MM, REACH_MM + DEPTH_MM + 0.5, 1.0)
    rays = points[:, None] + normals[:, None] * steps[:, None]
    reach = int(DEPTH_MM)
    tried = steps[reach:-reach]
    gain = np.zeros((points.shape[0], tried.size))
    for image in flat:
        values = _at(image, grid, rays).astype(np.float64)
        sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        mean = (sums[:, reach:] - sums[:, :-reach]) / reach
        inside = mean[:, : -reach - 1]
        outside = mean[:, reach + 1 :]
        soft = _at(ndimage.gaussian_filter(image, 1.5 / grid.spacing_mm), grid, rays)
        darkest = np.minimum.accumulate(soft, axis=1)[:, reach - 1 : reach - 1 + inside.shape[1]]
        gain += (inside - outside) * np.clip((darkest - 0.25) / 0.35, 0.0, 1.0)
    shift = np.zeros(points.shape[0])
    for stiffness in (0.0005, 0.001, 0.002, 0.004):
        pull = gain / len(flat) - stiffness * (tried[None] - shift[:, None]) ** 2
        shift = tried[np.argmax(pull, axis=1)]
        for _ in range(SMOOTHING):
            shift = 0.5 * shift + 0.5 * (surface.neighbours @ shift)
    return np.asarray(shift + RIM_MM)


def _voxelised(
    template: Template, surface: Surface, stretched: Affine, shift: NDArray[np.float64], grid: Grid
) -> NDArray[np.bool_]:
    """Return the voxels inside of the displaced surface."""
    soft = resample(
        ndimage.gaussian_filter(template.mask, 0.7),
        template.grid,
        grid,
        moved=np.asarray(np.linalg.inv(stretched)),
    )
    inside = soft > 0.5
    edge = float(grid.spacing_mm.mean())
    outer = ndimage.distance_transform_edt(~inside) * edge
    inner = ndimage.distance_transform_edt(inside) * edge
    signed = np.where(inside, 0.5 * edge - inner, outer - 0.5 * edge)
    near = np.argwhere(np.abs(signed) < REACH_MM + 1.0)
    points, _ = _placed(surface, stretched)
    _, nearest = spatial.cKDTree(points).query(grid.to_mm(near))
    mask = signed <= -REACH_MM
    mask[tuple(near.T)] = signed[tuple(near.T)] <= shift[nearest]
    return filled(largest(mask))
