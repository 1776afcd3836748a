"""Lesion-wise Dice, HD95 and F1 as the BraTS 2023 challenge defines them.

Notes
-----
Rules of the challenge's public code (Saluja, BraTS-2023-Metrics, glioma settings): reference
components that touch after 3 dilations (18-connectivity) are one lesion; a predicted component
(26-connectivity) is assigned to every lesion whose dilated mask it overlaps; lesions up to 50 mm3
are ignored; missed lesions and false positives count as Dice 0 and 374 mm. This implementation
differs only in the distance: between surface voxels, not between surface elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionlens.analysis.evaluation.metrics import hd95
from lesionlens.base.geometry import TOUCHING, VOLUME_TOLERANCE, Mask, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.numerics import dice

DILATIONS = 3
SMALLEST_MM3 = 50.0
PENALTY_MM = 374.0
_DILATION = ndimage.generate_binary_structure(3, 2)


@dataclass(frozen=True, slots=True)
class LesionWise:
    """Lesion-wise metrics of one region of one case."""

    dice: float
    hd95_mm: float
    """Means over lesions and false positives; 1 and 0 if there are neither."""
    detected: int
    missed: int
    false: int
    """Numbers of lesions and predicted components."""

    @property
    def f1(self) -> float | None:
        """Harmonic mean of lesion-wise sensitivity and precision; None if there is nothing."""
        total = 2 * self.detected + self.missed + self.false
        return 2 * self.detected / total if total else None


_NOTHING = LesionWise(dice=1.0, hd95_mm=0.0, detected=0, missed=0, false=0)


def lesion_wise(predicted: Mask, reference: Mask, grid: Grid) -> LesionWise:
    """Compute lesion-wise metrics of two masks.

    Parameters
    ----------
    predicted, reference : (I, J, K) bool
        One region; dilations are in voxels, whatever their size, as in the challenge (1 mm).
    """
    margin = DILATIONS + 1
    box = bounding_box(predicted | reference, margin)
    if box is None:
        return _NOTHING
    predicted, reference = predicted[box], reference[box]
    parts, part_count = ndimage.label(predicted, structure=TOUCHING)
    groups, _ = ndimage.label(_dilated(reference), structure=TOUCHING)
    lesions = np.where(reference, groups, 0)
    overlaps, distances, matched = [], [], set[int]()
    detected = missed = 0
    for number, lesion_box in enumerate(ndimage.find_objects(lesions), 1):
        lesion = lesions == number
        neighbourhood = tuple(
            slice(max(side.start - margin, 0), side.stop + margin) for side in lesion_box
        )
        near = parts[neighbourhood][_dilated(lesion[neighbourhood])]
        touching = set(np.unique(near).tolist()) - {0}
        matched |= touching
        if grid.volume_ml(lesion) * 1000.0 <= SMALLEST_MM3 * (1 + VOLUME_TOLERANCE):
            continue
        prediction = np.isin(parts, list(touching))
        distance_mm = hd95(prediction, lesion, grid.spacing_mm)
        overlaps.append(dice(prediction, lesion))
        distances.append(PENALTY_MM if distance_mm is None else distance_mm)
        detected, missed = detected + bool(touching), missed + (not touching)
    false = part_count - len(matched)
    total = len(overlaps) + false
    if not total:
        return _NOTHING
    return LesionWise(
        dice=sum(overlaps) / total,
        hd95_mm=(sum(distances) + false * PENALTY_MM) / total,
        detected=detected,
        missed=missed,
        false=false,
    )


def _dilated(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, structure=_DILATION, iterations=DILATIONS))
