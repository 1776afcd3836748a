"""How much a lesion's volume changed, by one criterion applied to both examinations together.

Two independent outlines may cover different shares of a faint lesion, which looks like change. Here
both examinations are resampled half-way between the two heads, and the intensities of one are
matched to the other by unaffected tissue (`matched_intensity`). One logistic regression is trained
on voxels of both examinations on which both outlines agree, and is applied to every voxel near the
lesion in both. The change is the difference between the sums of its predictions, adjusted by its
predictions where both agree (adjusted counting: Forman, Data Mining and Knowledge Discovery 2008;
17: 164-206), relative to the mean of both volumes. Errors of the regression affect both
examinations alike.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.linalg import sqrtm

from lesionlens.analysis.followup.lesion_probability import fit_probability
from lesionlens.analysis.followup.matched_intensity import VoxelRoles, match_intensities
from lesionlens.base.geometry import Affine, Floats, Mask, Shape3, apply
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.joint_change import JointChange, Unmeasurable
from lesionlens.imaging.preparation.resampling import resample, resample_mask

_BAND_MM = 6.0
"""Maximum distance of possible lesion voxels from both outlines."""
_TRAINING_MM, _MARGIN_MM = 14.0, 18
"""Maximum distance of tissue used for training, and margin of the images."""
_NORMAL_MM = 3.0
"""Minimum distance of unaffected tissue from any outline."""
_LESION_ABOVE, _TISSUE_BELOW, _NORMAL_BELOW = 0.7, 0.3, 0.2
"""Probabilities that both must exceed, or stay below, to agree; the last for unaffected tissue."""
_MIN_AGREED, _MIN_NORMAL = 100, 2000
"""Minimum numbers of agreeing lesion voxels and of unaffected ones, 1 mm³ each."""
_MIN_CORRELATION = 0.85
"""Minimum correlation of unaffected tissue for a sequence to count as matched."""
_MAX_UNDECIDED, _MIN_CONTRAST = 1.2, 0.25
"""Maximum undecided volume, relative to the lesion; minimum difference between the regression's
mean inside and outside."""
_BASE_ERROR, _DISAGREEMENT_ERROR, _CHANGE_ERROR = 0.10, 0.25, 0.3
"""Error of the log-ratio on synthetic pairs; additional terms for disagreement of the outlines, and
for the change itself, because the mean volume comes from outlines.
"""
_MIN_CONTRADICTED, _MIN_DIFFERENCE = 0.1, 2.5
"""Share of the volume above which contradicting outlines count, and by how much more than in
unaffected tissue the images must differ there."""
_MAX_CHANGE = 1.6
"""Maximum difference of both volumes relative to their mean: a ratio of nine; larger ratios are not
reported.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One examination, and the ids of the candidates that form the lesion."""

    analysis: Analysis
    ids: Collection[int]


@dataclass(frozen=True, slots=True, eq=False)
class AlignedScan:
    """One examination in the common frame; arrays (I, J, K) of 1 mm except `channels`."""

    channels: Floats
    """(C, I, J, K) float32: the common sequences; zero outside the brain."""
    probability: Floats
    brain: Mask
    lesion: Mask
    others: Mask
    """The lesion's candidates, and all other candidates."""


def joint_change(before: Side, now: Side, current_to_prior: Affine) -> JointChange:
    """Measure one lesion's change by one criterion for two examinations.

    Parameters
    ----------
    current_to_prior : (4, 4) float64
        RAS+ mm of this examination to those of the prior one; rigid.

    Returns
    -------
    JointChange
        Swapping the examinations inverts it. If it cannot be measured, it has a reason instead of
        a figure. Figures are rounded as they are stored, so that a reopened result shows the same.
    """
    shared = np.asarray(before.analysis.prepared.present & now.analysis.prepared.present)
    if not shared.any():
        return JointChange.unknown(Unmeasurable.INTENSITIES)
    if not all(Region.WT in side.analysis.volumes.probability for side in (before, now)):
        return JointChange.unknown(Unmeasurable.PROBABILITIES)
    half_transform = np.real(np.asarray(sqrtm(current_to_prior))).astype(np.float64)
    sides = ((before, np.asarray(np.linalg.inv(half_transform), np.float64)), (now, half_transform))
    frame = _frame(np.concatenate([_points(side, transform) for side, transform in sides]))
    first, second = (_scan_in_frame(s, w, frame, np.flatnonzero(shared).tolist()) for s, w in sides)
    return change_of(first, second)


def change_of(before: AlignedScan, now: AlignedScan) -> JointChange:
    """Measure the change between two examinations in one frame; see `joint_change`."""
    masks = _masks(before, now)
    volume = _soft_mean(before, now, masks)
    reason = _untrainable_reason(masks, volume)
    pairs = () if reason else ((before, now), (now, before))
    differences = [_difference(source, target, masks, volume) for source, target in pairs]
    reason = reason or next((d for d in differences if isinstance(d, Unmeasurable)), None)
    if reason is not None:
        return JointChange.unknown(reason)
    forward, backward = (np.log((2 + float(d)) / (2 - float(d))) for d in differences)
    log_ratio = float(forward - backward) / 2
    outlines = np.log(np.count_nonzero(now.lesion) / np.count_nonzero(before.lesion))
    disagreement = abs(float(outlines) - log_ratio)
    error = _BASE_ERROR + _DISAGREEMENT_ERROR * disagreement + _CHANGE_ERROR * abs(log_ratio)
    ratio = float(np.exp(log_ratio))
    return JointChange(round(100 * (ratio - 1), 2), round(100 * ratio * error, 2))


def _untrainable_reason(masks: VoxelRoles, volume: float) -> Unmeasurable | None:
    """Return why the regression cannot be trained for this mean volume (voxels); None if it can."""
    agreed = min(np.count_nonzero(masks.inside), np.count_nonzero(masks.outside))
    undecided = np.count_nonzero(masks.band & ~masks.inside & ~masks.outside)
    if agreed < _MIN_AGREED or undecided > _MAX_UNDECIDED * volume:
        return Unmeasurable.OUTLINES
    return Unmeasurable.TISSUE if np.count_nonzero(masks.normal) < _MIN_NORMAL else None


def _difference(
    source: AlignedScan, target: AlignedScan, masks: VoxelRoles, volume: float
) -> float | Unmeasurable:
    """Return how much larger the lesion is in `target`, in mean volumes, or why it is unknown.

    The intensities of `source` are matched to those of `target`.
    """
    matched = match_intensities(source.channels, target.channels, masks)
    is_matched = matched.correlation >= _MIN_CORRELATION
    if not is_matched.any():
        return Unmeasurable.INTENSITIES
    images = (matched.before[is_matched], matched.now[is_matched])
    prediction = fit_probability(images, masks)
    contrast = prediction.inside - prediction.outside
    if contrast < _MIN_CONTRAST:
        return Unmeasurable.FAINT
    excess = (prediction.now - prediction.before) / contrast / volume
    if abs(excess.sum()) > _MAX_CHANGE:
        return Unmeasurable.OUTLINES
    if _has_overlooked_lesion(source, target, masks, images, excess):
        return Unmeasurable.OUTLINES
    return float(excess.sum())


def _has_overlooked_lesion(
    source: AlignedScan,
    target: AlignedScan,
    masks: VoxelRoles,
    images: tuple[Floats, Floats],
    excess: NDArray[np.float64],
) -> bool:
    """Return whether lesion appeared or disappeared that differs from the training voxels.

    This is so if the outlines contradict each other with certainty, the images differ there, and
    `excess` (by voxel of the band) contains less than half of it.
    """
    appeared = (source.probability < _TISSUE_BELOW) & (target.probability > _LESION_ABOVE)
    disappeared = (source.probability > _LESION_ABOVE) & (target.probability < _TISSUE_BELOW)
    contradicted = (appeared | disappeared) & masks.band
    volume = _soft_mean(source, target, masks)
    if np.count_nonzero(contradicted) < _MIN_CONTRADICTED * volume:
        return False
    differences = [
        np.sqrt((np.diff(np.stack(images), axis=0)[0][:, mask] ** 2).mean(1))
        for mask in (contradicted, masks.normal)
    ]
    sign = np.where(appeared, 1.0, -1.0)[masks.band]
    explained_vox = float((excess * sign)[contradicted[masks.band]].sum()) * volume
    differs = bool((differences[0] > _MIN_DIFFERENCE * differences[1]).any())
    return differs and explained_vox < int(np.count_nonzero(contradicted)) / 2


def _soft_mean(first: AlignedScan, second: AlignedScan, masks: VoxelRoles) -> float:
    """Return the mean volume by probability, in voxels."""
    return float((first.probability + second.probability)[masks.band].sum(dtype=float)) / 2


def _masks(before: AlignedScan, now: AlignedScan) -> VoxelRoles:
    imaged = (before.channels != 0).all(0) & (now.channels != 0).all(0)
    brain = before.brain & now.brain & imaged
    lesion = before.lesion | now.lesion
    others = (before.others | now.others) & ~lesion
    distance_mm = ndimage.distance_transform_edt(~lesion)
    lower = np.minimum(before.probability, now.probability)
    higher = np.maximum(before.probability, now.probability)
    near = brain & (distance_mm <= _TRAINING_MM)
    normal = ndimage.binary_erosion(brain) & (distance_mm > _NORMAL_MM) & (higher < _NORMAL_BELOW)
    if others.any():
        others_distance_mm = ndimage.distance_transform_edt(~others)
        near &= distance_mm < others_distance_mm
        normal &= others_distance_mm > _NORMAL_MM
    band = near & (distance_mm <= _BAND_MM)
    inside, outside = near & (lower > _LESION_ABOVE), near & (higher < _TISSUE_BELOW)
    return VoxelRoles(brain, near, band, normal, inside, outside)


def _points(side: Side, to_frame: Affine) -> NDArray[np.float64]:
    voxels = np.argwhere(np.isin(side.analysis.findings.components, list(side.ids)))
    return apply(to_frame, side.analysis.prepared.native.to_mm(voxels))


def _frame(points: NDArray[np.float64]) -> Grid:
    """Return an isotropic 1 mm grid around both outlines."""
    low = np.floor(points.min(axis=0)) - _MARGIN_MM
    i, j, k = (int(n) for n in np.ceil(points.max(axis=0)) + _MARGIN_MM + 1 - low)
    shape: Shape3 = (i, j, k)
    affine = np.eye(4)
    affine[:3, 3] = low
    return Grid(shape, affine)


def _scan_in_frame(
    side: Side, to_frame: Affine, frame: Grid, channels: Collection[int]
) -> AlignedScan:
    """Resample an examination to the common frame."""
    prepared, from_frame = side.analysis.prepared, np.asarray(np.linalg.inv(to_frame), np.float64)
    components = side.analysis.findings.components
    lesion = np.isin(components, list(side.ids))

    def resampled(values: NDArray[np.generic], grid: Grid) -> Floats:
        return resample(values.astype(np.float32), grid, frame, moved=from_frame)

    whole = side.analysis.volumes.probability[Region.WT]
    return AlignedScan(
        np.stack(
            [resampled(prepared.channels[n] * prepared.brain, prepared.working) for n in channels]
        ),
        resampled(whole.data, whole.grid),
        resample_mask(prepared.brain, prepared.working, frame, moved=from_frame),
        resample_mask(lesion, prepared.native, frame, moved=from_frame),
        resample_mask((components > 0) & ~lesion, prepared.native, frame, moved=from_frame),
    )
