"""Outline the bright part of a detector's box by a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from lesionlens.plugin import Box, MrSequence, Region

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
BRIGHT_IN = (MrSequence.FLAIR, MrSequence.T2, MrSequence.T1C)
"""Sequences in which a tumour is bright; the first available one is used."""
ENHANCES_FROM = 1.0
"""Standard deviations of the brain's T1c by which the bright part must exceed the rest."""
METHOD = (
    "This detector gives boxes. The outlines, and all measures of them, are thresholds of "
    "brightness within its boxes (Otsu; FLAIR, T2 or T1c for the whole, T1c for the enhancing part)"
)


def outlines(
    channels: Floats, present: Sequence[bool], brain: Mask, boxes: Sequence[tuple[Box, float]]
) -> Mapping[Region, Floats]:
    """Outline the object in each box; its voxels get the score of the box.

    Parameters
    ----------
    channels : (4, I, J, K) float32
        In the order of MrSequence, scanner units.
    present : (4,) bool
        Available sequences.
    brain : (I, J, K) bool
        Only voxels in the brain are outlined.
    boxes : sequence of ((3,) slices, float)
        In voxels of the same grid, with scores from 0 to 1.

    Returns
    -------
    mapping of Region to (I, J, K) float32
        Nested.
    """
    images = {s: channels[i] for i, s in enumerate(MrSequence) if present[i]}
    image = next(images[s] for s in BRIGHT_IN if s in images)
    probability = {region: np.zeros(brain.shape, np.float32) for region in Region}
    for box, score in boxes:
        whole = _bright_part(image[box], brain[box])
        core = enhancing = np.zeros_like(whole)
        if MrSequence.T1C in images:
            enhancing = _enhancing(images[MrSequence.T1C], whole, box, brain)
            core = _filled(enhancing) & whole
        for region, mask in zip(Region, (whole, core, enhancing), strict=True):
            part = probability[region][box]
            np.maximum(part, mask * np.float32(score), out=part)
    return probability


def _bright_part(image: Floats, inside: Mask) -> Mask:
    """Return the largest connected bright part, without holes."""
    if not inside.any() or image[inside].min() == image[inside].max():
        return np.zeros_like(inside)
    bright: Mask = inside & (image > threshold_otsu(image[inside]))
    parts, count = ndimage.label(bright)
    if not count:
        return bright
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return _filled(largest) & inside


def _enhancing(image: Floats, whole: Mask, box: Box, brain: Mask) -> Mask:
    """Return the enhancing part of an outline; empty if no part is clearly brighter."""
    values = image[box][whole]
    if values.size < 2 or values.min() == values.max():
        return np.zeros_like(whole)
    threshold = threshold_otsu(values)
    difference = float(values[values > threshold].mean() - values[values <= threshold].mean())
    if difference < ENHANCES_FROM * float(image[brain].std()):
        return np.zeros_like(whole)
    return np.asarray(whole & (image[box] > threshold))


def _filled(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_fill_holes(mask))
