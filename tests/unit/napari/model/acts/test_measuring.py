"""Lengths by hand, without a window."""

import numpy as np
import pytest
from tests.helpers.analysed_head import FakeResult

from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.rulers import rulers_of
from lesionlens.napari.model.geometry.slices import OrientedVolume
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.overlays.maps import overlays_of
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
    acts.move_measure(len(measures) - 1, 1, end)
    acts.end_measure()


def measures(acts):
    return acts.session.state.choices.views.measures


def drawn(acts, at):
    """What is drawn on the axial slice through a point."""
    series = acts.session.state.study.series[MrSequence.T1C]
    data = np.zeros(series.grid.shape, np.float32)
    artist = TilePainter({MrSequence.T1C: OrientedVolume.of(data, series.grid)})
    board = view_model_of(acts.session.state).board
    place = Viewpoint(at, at, 1.0)
    return artist.draw(board, Tile(MrSequence.T1C, Plane.AXIAL), place).measures


def test_a_ruler_is_in_millimetres_and_on_its_own_slice_alone(acts):
    acts.measure_length()
    assert acts.session.state.choices.views.layout is Layout.ONE
    grid = acts.session.state.study.series[MrSequence.T1C].grid
    x, y, z = grid.to_mm((np.asarray(grid.shape) - 1) // 2)
    drag(acts, (x, y, z), (x + 30.0, y + 40.0, z))
    (one,) = drawn(acts, (x, y, z))
    assert one.lines == ("50.0 mm",)
    assert drawn(acts, (x, y, z + 3 * float(grid.spacing_mm.max()))) == ()


def click(acts, at, seen=True):
    acts.begin_measure(at, last_visible=seen)
    acts.end_measure()


def test_two_clicks_make_a_length_and_a_first_point_waits_on_its_own_slice(acts):
    acts.measure_length()
    click(acts, (0.0, 0.0, 0.0))
    click(acts, (0.0, 0.0, 9.0), seen=False)
    click(acts, (3.0, 4.0, 9.0))
    assert [one.text for one in measures(acts)] == ["5.0 mm"]


def test_the_key_puts_the_tool_away_and_the_last_measure_goes_first(acts):
    acts.measure_length()
    drag(acts, (0.0, 0.0, 0.0), (9.0, 0.0, 0.0))
    drag(acts, (0.0, 0.0, 0.0), (5.0, 0.0, 0.0))
    acts.measure_length()
    assert acts.session.state.choices.views.measuring is False
    acts.begin_measure((1.0, 1.0, 1.0))
    assert len(measures(acts)) == 2
    acts.remove_measure()
    assert [one.text for one in measures(acts)] == ["9.0 mm"]


def test_the_diameters_of_a_candidate_are_shown_on_their_slice_and_hidden_again(acts, analysis):
    acts.session.analysed(FakeResult(analysis), overlays_of(analysis))
    acts.session.go_to_candidate(1)
    acts.toggle_rulers()
    views = acts.session.state.choices.views
    assert views.rulers
    assert views.layout is not Layout.SINGLE
    longest = rulers_of(analysis, acts.session.state.focused)[0]
    middle = (np.asarray(longest.start) + longest.end) / 2
    np.testing.assert_allclose(acts.viewpoint.current.point_mm, middle)
    acts.toggle_rulers()
    assert not acts.session.state.choices.views.rulers


def test_acquired_slices_are_shown_and_left_again(acts):
    acts.show_layout(Layout.SINGLE)
    acts.toggle_acquired_slices()
    assert acts.shown_layout() is Layout.ONE
    assert acts.session.state.choices.views.acquired
    acts.toggle_acquired_slices()
    assert acts.shown_layout() is Layout.SINGLE
    acts.show_layout(Layout.FOUR)
    for acquired in (False, True):
        acts.toggle_acquired_slices()
        assert acts.session.state.choices.views.acquired is acquired
        assert acts.shown_layout() is Layout.FOUR
