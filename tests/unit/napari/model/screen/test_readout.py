"""The value below a view, and the intensities of a region, where an image has no value."""

from dataclasses import replace

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.choices.views import Layout, ViewChoices
from lesionlens.napari.model.geometry.measures import Measure, MeasureKind
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import Frame, OrientedVolume
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.drawing import TilePainter

SHAPE = (40, 40, 40)
TILE = Tile(MrSequence.T1C, Plane.AXIAL)
MIDDLE = (20.0, 20.0, 20.0)


def turned(degrees: float) -> np.ndarray:
    """Return an affine of 1 mm that is tilted about the patient's left-right axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1.0]])


def board(**views) -> Board:
    return Board(frame=Frame.patient(), views=ViewChoices(layout=Layout.ONE, **views), opened=True)


def artist(data, affine=None) -> TilePainter:
    return TilePainter(
        {
            MrSequence.T1C: OrientedVolume.of(
                data, Grid(SHAPE, np.eye(4) if affine is None else affine)
            )
        }
    )


def region(first, second) -> tuple[Measure, ...]:
    return (Measure(MeasureKind.REGION, (first, second)),)


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_the_value_of_a_projection_is_the_one_that_is_seen_and_lies_where_it_is(degrees):
    """The value of the middle slice was stated, below a vessel that lies 4 mm higher."""
    data, affine = np.full(SHAPE, 5.0, np.float32), turned(degrees)
    grid = Grid(SHAPE, affine)
    above = (20.0, 20.0, 24.0)
    i, j, k = grid.nearest_voxel(above).tolist()
    data[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 900.0
    seen = artist(data, affine)
    assert seen.value(board(), TILE, MIDDLE) == "5  at  x 20  y 20  z 20 mm"
    words = seen.value(board(slab=True), TILE, MIDDLE)
    drawn = seen.draw(board(slab=True), TILE, Viewpoint(MIDDLE, MIDDLE)).image.data
    assert np.nanmax(drawn) == 900.0
    value, _, rest = words.partition(" (brightest)  at  ")
    assert float(value) == pytest.approx(900.0)
    assert rest.endswith("mm")
    assert abs(float(rest.split()[5]) - above[2]) <= 1.0


def test_a_projection_beyond_the_image_has_a_position_and_no_value():
    seen = artist(np.ones(SHAPE, np.float32))
    assert seen.value(board(slab=True), TILE, (99.0, 20.0, 20.0)) == "x 99  y 20  z 20 mm"


def test_where_an_image_has_no_value_none_is_read_off():
    data = np.ones(SHAPE, np.float32)
    data[20, 20, 20] = np.nan
    assert artist(data).value(board(), TILE, MIDDLE) == "no value  at  x 20  y 20  z 20 mm"


def test_a_region_leaves_out_voxels_without_a_value_and_says_so():
    """The subtraction was filled with a dark value there, which was averaged."""
    data = np.full(SHAPE, 7.0, np.float32)
    data[:20] = np.nan
    measures = region((14.5, 14.5, 20.0), (25.5, 25.5, 20.0))
    place = Viewpoint(MIDDLE, MIDDLE)
    (one,) = artist(data).draw(board(measures=measures), TILE, place).measures
    assert one.lines[1:3] == ("mean 7 · SD 0", "min 7 · max 7")
    assert one.lines[-1].endswith("more without a value")
    data[:] = np.nan
    (none,) = artist(data).draw(board(measures=measures), TILE, place).measures
    assert none.lines[-1] == "no value inside"


def test_a_region_beyond_a_tilted_image_averages_no_made_up_zeros():
    data = np.full(SHAPE, 7.0, np.float32)
    seen = artist(data, turned(30.0))
    measures = region((2.0, -25.0, 20.0), (38.0, 50.0, 20.0))
    (one,) = seen.draw(board(measures=measures), TILE, Viewpoint(MIDDLE, MIDDLE)).measures
    assert "min 7 · max 7" in one.lines
    assert one.lines[-1].endswith("more without a value")


@pytest.mark.parametrize(
    ("degrees", "counted", "deviation"), [(0.0, "voxels", 10.0), (12.0, "interpolated values", 7.0)]
)
def test_a_region_of_interpolated_values_is_said_to_be_one(degrees, counted, deviation):
    """On a tilted map of noise the SD was smaller than that of its voxels, of so many 'voxels'."""
    data = np.random.default_rng(0).normal(100.0, 10.0, SHAPE).astype(np.float32)
    measures, place = region((8.0, 12.0, 20.0), (32.0, 28.0, 20.0)), Viewpoint(MIDDLE, MIDDLE)
    seen = artist(data, turned(degrees))
    (one,) = seen.draw(board(measures=measures), TILE, place).measures
    assert float(one.lines[1].rpartition(" ")[2]) == pytest.approx(deviation, rel=0.15)
    assert one.lines[-1].endswith(f" {counted}")


def test_nothing_is_measured_on_a_slice_beyond_the_image():
    """The slice below the lowest one was taken for one of zeros, as its number is 0."""
    below = (20.0, 20.0, -1.0)
    measures = region((15.0, 15.0, -1.0), (25.0, 25.0, -1.0))
    seen = artist(np.ones(SHAPE, np.float32)).draw(
        replace(board(), views=ViewChoices(measures=measures)), TILE, Viewpoint(below, below)
    )
    assert seen.measures == ()


def test_a_voxel_beside_one_without_a_value_has_its_own():
    """ "no value" was stated of it, and a projection left it out."""
    data = np.full(SHAPE, 5.0, np.float32)
    data[:, :, 22:] = np.nan
    data[20, 20, 21] = 900.0
    seen = artist(data)
    above = (20.0, 20.0, 21.0)
    assert seen.value(board(), TILE, above) == "900  at  x 20  y 20  z 21 mm"
    assert seen.value(board(slab=True), TILE, MIDDLE).startswith("900 (brightest)  at")
    assert seen.value(board(), TILE, (20.0, 20.0, 22.0)).startswith("no value")
