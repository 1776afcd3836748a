"""Lines over the image can be told apart, by colour-blind readers too."""

from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from lesionlens.base.labels import ReviewState
from lesionlens.napari.colours import BOX_COLOUR, MARK_COLOUR
from lesionlens.napari.model.screen.drawing import (
    DOUBT_COLOUR,
    ORIGINAL_COLOUR,
    SECOND_COLOUR,
)
from lesionlens.napari.model.wording.review_signs import STATE_COLOURS

VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
"""Of linear sRGB: Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1."""
READERS = {STATE_COLOURS[ReviewState.EDITED], DOUBT_COLOUR, MARK_COLOUR, SECOND_COLOUR}
LINES = {*STATE_COLOURS.values(), *READERS, ORIGINAL_COLOUR, BOX_COLOUR}
"""What may lie over one picture; what was flagged earlier is outlined in a picture of its own."""


def seen(colour, vision):
    """A colour as CIELAB, as it is seen."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(VISIONS[vision]) @ linear, 0.0, 1.0)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(rgb[None, None])[0, 0]


@pytest.mark.parametrize("vision", VISIONS)
def test_what_readers_draw_and_doubt_is_told_from_every_other_line(vision):
    pairs = [pair for pair in combinations(sorted(LINES), 2) if READERS & set(pair)]
    far = {pair: deltaE_ciede2000(*(seen(one, vision) for one in pair)) for pair in pairs}
    assert len(LINES) == 10
    assert {pair: by for pair, by in far.items() if by < 12.5} == {}
