"""Restrict enhancement to voxels that are brighter on T1c than on T1.

Blood, melanin, fat and protein are bright on T1 already. A network trained on tumours labels a
bright rim on T1c as enhancing even if it is bright on T1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from lesionlens.base.geometry import TOUCHING, Floats, Mask, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.numerics import connected_parts, robust_spread
from lesionlens.base.records.prediction import Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.display_images import match_intensities

_MIN_T1_FRACTION = 0.5
"""Minimum share of a voxel's intensity on T1c that T1 explains, and of a core's voxels."""
_BRIGHT_SPREADS = 2.0
"""Robust deviations above the rest of the brain from which a voxel is bright."""
_SMOOTH_MM = 1.0
"""Standard deviation of the smoothing, against noise and errors of the registration."""
_STRIDE = 7
"""Every n-th voxel of the brain is used to match the intensities of T1 and T1c."""
_MIN_ML = 0.1
_MIN_KEPT_ML = 0.5
_SLIGHTLY_SMOOTH_MM = 0.7
_INNER_MM, _OUTER_MM = 3.0, 10.0
"""Distances from a lesion between which its surroundings lie."""
_ENHANCING_SPREADS = 3.0
"""Robust deviations above its surroundings from which a voxel of a lesion enhances."""
_MIN_SPREAD = 0.01
"""Minimum of these deviations, as a share of the surroundings' intensity on T1c."""
_MIN_SURROUNDING_VOX = 50
"""Minimum voxels of the surroundings."""
_MIN_PART_ML = 0.02
"""Minimum volume of the largest connected part that enhances."""


def without_t1_hyperintensity(prediction: Prediction, prepared: PreparedStudy) -> Prediction:
    """Remove voxels that are as bright on T1 as on T1c from the enhancing tumour.

    Parameters
    ----------
    prepared : PreparedStudy
        With T1 and T1c; without either nothing is changed.

    Returns
    -------
    Prediction
        A voxel is T1-hyperintense if it is bright on T1 and T1 explains most of its brightness on
        T1c. If most of the enhancing voxels of a connected core are, the probability of enhancing
        tumour of these is set to 0, with a notice from `_MIN_ML` on; they stay in the core. In a
        core that enhances elsewhere nothing is changed, as readers count such blood as enhancing;
        a notice states its volume from `_MIN_KEPT_ML` on.
    """
    channels = prepared.images
    enhancing = prediction.probability.get(Region.ET)
    if enhancing is None or not {MrSequence.T1, MrSequence.T1C} <= channels.keys():
        return prediction
    enhancing_mask = enhancing >= prediction.thresholds[Region.ET]
    sigma = _SMOOTH_MM / prepared.working.spacing_mm
    box = bounding_box(enhancing_mask, np.ceil(4 * sigma).astype(int))
    if box is None:
        return prediction
    normal_brain = prepared.brain & (prediction.probability[Region.WT] < 0.5)
    images = channels[MrSequence.T1], channels[MrSequence.T1C]
    hyperintense = _bright_on_t1(
        *(image[normal_brain][::_STRIDE] for image in images),
        *(ndimage.gaussian_filter(image[box], sigma) for image in images),
    )
    core = prediction.probability.get(Region.TC, enhancing) >= prediction.thresholds[Region.TC]
    bright = hyperintense & enhancing_mask[box]
    hyperintense = _in_hyperintense_cores(hyperintense, enhancing_mask[box], core[box])
    notices = prediction.notices + _hyperintensity_notices(bright, hyperintense, prepared.working)
    if not hyperintense.any():
        unchanged = notices == prediction.notices
        return prediction if unchanged else replace(prediction, notices=notices)
    new_enhancing = enhancing.copy()
    new_enhancing[box][hyperintense] = 0.0
    probability = {**prediction.probability, Region.ET: new_enhancing}
    return replace(prediction, probability=probability, notices=notices)


def enhancing_in(lesion: Mask, prepared: PreparedStudy) -> Mask:
    """Return the part of a lesion that enhances more than its surroundings.

    Parameters
    ----------
    lesion : (I, J, K) bool
        A lesion on the working grid that the engine did not outline.
    prepared : PreparedStudy
        Without T1c nothing enhances; without T1 bright tissue on T1c counts as enhancing.

    Returns
    -------
    (I, J, K) bool
        Where T1c minus T1 (matched to T1c in the surroundings) exceeds that of the surroundings by
        `_ENHANCING_SPREADS` robust deviations, T1c is brighter than they are, and T1 does not
        explain most of the excess.
    """
    out = np.zeros_like(lesion)
    images, steps = prepared.images, prepared.working.spacing_mm
    box = bounding_box(lesion, np.ceil(_OUTER_MM / steps).astype(int))
    if box is None or MrSequence.T1C not in images:
        return out
    lesion_box = lesion[box]
    distance_mm = ndimage.distance_transform_edt(~lesion_box, sampling=steps)
    surroundings = prepared.brain[box] & (distance_mm > _INNER_MM) & (distance_mm <= _OUTER_MM)
    if np.count_nonzero(surroundings) < _MIN_SURROUNDING_VOX:
        return out
    sigma = _SLIGHTLY_SMOOTH_MM / steps
    t1c = ndimage.gaussian_filter(images[MrSequence.T1C][box], sigma)
    added = t1c
    if MrSequence.T1 in images:
        t1 = ndimage.gaussian_filter(images[MrSequence.T1][box], sigma)
        added = t1c - np.float32(match_intensities(t1[surroundings], t1c[surroundings])[0]) * t1
    median = float(np.median(t1c[surroundings]))
    excess = added - np.float32(np.median(added[surroundings]))
    spread = max(robust_spread(added[surroundings]), _MIN_SPREAD * median)
    bright = t1c > median
    enhancing = (
        lesion_box
        & bright
        & (excess > _ENHANCING_SPREADS * spread)
        & (excess > _MIN_T1_FRACTION * (t1c - median))
    )
    _, sizes = connected_parts(enhancing)
    if sizes.max() * prepared.working.voxel_ml >= _MIN_PART_ML:
        out[box] = enhancing
    return out


def _hyperintensity_notices(bright: Mask, removed: Mask, grid: Grid) -> tuple[str, ...]:
    """Report the volume left out, and the volume that is bright on T1 but counts as enhancing."""
    removed_ml, retained_ml = map(grid.volume_ml, (removed, bright & ~removed))
    notices = []
    if removed_ml >= _MIN_ML:
        notices.append(
            f"{removed_ml:.1f} ml that are bright on T1c are already bright on T1 (blood, "
            "melanin, fat or protein): not counted as enhancing"
        )
    if retained_ml >= _MIN_KEPT_ML:
        notices.append(
            f"{retained_ml:.1f} ml of the enhancing part are already bright on T1 (blood, "
            "melanin, fat or protein); they count as enhancing, because the rest of that core "
            "enhances"
        )
    return tuple(notices)


def _in_hyperintense_cores(hyperintense: Mask, enhancing: Mask, core: Mask) -> Mask:
    """Return the enhancing voxels of the cores in which most of them are T1-hyperintense."""
    cores, core_count = ndimage.label(core | enhancing, structure=TOUCHING)
    enhancing_count, hyperintense_count = (
        np.bincount(cores[mask], minlength=core_count + 1)
        for mask in (enhancing, enhancing & hyperintense)
    )
    return np.asarray(enhancing & (hyperintense_count > _MIN_T1_FRACTION * enhancing_count)[cores])


def _bright_on_t1(normal_t1: Floats, normal_t1c: Floats, t1: Floats, t1c: Floats) -> Mask:
    """Return which voxels are bright on T1 so that T1 explains most of their brightness on T1c.

    `normal_t1` and `normal_t1c` are intensities of the rest of the brain, `t1` and `t1c` of the
    voxels to test.
    """
    if normal_t1.size < 2:
        return np.zeros(t1.shape, bool)
    scale, _ = match_intensities(normal_t1, normal_t1c)
    median_t1 = float(np.median(normal_t1))
    spread = robust_spread(normal_t1)
    t1_excess, t1c_excess = t1 - median_t1, t1c - float(np.median(normal_t1c))
    return np.asarray(
        (t1_excess > _BRIGHT_SPREADS * spread) & (scale * t1_excess > _MIN_T1_FRACTION * t1c_excess)
    )
