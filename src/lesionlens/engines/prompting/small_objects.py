"""Outline small objects with a separate prompt network, on a crop of 32 mm.

The general network first looks at 80 mm, where a metastasis or plaque is a few voxels wide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import bounding_box
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting.crop_pass import CropResult, PromptPass
from lesionlens.engines.prompting.regions import SMALL
from lesionlens.engines.prompting.rules import components_at, mark_voxels, suppressed
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.network.prompt.crop import Crop

EDGE = 32
"""Voxels of 1 mm along each edge of the crop."""
_MARGIN = 5  # minimum distance of the foreground prompts from the faces of the crop
_MIN_VOX = 8  # voxels
_MIN_CERTAINTY = 0.9
"""Minimum mean probability of an object; below, the general network answers."""
_MAX_FACE_FRACTION = 0.02
"""Maximum share of an object's voxels at the faces of the crop: it is larger than it seems."""


def small_object(
    network: PromptPass, study: PromptStudy, request: PromptRequest
) -> CropResult | None:
    """Return the small object at the prompts.

    None if there is none, or if the prompts name a region of a lesion that the analysis flags.
    """
    foreground = request.foreground
    if not len(foreground) or (request.region is not None and study.flags(foreground)):
        return None
    centre = (foreground.min(0) + foreground.max(0)) // 2 + 0.5  # its voxels are those of the study
    crop = Crop.straight(centre, 1.0, EDGE)
    if not _fits(request, crop):
        return None
    box, probability, attention = network.at(study, request, crop)
    corner = [side.start for side in box]
    mask = probability >= 0.5
    mask[mark_voxels(request.background - corner, mask.shape)] = False
    mask[mark_voxels(foreground - corner, mask.shape)] = True
    part = components_at(mask, foreground - corner)
    if not _is_small(part) or probability[part].mean(dtype=np.float64) < _MIN_CERTAINTY:
        return None
    return CropResult(box, suppressed(probability, mask & ~part), attention)


def _fits(request: PromptRequest, crop: Crop) -> bool:
    """Return whether the foreground prompts, and a small outline, lie in a crop."""
    if np.ptp(request.foreground, axis=0).max() > EDGE - 2 * _MARGIN:
        return False
    if request.outline is None:
        return True
    box = bounding_box(request.outline)
    if box is None or np.count_nonzero(request.outline) > SMALL:
        return box is None
    corners = np.array([[side.start, side.stop - 1] for side in box]).T
    return len(crop.inside(corners)) == len(corners)


def _is_small(part: NDArray[np.bool_]) -> bool:
    """Return whether an object is small and not cut off by the crop."""
    size, inner = int(part.sum()), int(part[1:-1, 1:-1, 1:-1].sum())
    return _MIN_VOX <= size <= SMALL and size - inner <= _MAX_FACE_FRACTION * size
