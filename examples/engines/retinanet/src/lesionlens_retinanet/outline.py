"""From a detector's box to an outline: what is bright within it, by a threshold of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from lesionlens.base.geometry import Box
from lesionlens.base.labels import MrSequence, Region

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
BRIGHT_IN = (MrSequence.FLAIR, MrSequence.T2, MrSequence.T1C)
"""Where a tumour is bright; the first that is there is taken."""
ENHANCES_FROM = 1.0
"""Deviations of the brain's T1c by which the bright part must exceed the rest of the outline."""
METHOD = (
    "This detector gives boxes. The outlines, and all measures of them, are thresholds of "
    "brightness within its boxes (Otsu; FLAIR, T2 or T1c for the whole, T1c for the enhancing part)"
)


def outlines(
    channels: Floats, present: Sequence[bool], brain: Mask, boxes: Sequence[tuple[Box, float]]
) -> Mapping[Region, Floats]:
    """Outline what is in each box; every voxel of it gets the box's score.

    Parameters
    ----------
    channels : (4, I, J, K) float32
        In the order of MrSequence, scanner units.
    present : (4,) bool
        Which are there.
    brain : (I, J, K) bool
        Nothing is outlined outside of it.
    boxes : sequence of ((3,) slices, float)
        In voxels of the same grid, with scores from 0 to 1.

    Returns
    -------
    mapping of Region to (I, J, K) float32
        Nested.
    """
    there = {s: channels[i] for i, s in enumerate(MrSequence) if present[i]}
    image = next(there[s] for s in BRIGHT_IN if s in there)
    found = {region: np.zeros(brain.shape, np.float32) for region in Region}
    for box, score in boxes:
        whole = _bright_part(image[box], brain[box])
        core = enhancing = np.zeros_like(whole)
        if MrSequence.T1C in there:
            enhancing = _enhancing(there[MrSequence.T1C], whole, box, brain)
            core = _solid(enhancing) & whole
        for region, mask in zip(Region, (whole, core, enhancing), strict=True):
            part = found[region][box]
            np.maximum(part, mask * np.float32(score), out=part)
    return found


def _bright_part(image: Floats, inside: Mask) -> Mask:
    """Return the largest connected bright part, without holes."""
    if not inside.any() or image[inside].min() == image[inside].max():
        return np.zeros_like(inside)
    bright: Mask = inside & (image > threshold_otsu(image[inside]))
    parts, count = ndimage.label(bright)
    if not count:
        return bright
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    found: Mask = _solid(largest) & inside
    return found


def _enhancing(image: Floats, whole: Mask, box: Box, brain: Mask) -> Mask:
    """Return what enhances within an outline; nothing where no part stands out."""
    values = image[box][whole]
    if values.size < 2 or values.min() == values.max():
        return np.zeros_like(whole)
    cut = threshold_otsu(values)
    apart = float(values[values > cut].mean() - values[values <= cut].mean())
    if apart < ENHANCES_FROM * float(image[brain].std()):
        return np.zeros_like(whole)
    found: Mask = whole & (image[box] > cut)
    return found


def _solid(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_fill_holes(mask))
