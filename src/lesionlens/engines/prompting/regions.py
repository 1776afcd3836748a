"""Regions of objects that no network knows, enclosed by a watershed.

It floods the gradient magnitude of all sequences (Beucher and Meyer 1993) from the
foreground prompts on one side, the background prompts and the edge of a crop on the other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from lesionlens.base.geometry import Box, clipped_box, covering, relative
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting.rules import contradicting, marks, part_of
from lesionlens.engines.prompting.study_features import PromptStudy

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
SMALL = 4000
"""Maximum voxels of a small object."""
_MARGIN_MM, _WIDE_MM = 20.0, 30.0
"""Margin of the crop around the first prompt; the second if the object fills the first."""
_BESIDE_MM = 6.0
"""Margin around the other prompts; a larger one would let the object leak further."""
_FILLS = 0.02
"""Share of an object's voxels at the faces of its crop above which the crop is too small."""
_SMOOTH_MM = 1.0
_MIN_CONTRAST = 1.4
"""Minimum gradient at the border relative to the interior."""
_SAME = 0.9
"""Minimum Dice of an outline and the watershed that it is considered to come from."""
_LARGEST_STEP, _MIN_STEP = 4, 100
"""A prompt makes the object at most this many times larger, of at least so many voxels."""
_INSIDE, _OUTSIDE = 1, 2


def enclosed_region(study: PromptStudy, request: PromptRequest) -> tuple[Box, Mask] | None:
    """Return the object that a watershed encloses; None if it has no clear border."""
    box, found, relief = _flooded(study, request, _MARGIN_MM)
    if _fills(found):
        box, found, relief = _flooded(study, request, _WIDE_MM)
    return (box, found) if _has_clear_border(found, relief) else None


def _flooded(study: PromptStudy, request: PromptRequest, margin: float) -> tuple[Box, Mask, Floats]:
    """Return a crop, the object in it, and the relief that was flooded."""
    every = np.concatenate([request.foreground, request.background])
    low = np.minimum(request.foreground[0] - margin, every.min(0) - _BESIDE_MM)
    high = np.maximum(request.foreground[0] + margin, every.max(0) + _BESIDE_MM)
    box = clipped_box(low, high, study.brain.shape)
    relief = np.zeros(study.brain[box].shape, np.float32)
    for image in study.images[np.array(study.present)]:
        part = np.asarray(image[box], np.float32)
        relief += ndimage.gaussian_gradient_magnitude(part, _SMOOTH_MM)
    return box, watershed(relief, _seeds(study.brain[box], box, request)) == _INSIDE, relief


def enclosed_again(
    study: PromptStudy, request: PromptRequest, outline: Mask
) -> tuple[Box, Mask] | None:
    """Return the outline with new prompts, if it is the watershed without them.

    New are the prompts that contradict the outline. It changes where they move the watershed, and
    where it differs from the watershed at them: what a brush or other prompts made of it stays.
    """
    wanted = request.foreground[outline[tuple(request.foreground.T)]]
    unwanted = request.background[~outline[tuple(request.background.T)]]
    agreeing = len(wanted) + len(unwanted)
    if not len(wanted) or agreeing == len(request.foreground) + len(request.background):
        return None
    before = enclosed_region(study, replace(request, foreground=wanted, background=unwanted))
    size = int(np.count_nonzero(outline))
    if before is None or _dice(before[1], outline[before[0]], size) < _SAME:
        return None
    now = enclosed_region(study, request)
    largest = _LARGEST_STEP * max(_MIN_STEP, size)
    if now is None or np.count_nonzero(now[1]) > largest:
        return None
    return _changed(outline, before, now, request)


def _changed(
    outline: Mask, before: tuple[Box, Mask], now: tuple[Box, Mask], request: PromptRequest
) -> tuple[Box, Mask]:
    """Return an outline after the change of the object that it shows."""
    box = covering(before[0], now[0])
    drawn = outline[box]
    old, new = np.zeros((2, *drawn.shape), bool)
    for whole, (part, mask) in ((old, before), (new, now)):
        whole[relative(part, box)] = mask
    corner = [side.start for side in box]
    for points, belongs in ((request.foreground, True), (request.background, False)):
        new[marks(points - corner, new.shape)] = belongs
    wrong = contradicting(request, outline) - corner
    return box, np.where((old != new) | part_of(drawn != new, wrong), new, drawn)


def _seeds(brain: Mask, box: Box, request: PromptRequest) -> NDArray[np.int32]:
    """Return the markers: background at the faces, outside the brain and at its prompts."""
    corner = [side.start for side in box]
    seeds = np.full(brain.shape, _OUTSIDE, np.int32)
    seeds[1:-1, 1:-1, 1:-1] = np.where(brain[1:-1, 1:-1, 1:-1], 0, _OUTSIDE)
    for points, value in ((request.background, _OUTSIDE), (request.foreground, _INSIDE)):
        seeds[ndimage.binary_dilation(marks(points - corner, brain.shape)) & brain] = value
    return seeds


def _fills(found: Mask) -> bool:
    every, within = np.count_nonzero(found), np.count_nonzero(found[2:-2, 2:-2, 2:-2])
    return bool(every - within > _FILLS * every)


def _has_clear_border(found: Mask, relief: Floats) -> bool:
    if not found.any():
        return False
    border = ndimage.binary_dilation(found) & ~ndimage.binary_erosion(found)
    return bool(relief[border].mean() >= _MIN_CONTRAST * np.median(relief[found]))


def _dice(part: Mask, outline: Mask, size: int) -> float:
    """Return the overlap of a mask and an outline of `size` voxels, most of it in their box."""
    return 2 * np.count_nonzero(part & outline) / (np.count_nonzero(part) + size)
