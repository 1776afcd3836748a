"""Metrics of one case, on the grid of its reference sequence.

Overlap, distance, detection, attention and calibration; BraTS 2023's lesion-wise metrics are in
`evaluation.lesionwise`, pooled figures in `evaluation.summary`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.components import ROUNDING_MM, merged
from lesionlens.base.geometry import VOLUME_TOLERANCE, Floats, Mask, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.records.files import CandidateRow

MERGE_MM, HIT_MM, SMALLEST_ML = 3.0, 5.0, 0.05
BINS = 10
_MAX_BRAIN_FRACTION = 0.7


@dataclass(frozen=True, slots=True)
class Hit:
    """Match of one candidate with the reference."""

    score: float | None
    """0 to 1; None for an opened segmentation."""
    lesions: tuple[int, ...]
    """Numbers of the reference lesions that it hits."""
    false_positive: bool
    """Whether it is farther than `HIT_MM` from every lesion of any size."""


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Counts of a reliability diagram, additive over cases."""

    count: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    positive: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    """(BINS,) float64: number of cases in the bin, sum of predicted probabilities, and number of
    positive cases."""

    def __add__(self, other: Bins) -> Bins:
        return Bins(
            self.count + other.count,
            self.confidence + other.confidence,
            self.positive + other.positive,
        )

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap between predicted and true, weighted by count.

        Notes
        -----
        Guo et al., 2017, arXiv 1706.04599, equation 3, for a binary outcome.
        """
        gap = np.abs(self.confidence - self.positive).sum()
        return float(gap / max(float(self.count.sum()), 1.0))


def hd95(a: Mask, b: Mask, spacing_mm: Sequence[float] | NDArray[np.float64]) -> float | None:
    """Return the 95th percentile Hausdorff distance in mm, the larger of both directions.

    Parameters
    ----------
    a, b : (I, J, K) bool
        On one grid.
    spacing_mm : (3,) float
        Voxel edges along i, j, k.

    Returns
    -------
    float or None
        None if one mask is empty.

    Notes
    -----
    Between surface voxels (6-connectivity), equal to MONAI's `HausdorffDistanceMetric` in a tenth
    of the time.
    """
    box = bounding_box(a | b, 1)
    if box is None or not a.any() or not b.any():
        return None
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (a, b)]
    to_a, to_b = (ndimage.distance_transform_edt(~s, sampling=spacing_mm) for s in surfaces)
    a_to_b, b_to_a = to_b[surfaces[0]], to_a[surfaces[1]]
    return float(max(np.percentile(a_to_b, 95), np.percentile(b_to_a, 95)))


def label_lesions(whole_tumour: Mask, grid: Grid) -> tuple[NDArray[np.int32], list[int]]:
    """Assign numbers to the lesions in (I, J, K) bool; components with a small gap are one.

    Returns
    -------
    labels : (I, J, K) int32
        From 1; 0 elsewhere.
    counted : list of int
        Lesions of `SMALLEST_ML` or more; smaller ones count neither as missed nor as found.
    """
    labels = np.zeros(whole_tumour.shape, np.int32)
    box = bounding_box(whole_tumour)
    if box is None:
        return labels, []
    labels[box], count = merged(whole_tumour[box], grid, MERGE_MM)
    volumes_ml = np.bincount(labels.ravel(), minlength=count + 1) * grid.voxel_ml
    min_ml = SMALLEST_ML * (1 - VOLUME_TOLERANCE)
    return labels, [n for n in range(1, count + 1) if volumes_ml[n] >= min_ml]


def nearest_lesion(labels: NDArray[np.int32], grid: Grid) -> NDArray[np.int32]:
    """Return for each voxel the nearest lesion's number within `HIT_MM`, else 0."""
    nearest = np.zeros_like(labels)
    box = bounding_box(labels > 0, np.ceil(HIT_MM / grid.spacing_mm).astype(int) + 1)
    if box is not None:
        distance_mm, nearest_index = ndimage.distance_transform_edt(
            labels[box] == 0, sampling=grid.spacing_mm, return_indices=True
        )
        is_near = distance_mm <= HIT_MM + ROUNDING_MM
        nearest[box] = np.where(is_near, labels[box][tuple(nearest_index)], 0)
    return nearest


def candidate_hits(
    candidates: Sequence[CandidateRow], ids: NDArray[np.integer], reference: Mask, grid: Grid
) -> tuple[list[Hit], list[int]]:
    """Match candidates with reference lesions.

    Parameters
    ----------
    ids : (I, J, K) int
        Id of the candidate at each voxel, 0 elsewhere.
    reference : (I, J, K) bool
        Whole tumour.

    Returns
    -------
    hits : list of Hit
        One per candidate: a lesion is hit if the candidate's peak, or one of its own voxels, is at
        most `HIT_MM` away.
    counted : list of int
        The lesions that are large enough to count.
    """
    labels, counted = label_lesions(reference, grid)
    nearest = nearest_lesion(labels, grid)
    hits = []
    for candidate in candidates:
        hit_lesions = set(np.unique(nearest[ids == candidate.id]).tolist())
        if candidate.peak_mm is not None:
            peak = grid.nearest_voxel(candidate.peak_mm)
            if grid.contains(peak):
                hit_lesions.add(int(nearest[tuple(peak)]))
        hit_lesions.discard(0)
        lesions = tuple(sorted(hit_lesions & set(counted)))
        hits.append(Hit(candidate.score, lesions, not hit_lesions))
    return hits, counted


def component_hits(predicted: Mask, reference: Mask, grid: Grid) -> tuple[set[int], list[int], int]:
    """Match the components of a plain segmentation with reference lesions.

    Parameters
    ----------
    predicted, reference : (I, J, K) bool
        Whole tumour; components of `predicted` are formed by the same rules as reference lesions.

    Returns
    -------
    detected : set of int
        The reference lesions within `HIT_MM` of a flagged voxel.
    counted : list of int
        The lesions that are large enough to count.
    false : int
        Number of components that touch no lesion.
    """
    labels, counted = label_lesions(reference, grid)
    nearest = nearest_lesion(labels, grid)
    parts, large_parts = label_lesions(predicted, grid)
    detected = set(np.unique(nearest[predicted]).tolist()) & set(counted)
    false = sum(not nearest[parts == part].any() for part in large_parts)
    return detected, counted, false


def attention_measures(attention: Floats, region: Mask) -> tuple[float, float]:
    """Return the pointing game (0 or 1) and the share of all attention inside a region.

    Maps have many voxels at full scale: one of them inside counts, in whatever order they are
    stored, as for `explain.faithfulness.pointing`.

    Notes
    -----
    Pointing game: Zhang et al., 2018, DOI 10.1007/s11263-017-1059-x, without a tolerance.

    Examples
    --------
    >>> attention_measures(np.array([0.25, 0.75]), np.array([False, True]))
    (1.0, 0.75)
    """
    values = np.clip(np.nan_to_num(attention.astype(np.float64)), 0, None)
    total = float(values.sum())
    if total == 0:
        return 0.0, 0.0
    peak_inside = values.max(where=region, initial=0.0) >= values.max()
    return float(peak_inside), float(values[region].sum() / total)


def reliability(predicted: NDArray[np.floating], true: Mask) -> Bins:
    """Count predicted probabilities (0 to 1) against the reference, in `BINS` equal bins."""
    bin_index = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    return Bins(
        np.bincount(bin_index, minlength=BINS).astype(np.float64),
        np.bincount(bin_index, weights=predicted, minlength=BINS).astype(np.float64),
        np.bincount(bin_index, weights=true, minlength=BINS).astype(np.float64),
    )


def scored_head(image: NDArray[np.floating]) -> Mask:
    """Return the brain mask of a stripped image, or roughly the head of an unstripped one."""
    values = np.nan_to_num(image.astype(np.float32))
    mask = values != 0
    if mask.mean() > _MAX_BRAIN_FRACTION:
        low, high = np.percentile(values, (1, 99))
        mask = values > low + 0.2 * (high - low)
    return np.asarray(mask)
