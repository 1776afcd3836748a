"""Locate the face (eyes, nose, mouth, brow, ears) by a template registered to the brain.

The template is the mean brain of twenty label maps of whole
heads and a face zone around it. It is registered by the brain alone, which is visible in every
sequence; voxels in the zone and not near the brain can be removed from any image with the same
frame of reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Affine, Floats, Mask, apply
from lesionlens.base.grid import Grid
from lesionlens.base.masks import dice
from lesionlens.base.process.fixed_arithmetic import fixed_arithmetic
from lesionlens.base.shipped_arrays import shipped_arrays
from lesionlens.imaging.preparation.registration import on_ras_grid
from lesionlens.imaging.preparation.resampling import HALF, resample

SAFE_MM = 7.0
"""Voxels closer to the brain than this are never removed."""
FIT_MM = 4.0
"""Voxel edge at which the template is registered."""
MIN_DICE = 0.92
"""Minimum Dice of the registered template's brain with the patient's: .96 to .98 in label maps and
real heads, .90 for an ellipsoid. Below it, no face is removed.
"""
_PITCHES = (-0.35, 0.0, 0.35)
"""Initial rotations about the left-right axis, radians: the range of head nodding."""
_BLUR_MM, _LENGTH_SCALE_MM, _MAX_POINTS, _MAX_ITERATIONS = 6.0, 60.0, 8000, 30


@dataclass(frozen=True, slots=True, eq=False)
class FaceTemplate:
    """A mean brain and the face zone, RAS+ mm relative to the brain's centre."""

    brain: Floats
    """(I, J, K) float32, 0-1: fraction of heads in which a voxel is brain."""
    zone: Mask
    """(I, J, K) bool: face and ears; outside the grid the nearest voxel's value applies."""
    grid: Grid


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """The located face of one head."""

    to_template: Affine
    """(4, 4) float64: affine from the head's RAS+ mm to the template's."""
    dice: float
    """Dice of the registered template's brain with the head's."""
    protected: Mask
    """(I, J, K) bool: brain dilated by `SAFE_MM`."""
    grid: Grid
    """Grid of `protected`."""

    def contains(self, points_mm: NDArray[np.float64]) -> Mask:
        """Return which points, (N, 3) RAS+ mm, are in the face."""
        template = load_template()
        voxels = template.grid.nearest_voxel(apply(self.to_template, points_mm), clip=True)
        inside = template.zone[tuple(voxels.T)]
        in_face = np.zeros(len(points_mm), bool)
        point_voxels = self.grid.nearest_voxel(points_mm[inside])
        in_grid = self.grid.contains(point_voxels)
        is_protected = np.zeros(len(point_voxels), bool)
        is_protected[in_grid] = self.protected[tuple(point_voxels[in_grid].T)]
        in_face[inside] = ~is_protected
        return in_face


@cache
def load_template() -> FaceTemplate:
    """Load the shipped template."""
    with shipped_arrays("lesionlens.imaging.deidentification", "face.npz") as stored:
        brain = stored["brain"].astype(np.float32) / np.float32(255)
        zone = np.unpackbits(stored["zone"], count=brain.size).reshape(brain.shape).astype(bool)
        return FaceTemplate(brain, zone, Grid(brain.shape, stored["affine"].astype(np.float64)))


def find_face(brain: Mask, grid: Grid) -> Face | None:
    """Register the template to a head by its brain mask.

    Parameters
    ----------
    brain : (I, J, K) bool
        Not empty.

    Returns
    -------
    Face or None
        None if the template does not fit.
    """
    resampled, target = on_ras_grid(brain.astype(np.float32), grid, FIT_MM)
    template = load_template()
    to_template, dice = fit(resampled, target, template.brain, template.grid)
    if dice < MIN_DICE:
        return None
    margin = int(np.ceil(SAFE_MM / float(grid.spacing_mm.min()))) + 1
    padded = np.pad(brain, margin)
    padded_affine = np.array(grid.affine)
    padded_affine[:3, 3] = grid.to_mm(np.full(3, -margin))
    distance = ndimage.distance_transform_edt(~padded, sampling=grid.spacing_mm)
    return Face(to_template, dice, distance <= SAFE_MM, Grid(padded.shape, padded_affine))


@fixed_arithmetic()
def fit(brain: Floats, grid: Grid, model: Floats, model_grid: Grid) -> tuple[Affine, float]:
    """Register one brain to another: affine least squares of the blurred masks.

    Parameters
    ----------
    brain, model : (I, J, K) float32
        Brain masks or probabilities, 0-1.
    grid, model_grid : Grid
        Their grids; axis-aligned.

    Returns
    -------
    affine : (4, 4) float64
        RAS+ mm of `grid` to those of `model_grid`.
    dice : float
        Dice of both at threshold .5, within the field of view of `grid`.
    """
    blurred = _blurred(brain, grid)
    voxels = np.argwhere(ndimage.maximum_filter(blurred, 5) > 0.02)
    voxels = voxels[:: max(len(voxels) // _MAX_POINTS, 1)]
    points, expected = grid.to_mm(voxels), blurred[tuple(voxels.T)].astype(np.float64)
    target = _Target.of(_blurred(model, model_grid), model_grid)
    centre, model_centre = (
        g.to_mm(ndimage.center_of_mass(v)) for v, g in ((brain, grid), (model, model_grid))
    )
    fits = []
    for pitch in _PITCHES:
        start = np.eye(4)
        start[1:3, 1:3] = [[np.cos(pitch), -np.sin(pitch)], [np.sin(pitch), np.cos(pitch)]]
        start[:3, 3] = model_centre - start[:3, :3] @ centre
        fits.append(_least_squares(points, expected, target, start))
    affine, _ = min(fits, key=lambda fitted: fitted[1])
    registered = resample(model, model_grid, grid, moved=affine) > HALF
    return affine, dice(registered, brain > HALF)


def _blurred(values: Floats, grid: Grid) -> Floats:
    blurred = ndimage.gaussian_filter(values, _BLUR_MM / grid.spacing_mm, truncate=3)
    return np.asarray(blurred, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """A blurred mask and its gradients along R, A and S per millimetre."""

    volumes: tuple[Floats, ...]
    grid: Grid

    @classmethod
    def of(cls, blurred: Floats, grid: Grid) -> _Target:
        slopes = np.gradient(blurred, *grid.spacing_mm)
        return cls((blurred, *(np.asarray(slope, np.float32) for slope in slopes)), grid)

    def at(self, points_mm: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        voxels = self.grid.to_voxel(points_mm).T
        return [ndimage.map_coordinates(v, voxels, np.float64, order=1) for v in self.volumes]


def _least_squares(
    points: NDArray[np.float64], expected: NDArray[np.float64], target: _Target, start: Affine
) -> tuple[Affine, float]:
    """Fit an affine by Levenberg-Marquardt from a starting affine."""
    centre = points.mean(axis=0)
    basis = np.concatenate(
        [(points - centre) / _LENGTH_SCALE_MM, np.ones((len(points), 1))], axis=1
    )
    parameters = np.concatenate(
        [start[:3, :3].T * _LENGTH_SCALE_MM, [start[:3, :3] @ centre + start[:3, 3]]]
    )
    value, *slopes = target.at(basis @ parameters)
    error, damping = float(((value - expected) ** 2).mean()), 1e-2
    for _ in range(_MAX_ITERATIONS):
        jacobian = np.stack([basis * slope[:, None] for slope in slopes], axis=2).reshape(-1, 12)
        normal_matrix = jacobian.T @ jacobian
        normal_matrix[np.diag_indices(12)] *= 1 + damping
        step = np.linalg.solve(normal_matrix + 1e-9 * np.eye(12), jacobian.T @ (expected - value))
        trial = parameters + step.reshape(4, 3)
        trial_value, *trial_slopes = target.at(basis @ trial)
        trial_error = float(((trial_value - expected) ** 2).mean())
        if trial_error < error:
            converged = error - trial_error < 1e-4 * error
            parameters, value, slopes, error = trial, trial_value, trial_slopes, trial_error
            damping /= 5
            if converged:
                break
        else:
            damping *= 10
    affine = np.eye(4)
    affine[:3, :3] = parameters[:3].T / _LENGTH_SCALE_MM
    affine[:3, 3] = parameters[3] - affine[:3, :3] @ centre
    return affine, error
