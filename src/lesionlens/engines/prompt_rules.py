"""Rules for which voxels a response to prompts may change.

They operate on masks and probabilities in the crop around the prompts, without torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Box
from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import Points, PromptRequest

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
REACH_MM: dict[Region | None, float] = {
    Region.WT: 24.0, Region.TC: 16.0, Region.ET: 12.0, None: 16.0}  # fmt: skip
"""Maximum distance from a prompt at which an existing outline changes, by the prompted region; also
limited to the size of its nearest part.
"""
TOUCHING = np.ones((3, 3, 3), bool)
"""26-connectivity."""
_SURER = 0.15  # required additional certainty at that distance compared with the prompt
_LEAST = 0.05  # probability below which nothing stands out
_NEAR_MM = 3.0
_CHANGED = 0.35  # maximum change per prompt, as a share of the outline in the crop
_DEEP = 3.0  # or this many balls around the prompt that reach the outline's border
_LEAST_MM = 4.0  # minimum reach


def refused(
    found: str,
    expected: str,
    next_step: str = "Point at the middle of the lesion, or of what is wrong",
) -> UnusableInputError:
    """Return the error for prompts that cannot be answered."""
    return UnusableInputError(found=found, expected=expected, next_step=next_step)


def part_of(mask: Mask, points: Points) -> Mask:
    """Return the components of a mask that contain one of the points."""
    parts, count = ndimage.label(mask, TOUCHING)
    within = points[((points >= 0) & (points < np.array(mask.shape))).all(1)]
    keep = np.zeros(count + 1, bool)
    keep[parts[tuple(within.T)]] = True
    keep[0] = False
    return np.asarray(keep[parts])


def standing_out(chance: Floats, wanted: Points) -> Floats:
    """Lower the threshold to the probability at the prompts, if that is below one half."""
    inside = wanted[((wanted >= 0) & (wanted < np.array(chance.shape))).all(1)]
    highest = 0.0
    for point in inside:
        near = tuple(slice(max(0, int(p - _NEAR_MM)), int(p + _NEAR_MM) + 1) for p in point)
        highest = max(highest, float(chance[near].max()))
    if highest < _LEAST:
        raise refused(
            "nothing that stands out at this place", "a prompt inside something that does"
        )
    if highest >= 0.6:
        return chance
    level = 0.6 * highest
    shifted = np.clip(chance, 1e-6, 1 - 1e-6)
    odds = shifted / (1 - shifted) * ((1 - level) / level)
    return np.asarray(np.where(chance > 0, odds / (1 + odds), 0), np.float32)


def joined(chance: Floats, wanted: Points, lesion: Mask | None) -> Floats:
    """Keep the component connected to the prompts, with its soft border."""
    drawn = chance >= 0.5
    near = ndimage.binary_dilation(marks(wanted, chance.shape), TOUCHING, iterations=2)
    parts, count = ndimage.label(drawn, TOUCHING)
    keep = np.zeros(count + 1, bool)
    keep[parts[near]] = True
    if lesion is not None:
        keep[parts[lesion]] = True
    keep[0] = False
    apart = drawn & ~keep[parts]
    return np.asarray(np.where(apart, np.minimum(chance, 0.49), chance), np.float32)


def marks(points: Points, shape: tuple[int, ...]) -> Mask:
    """Mark (N, 3) voxels in an array of this shape; points outside are ignored."""
    out = np.zeros(shape, bool)
    within = points[((points >= 0) & (points < np.array(shape))).all(1)]
    out[tuple(within.T)] = True
    return out


def may_change(
    chance: Floats, outline: Mask, group: Points, asked: PromptRequest, box: Box
) -> Mask:
    """Return which voxels of a crop may change: connected to a prompt, of its sign, near it."""
    corner = np.array([side.start for side in box])
    before = outline[box]
    wanted = {tuple(p) for p in asked.wanted.tolist()}
    free = np.zeros_like(before)
    for belongs in (True, False):
        points = np.array([p for p in group if (tuple(p) in wanted) == belongs]).reshape(-1, 3)
        if not len(points):
            continue
        here = marks(points - corner, before.shape)
        far = ndimage.distance_transform_edt(~here)
        reach = _reach(before, far, REACH_MM[asked.region])
        least = (0.5 + _SURER * far / reach).astype(np.float32)
        change = ((chance >= least) & ~before) if belongs else ((1 - chance > least) & before)
        change &= far <= reach
        sure = (chance if belongs else 1 - chance) - least
        depth = float(far[before == belongs].min()) if (before == belongs).any() else np.inf
        change = _bounded(change, sure, before, depth)
        parts, count = ndimage.label(change | here)
        keep = np.zeros(count + 1, bool)
        keep[parts[here]] = True
        keep[0] = False
        free |= keep[parts]
    return free


def _bounded(change: Mask, sure: Floats, outline: Mask, depth: float) -> Mask:
    """Limit a large change to its most certain voxels."""
    ball = _DEEP * 4 / 3 * np.pi * depth**3
    most = max(ball, _CHANGED * np.count_nonzero(outline), 1)
    if not outline.any() or np.count_nonzero(change) <= most:
        return change
    return np.asarray(change & (sure >= np.partition(sure[change], -int(most))[-int(most)]))


def _reach(outline: Mask, far: Floats, most: float) -> float:
    """Limit the reach to the size of the outline's component nearest to the prompt."""
    if not outline.any():
        return most
    parts, _ = ndimage.label(outline, TOUCHING)
    nearest = int(parts.flat[np.where(outline, far, np.inf).argmin()])
    if float(far[parts == nearest].min()) > most:
        return most  # another object
    sides = ndimage.find_objects(parts, max_label=nearest)[nearest - 1]
    return float(np.clip(max(side.stop - side.start for side in sides), _LEAST_MM, most))
