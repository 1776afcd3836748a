"""What prompts may change: rules on masks and probabilities of 1 mm voxels, without a network.

A first outline is the component at the prompts (`object_at`). A correction changes only voxels that
are connected to a contradicting prompt, follow it, and lie within its reach (`errors`,
`changeable`). `shifted_logits` lets an analysis follow the prompts. Points are (N, 3) voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import TOUCHING, Box, Floats, Mask, clipped_box, is_inside
from lesionlens.base.labels import Region
from lesionlens.base.numerics import distances_to, logit
from lesionlens.base.records.prompts import Points, PromptRequest

MAX_REACH_MM = 40.0
"""Distance from a prompt beyond which no outline changes."""
DEPTHS: dict[Region | None, float] = {
    Region.WT: 8.0, Region.TC: 6.0, Region.ET: 6.0, None: 6.0}  # fmt: skip
"""Reach of a prompt, by the prompted region, as a multiple of its depth in the error: the middle of
a large error is far from the outline."""
_MIN_REACH_MM = 2.0
_FACES = ndimage.generate_binary_structure(3, 1)
_EXTRA_CERTAINTY = 0.1  # required at the reach, compared with the prompt
_MIN_PROBABILITY = 0.05  # below it nothing stands out
_SEARCH_VOX, _JOIN_VOX = 3, 2  # around a prompt
_MAX_GROWTH, _MIN_GROWTH_VOX = 4, 100  # a prompt adds at most four times the outline
_POSITION_MM, _APPEARANCE = 20.0, 1.5  # length scales; the second in z-scores
_MARGIN, _MAX_SHIFT, _NOISE, _SMOOTH_MM = 0.2, 3.0, 0.05, 0.7
_MAX_PROMPTS = 24


def outside_brain() -> UnusableInputError:
    """Return the error for a prompt where the network sees nothing."""
    return UnusableInputError(
        "The prompt is outside the brain.",
        hint="Point inside the brain, and paint what lies beyond it with a brush.",
    )


def check_prompts(request: PromptRequest, brain: Mask) -> None:
    """Refuse prompts that contradict each other, are outside the brain, or lack a foreground."""
    foreground, background = request.foreground, request.background
    if not len(foreground) and (request.outline is None or not len(background)):
        raise UnusableInputError(
            "There is no foreground prompt." if len(background) else "There is no prompt.",
            hint="Give a point or a scribble inside the structure, or where the outline is wrong.",
        )
    if not {*map(tuple, foreground.tolist())}.isdisjoint(map(tuple, background.tolist())):
        raise UnusableInputError(
            "A voxel is prompted as both foreground and background.",
            hint="Leave one of the prompts out, or move them apart; voxels are of 1 mm.",
        )
    inside = is_inside(foreground, brain.shape).all() and is_inside(background, brain.shape).all()
    if not inside or not brain[tuple(foreground.T)].all():
        raise outside_brain()


def mark_voxels(points: Points, shape: tuple[int, ...]) -> Mask:
    """Return a mask of this shape with these voxels; those outside are ignored."""
    out = np.zeros(shape, bool)
    out[tuple(points[is_inside(points, shape)].T)] = True
    return out


def connected_to(seeds: Mask, mask: Mask, structure: Mask = TOUCHING) -> Mask:
    """Return the components of a mask that contain a seed."""
    parts, count = ndimage.label(mask, structure)
    keep = np.zeros(count + 1, bool)
    keep[parts[seeds]] = True
    keep[0] = False
    return np.asarray(keep[parts])


def components_at(mask: Mask, points: Points) -> Mask:
    """Return the components of a mask that contain one of the points."""
    return connected_to(mark_voxels(points, mask.shape), mask)


def without(probability: Floats, excluded: Mask) -> Floats:
    """Lower the probability of voxels that are not part of the object to below one half."""
    return np.asarray(np.where(excluded, np.minimum(probability, 0.49), probability), np.float32)


def object_at(probability: Floats, foreground: Points, lesion: Mask | None) -> Floats:
    """Keep the component at the prompts; a faint one is outlined at a lower threshold.

    The threshold is 0.6 of the highest probability near the prompts, if that is below 0.6. If even
    that is tiny, raise UnusableInputError. Components in `lesion` are kept too.
    """
    highest, seeds = 0.0, np.zeros(probability.shape, bool)
    for point in foreground[is_inside(foreground, probability.shape)]:
        search, join = (
            tuple(slice(max(0, p - n), p + n + 1) for p in point) for n in (_SEARCH_VOX, _JOIN_VOX)
        )
        highest, seeds[join] = max(highest, float(probability[search].max())), True
    if highest < _MIN_PROBABILITY:
        raise UnusableInputError(
            "Nothing stands out at this point.", hint="Point at the middle of a visible structure."
        )
    if highest < 0.6:
        threshold, clipped = 0.6 * highest, np.clip(probability, 1e-6, 1 - 1e-6)
        odds = clipped / (1 - clipped) * ((1 - threshold) / threshold)
        probability = np.where(probability > 0, odds / (1 + odds), 0).astype(np.float32)
    mask = probability >= 0.5
    return without(
        probability, mask & ~connected_to(seeds if lesion is None else seeds | lesion, mask)
    )


@dataclass(frozen=True, slots=True)
class Error:
    """Prompts of one sign that contradict an outline.

    `depth_mm` is their median distance from its border, `reach_mm` the distance within which it may
    change. Voxels nearer to one of `opposite` do not change, if a region is named.
    """

    points: Points
    is_foreground: bool
    depth_mm: float
    reach_mm: float
    opposite: Points


def errors(outline: Mask, request: PromptRequest) -> tuple[Error, ...]:
    """Return the prompts that contradict an outline, foreground first."""
    found = []
    for is_foreground, points, opposite in (
        (True, request.foreground, request.background),
        (False, request.background, request.foreground),
    ):
        wrong = points[outline[tuple(points.T)] != is_foreground]
        if len(wrong):
            depth = _depth(outline, wrong, is_foreground=is_foreground)
            reach = float(np.clip(DEPTHS[request.region] * depth, _MIN_REACH_MM, MAX_REACH_MM))
            named = opposite if request.region is not None else opposite[:0]
            found.append(Error(wrong, is_foreground, depth, reach, named))
    return tuple(found)


def _depth(outline: Mask, points: Points, *, is_foreground: bool) -> float:
    """Return the median distance of points from the border, at most `MAX_REACH_MM`."""
    for margin in (MAX_REACH_MM / 8, MAX_REACH_MM / 3, MAX_REACH_MM):  # usually it is small
        box = clipped_box(points.min(0) - margin, points.max(0) + margin, outline.shape)
        differs = outline[box] != is_foreground
        if not differs.all():
            distance = ndimage.distance_transform_edt(differs)
            depths = distance[tuple((points - [side.start for side in box]).T)]
            if depths.max() <= margin:
                return float(np.median(depths))
    return MAX_REACH_MM


def changeable(
    probability: Floats, outline: Mask, prompt_errors: tuple[Error, ...], box: Box
) -> Mask:
    """Return which voxels of `box` may change: connected to a prompt, of its sign, near it.

    `probability` is that of the box, `outline` of the whole grid.
    """
    corner, before = np.array([side.start for side in box]), outline[box]
    allowed = np.zeros_like(before)
    for error in prompt_errors:
        seeds = mark_voxels(error.points - corner, before.shape)
        distance = distances_to(np.argwhere(seeds), before.shape)
        certainty = probability if error.is_foreground else 1 - probability
        margin = certainty - (0.5 + _EXTRA_CERTAINTY * distance / error.reach_mm)
        agrees = margin >= 0 if error.is_foreground else margin > 0
        change = (before != error.is_foreground) & (distance <= error.reach_mm) & agrees
        opposite = error.opposite - corner
        opposite = opposite[is_inside(opposite, before.shape)]
        if len(opposite):
            change &= distance <= distances_to(opposite, before.shape)
        largest = _MAX_GROWTH * max(_MIN_GROWTH_VOX, int(np.count_nonzero(outline)))
        if error.is_foreground and np.count_nonzero(change) > largest:
            change &= margin >= np.partition(margin[change], -largest)[-largest]
        allowed |= connected_to(seeds, change | seeds, _FACES)
    return allowed


def shifted_logits(
    probability: Floats, smooth: Floats, outline: Mask, foreground: Points, background: Points
) -> Floats:
    """Shift an analysis so that it follows the prompts, also at similar voxels near them.

    The shift is the mean of a Gaussian process over position and appearance (Rasmussen and Williams
    2006, equation 2.25). Logits are zero at the outline's border and positive inside.

    Parameters
    ----------
    probability : (I, J, K) float32
    smooth : (C, I, J, K) float32
        z-scores with little noise, voxels of 1 mm.
    """
    logits = ndimage.gaussian_filter(logit(probability, 1e-3), _SMOOTH_MM)
    border = ndimage.binary_dilation(outline) & ~ndimage.binary_erosion(outline)
    if border.any():
        logits -= np.median(logits[border])
    points = np.concatenate([foreground, background])
    signs = np.repeat([1.0, -1.0], [len(foreground), len(background)])
    inside = is_inside(points, outline.shape)
    step = max(1, -(-int(inside.sum()) // _MAX_PROMPTS))
    points, signs = points[inside][::step], signs[inside][::step]
    if not len(points):
        return np.asarray(logits, np.float32)
    index = tuple(points.T)
    shortfall = np.clip(_MARGIN - signs * logits[index], 0, _MAX_SHIFT) * signs
    kernels = np.stack([_kernel(point, smooth) for point in points])
    at_prompts = kernels[(slice(None), *index)].astype(np.float64)
    weights = np.linalg.solve(at_prompts + _NOISE * np.eye(len(points)), shortfall)
    shift = np.tensordot(weights.astype(np.float32), kernels, 1)
    return np.asarray(logits + shift * (np.abs(logits) <= 2 * _MAX_SHIFT), np.float32)


def _kernel(point: Points, smooth: Floats) -> Floats:
    """Return the similarity of every voxel to one, in position and appearance: 0 to 1."""
    squares = np.zeros(smooth.shape[1:], np.float32)
    for image in smooth:
        squares += ((image - image[tuple(point)]) / np.float32(_APPEARANCE)) ** 2
    for axis, position in enumerate(point):
        distance = (np.arange(squares.shape[axis]) - position).astype(np.float32) / _POSITION_MM
        squares += np.expand_dims(distance**2, tuple(n for n in range(3) if n != axis))
    return np.asarray(np.exp(squares * np.float32(-0.5)))
