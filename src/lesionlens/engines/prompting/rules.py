"""Rules for which voxels a response to prompts may change.

They operate on masks and probabilities in the crop around the prompts, without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import TOUCHING, Box, clipped_box
from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import Points, PromptRequest
from lesionlens.network.prompt.distances import distances_to

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
REACH_MM = 40.0
"""Maximum distance from a prompt at which an existing outline changes."""
DEPTHS: dict[Region | None, float] = {
    Region.WT: 8.0, Region.TC: 6.0, Region.ET: 6.0, None: 6.0}  # fmt: skip
"""Reach of a prompt as a multiple of its depth in the error, by the prompted region: the middle of
a large error is far from the outline, that of a small one is close to it."""
FACES = ndimage.generate_binary_structure(3, 1)
"""26- and 6-connectivity."""
_SURER = 0.1  # required additional certainty at the reach compared with the prompt
_MIN_PROBABILITY = 0.05  # probability below which nothing stands out
_NEAR_MM = 3.0
_BESIDE_VOX = 2  # a component as near as this to a prompt is joined to it
_MIN_MM = 2.0  # minimum reach
_SCRIBBLE = 3  # voxels from which what lies together is a scribble
_SCRIBBLE_SHARE = 2 / 3
"""Reach of a scribble as a share of that of a point as deep, if that is more than half of its
length: a line shows how far the error extends, a point does not."""
_ADDED, _MIN_ADDED = 4, 100
"""A prompt adds at most this multiple of the outline's voxels, of which at least so many count."""


def refused(
    found: str,
    expected: str,
    next_step: str = "Point at the middle of the lesion, or of what is wrong",
) -> UnusableInputError:
    """Return the error for prompts that cannot be answered."""
    return UnusableInputError(found=found, expected=expected, next_step=next_step)


def outside_brain() -> UnusableInputError:
    """Return the error for a prompt on what the networks do not see."""
    return refused(
        "a prompt outside the brain",
        "prompts within the brain's outline",
        "Point inside it, and paint what lies beyond it with a brush",
    )


def part_of(mask: Mask, points: Points) -> Mask:
    """Return the components of a mask that contain one of the points."""
    return _connected_to(marks(points, mask.shape), mask)


def _connected_to(seeds: Mask, mask: Mask, structure: Mask = TOUCHING) -> Mask:
    """Return the components of a mask that contain a seed."""
    parts, count = ndimage.label(mask, structure)
    keep = np.zeros(count + 1, bool)
    keep[parts[seeds]] = True
    keep[0] = False
    return np.asarray(keep[parts])


def lowered_threshold(chance: Floats, wanted: Points) -> Floats:
    """Lower the threshold to the probability at the prompts, if that is below one half."""
    highest = 0.0
    for point in wanted[is_inside(wanted, chance.shape)]:
        near = tuple(slice(max(0, int(p - _NEAR_MM)), int(p + _NEAR_MM) + 1) for p in point)
        highest = max(highest, float(chance[near].max()))
    if highest < _MIN_PROBABILITY:
        raise refused("no visible contrast at this point", "a prompt inside a visible structure")
    if highest >= 0.6:
        return chance
    level = 0.6 * highest
    shifted = np.clip(chance, 1e-6, 1 - 1e-6)
    odds = shifted / (1 - shifted) * ((1 - level) / level)
    return np.asarray(np.where(chance > 0, odds / (1 + odds), 0), np.float32)


def joined(chance: Floats, wanted: Points, lesion: Mask | None) -> Floats:
    """Keep the component connected to the prompts, with its soft border."""
    drawn = chance >= 0.5
    near = marks(wanted, chance.shape)
    for point in wanted[is_inside(wanted, chance.shape)]:
        near[tuple(slice(max(0, p - _BESIDE_VOX), p + _BESIDE_VOX + 1) for p in point)] = True
    seeds = near if lesion is None else near | lesion
    return without(chance, drawn & ~_connected_to(seeds, drawn))


def without(chance: Floats, apart: Mask) -> Floats:
    """Lower the probability of voxels that are not part of the object to below one half."""
    return np.asarray(np.where(apart, np.minimum(chance, 0.49), chance), np.float32)


def is_inside(points: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which of (N, 3) voxels lie in an array of this shape; (N,) bool."""
    return np.asarray(((points >= 0) & (points < np.array(shape))).all(1))


def marks(points: Points, shape: tuple[int, ...]) -> Mask:
    """Mark (N, 3) voxels in an array of this shape; points outside are ignored."""
    out = np.zeros(shape, bool)
    out[tuple(points[is_inside(points, shape)].T)] = True
    return out


def contradicting(request: PromptRequest, outline: Mask) -> Points:
    """Return the (N, 3) prompts that contradict an outline."""
    wanted, unwanted = request.foreground, request.background
    return np.concatenate([wanted[~outline[tuple(wanted.T)]], unwanted[outline[tuple(unwanted.T)]]])


@dataclass(frozen=True, slots=True)
class Error:
    """A scribble, or points of one sign, that contradict an outline."""

    points: Points
    """(N, 3) voxels of the volume."""
    belongs: bool
    """Whether they are foreground prompts."""
    depth_mm: float
    """Distance from the outline's border: the median of a scribble, the largest of points."""
    reach_mm: float
    """Maximum distance from them at which the outline may change."""
    opposite: Points = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    """(N, 3) prompts of the other sign, if a region is named: what is nearer to one of them does
    not change. An object without a name is less known, and its prompts may reach past others."""


def errors(outline: Mask, group: Points, request: PromptRequest) -> tuple[Error, ...]:
    """Return the contradicting points by sign, and each scribble, with their depth and reach.

    Parameters
    ----------
    outline : (I, J, K) bool
        Voxels of 1 mm.
    group : (N, 3) int64
        Prompts that contradict it.
    request : PromptRequest
        Tells foreground from background prompts.
    """
    wanted = {tuple(p) for p in request.foreground.tolist()}
    multiple, found = DEPTHS[request.region], []
    for belongs in (True, False):
        prompts = np.array([p for p in group if (tuple(p) in wanted) == belongs]).reshape(-1, 3)
        points, scribbles = _apart(prompts)
        opposite = request.background if belongs else request.foreground
        opposite = opposite if request.region is not None else opposite[:0]
        if len(points):
            depth = float(_depths(outline, points, belongs).max())
            found.append(Error(points, belongs, depth, _bounded(multiple * depth), opposite))
        for line in scribbles:
            depth = float(np.median(_depths(outline, line, belongs)))
            shown = max(_SCRIBBLE_SHARE * multiple * depth, float(np.ptp(line, axis=0).max()) / 2)
            reach = _bounded(min(multiple * depth, shown))
            found.append(Error(line, belongs, depth, reach, opposite))
    return tuple(found)


def _bounded(reach: float) -> float:
    return float(np.clip(reach, _MIN_MM, REACH_MM))


def _apart(prompts: Points) -> tuple[Points, list[Points]]:
    """Separate (N, 3) voxels into points and lines, which may have gaps of two voxels."""
    if not len(prompts):
        return prompts, []
    here = prompts - prompts.min(0) + 1
    i, j, k = here.max(0) + 2
    near = ndimage.binary_dilation(marks(here, (i, j, k)), TOUCHING)
    parts, count = ndimage.label(near, TOUCHING)
    own = parts[tuple(here.T)]
    sizes = np.bincount(own, minlength=count + 1)
    lines = [prompts[own == n] for n in range(1, count + 1) if sizes[n] >= _SCRIBBLE]
    return prompts[sizes[own] < _SCRIBBLE], lines


def _depths(outline: Mask, points: Points, belongs: bool) -> NDArray[np.float64]:
    """Return the distance of each point from the border, at most `REACH_MM`."""
    for margin in (REACH_MM / 8, REACH_MM / 3, REACH_MM):
        box = clipped_box(points.min(0) - margin, points.max(0) + margin, outline.shape)
        wrong = outline[box] != belongs
        if not wrong.all():
            far = ndimage.distance_transform_edt(wrong)
            depths = far[tuple((points - [side.start for side in box]).T)]
            if depths.max() <= margin:
                return np.asarray(depths, np.float64)
    return np.full(len(points), REACH_MM)


def may_change(chance: Floats, outline: Mask, found: Sequence[Error], box: Box) -> Mask:
    """Return which voxels of a crop may change: connected to a prompt, of its sign, near it."""
    corner = np.array([side.start for side in box])
    before = outline[box]
    free = np.zeros_like(before)
    for error in found:
        here = marks(error.points - corner, before.shape)
        far = distances_to(np.argwhere(here), here.shape)
        least = (0.5 + _SURER * far / error.reach_mm).astype(np.float32)
        sure = (chance if error.belongs else 1 - chance) - least
        agreed = sure >= 0 if error.belongs else sure > 0
        change = (before != error.belongs) & (far <= error.reach_mm) & agreed
        opposite = error.opposite - corner
        opposite = opposite[is_inside(opposite, before.shape)]
        if len(opposite):
            change &= far <= distances_to(opposite, before.shape)
        if error.belongs:
            change = _limited_to_certain(
                change, sure, _ADDED * max(_MIN_ADDED, int(np.count_nonzero(outline)))
            )
        free |= _connected_to(here, change | here, FACES)
    return free


def _limited_to_certain(change: Mask, sure: Floats, most: int) -> Mask:
    if np.count_nonzero(change) <= most:
        return change
    return np.asarray(change & (sure >= np.partition(sure[change], -most)[-most]))
