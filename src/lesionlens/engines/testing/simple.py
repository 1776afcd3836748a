"""A small synthetic head in the four sequences, with lesions at known positions, for tests.

It looks like a head only as far as readers, registration, measures and exports need it. Nothing in
it comes from a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Vec3
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence
from lesionlens.base.records.arrays import Volume

FIELD_OF_VIEW_MM = (176.0, 212.0, 168.0)
BRAIN_CENTRE_MM = (0.0, -16.0, 12.0)
BRAIN_HALF_MM = (66.0, 82.0, 62.0)

# scanner units: white, grey, cerebrospinal fluid, skull, scalp, then core, oedema, enhancing
_INTENSITY: Mapping[MrSequence, tuple[float, ...]] = {
    MrSequence.T1: (820, 620, 260, 90, 1050, 380, 520, 600),
    MrSequence.T1C: (830, 650, 270, 90, 1080, 390, 530, 1450),
    MrSequence.T2: (470, 640, 1500, 80, 700, 1250, 1050, 820),
    MrSequence.FLAIR: (560, 700, 170, 80, 650, 720, 1250, 1050),
}
_WHITE, _GREY, _FLUID, _SKULL, _SCALP = range(1, 6)
_LESION_ROWS = {Label.CORE: 6, Label.OEDEMA: 7, Label.ENHANCING: 8}


@dataclass(frozen=True, slots=True)
class Lesion:
    """A ball-like lesion: core within an enhancing ring within oedema."""

    centre_mm: Vec3 = (-28.0, 8.0, 26.0)
    """(3,) float: patient RAS+ mm: a negative first coordinate is the patient's left."""
    radius_mm: float = 18.0
    """Radius of the whole lesion; the ring ends at 0.65 of it, the core at 0.4."""


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticPatient:
    """A synthetic head with its reference labels."""

    sequences: Mapping[MrSequence, Volume]
    """Mapping of MrSequence to Volume of float32. All four, scanner units, on one RAS+ grid; air is
    near 0."""
    labels: Volume
    """Volume of uint8. Reference: 0 background, 1 core, 2 oedema, 3 enhancing."""
    brain: Volume
    """Volume of bool. Brain with ventricles and lesion, without skull."""
    seed: int


def make_patient(
    seed: int = 0,
    *,
    spacing_mm: float = 2.0,
    lesions: tuple[Lesion, ...] = (Lesion(),),
    skull: bool = False,
    noise: float = 20.0,
) -> SyntheticPatient:
    """Generate a head with lesions; the left ventricle is larger, so that the sides differ.

    Parameters
    ----------
    seed : int
        Same seed and options, same voxels.
    spacing_mm : float
        Edge of the cubes of the RAS+ grid: 2 makes (88, 106, 84) voxels, 4 a quick (44, 53, 42).
    lesions : tuple of Lesion
        Later ones overwrite earlier ones; none gives a head without a lesion.
    skull : bool
        Draw skull and scalp round the brain; without them it looks skull-stripped (air is 0).
    noise : float
        Standard deviation, scanner units; Rician, so that air is not negative.

    Returns
    -------
    SyntheticPatient
        Reference labels and four sequences.

    Examples
    --------
    >>> patient = make_patient(spacing_mm=4.0)
    >>> patient.labels.data.shape, int(patient.labels.data.max())
    ((44, 53, 42), 3)
    """
    rng = np.random.default_rng(seed)
    grid = _grid(spacing_mm)
    points = _points(grid)
    tissue, brain = _tissues(points, rng, spacing_mm)
    labels = np.zeros(grid.shape, np.uint8)
    for lesion in lesions:
        _grow(labels, points, lesion, rng, spacing_mm)
    labels[~brain] = Label.BACKGROUND
    if skull:
        _add_skull(tissue, points)
    for label, row in _LESION_ROWS.items():
        tissue[labels == label] = row
    sequences = {
        sequence: Volume(_paint(tissue, _INTENSITY[sequence], rng, noise), grid)
        for sequence in MrSequence
    }
    return SyntheticPatient(sequences, Volume(labels, grid), Volume(brain, grid), seed)


def _grid(spacing: float) -> Grid:
    shape = tuple(round(length / spacing) for length in FIELD_OF_VIEW_MM)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = np.asarray(BRAIN_CENTRE_MM) - spacing * (np.asarray(shape) - 1) / 2
    return Grid((shape[0], shape[1], shape[2]), affine)


def _points(grid: Grid) -> NDArray[np.float64]:
    """Return the (3, I, J, K) RAS+ mm of every voxel centre of an axis-aligned grid."""
    axes = [
        grid.affine[axis, 3] + grid.affine[axis, axis] * np.arange(grid.shape[axis])
        for axis in range(3)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _radius(points: NDArray[np.float64], centre: Vec3, half: Vec3) -> NDArray[np.float64]:
    """Return the (I, J, K) distance from an ellipsoid's centre; 1 on its surface."""
    parts = [((points[axis] - centre[axis]) / half[axis]) ** 2 for axis in range(3)]
    return np.asarray(np.sqrt(sum(parts)))


def _smooth(
    rng: np.random.Generator, shape: tuple[int, ...], width_vox: float
) -> NDArray[np.float64]:
    """Return smooth noise of mean 0 and standard deviation 1."""
    field = ndimage.gaussian_filter(rng.normal(size=shape), width_vox, mode="wrap")
    return np.asarray(field / field.std())


def _tissues(
    points: NDArray[np.float64], rng: np.random.Generator, spacing: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return tissue rows (0 is air) and the brain mask, both (I, J, K)."""
    shape = points.shape[1:]
    radius = _radius(points, BRAIN_CENTRE_MM, BRAIN_HALF_MM)
    brain = radius < 1
    folds = 0.07 * _smooth(rng, shape, 6.0 / spacing)
    tissue = np.zeros(shape, np.uint8)
    tissue[brain] = _FLUID
    tissue[radius + 0.5 * folds < 0.95] = _GREY
    tissue[radius + folds < 0.78] = _WHITE
    for side, size in ((-1.0, 1.25), (1.0, 1.0)):
        ventricle = _radius(points, (side * 13.0, -14.0, 20.0), (6.0 * size, 26.0 * size, 8.0))
        tissue[ventricle < 1] = _FLUID
        nucleus = _radius(points, (side * 24.0, -6.0, 8.0), (7.0, 18.0, 9.0))
        tissue[(nucleus < 1) & (tissue == _WHITE)] = _GREY
    tissue[(np.abs(points[0]) < 1.5) & brain & (points[2] > 30)] = _FLUID
    tissue[~brain] = 0
    return tissue, brain


def _grow(
    labels: NDArray[np.uint8],
    points: NDArray[np.float64],
    lesion: Lesion,
    rng: np.random.Generator,
    spacing: float,
) -> None:
    half = (lesion.radius_mm, lesion.radius_mm * 1.1, lesion.radius_mm * 0.9)
    radius = _radius(points, lesion.centre_mm, half)
    radius = radius + 0.08 * _smooth(rng, labels.shape, 5.0 / spacing)
    labels[radius < 1] = Label.OEDEMA
    labels[radius < 0.65] = Label.ENHANCING
    labels[radius < 0.4] = Label.CORE


def _add_skull(tissue: NDArray[np.uint8], points: NDArray[np.float64]) -> None:
    """Draw fluid, bone and scalp shells where there is air round the brain."""
    air = tissue == 0
    for row, width in ((_SCALP, 17.0), (_SKULL, 10.0), (_FLUID, 3.0)):
        half = tuple(edge + width for edge in BRAIN_HALF_MM)
        shell = _radius(points, BRAIN_CENTRE_MM, (half[0], half[1], half[2])) < 1
        tissue[air & shell] = row


def _paint(
    tissue: NDArray[np.uint8], intensity: tuple[float, ...], rng: np.random.Generator, noise: float
) -> NDArray[np.float32]:
    """Return one sequence in scanner units, (I, J, K) float32; stripped air stays 0."""
    clean = np.asarray((0.0, *intensity))[tissue]
    blurred = ndimage.gaussian_filter(clean, 0.6) * (tissue > 0)
    real, imaginary = rng.normal(0.0, noise, (2, *tissue.shape))
    return np.asarray(np.hypot(blurred + real, imaginary) * (tissue > 0), dtype=np.float32)
