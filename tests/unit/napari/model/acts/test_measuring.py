"""Lengths, angles and grey values by hand, without a window."""

import numpy as np
import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.measures import MeasureKind
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import Picture
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.screen.board import Tile
from lesionlens.napari.model.screen.drawing import TilePainter
from lesionlens.napari.model.screen.view_model import view_model_of


@pytest.fixture
def acts(analysis):
    session = ReviewSession()
    session.open(analysis.study)
    return ViewActs(session)


def drag(acts, start, end):
    acts.begin_measure(start)
    measures = acts.session.state.choices.views.measures
    acts.move_measure(len(measures) - 1, len(measures[-1].points) - 1, end)
    acts.end_measure()


def measures(acts):
    return acts.session.state.choices.views.measures


def drawn(acts, at, fill=None):
    """What is drawn on the axial slice through a point."""
    series = acts.session.state.study.series[MrSequence.T1C]
    data = np.zeros(series.grid.shape, np.float32) if fill is None else fill
    artist = TilePainter({MrSequence.T1C: Picture.of(data, series.grid)})
    board = view_model_of(acts.session.state).board
    place = Viewpoint(at, at, 1.0)
    return artist.draw(board, Tile(MrSequence.T1C, Plane.AXIAL), place).measures


def test_a_ruler_is_in_millimetres_and_on_its_own_slice_alone(acts):
    acts.choose_measure(MeasureKind.RULER)
    assert acts.session.state.choices.views.layout is Layout.ONE
    grid = acts.session.state.study.series[MrSequence.T1C].grid
    x, y, z = grid.to_mm((np.asarray(grid.shape) - 1) // 2)
    drag(acts, (x, y, z), (x + 30.0, y + 40.0, z))
    (one,) = drawn(acts, (x, y, z))
    assert one.lines == ("50.0 mm",)
    assert drawn(acts, (x, y, z + 3 * float(grid.spacing_mm.max()))) == ()


def test_an_angle_has_two_drags(acts):
    acts.choose_measure(MeasureKind.ANGLE)
    drag(acts, (10.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    assert measures(acts)[0].text == ""
    drag(acts, (5.0, 5.0, 0.0), (10.0, 10.0, 0.0))
    assert [one.text for one in measures(acts)] == ["45°"]


def test_grey_values_are_those_of_the_voxels_inside(acts):
    acts.choose_measure(MeasureKind.REGION)
    grid = acts.session.state.study.series[MrSequence.T1C].grid
    middle = (np.asarray(grid.shape) - 1) // 2
    x, y, z = (float(v) for v in grid.to_mm(middle))
    drag(acts, (x - 10, y - 10, z), (x + 10, y + 10, z))

    data = np.full(grid.shape, 7.0, np.float32)
    data[tuple(middle)] = 100.0
    (one,) = drawn(acts, (x, y, z), data)
    assert one.lines[0] == "T1c"
    assert "min 7 · max 100" in one.lines
    assert any(line.startswith("314 mm²") for line in one.lines)
    acts.toggle_slab()
    (projected,) = drawn(acts, (x, y, z), data)
    assert projected.lines[0] == "T1c · MIP of 10 mm"


def click(acts, at, seen=True):
    acts.begin_measure(at, seen)
    acts.end_measure()


def test_three_clicks_make_an_angle_and_two_a_length(acts):
    acts.choose_measure(MeasureKind.ANGLE)
    for at in ((10.0, 0.0, 0.0), (0.0, 0.0, 0.0), (10.0, 10.0, 0.0)):
        assert [one.text for one in measures(acts)] in ([], [""])
        click(acts, at)
    acts.choose_measure(MeasureKind.RULER)
    for at in ((0.0, 0.0, 0.0), (0.0, 7.0, 0.0)):
        click(acts, at)
    assert [one.text for one in measures(acts)] == ["45°", "7.0 mm"]


def test_a_first_point_waits_on_its_own_slice_and_for_its_own_tool(acts):
    acts.choose_measure(MeasureKind.RULER)
    click(acts, (1.0, 2.0, 3.0))
    click(acts, (9.0, 2.0, 30.0), seen=False)  # another slice
    assert [one.points[0] for one in measures(acts)] == [(9.0, 2.0, 30.0)]
    acts.choose_measure(MeasureKind.REGION)
    assert measures(acts) == ()


def test_the_key_puts_the_tool_away_and_the_last_measure_goes_first(acts):
    acts.choose_measure(MeasureKind.RULER)
    drag(acts, (0.0, 0.0, 0.0), (9.0, 0.0, 0.0))
    drag(acts, (0.0, 0.0, 0.0), (5.0, 0.0, 0.0))
    acts.choose_measure(MeasureKind.RULER)
    assert acts.session.state.choices.views.measuring is None
    acts.begin_measure((1.0, 1.0, 1.0))
    assert len(measures(acts)) == 2
    acts.remove_measure()
    assert [one.text for one in measures(acts)] == ["9.0 mm"]
