"""Regions of objects that no network was trained on, enclosed by a watershed.

It floods the gradient magnitude of all sequences (Beucher and Meyer 1993) from the
foreground prompts on one side, the background prompts and the edge of a crop on the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from lesionlens.base.geometry import Box, Floats, Mask, clipped_box, covering, relative
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting.rules import components_at, contradicting_prompts, mark_voxels
from lesionlens.engines.prompting.study_features import PromptStudy

SMALL = 4000
"""Maximum voxels of a small object."""
_MARGIN_MM, _WIDE_MARGIN_MM = 20.0, 30.0
"""Margin of the crop around the first prompt; the second if the object fills the first."""
_OTHER_PROMPTS_MARGIN_MM = 6.0
"""Margin around the other prompts; a larger one would let the object leak further."""
_MAX_FACE_FRACTION = 0.02
"""Share of an object's voxels at the faces of its crop above which the crop is too small."""
_SMOOTH_MM = 1.0
_MIN_CONTRAST = 1.4
"""Minimum gradient at the border relative to the interior."""
_MIN_DICE = 0.9
"""Minimum Dice of an outline and the watershed that it is considered to come from."""
_MAX_GROWTH, _MIN_GROWTH_VOX = 4, 100
"""A prompt makes the object at most this many times larger, of at least so many voxels."""
_INSIDE, _OUTSIDE = 1, 2


class EnclosedRegion(NamedTuple):
    """An object in a box of the study."""

    box: Box
    mask: Mask
    """(I, J, K) bool in the box."""


def enclosed_region(study: PromptStudy, request: PromptRequest) -> EnclosedRegion | None:
    """Return the object that a watershed encloses; None if it has no clear border."""
    region, relief = _flood(study, request, _MARGIN_MM)
    if _touches_faces(region.mask):
        region, relief = _flood(study, request, _WIDE_MARGIN_MM)
    return region if _has_clear_border(region.mask, relief) else None


def _flood(
    study: PromptStudy, request: PromptRequest, margin: float
) -> tuple[EnclosedRegion, Floats]:
    """Return the object in a crop, and the relief that was flooded, (I, J, K) in the crop."""
    points = np.concatenate([request.foreground, request.background])
    low = np.minimum(request.foreground[0] - margin, points.min(0) - _OTHER_PROMPTS_MARGIN_MM)
    high = np.maximum(request.foreground[0] + margin, points.max(0) + _OTHER_PROMPTS_MARGIN_MM)
    box = clipped_box(low, high, study.brain.shape)
    relief = np.zeros(study.brain[box].shape, np.float32)
    for image in study.images[np.array(study.present)]:
        part = np.asarray(image[box], np.float32)
        relief += ndimage.gaussian_gradient_magnitude(part, _SMOOTH_MM)
    mask = watershed(relief, _seeds(study.brain[box], box, request)) == _INSIDE
    return EnclosedRegion(box, mask), relief


def updated_region(
    study: PromptStudy, request: PromptRequest, outline: Mask
) -> EnclosedRegion | None:
    """Return the outline with new prompts, if it is the watershed without them.

    New prompts are those that contradict the outline. It changes where they move the watershed, and
    where it differs from the watershed at them; other changes by a brush or prompts are kept.
    """
    foreground = request.foreground[outline[tuple(request.foreground.T)]]
    background = request.background[~outline[tuple(request.background.T)]]
    agreeing_count = len(foreground) + len(background)
    if not len(foreground) or agreeing_count == len(request.foreground) + len(request.background):
        return None
    previous = enclosed_region(
        study, replace(request, foreground=foreground, background=background)
    )
    size = int(np.count_nonzero(outline))
    if previous is None or _dice(previous.mask, outline[previous.box], size) < _MIN_DICE:
        return None
    updated = enclosed_region(study, request)
    largest = _MAX_GROWTH * max(_MIN_GROWTH_VOX, size)
    if updated is None or np.count_nonzero(updated.mask) > largest:
        return None
    return _updated_outline(outline, previous, updated, request)


def _updated_outline(
    outline: Mask, previous: EnclosedRegion, updated: EnclosedRegion, request: PromptRequest
) -> EnclosedRegion:
    """Return an outline after the change of the object that it shows."""
    box = covering(previous.box, updated.box)
    current = outline[box]
    old, new = np.zeros((2, *current.shape), bool)
    for target, (part, mask) in ((old, previous), (new, updated)):
        target[relative(part, box)] = mask
    corner = [side.start for side in box]
    for points, is_foreground in ((request.foreground, True), (request.background, False)):
        new[mark_voxels(points - corner, new.shape)] = is_foreground
    wrong = contradicting_prompts(request, outline) - corner
    changes = (old != new) | components_at(current != new, wrong)
    return EnclosedRegion(box, np.where(changes, new, current))


def _seeds(brain: Mask, box: Box, request: PromptRequest) -> NDArray[np.int32]:
    """Return the markers: background at the faces, outside the brain and at its prompts."""
    corner = [side.start for side in box]
    seeds = np.full(brain.shape, _OUTSIDE, np.int32)
    seeds[1:-1, 1:-1, 1:-1] = np.where(brain[1:-1, 1:-1, 1:-1], 0, _OUTSIDE)
    for points, value in ((request.background, _OUTSIDE), (request.foreground, _INSIDE)):
        seeds[ndimage.binary_dilation(mark_voxels(points - corner, brain.shape)) & brain] = value
    return seeds


def _touches_faces(mask: Mask) -> bool:
    total, inner = np.count_nonzero(mask), np.count_nonzero(mask[2:-2, 2:-2, 2:-2])
    return bool(total - inner > _MAX_FACE_FRACTION * total)


def _has_clear_border(mask: Mask, relief: Floats) -> bool:
    if not mask.any():
        return False
    border = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
    return bool(relief[border].mean() >= _MIN_CONTRAST * np.median(relief[mask]))


def _dice(part: Mask, outline: Mask, size: int) -> float:
    """Return the overlap of a mask and an outline of `size` voxels, most of it in their box."""
    return 2 * np.count_nonzero(part & outline) / (np.count_nonzero(part) + size)
