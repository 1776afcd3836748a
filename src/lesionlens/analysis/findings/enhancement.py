"""Enhancement is what T1c adds to T1, never what is bright on T1c alone.

Blood, melanin, fat and protein are bright on T1 already. A network trained on tumours takes a
bright rim on T1c for enhancement, whatever T1 shows there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.array_ops import robust_spread
from lesionlens.base.geometry import TOUCHING, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.other_images import matched

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
_MAJORITY = 0.5
"""Minimum share of a voxel's intensity on T1c that T1 explains, and of a core's voxels."""
_BRIGHT = 2.0
"""Robust deviations above the rest of the brain from which a voxel is bright."""
_SMOOTH_MM = 1.0
"""Standard deviation of the smoothing, against noise and errors of the registration."""
_STRIDE = 7
"""Every n-th voxel of the brain is used to match the intensities of T1 and T1c."""
_MIN_ML = 0.1
_MIN_KEPT_ML = 0.5
_SLIGHTLY_SMOOTH_MM = 0.7
_BESIDE_MM, _AROUND_MM = 3.0, 10.0
"""Distances from a lesion between which its surroundings lie."""
_ENHANCES = 3.0
"""Robust deviations above its surroundings from which a voxel of a lesion enhances."""
_LEAST_SPREAD = 0.01
"""Minimum of these deviations, as a share of the surroundings' intensity on T1c."""
_MIN_AROUND = 50
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
        A voxel that is bright on T1 and owes it most of its brightness on T1c does not enhance.
        Where that is most of what would enhance in a connected core, its probability of enhancing
        tumour is 0, with a notice from `_MIN_ML` on; the core keeps the voxels. Blood in a tumour
        that enhances elsewhere is left as it is: readers count it so. From `_MIN_KEPT_ML` on a
        notice says how much.
    """
    channels = prepared.images
    found = prediction.probability.get(Region.ET)
    if found is None or not {MrSequence.T1, MrSequence.T1C} <= channels.keys():
        return prediction
    drawn = found >= prediction.thresholds[Region.ET]
    sigma = _SMOOTH_MM / prepared.working.spacing_mm
    box = bounding_box(drawn, np.ceil(4 * sigma).astype(int))
    if box is None:
        return prediction
    rest = prepared.brain & (prediction.probability[Region.WT] < 0.5)
    images = channels[MrSequence.T1], channels[MrSequence.T1C]
    mine = _bright_on_t1(
        *(one[rest][::_STRIDE] for one in images),
        *(ndimage.gaussian_filter(one[box], sigma) for one in images),
    )
    core = prediction.probability.get(Region.TC, found) >= prediction.thresholds[Region.TC]
    bright = mine & drawn[box]
    mine = _whole_cores(mine, drawn[box], core[box])
    notices = prediction.notices + _notices(bright, mine, prepared.working)
    if not mine.any():
        unchanged = notices == prediction.notices
        return prediction if unchanged else replace(prediction, notices=notices)
    enhancing = found.copy()
    enhancing[box][mine] = 0.0
    probability = {**prediction.probability, Region.ET: enhancing}
    return replace(prediction, probability=probability, notices=notices)


def enhancing_in(lesion: Mask, prepared: PreparedStudy) -> Mask:
    """Return the part of a lesion that enhances more than its surroundings.

    Parameters
    ----------
    lesion : (I, J, K) bool
        A lesion on the working grid that the engine did not outline.
    prepared : PreparedStudy
        Without T1c nothing enhances; without T1 what is bright on T1c does.

    Returns
    -------
    (I, J, K) bool
        Where T1c, less T1 as matched to it in the surroundings, is `_ENHANCES` robust deviations
        above them, T1c is brighter than they are, and T1 does not explain most of that.
    """
    out = np.zeros_like(lesion)
    images, steps = prepared.images, prepared.working.spacing_mm
    box = bounding_box(lesion, np.ceil(_AROUND_MM / steps).astype(int))
    if box is None or MrSequence.T1C not in images:
        return out
    here = lesion[box]
    far = ndimage.distance_transform_edt(~here, sampling=steps)
    around = prepared.brain[box] & (far > _BESIDE_MM) & (far <= _AROUND_MM)
    if np.count_nonzero(around) < _MIN_AROUND:
        return out
    sigma = _SLIGHTLY_SMOOTH_MM / steps
    after = ndimage.gaussian_filter(images[MrSequence.T1C][box], sigma)
    added = after
    if MrSequence.T1 in images:
        before = ndimage.gaussian_filter(images[MrSequence.T1][box], sigma)
        added = after - np.float32(matched(before[around], after[around])[0]) * before
    usual = float(np.median(after[around]))
    excess = added - np.float32(np.median(added[around]))
    spread = max(robust_spread(added[around]), _LEAST_SPREAD * usual)
    bright = after > usual
    found = here & bright & (excess > _ENHANCES * spread) & (excess > _MAJORITY * (after - usual))
    parts, _ = ndimage.label(found, structure=TOUCHING)
    largest = np.bincount(parts[found]).max(initial=0)
    if largest * prepared.working.voxel_ml >= _MIN_PART_ML:
        out[box] = found
    return out


def _notices(bright: Mask, left_out: Mask, grid: Grid) -> tuple[str, ...]:
    """Report the volume left out, and the volume that is bright on T1 but counts as enhancing."""
    out, kept = map(grid.volume_ml, (left_out, bright & ~left_out))
    notices = []
    if out >= _MIN_ML:
        notices.append(
            f"{out:.1f} ml that are bright on T1c are bright on T1 already (blood, melanin, "
            "fat or protein): not counted as enhancing"
        )
    if kept >= _MIN_KEPT_ML:
        notices.append(
            f"{kept:.1f} ml of the enhancing part are bright on T1 already (blood, melanin, fat "
            "or protein); they count as enhancing, for the rest of that core enhances"
        )
    return tuple(notices)


def _whole_cores(mine: Mask, drawn: Mask, core: Mask) -> Mask:
    """Return the enhancing voxels of whole cores in which most of them are bright on T1."""
    cores, count = ndimage.label(core | drawn, structure=TOUCHING)
    size, own = (np.bincount(cores[one], minlength=count + 1) for one in (drawn, drawn & mine))
    return np.asarray(drawn & (own > _MAJORITY * size)[cores])


def _bright_on_t1(before: Floats, after: Floats, own: Floats, shown: Floats) -> Mask:
    """Return which voxels are bright on T1 and owe it most of their brightness on T1c.

    `before` and `after` are T1 and T1c of the rest of the brain, `own` and `shown` of the voxels.
    """
    if before.size < 2:
        return np.zeros(own.shape, bool)
    scale, _ = matched(before, after)
    usual = float(np.median(before))
    spread = robust_spread(before)
    excess, all_excess = own - usual, shown - float(np.median(after))
    return np.asarray((excess > _BRIGHT * spread) & (scale * excess > _MAJORITY * all_excess))
