"""Outlines of skull-stripped brains on a background of noise.

Their background is not constant, so that the brain is extracted as from a head, which cuts off its
rim: 10 to 19% of the brain of twelve gliomas and up to a fifth of the tumour. Around such a brain
there is only noise; around that of a head there are scalp, skull and neck.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.numerics import robust_spread
from lesionlens.imaging.preparation.brain import BrainMask, fill_holes, largest
from lesionlens.imaging.preparation.resampling import block_means, resample_mask

COARSE_MM = 4.0
BEYOND_MM, MAX_BEYOND = 10.0, 0.02
"""Maximum share of all that is brighter than noise at this distance from the extracted brain.
Measured on the reference sequence: at most .006 in stripped brains with noise; .022 and more in 84
synthetic heads of any contrast, .18 and more in real heads.
"""
MAX_LEVEL, MAX_SPREAD = 0.45, 0.08
"""Maximum level and standard deviation of noise, means over `COARSE_MM`, as a share of the brain's
median. Measured: at most .40 and .03 with noise of 8% of the brightest brain.
"""
MAX_GROWTH = 1.4
"""Maximum volume of the outline, relative to the extracted brain. Measured: 1.13 to 1.24."""
_SIGMA_VOX = 0.6
_DEVIATIONS = 6.0
_STEP = 0.3
"""Share of the step from noise to the brain's median at which the outline runs."""


class _Noise(NamedTuple):
    """The background of an image."""

    level: float
    deviation: float


def outline_in_noise(images: Sequence[Floats], grid: Grid, brain: BrainMask) -> Mask | None:
    """Return the outline of a stripped brain on a background of noise; None of a head.

    Parameters
    ----------
    images : sequence of (I, J, K) float32
        On `grid`, in one frame; the reference first.
    brain : BrainMask
        The brain as extracted from a head; not empty.

    Returns
    -------
    (I, J, K) bool or None
        The filled object of all images.
    """
    i, j, k = (max(round(COARSE_MM / edge), 1) for edge in grid.nominal_spacing_mm)
    first, coarse = block_means(images[0], grid, (i, j, k))
    inside = resample_mask(brain.mask, brain.grid, coarse)
    distance_mm = ndimage.distance_transform_edt(~inside, sampling=coarse.nominal_spacing_mm)
    beyond = distance_mm > BEYOND_MM
    if not inside.any() or not beyond.any():
        return None
    others = (block_means(image, grid, (i, j, k))[0] for image in images[1:])
    if not all(_is_noise(image, inside, beyond) for image in chain((first,), others)):
        return None
    far = resample_mask(beyond, coarse, grid)
    near_brain = resample_mask(brain.mask, brain.grid, grid)
    bright = np.zeros(grid.shape, bool)
    for image in images:
        smoothed = ndimage.gaussian_filter(image, _SIGMA_VOX)
        bright |= smoothed > _threshold(smoothed, near_brain, far)
    outline = fill_holes(largest(bright & ~far))
    return outline if outline.sum() <= MAX_GROWTH * near_brain.sum() else None


def _is_noise(image: Floats, inside: Mask, beyond: Mask) -> bool:
    """Whether an image shows nothing but noise beyond the brain."""
    typical = float(np.median(image[inside]))
    noise = _noise(image[beyond])
    if noise.level > MAX_LEVEL * typical or noise.deviation > MAX_SPREAD * typical:
        return False
    bright = image > _threshold(image, inside, beyond)
    return bool((bright & beyond).sum() <= MAX_BEYOND * bright.sum())


def _threshold(image: Floats, inside: Mask, beyond: Mask) -> float:
    """Return the intensity above which a voxel is brain."""
    noise = _noise(image[beyond])
    step = float(np.median(image[inside])) - noise.level
    return noise.level + max(_DEVIATIONS * noise.deviation, _STEP * step)


def _noise(values: Floats) -> _Noise:
    return _Noise(float(np.median(values)), robust_spread(values))
