"""Lengths, angles and grey values by hand, without a window."""

from dataclasses import replace

import numpy as np
import pytest
from tests.helpers.analysed_head import FakeResult

from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.measures import MeasureKind
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
    acts.move_measure(len(measures) - 1, len(measures[-1].points) - 1, end)
    acts.end_measure()


def measures(acts):
    return acts.session.state.choices.views.measures


def drawn(acts, at, fill=None):
    """What is drawn on the axial slice through a point."""
    series = acts.session.state.study.series[MrSequence.T1C]
    data = np.zeros(series.grid.shape, np.float32) if fill is None else fill
    artist = TilePainter({MrSequence.T1C: OrientedVolume.of(data, series.grid)})
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
    acts.begin_measure(at, last_visible=seen)
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


def test_an_angle_of_one_arm_waits_on_its_own_slice_and_for_its_own_tool(acts):
    acts.choose_measure(MeasureKind.ANGLE)
    drag(acts, (10.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    click(acts, (9.0, 2.0, 30.0), seen=False)  # another slice
    assert [one.points[0] for one in measures(acts)] == [(9.0, 2.0, 30.0)]
    drag(acts, (10.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    acts.choose_measure(MeasureKind.ANGLE)
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


def test_a_candidate_without_diameters_says_so(acts, analysis):
    first, *others = analysis.findings.candidates
    bare = replace(first, longest_axial_diameter_mm=None, perpendicular_diameter_mm=None)
    analysis = replace(analysis, findings=replace(analysis.findings, candidates=(bare, *others)))
    acts.session.analysed(FakeResult(analysis), overlays_of(analysis))
    acts.session.go_to_candidate(bare.id)
    acts.toggle_rulers()
    assert acts.session.state.message == "The diameters of this candidate could not be measured."
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


def test_isolines_are_switched_on_and_off(acts):
    for isolines in (True, False):
        acts.toggle_isolines()
        assert acts.session.state.choices.views.isolines is isolines


def test_a_study_of_one_sequence_says_that_there_is_no_other(acts, analysis):
    """S and I did nothing, without a word."""
    t1c = {MrSequence.T1C: analysis.study.series[MrSequence.T1C]}
    acts.next_sequence()
    assert acts.session.state.message == ""
    acts.session.open(replace(analysis.study, series=t1c))
    for act in (acts.next_sequence, lambda: acts.hold_comparison(True)):
        acts.session.notify("")
        act()
        assert acts.session.state.message == "The study has only one sequence."
        assert acts.session.state.declined
    assert not acts.session.state.choices.views.swapped
