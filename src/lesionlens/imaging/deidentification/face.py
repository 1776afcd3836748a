"""Locate the face (eyes, nose, mouth, brow, ears) by a template registered to the brain.

The template (`research/make_face_template.py`) is the mean brain of twenty label maps of whole
heads and a face zone around it. It is registered by the brain alone, which is visible in every
sequence; voxels in the zone and not near the brain can be removed from any image with the same
frame of reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Affine, apply
from lesionlens.base.grid import Grid
from lesionlens.imaging.preparation.registration import on_ras_grid
from lesionlens.imaging.preparation.resampling import HALF, resample

SAFE_MM = 7.0
"""Voxels closer to the brain than this are never removed."""
FIT_MM = 4.0
MIN_DICE = 0.92
"""Minimum Dice of the registered template's brain with the patient's: .96 to .98 in label maps and
real heads, .90 for an ellipsoid. Below it, no face is removed.
"""
_PITCHES = (-0.35, 0.0, 0.35)
"""Initial rotations about the left-right axis, radians: the range of head nodding."""
_BLUR_MM, _ARM_MM, _POINTS, _STEPS = 6.0, 60.0, 8000, 30


@dataclass(frozen=True, slots=True, eq=False)
class FaceTemplate:
    """A mean brain and the face zone, RAS+ mm relative to the brain's centre."""

    brain: NDArray[np.float32]
    """(I, J, K) float32, 0-1: share of heads in which a voxel is brain."""
    zone: NDArray[np.bool_]
    """(I, J, K) bool: face and ears; outside the grid the nearest voxel's value applies."""
    grid: Grid


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """The located face of one head."""

    to_template: Affine
    """(4, 4) float64: affine from the head's RAS+ mm to the template's."""
    dice: float
    """Dice of the registered template's brain with the head's."""
    near: NDArray[np.bool_]
    """(I, J, K) bool: brain dilated by `SAFE_MM`."""
    grid: Grid
    """Grid of `near`."""

    def at(self, points_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points, (N, 3) RAS+ mm, are in the face."""
        template = load_template()
        at = template.grid.nearest_voxel(apply(self.to_template, points_mm), clip=True)
        inside = template.zone[tuple(at.T)]
        out = np.zeros(len(points_mm), bool)
        index = self.grid.nearest_voxel(points_mm[inside])
        held = self.grid.contains(index)
        brain = np.zeros(len(index), bool)
        brain[held] = self.near[tuple(index[held].T)]
        out[inside] = ~brain
        return out


@cache
def load_template() -> FaceTemplate:
    """Load the shipped template."""
    with (
        (files("lesionlens.imaging.deidentification") / "face.npz").open("rb") as stream,
        np.load(stream) as stored,
    ):
        brain = stored["brain"].astype(np.float32) / 255
        zone = np.unpackbits(stored["zone"], count=brain.size).reshape(brain.shape).astype(bool)
        return FaceTemplate(brain, zone, Grid(brain.shape, stored["affine"].astype(np.float64)))


def find_face(brain: NDArray[np.bool_], grid: Grid) -> Face | None:
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
    small, target = on_ras_grid(brain.astype(np.float32), grid, FIT_MM)
    template = load_template()
    to_template, dice = fit(small, target, template.brain, template.grid)
    if dice < MIN_DICE:
        return None
    rim = int(np.ceil(SAFE_MM / float(grid.spacing_mm.min()))) + 1
    wide = np.pad(brain, rim)
    moved = np.array(grid.affine)
    moved[:3, 3] = grid.to_mm(np.full(3, -rim))
    distance = ndimage.distance_transform_edt(~wide, sampling=grid.spacing_mm)
    return Face(to_template, dice, distance <= SAFE_MM, Grid(wide.shape, moved))


def fit(
    brain: NDArray[np.float32], grid: Grid, model: NDArray[np.float32], model_grid: Grid
) -> tuple[Affine, float]:
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
    soft = _soft(brain, grid)
    index = np.argwhere(ndimage.maximum_filter(soft, 5) > 0.02)
    index = index[:: max(len(index) // _POINTS, 1)]
    points, wanted = grid.to_mm(index), soft[tuple(index.T)].astype(np.float64)
    target = _Target.of(_soft(model, model_grid), model_grid)
    here, there = (_middle(v, g) for v, g in ((brain, grid), (model, model_grid)))
    found = []
    for pitch in _PITCHES:
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(pitch), -np.sin(pitch)], [np.sin(pitch), np.cos(pitch)]]
        turn[:3, 3] = there - turn[:3, :3] @ here
        found.append(_least_squares(points, wanted, target, turn))
    affine, _ = min(found, key=lambda one: one[1])
    laid = resample(model, model_grid, grid, moved=affine) > HALF
    own = brain > HALF
    return affine, 2 * float((laid & own).sum()) / max(float(laid.sum() + own.sum()), 1.0)


def _soft(values: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    blurred = ndimage.gaussian_filter(values, _BLUR_MM / grid.spacing_mm, truncate=3)
    return np.asarray(blurred, np.float32)


def _middle(values: NDArray[np.float32], grid: Grid) -> NDArray[np.float64]:
    return grid.to_mm(np.array(ndimage.center_of_mass(values)))


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """A blurred mask and its gradients along R, A and S per millimetre."""

    volumes: tuple[NDArray[np.float32], ...]
    grid: Grid

    @classmethod
    def of(cls, soft: NDArray[np.float32], grid: Grid) -> _Target:
        slopes = np.gradient(soft, *grid.spacing_mm)
        return cls((soft, *(np.asarray(slope, np.float32) for slope in slopes)), grid)

    def at(self, points_mm: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        index = self.grid.to_voxel(points_mm).T
        return [ndimage.map_coordinates(v, index, np.float64, order=1) for v in self.volumes]


def _least_squares(
    points: NDArray[np.float64], wanted: NDArray[np.float64], target: _Target, start: Affine
) -> tuple[Affine, float]:
    """Fit an affine by Levenberg-Marquardt from a starting affine."""
    middle = points.mean(axis=0)
    about = np.concatenate([(points - middle) / _ARM_MM, np.ones((len(points), 1))], axis=1)
    state = np.concatenate([start[:3, :3].T * _ARM_MM, [start[:3, :3] @ middle + start[:3, 3]]])
    value, *slopes = target.at(about @ state)
    error, damping = float(((value - wanted) ** 2).mean()), 1e-2
    for _ in range(_STEPS):
        rows = np.stack([about * slope[:, None] for slope in slopes], axis=2).reshape(-1, 12)
        normal = rows.T @ rows
        normal[np.diag_indices(12)] *= 1 + damping
        step = np.linalg.solve(normal + 1e-9 * np.eye(12), rows.T @ (wanted - value))
        tried = state + step.reshape(4, 3)
        value_then, *slopes_then = target.at(about @ tried)
        error_then = float(((value_then - wanted) ** 2).mean())
        if error_then < error:
            settled = error - error_then < 1e-4 * error
            state, value, slopes, error = tried, value_then, slopes_then, error_then
            damping /= 5
            if settled:
                break
        else:
            damping *= 10
    out = np.eye(4)
    out[:3, :3] = state[:3].T / _ARM_MM
    out[:3, 3] = state[3] - out[:3, :3] @ middle
    return out, error
