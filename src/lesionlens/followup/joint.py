"""One lesion's volume at two examinations, read together in one frame.

Each examination's outline is drawn by itself, so what the network draws otherwise from scan to scan
(contrast, noise, slices) looks like change. Here both images lie half-way between the two heads,
smoothed alike. What an examination's own probability is sure of is lesion. Those voxels, and those
on which both agree, teach for each image by itself what lesion looks like in it, and that decides
about the voxels between.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.linalg import sqrtm

from lesionlens.base.geometry import Affine, Shape3
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.preparation.resampling import resample
from lesionlens.records.analysis import Analysis

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
SURE, SURE_NOT = 0.7, 0.3
"""Probabilities that both examinations must exceed, or stay below, for a voxel to teach."""
ALONE = 0.95
"""Probability from which an examination is sure by itself; below one less this, of tissue."""
BAND_MM, TISSUE_MM, _MARGIN_MM = 6.0, 10.0, 14
"""How far from the lesion voxels may be lesion, and may teach what tissue looks like."""
_FINE_MM, _COARSE_MM = 0.6, 1.5
"""Smoothing of the two images of each sequence that are looked at."""
_LEAST = 100
"""Voxels of 1 mm³ of each kind from which anything is taught."""
_RIDGE = 1.0
_STEPS = 25


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One examination, and the ids of its candidates that are the lesion."""

    analysis: Analysis
    ids: Collection[int]


@dataclass(frozen=True, slots=True, eq=False)
class _Scan:
    """One examination in the common frame."""

    channels: Sequence[Floats]
    """Of the sequences that both have; zero outside the brain."""
    probability: Floats
    brain: Mask
    lesion: Mask
    others: Mask
    """The lesion's candidates, and all other candidates."""


def read_together(before: Side, now: Side, moved: Affine) -> tuple[float, float] | None:
    """Measure one lesion at two examinations as one reads them beside each other.

    Parameters
    ----------
    before, now : Side
        The prior examination and this one.
    moved : (4, 4) float64
        RAS+ mm of this examination to those of the prior one; rigid.

    Returns
    -------
    tuple of float or None
        ml before and now. Their ratio is meant, not either of them: what both miss, both miss.
        None where there are no probabilities, no common sequence, or too few voxels on which both
        agree.
    """
    shared = np.asarray(before.analysis.prepared.present & now.analysis.prepared.present)
    whole = [Region.WT in side.analysis.volumes.probability for side in (before, now)]
    if not shared.any() or not all(whole):
        return None
    half = np.real(np.asarray(sqrtm(moved)))
    to_middle = (np.linalg.inv(half), half)
    frame = _frame([_points(side, way) for side, way in zip((before, now), to_middle, strict=True)])
    scans = [
        _brought(side, way, frame, np.flatnonzero(shared).tolist())
        for side, way in zip((before, now), to_middle, strict=True)
    ]
    return _volumes(scans[0], scans[1], frame.voxel_ml)


def _points(side: Side, to_middle: Affine) -> NDArray[np.float64]:
    found = np.argwhere(np.isin(side.analysis.findings.components, list(side.ids)))
    points = side.analysis.prepared.native.to_mm(found)
    return np.asarray(points @ to_middle[:3, :3].T + to_middle[:3, 3])


def _frame(points: Sequence[NDArray[np.float64]]) -> Grid:
    """Return cubes of 1 mm round both outlines."""
    every = np.concatenate(points)
    low = np.floor(every.min(axis=0)) - _MARGIN_MM
    i, j, k = (int(n) for n in np.ceil(every.max(axis=0)) + _MARGIN_MM + 1 - low)
    shape: Shape3 = (i, j, k)
    affine = np.eye(4)
    affine[:3, 3] = low
    return Grid(shape, affine)


def _brought(side: Side, to_middle: Affine, frame: Grid, channels: Sequence[int]) -> _Scan:
    """Bring an examination into the common frame."""
    prepared, back = side.analysis.prepared, np.linalg.inv(to_middle)
    components = side.analysis.findings.components
    lesion = np.isin(components, list(side.ids))

    def onto(values: NDArray[np.generic], grid: Grid) -> Floats:
        return resample(values.astype(np.float32), grid, frame, moved=back)

    whole = side.analysis.volumes.probability[Region.WT]
    return _Scan(
        [onto(prepared.channels[n] * prepared.brain, prepared.working) for n in channels],
        onto(whole.data, whole.grid),
        onto(prepared.brain, prepared.working) > 0.5,
        onto(lesion, prepared.native) >= 0.5,
        onto((components > 0) & ~lesion, prepared.native) >= 0.5,
    )


def _volumes(before: _Scan, now: _Scan, voxel_ml: float) -> tuple[float, float] | None:
    """Return the ml before and now; None where too little is sure."""
    brain, lesion = before.brain & now.brain, before.lesion | now.lesion
    if not lesion.any():
        return None
    others = (before.others | now.others) & ~lesion
    away = ndimage.distance_transform_edt(~lesion)
    if others.any():
        brain &= away < ndimage.distance_transform_edt(~others)
    low = np.minimum(before.probability, now.probability)
    high = np.maximum(before.probability, now.probability)
    band = brain & (away < BAND_MM)
    near = brain & (away < TISSUE_MM)
    agreed, agreed_not = (low > SURE) & band, (high < SURE_NOT) & near
    if min(np.count_nonzero(agreed), np.count_nonzero(agreed_not)) < _LEAST:
        return None
    found = []
    for scan in (before, now):
        sure = agreed | ((scan.probability > ALONE) & band)
        sure_not = agreed_not | ((scan.probability < 1 - ALONE) & near)
        share = np.where(sure, 1.0, _taught(scan, brain, sure, sure_not) * band)
        found.append(float(share.sum()) * voxel_ml)
    return found[0], found[1]


def _taught(scan: _Scan, brain: Mask, sure: Mask, sure_not: Mask) -> NDArray[np.float64]:
    """Return each voxel's share of lesion, by what sure voxels of this image look like."""
    looks = _looks(scan, brain)
    teach = (sure | sure_not)[brain]
    is_lesion = sure[brain][teach].astype(np.float64)
    out = np.zeros(brain.shape)
    out[brain] = _logistic(looks[teach], is_lesion, looks)
    return out


def _looks(scan: _Scan, brain: Mask) -> NDArray[np.float64]:
    """Return (n, features) of each voxel of the brain: smoothed images and their products."""
    held = ndimage.gaussian_filter(brain.astype(np.float32), _COARSE_MM) + 1e-3
    rows = []
    for channel in scan.channels:
        mean, spread = channel[brain].mean(), channel[brain].std() + 1e-6
        scaled = np.where(brain, (channel - mean) / spread, 0.0)
        rows.append(ndimage.gaussian_filter(scaled, _FINE_MM)[brain])
        rows.append((ndimage.gaussian_filter(scaled, _COARSE_MM) / held)[brain])
    plain = np.stack(rows, axis=1).astype(np.float64)
    a, b = np.triu_indices(plain.shape[1])
    return np.concatenate([plain, plain[:, a] * plain[:, b]], axis=1)


def _logistic(
    looks: NDArray[np.float64], is_lesion: NDArray[np.float64], asked: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit a ridge logistic regression, both kinds weighing the same, and answer for `asked`."""
    mean, spread = looks.mean(axis=0), looks.std(axis=0) + 1e-6

    def design(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([np.ones(len(rows)), (rows - mean) / spread])

    x = design(looks)
    share = is_lesion.mean()
    weight = np.where(is_lesion > 0, 0.5 / share, 0.5 / (1 - share)) / 4
    ridge = np.eye(x.shape[1]) * _RIDGE
    ridge[0, 0] = 0.0
    slope = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = _sigmoid(x @ slope)
        gradient = x.T @ (weight * (is_lesion - p)) - ridge @ slope
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge
        step = np.linalg.solve(curvature + np.eye(len(slope)) * 1e-9, gradient)
        slope += step
        if np.abs(step).max() < 1e-3:
            break
    return _sigmoid(design(asked) @ slope)


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))
