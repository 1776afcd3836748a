"""What is drawn beside the slice that it lies on."""

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.slice_annotations import MARK_MM, View, marks_of

THICK = Grid((40, 40, 10), np.diag([1.0, 1.0, 8.0, 1.0]))


def shown(mark_mm, point_mm, plane=Plane.AXIAL, grid=THICK):
    board = Board(marks=(mark_mm,), grid=grid, opened=True)
    tile = Tile(MrSequence.T1C, plane)
    return bool(marks_of(View(board, tile, Viewpoint(point_mm, point_mm))))


@pytest.mark.parametrize("offset_mm", [-3.9, -3.2, 0.0, 3.2, 3.9])
@pytest.mark.parametrize("from_mm", [-3.9, 0.0, 3.9])
def test_a_mark_is_shown_on_the_thick_slice_that_it_lies_on(offset_mm, from_mm):
    """A slice of 8 mm did not show what lies 3.2 mm from its middle, and no other did."""
    assert shown((5.0, 5.0, 32.0 + offset_mm), (9.0, 9.0, 32.0 + from_mm))


def test_a_mark_on_another_slice_is_shown_within_its_reach_alone():
    assert shown((5.0, 5.0, 36.5), (9.0, 9.0, 36.5 - MARK_MM))
    assert not shown((5.0, 5.0, 36.5), (9.0, 9.0, 36.5 - MARK_MM - 0.1))
    assert not shown((5.0, 5.0, 5.0), (9.0, 8.1, 5.0), Plane.CORONAL)


def test_a_mark_beyond_the_images_is_not_drawn_on_their_last_slice():
    assert not shown((5.0, 5.0, 90.0), (9.0, 9.0, 72.0))
    assert not shown((5.0, 5.0, -20.0), (9.0, 9.0, 0.0))
    assert not shown((5.0, 5.0, 20.0), (9.0, 9.0, 32.0), grid=None)
