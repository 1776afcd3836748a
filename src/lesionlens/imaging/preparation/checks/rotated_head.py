"""Detect a head that is rotated relative to what its headers say, by its brain.

Arrays that were saved with a made-up affine, such as an identity, often lie so. After half a turn
two axes are reversed, left and right among them, and no sequence contradicts another one: the shape
of the brain shows it. Those of sagittal or coronal slices have their axes swapped: the brain's
shape and its white matter must both fit the template better after turning, and better than if the
head nods, as a tilted head or a part of one may fit better in shape alone. Which of these turns it
is cannot be told if the head nods, nor which side is left. A mirrored head has the same shape and
is not detected.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.labels import MrSequence
from lesionlens.base.masks import dice
from lesionlens.base.records.study import Images, QualityCheck, failed_check
from lesionlens.imaging.preparation.checks.laterality_check import mutual_information
from lesionlens.imaging.preparation.resampling import HALF
from lesionlens.imaging.preparation.tissue_template import load_template

_POINTS = 40
"""Samples along each axis."""
_ENDS = (0.2, 99.8)
"""Percentiles at which the brain ends: single voxels beyond do not count."""
HALF_TURN_ABOVE = 0.02
"""Gain in Dice from which a half-turn is reported.

Measured with seventeen people: at most -.04 as they lie, so at least .04 after half a turn; at most
-.02 with a fifth of the brain cut off or tilted by 15 degrees, and .01 tilted by 30.
"""
_HALF_TURNS = {
    (0, 1): "left and right, front and back",
    (0, 2): "left and right, top and bottom",
    (1, 2): "front and back, top and bottom",
}
"""Reversed axes of each half-turn."""
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

Points = NDArray[np.float64]
"""(3, N) voxels."""
Kind = TypeVar("Kind", bound=np.generic)
Turn = tuple[tuple[int, ...], tuple[int, ...]]
"""For each axis of the upright head, the axis as stored, and 1 if that is reversed."""
UPRIGHT: Turn = ((0, 1, 2), (0, 0, 0))


def _is_rotation(turn: Turn) -> bool:
    order, flips = turn
    return bool(np.linalg.det(np.eye(3)[list(order)]) * (-1) ** sum(flips) > 0)


QUARTER_TURNS: tuple[Turn, ...] = tuple(
    turn
    for turn in product(permutations(range(3)), product((0, 1), repeat=3))
    if turn[0] != UPRIGHT[0] and _is_rotation(turn)
)
"""The twenty rotations that swap axes."""


def check(images: Images, brain: Mask) -> QualityCheck | None:
    """Compare a brain with the template's, as it lies and after each turn; None if it lies upright.

    Parameters
    ----------
    images : mapping of MrSequence to (I, J, K) float32
        On the grid of `brain`, which is axis-aligned RAS+.
    """
    if not brain.any():
        return None
    return quarter_turn(images, brain) or half_turn(brain)


def quarter_turn(images: Images, brain: Mask) -> QualityCheck | None:
    """Compare a brain with the template's after each turn that swaps axes.

    None if the brain fits best before, or nods; or if T1c is the only image: enhancement can look
    like the white matter of a rotated head (one of eighteen people, nodding by 20 degrees).
    """
    if set(images) == {MrSequence.T1C}:
        return None
    template = load_template()
    template_points, points = _cube(template.mask > HALF), _cube(brain)
    expected = _sampled(template.mask, template_points) > HALF
    mask = _sampled(brain, points) > HALF
    shapes = {turn: dice(expected, rotated(mask, turn)) for turn in QUARTER_TURNS}
    best = max(QUARTER_TURNS, key=shapes.__getitem__)
    if shapes[best] - dice(expected, mask) <= SHAPE_ABOVE:
        return None
    white = _sampled(template.white, template_points)
    smoothed = [_smoothed(values, brain, points) for values in images.values()]

    def information(places: Points, turn: Turn) -> float:
        inside = expected & rotated(_sampled(brain, places) > HALF, turn)
        found = (rotated(_sampled(values, places), turn)[inside] for values in smoothed)
        return sum(mutual_information(white[inside], values, _BINS) for values in found)

    most = information(points, best)
    for degrees in PITCHES:
        places = _pitched(points, degrees)
        gain = shapes[best] - dice(expected, _sampled(brain, places) > HALF)
        if gain <= SHAPE_ABOVE or most <= (1 + CONTENT_ABOVE) * information(places, UPRIGHT):
            return None
    return failed_check(
        "orientation",
        "The head seems to be rotated by a quarter turn relative to the headers (axes swapped), "
        "as after saving with an arbitrary affine. Check the sides before you rely on them.",
    )


def rotated(values: NDArray[Kind], turn: Turn) -> NDArray[Kind]:
    """Return an array with its axes in the order of the upright head, a view."""
    order, flips = turn
    return np.flip(values.transpose(order), tuple(axis for axis in range(3) if flips[axis]))


def _cube(mask: Mask) -> Points:
    """Return points that fill a cube about a brain, scaled by its volume."""
    reach = _REACH * (3 / 4 / np.pi * int(mask.sum())) ** (1 / 3)
    steps = np.linspace(-reach, reach, _POINTS)
    return _lattice([steps + centre for centre in _ends_of(mask).mean(axis=1)])


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


def half_turn(brain: Mask) -> QualityCheck | None:
    """Compare a brain's shape with the template's after each half-turn; None if it fits worse."""
    template, scaled = _scaled(load_template().mask > HALF), _scaled(brain)
    gains = {
        axes: dice(template, np.flip(scaled, axes)) - dice(template, scaled) for axes in _HALF_TURNS
    }
    best = max(gains, key=lambda axes: gains[axes])
    if gains[best] <= HALF_TURN_ABOVE:
        return None
    return failed_check(
        "orientation",
        "The head seems to be rotated by half a turn relative to the headers "
        f"({_HALF_TURNS[best]} swapped), as after saving with an arbitrary affine. Check the "
        "sides before you rely on them.",
    )


def _scaled(mask: Mask) -> Mask:
    sides = [np.linspace(low, high, _POINTS) for low, high in _ends_of(mask)]
    return np.asarray(_sampled(mask, _lattice(sides)) > HALF)


def _lattice(coordinates: Sequence[NDArray[np.float64]]) -> Points:
    """Return the points, (3, N) in C order, with all combinations of coordinates of three axes."""
    return np.stack(np.meshgrid(*coordinates, indexing="ij")).reshape(3, -1)


def _ends_of(brain: Mask) -> Points:
    """Return where a brain begins and ends along each axis, (3, 2) voxels."""
    counts = (brain.sum((1, 2)), brain.sum((0, 2)), brain.sum((0, 1)))  # voxels in each
    return np.array([np.percentile(np.repeat(np.arange(len(n)), n), _ENDS) for n in counts])


def _sampled(values: NDArray[np.generic], points: Points) -> Floats:
    """Interpolate an array linearly at `_POINTS` cubed points; returns that cube."""
    samples = ndimage.map_coordinates(values.astype(np.float32), points, order=1)
    return np.asarray(samples.reshape((_POINTS,) * 3), dtype=np.float32)
