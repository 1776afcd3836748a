"""Detect one image under the names of two sequences, as it is or as a processed copy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Images

ONE_IMAGE = 0.9999
"""Correlation at which two images are the same; T1 and T1c of one person reach .95."""
ONE_DETAIL = 0.95
"""Correlation of fine detail from which one image is a copy of the other.

Measured: at most .62 in the 108 pairs of nineteen people's sequences. Copies of theirs have .98 and
more if corrected for shading or compressed in contrast, .93 to .97 if smoothed by 0.6 mm, .93 to
.99 with 2% of noise, and .94 and less if resampled by half a voxel.
"""
_DETAIL = 5
"""Width in voxels of the neighbourhood whose mean is subtracted from a voxel to get its detail."""
_STEP = 4
"""Every so-many-th axial plane is compared."""
_MIN_VOXELS = 500


def refuse_one_image_twice(channels: Images, brain: Mask) -> None:
    """Refuse the same image under two names, even if rescaled.

    Raises
    ------
    UnusableInputError
        Two sequences are the same image within the brain.
    """
    every_second = (slice(None, None, 2),) * 3
    inside = brain[every_second]
    values = {s: image[every_second][inside] for s, image in channels.items()}
    for (first, second), correlation in _correlations(values).items():
        if abs(correlation) > ONE_IMAGE:
            raise UnusableInputError(
                found="one image under two names: "
                f"{first.display_name} and {second.display_name} are the same",
                expected="a different image for each sequence",
                next_step="Name the right file of each, or leave out the one that is missing",
            )


def copies(channels: Images, brain: Mask) -> tuple[MrSequence, MrSequence] | None:
    """Return two sequences of which one is a processed copy of the other, or None.

    Two acquisitions differ in noise, vessels and flow, and so in their fine detail; a copy that was
    smoothed, rescaled or corrected keeps it. The images are on one grid of about 1 mm.
    """
    planes = (slice(None), slice(None), slice(None, None, _STEP))
    disc = np.ones((_DETAIL, _DETAIL, 1), bool)
    inside = ndimage.binary_erosion(brain[planes], disc)
    if int(inside.sum()) < _MIN_VOXELS:
        return None
    detail = {}
    for sequence, image in channels.items():
        values = image[planes]
        detail[sequence] = (values - ndimage.uniform_filter(values, disc.shape))[inside]
    correlations = _correlations(detail)
    pair = max(correlations, key=lambda names: correlations[names])
    return pair if correlations[pair] > ONE_DETAIL else None


def _correlations(values: Images) -> dict[tuple[MrSequence, MrSequence], float]:
    """Return the correlation of each pair of intensity vectors; 0 if one is constant."""
    centred_by_sequence = {}
    for sequence, vector in values.items():
        centred = vector.astype(np.float64)
        centred_by_sequence[sequence] = centred - centred.mean()
    result = {}
    for first, second in combinations(centred_by_sequence, 2):
        a, b = centred_by_sequence[first], centred_by_sequence[second]
        norm = float(np.sqrt((a @ a) * (b @ b)))
        result[first, second] = float(a @ b) / norm if norm > 0 else 0.0
    return result
