"""Detect a head that lies half a turn away from what its headers say, by the shape of its brain.

Arrays that were saved with a made-up affine, such as an identity, often lie so: two axes are
reversed, left and right among them, and no sequence contradicts another one. A mirrored head has
the same shape and is not detected.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from lesionlens.base.geometry import Mask
from lesionlens.base.masks import dice
from lesionlens.base.records.study import QualityCheck, failed_check
from lesionlens.imaging.preparation.checks.brain_shape import POINTS, ends_of, sampled
from lesionlens.imaging.preparation.resampling import HALF
from lesionlens.imaging.preparation.tissue_template import load_template

TURNED_ABOVE = 0.02
"""Gain in Dice from which a half-turn is reported.

Measured with seventeen people: at most -.04 as they lie, so at least .04 after half a turn; at most
-.02 with a fifth of the brain cut off or tilted by 15 degrees, and .01 tilted by 30.
"""
_TURNS = {
    (0, 1): "left and right, front and back",
    (0, 2): "left and right, top and bottom",
    (1, 2): "front and back, top and bottom",
}
"""Reversed axes of each half-turn."""


def half_turn(brain: Mask) -> QualityCheck | None:
    """Compare a brain's shape with the template's, as it lies and after each half-turn.

    The grid is axis-aligned RAS+. None if the brain fits best as it lies.
    """
    if not brain.any():
        return None
    template, scaled = _scaled(load_template().mask > HALF), _scaled(brain)
    gains = {
        axes: dice(template, np.flip(scaled, axes)) - dice(template, scaled) for axes in _TURNS
    }
    best = max(gains, key=lambda axes: gains[axes])
    if gains[best] <= TURNED_ABOVE:
        return None
    return failed_check(
        "orientation",
        f"The head seems to lie half a turn away from what the headers say ({_TURNS[best]} "
        f"exchanged), as after saving with an arbitrary affine. Check the sides before you rely "
        f"on them.",
    )


def _scaled(mask: Mask) -> Mask:
    sides = [np.linspace(low, high, POINTS) for low, high in ends_of(mask)]
    return np.asarray(sampled(mask, np.array(list(product(*sides))).T) > HALF)
