"""A box or a lasso lies on the slice that it was drawn on, however that slice is tilted."""

import numpy as np
import pytest

from lesionlens.base.grid import Grid
from lesionlens.base.labels import PromptKind
from lesionlens.base.records.prompts import Prompts
from lesionlens.napari.model.choices.gestures import Gesture, gesture_of, traced
from lesionlens.napari.model.choices.prompted import voxels_of

GRID = Grid(
    (80, 90, 70), np.array([[1, 0, 0, -40], [0, 1, 0, -45], [0, 0, 1, -35], [0, 0, 0, 1.0]])
)
RADIUS_MM = 10.0


def on_slice(tilt_deg, turn_deg=0.0):
    """Return the function from points of a slice through the origin to mm, and its normal."""
    a, b = np.deg2rad([tilt_deg, turn_deg])
    right = np.array([np.cos(b), 0.0, -np.sin(b)])
    down = np.array([0.0, np.cos(a), np.sin(a)])
    down -= right * (down @ right)
    down /= np.linalg.norm(down)
    return (lambda at: tuple(at[0] * right + at[1] * down)), np.cross(right, down)


def box(half_mm, place):
    way = traced([(-half_mm, -half_mm), (half_mm, half_mm)], {"Shift"}, is_drag=True)
    return gesture_of([place(at) for at in way], {"Shift"}, is_drag=True)


def lasso(radius_mm, place):
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return Gesture(
        PromptKind.LASSO,
        True,
        [place((radius_mm * np.cos(t), radius_mm * np.sin(t))) for t in turns],
    )


@pytest.mark.parametrize(("tilt", "turn"), [(3.0, 0.0), (18.0, 0.0), (18.0, 9.0), (40.0, 0.0)])
@pytest.mark.parametrize("drawn", [box, lasso])
def test_prompts_lie_on_a_tilted_slice(drawn, tilt, turn):
    """A box was background above and below its middle, within the lesion; a lasso lay flat."""
    place, normal = on_slice(tilt, turn)
    foreground, background = (GRID.to_mm(v) for v in voxels_of(drawn(12.0, place), GRID))
    for found in (foreground, background):
        assert len(found)
        assert np.abs(found @ normal).max() <= 1.0
    assert np.linalg.norm(foreground, axis=1).max() < RADIUS_MM
    assert np.linalg.norm(background, axis=1).min() > RADIUS_MM


def test_on_a_slice_of_the_grid_they_are_those_of_python():
    place, _ = on_slice(0.0)
    corners = GRID.nearest_voxel([place((-12, -12)), place((12, 12))]).tolist()
    line = GRID.nearest_voxel(lasso(12.0, place).path_mm).tolist()
    for gesture, prompts in (
        (box(12.0, place), Prompts.of(box=corners)),
        (lasso(12.0, place), Prompts.of(lasso=line)),
    ):
        for found, belongs in zip(voxels_of(gesture, GRID), (True, False), strict=True):
            np.testing.assert_array_equal(found, prompts.voxels(foreground=belongs))


@pytest.mark.parametrize("tilt", [0.0, 18.0])
def test_a_box_that_begins_outside_the_grid_is_still_a_box(tilt):
    """It was a foreground point at the corner that lay inside."""
    place, _ = on_slice(tilt)
    way = traced([(-44.0, -6.0), (-20.0, 6.0)], {"Shift"}, is_drag=True)
    gesture = gesture_of([place(at) for at in way], {"Shift"}, is_drag=True)
    foreground, background = voxels_of(gesture, GRID)
    assert GRID.to_mm(foreground)[0] == pytest.approx(place((-32.0, 0.0)), abs=1.0)
    assert GRID.contains(background).all()
    assert len(background)


def test_a_fast_lasso_of_three_corners_lies_on_a_tilted_slice_too():
    place, normal = on_slice(18.0, 9.0)
    corners = [place(at) for at in ((-12, -10), (12, -10), (0, 14))]
    foreground, background = voxels_of(Gesture(PromptKind.LASSO, True, corners), GRID)
    assert len(foreground)
    assert len(background)
    assert np.abs(GRID.to_mm(np.concatenate([foreground, background])) @ normal).max() <= 1.0


@pytest.mark.parametrize("tilt", [0.0, 18.0])
@pytest.mark.parametrize("along", [(1.0, 0.0), (0.0, 1.0)])
def test_a_straight_lasso_has_no_background(along, tilt):
    """On a slice of the grid it lay across that slice, on a tilted one beyond the line's ends."""
    place, _ = on_slice(tilt)
    corners = [place((length * along[0], length * along[1])) for length in (0.0, 4.0, 12.0, 6.0)]
    foreground, background = voxels_of(Gesture(PromptKind.LASSO, True, corners), GRID)
    assert len(foreground) >= 12
    assert not len(background)
