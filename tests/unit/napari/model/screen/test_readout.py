"""The value below a view, where an image has no value."""

import numpy as np

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import OrientedVolume
from lesionlens.napari.model.screen.board import Tile
from lesionlens.napari.model.screen.drawing import TilePainter

SHAPE = (40, 40, 40)
TILE = Tile(MrSequence.T1C, Plane.AXIAL)
MIDDLE = (20.0, 20.0, 20.0)


def artist(data) -> TilePainter:
    return TilePainter({MrSequence.T1C: OrientedVolume.of(data, Grid(SHAPE, np.eye(4)))})


def test_where_an_image_has_no_value_none_is_read_off():
    data = np.ones(SHAPE, np.float32)
    data[20, 20, 20] = np.nan
    assert artist(data).value(TILE, MIDDLE) == "no value  at  x 20  y 20  z 20 mm"


def test_a_voxel_beside_one_without_a_value_has_its_own():
    """ "no value" was stated of it."""
    data = np.full(SHAPE, 5.0, np.float32)
    data[:, :, 22:] = np.nan
    data[20, 20, 21] = 900.0
    seen = artist(data)
    above = (20.0, 20.0, 21.0)
    assert seen.value(TILE, above) == "900  at  x 20  y 20  z 21 mm"
    assert seen.value(TILE, (20.0, 20.0, 22.0)).startswith("no value")
