"""Detect a head that lies a quarter turn, or two, away from what its headers say.

Arrays of sagittal or coronal slices that were saved with a made-up affine, such as an identity, lie
so: their axes are exchanged. The brain's shape and its white matter must both fit the template
better after turning, and better than if the head nods: a tilted head or a part of one may fit
better in shape alone. Which turn it is cannot be told if the head nods, nor which side is left.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.masks import dice
from lesionlens.base.records.study import Images, QualityCheck, failed_check
from lesionlens.imaging.preparation.checks.brain_shape import POINTS, Points, ends_of, sampled
from lesionlens.imaging.preparation.checks.laterality_check import mutual_information
from lesionlens.imaging.preparation.resampling import HALF
from lesionlens.imaging.preparation.tissue_template import load_template

SHAPE_ABOVE = 0.02
"""Gain in Dice from which a turn may be reported. Measured in seventeen brains as they lie: at most
-.03, so at least .03 after a turn; up to .12 if they nod by 20 or 30 degrees.
"""
CONTENT_ABOVE = 0.3
"""Relative gain in mutual information with the white matter from which it is. Measured with
eighteen people: 50 of 57 turns are recognised, none falsely, nodding by up to 20 degrees or not.
"""
PITCHES = (-25.0, 0.0, 25.0)
"""Degrees by which a head may nod as it lies."""
_REACH = 1.45
"""Half the edge of the sampled cube, in radii of a ball of the brain's volume."""
_BINS = 12

Kind = TypeVar("Kind", bound=np.generic)
Turn = tuple[tuple[int, ...], tuple[int, ...]]
"""For each axis of the upright head, the axis as stored, and 1 if that is reversed."""
UPRIGHT: Turn = ((0, 1, 2), (0, 0, 0))


def _is_rotation(turn: Turn) -> bool:
    order, flips = turn
    return bool(np.linalg.det(np.eye(3)[list(order)]) * (-1) ** sum(flips) > 0)


TURNS: tuple[Turn, ...] = tuple(
    turn
    for turn in product(permutations(range(3)), product((0, 1), repeat=3))
    if turn[0] != UPRIGHT[0] and _is_rotation(turn)
)
"""The twenty rotations that exchange axes."""


def quarter_turn(images: Images, brain: Mask) -> QualityCheck | None:
    """Compare a brain with the template's, as it lies and after each turn that exchanges axes.

    The grid is axis-aligned RAS+. None if the brain fits best as it lies, or nods; or if T1c is the
    only image: enhancement can look like the white matter of a turned head (one of eighteen people,
    nodding by 20 degrees).

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        On the grid of `brain`.
    """
    if not brain.any() or set(images) == {MrSequence.T1C}:
        return None
    template = load_template()
    template_points, points = _cube(template.mask > HALF), _cube(brain)
    expected = sampled(template.mask, template_points) > HALF
    mask = sampled(brain, points) > HALF
    shapes = {turn: dice(expected, turned(mask, turn)) for turn in TURNS}
    best = max(TURNS, key=shapes.__getitem__)
    if shapes[best] - dice(expected, mask) <= SHAPE_ABOVE:
        return None
    white = sampled(template.white, template_points)
    smoothed = [_smoothed(values, brain, points) for values in images.values()]

    def information(places: Points, turn: Turn) -> float:
        inside = expected & turned(sampled(brain, places) > HALF, turn)
        found = (turned(sampled(values, places), turn)[inside] for values in smoothed)
        return sum(mutual_information(white[inside], values, _BINS) for values in found)

    most = information(points, best)
    for degrees in PITCHES:
        places = _pitched(points, degrees)
        gain = shapes[best] - dice(expected, sampled(brain, places) > HALF)
        if gain <= SHAPE_ABOVE or most <= (1 + CONTENT_ABOVE) * information(places, UPRIGHT):
            return None
    return failed_check(
        "orientation",
        "The head seems to lie a quarter turn away from what the headers say (axes exchanged), as "
        "after saving with an arbitrary affine. Check the sides before you rely on them.",
    )


def turned(values: NDArray[Kind], turn: Turn) -> NDArray[Kind]:
    """Return an array with its axes in the order of the upright head, a view."""
    order, flips = turn
    return np.flip(values.transpose(order), tuple(axis for axis in range(3) if flips[axis]))


def _cube(mask: Mask) -> Points:
    """Return points that fill a cube about a brain, scaled by its volume."""
    reach = _REACH * (3 / 4 / np.pi * int(mask.sum())) ** (1 / 3)
    steps = np.linspace(-reach, reach, POINTS)
    return np.array(list(product(*(steps + centre for centre in ends_of(mask).mean(axis=1))))).T


def _pitched(points: Points, degrees: float) -> Points:
    """Turn points about the axis from left to right."""
    centre = points.mean(axis=1, keepdims=True)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ (points - centre) + centre)


def _smoothed(values: Floats, brain: Mask, points: Points) -> Floats:
    """Smooth an image to the distance of the points, within the brain: its edge says nothing."""
    sigma = float(points[2, 1] - points[2, 0]) / 2
    inside = brain.astype(np.float32)
    total, weight = (
        ndimage.gaussian_filter(array, sigma, truncate=2.0) for array in (values * inside, inside)
    )
    return np.asarray(total / np.maximum(weight, 0.05), dtype=np.float32)
