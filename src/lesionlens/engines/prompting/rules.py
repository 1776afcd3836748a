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
from lesionlens.base.geometry import TOUCHING, Box, Floats, Mask, clipped_box, is_inside
from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import Points, PromptRequest
from lesionlens.network.prompt.distances import distances_to

REACH_MM = 40.0
"""Maximum distance from a prompt at which an existing outline changes."""
DEPTHS: dict[Region | None, float] = {
    Region.WT: 8.0, Region.TC: 6.0, Region.ET: 6.0, None: 6.0}  # fmt: skip
"""Reach of a prompt as a multiple of its depth in the error, by the prompted region: the middle of
a large error is far from the outline, that of a small one is close to it."""
FACES = ndimage.generate_binary_structure(3, 1)
"""26- and 6-connectivity."""
_EXTRA_CERTAINTY = 0.1  # required additional certainty at the reach compared with the prompt
_MIN_PROBABILITY = 0.05  # probability below which nothing stands out
_SEARCH_MM = 3.0
_JOIN_VOX = 2  # a component as near as this to a prompt is joined to it
_MIN_REACH_MM = 2.0  # minimum reach
_MIN_SCRIBBLE_VOX = 3  # voxels from which what lies together is a scribble
_SCRIBBLE_REACH_FACTOR = 2 / 3
"""Reach of a scribble as a share of that of a point as deep, if that is more than half of its
length: a line shows how far the error extends, a point does not."""
_MAX_GROWTH, _MIN_GROWTH_VOX = 4, 100
"""A prompt adds at most this multiple of the outline's voxels, of which at least so many count."""


def refused(
    found: str,
    expected: str,
    next_step: str = "Point at the middle of the lesion, or of what is wrong",
) -> UnusableInputError:
    """Return the error for prompts that cannot be answered."""
    return UnusableInputError(found=found, expected=expected, next_step=next_step)


def outside_brain() -> UnusableInputError:
    """Return the error for a prompt outside the brain, where the networks see nothing."""
    return refused(
        "a prompt outside the brain",
        "prompts within the brain's outline",
        "Point inside it, and paint what lies beyond it with a brush",
    )


def components_at(mask: Mask, points: Points) -> Mask:
    """Return the components of a mask that contain one of the points."""
    return connected_to(mark_voxels(points, mask.shape), mask)


def connected_to(seeds: Mask, mask: Mask, structure: Mask = TOUCHING) -> Mask:
    """Return the components of a mask that contain a seed."""
    parts, count = ndimage.label(mask, structure)
    keep = np.zeros(count + 1, bool)
    keep[parts[seeds]] = True
    keep[0] = False
    return np.asarray(keep[parts])


def lowered_threshold(probability: Floats, foreground: Points) -> Floats:
    """Lower the threshold to 0.6 times the probability at the prompts, if that is below 0.6."""
    highest = 0.0
    for point in foreground[is_inside(foreground, probability.shape)]:
        neighbourhood = tuple(
            slice(max(0, int(p - _SEARCH_MM)), int(p + _SEARCH_MM) + 1) for p in point
        )
        highest = max(highest, float(probability[neighbourhood].max()))
    if highest < _MIN_PROBABILITY:
        raise refused("no visible contrast at this point", "a prompt inside a visible structure")
    if highest >= 0.6:
        return probability
    threshold = 0.6 * highest
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    odds = clipped / (1 - clipped) * ((1 - threshold) / threshold)
    return np.asarray(np.where(probability > 0, odds / (1 + odds), 0), np.float32)


def connected_component(probability: Floats, foreground: Points, lesion: Mask | None) -> Floats:
    """Keep the component connected to the prompts, with its soft border."""
    mask = probability >= 0.5
    prompted = mark_voxels(foreground, probability.shape)
    for point in foreground[is_inside(foreground, probability.shape)]:
        prompted[tuple(slice(max(0, p - _JOIN_VOX), p + _JOIN_VOX + 1) for p in point)] = True
    seeds = prompted if lesion is None else prompted | lesion
    return suppressed(probability, mask & ~connected_to(seeds, mask))


def suppressed(probability: Floats, excluded: Mask) -> Floats:
    """Lower the probability of voxels that are not part of the object to below one half."""
    return np.asarray(np.where(excluded, np.minimum(probability, 0.49), probability), np.float32)


def mark_voxels(points: Points, shape: tuple[int, ...]) -> Mask:
    """Mark (N, 3) voxels in an array of this shape; points outside are ignored."""
    out = np.zeros(shape, bool)
    out[tuple(points[is_inside(points, shape)].T)] = True
    return out


def contradicting_prompts(request: PromptRequest, outline: Mask) -> Points:
    """Return the (N, 3) prompts that contradict an outline."""
    foreground, background = request.foreground, request.background
    return np.concatenate(
        [foreground[~outline[tuple(foreground.T)]], background[outline[tuple(background.T)]]]
    )


@dataclass(frozen=True, slots=True)
class Error:
    """A scribble, or points of one sign, that contradict an outline."""

    points: Points
    """(N, 3) voxels of the volume."""
    is_foreground: bool
    """Whether they are foreground prompts."""
    depth_mm: float
    """Distance from the outline's border: the median of a scribble, the largest of points."""
    reach_mm: float
    """Maximum distance from them at which the outline may change."""
    opposite: Points = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    """(N, 3) prompts of the other sign, if a region is named: voxels nearer to one of them do not
    change. If no region is named, a prompt may reach past others."""


def errors(outline: Mask, group: Points, request: PromptRequest) -> tuple[Error, ...]:
    """Return the contradicting points by sign, and each scribble, with their depth and reach.

    Parameters
    ----------
    outline : (I, J, K) bool
        Voxels of 1 mm.
    group : (N, 3) int64
        Prompts that contradict it.
    request : PromptRequest
        Distinguishes foreground and background prompts.
    """
    foreground = {tuple(p) for p in request.foreground.tolist()}
    multiple, result = DEPTHS[request.region], []
    for is_foreground in (True, False):
        prompts = np.array([p for p in group if (tuple(p) in foreground) == is_foreground]).reshape(
            -1, 3
        )
        points, scribbles = _split_scribbles(prompts)
        opposite = request.background if is_foreground else request.foreground
        opposite = opposite if request.region is not None else opposite[:0]
        if len(points):
            depth = float(_depths(outline, points, is_foreground=is_foreground).max())
            result.append(
                Error(points, is_foreground, depth, _clipped_reach(multiple * depth), opposite)
            )
        for line in scribbles:
            depth = float(np.median(_depths(outline, line, is_foreground=is_foreground)))
            scribble_reach = max(
                _SCRIBBLE_REACH_FACTOR * multiple * depth, float(np.ptp(line, axis=0).max()) / 2
            )
            reach = _clipped_reach(min(multiple * depth, scribble_reach))
            result.append(Error(line, is_foreground, depth, reach, opposite))
    return tuple(result)


def _clipped_reach(reach: float) -> float:
    return float(np.clip(reach, _MIN_REACH_MM, REACH_MM))


def _split_scribbles(prompts: Points) -> tuple[Points, list[Points]]:
    """Separate (N, 3) voxels into points and lines, which may have gaps of two voxels."""
    if not len(prompts):
        return prompts, []
    local = prompts - prompts.min(0) + 1
    i, j, k = local.max(0) + 2
    dilated = ndimage.binary_dilation(mark_voxels(local, (i, j, k)), TOUCHING)
    parts, count = ndimage.label(dilated, TOUCHING)
    labels = parts[tuple(local.T)]
    sizes = np.bincount(labels, minlength=count + 1)
    lines = [prompts[labels == n] for n in range(1, count + 1) if sizes[n] >= _MIN_SCRIBBLE_VOX]
    return prompts[sizes[labels] < _MIN_SCRIBBLE_VOX], lines


def _depths(outline: Mask, points: Points, *, is_foreground: bool) -> NDArray[np.float64]:
    """Return the distance of each point from the border, at most `REACH_MM`."""
    for margin in (REACH_MM / 8, REACH_MM / 3, REACH_MM):
        box = clipped_box(points.min(0) - margin, points.max(0) + margin, outline.shape)
        differs = outline[box] != is_foreground
        if not differs.all():
            distance = ndimage.distance_transform_edt(differs)
            depths = distance[tuple((points - [side.start for side in box]).T)]
            if depths.max() <= margin:
                return np.asarray(depths, np.float64)
    return np.full(len(points), REACH_MM)


def changeable_voxels(
    probability: Floats, outline: Mask, prompt_errors: Sequence[Error], box: Box
) -> Mask:
    """Return which voxels of a crop may change: connected to a prompt, of its sign, near it."""
    corner = np.array([side.start for side in box])
    before = outline[box]
    adjustable = np.zeros_like(before)
    for error in prompt_errors:
        seeds = mark_voxels(error.points - corner, before.shape)
        distance = distances_to(np.argwhere(seeds), seeds.shape)
        min_probability = (0.5 + _EXTRA_CERTAINTY * distance / error.reach_mm).astype(np.float32)
        margin = (probability if error.is_foreground else 1 - probability) - min_probability
        agrees = margin >= 0 if error.is_foreground else margin > 0
        change = (before != error.is_foreground) & (distance <= error.reach_mm) & agrees
        opposite = error.opposite - corner
        opposite = opposite[is_inside(opposite, before.shape)]
        if len(opposite):
            change &= distance <= distances_to(opposite, before.shape)
        if error.is_foreground:
            change = _limited_to_certain(
                change, margin, _MAX_GROWTH * max(_MIN_GROWTH_VOX, int(np.count_nonzero(outline)))
            )
        adjustable |= connected_to(seeds, change | seeds, FACES)
    return adjustable


def _limited_to_certain(change: Mask, margin: Floats, max_voxels: int) -> Mask:
    if np.count_nonzero(change) <= max_voxels:
        return change
    return np.asarray(change & (margin >= np.partition(margin[change], -max_voxels)[-max_voxels]))
