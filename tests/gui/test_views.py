"""Linked views in a real window: one place, one zoom, letters and outlines on every one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from napari.layers import Layer
from napari.settings import get_plugin_settings
from napari.utils.colormaps.standardize_color import transform_color
from qtpy.QtCore import QEvent, QObject, QPoint, QPointF, QRect, QRectF, Qt
from qtpy.QtGui import (
    QCursor,
    QFont,
    QFontMetricsF,
    QImage,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QResizeEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QApplication, QDockWidget, QMessageBox, QToolButton
from tests.gui.window import PATIENCE_MS, canvas, wait

from lesionlens.analysis.findings.measure import diameters
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence, Region, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.run_context import SILENT
from lesionlens.napari.colours import MARK_COLOUR
from lesionlens.napari.dock import open_panel
from lesionlens.napari.loading import layers_of
from lesionlens.napari.model.acts import hanging, views
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import ComparisonImages, Layout, WindowPreset
from lesionlens.napari.model.geometry.measures import MeasureKind, ellipse
from lesionlens.napari.model.geometry.planes import Edges, Plane
from lesionlens.napari.model.geometry.rulers import Ruler, rulers_of
from lesionlens.napari.model.geometry.slices import Frame
from lesionlens.napari.model.overlays.window_level import full_range, limits_of
from lesionlens.napari.model.screen.drawing import Drawing
from lesionlens.napari.viewer import paint, second_window
from lesionlens.napari.viewer.paint import (
    Projection,
    avoid_overlap,
    clamp_to_view,
    identity_row_count,
    identity_row_offset,
    upper_letter_row,
)

_OF_A_PRIOR = ("prior", "slice 75 of 155", "interpolated", "registered", "doubtful", "moved")
SIDES = (("R", "L"), ("A", "P"), ("S", "I"))


@pytest.fixture
def shown(reviewed):
    """The analysed study in a window that is laid out."""
    reviewed.viewer.window.resize(1100, 700)
    reviewed.viewer.show()
    QApplication.processEvents()
    return reviewed


def tiles(panel):
    QApplication.processEvents()
    return panel.views.linked.tiles


def drawn(panel, view):
    return panel.views.linked.drawing(view.tile)


def wheel(view, notches, modifiers=Qt.KeyboardModifier.NoModifier, at=None):
    at = QPointF(view.rect().center()) if at is None else at
    event = QWheelEvent(
        at, view.mapToGlobal(at), QPoint(), QPoint(0, round(120 * notches)),
        Qt.MouseButton.NoButton, modifiers, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(view, event)


def drag(qtbot, view, button, start, end, modifiers=Qt.KeyboardModifier.NoModifier):
    qtbot.mousePress(view, button, modifiers, start)
    move_to(view, button, end, modifiers)
    qtbot.mouseRelease(view, button, modifiers, end)


def double_click(qtbot, view, button):
    qtbot.mouseDClick(view, button)
    qtbot.mouseRelease(view, button)  # or Qt takes it for held ever after


def move_to(view, button, end, modifiers=Qt.KeyboardModifier.NoModifier):
    move = QMouseEvent(
        QEvent.Type.MouseMove, QPointF(end), QPointF(view.mapToGlobal(end)),
        button, button, modifiers,
    )  # fmt: skip
    QApplication.sendEvent(view, move)


def test_a_key_shows_four_sequences_two_or_three_in_a_row_or_three_planes(shown):
    shown.commands.run("four_views")
    views = tiles(shown)
    assert [view.tile.sequence for view in views] == list(MrSequence)
    assert all(view.isVisible() for view in views)
    assert len({(view.x(), view.y()) for view in views}) == 4
    widths = [view.size().width() for view in views]
    assert max(widths) - min(widths) <= 1  # an odd room is split unevenly
    shown.commands.run("four_views")
    assert not shown.views.linked.isVisible()
    assert shown.session.state.choices.views.layout is Layout.SINGLE
    for count in (2, 3):
        shown.actions_.next_row_layout()
        views = tiles(shown)
        assert len(views) == count
        assert len({view.y() for view in views}) == 1
        assert shown.session.state.choices.sequence in {view.tile.sequence for view in views}
    shown.actions_.next_row_layout()
    assert not shown.views.linked.isVisible()
    shown.commands.run("three_planes")
    assert [view.tile.plane for view in tiles(shown)] == list(Plane)
    assert {view.tile.sequence for view in tiles(shown)} == {MrSequence.T1C}


def painted_on(shown, axis):
    """Paint the upper half of an axis white in every sequence."""
    for layer in shown.viewer.layers:
        data = np.zeros(layer.data.shape, np.float32)
        data[(slice(None),) * axis + (slice(data.shape[axis] // 2, None),)] = 1.0
        layer.data = data
    shown.viewer.reset_view()
    shown.actions_.toggle_names()  # what is drawn follows the layers' voxels


def where_white(view):
    """The middle of what is white, right of and below the view's middle."""
    image = view.grab().toImage()
    white = np.argwhere([
        [image.pixelColor(x, y).lightness() > 200 for x in range(0, image.width(), 4)]
        for y in range(0, image.height(), 4)
    ])  # fmt: skip
    assert len(white) > 50
    down, right = white.mean(axis=0) * 4 - (image.height() / 2, image.width() / 2)
    return right, down


def test_letters_on_every_view_name_the_side_that_is_painted_there(shown):
    for layer in shown.viewer.layers:
        layer.contrast_limits = (0.0, 1.0)
    shown.session.choose_overlay(Overlay.OFF)
    layouts = (Layout.PLANES, Layout.FOUR, Layout.ONE)
    for layout, plane, axis in itertools.product(layouts, Plane, range(3)):
        shown.session.choose_plane(plane)
        shown.actions_.show_layout(layout)
        painted_on(shown, axis)
        grows, other = SIDES[axis]
        for view in tiles(shown):
            if axis == {Plane.AXIAL: 2, Plane.CORONAL: 1, Plane.SAGITTAL: 0}[view.tile.plane]:
                continue
            right, down = where_white(view)
            left_letter, right_letter, top, bottom = drawn(shown, view).edges
            if abs(right) > abs(down):
                expected = (other, grows) if right > 0 else (grows, other)
                assert (left_letter, right_letter) == expected, (layout, view.tile, right, down)
            else:
                expected = (other, grows) if down > 0 else (grows, other)
                assert (top, bottom) == expected, (layout, view.tile, right, down)


def check_outlines(shown, candidate):
    """Contour and box lie round the lesion on every view."""
    where = shown.views.linked.board.frame.on_screen
    for view in tiles(shown):
        seen, centre = drawn(shown, view), where(view.tile.plane, candidate.centroid_mm)
        x, y, width, height = seen.box
        lines = [line for _, lines in seen.outlines for line in lines]
        mine = min(lines, key=lambda line: np.linalg.norm(line.mean(axis=0) - centre))
        assert (mine >= (x - 2.5, y - 2.5)).all()
        assert (mine <= (x + width + 2.5, y + height + 2.5)).all()
        np.testing.assert_allclose(mine.mean(axis=0), centre, atol=5.0)


def test_a_candidate_is_centred_outlined_and_fits_in_every_view_zoomed_in_or_not(shown, analysis):
    second = analysis.findings.candidates[1]
    for layout in (Layout.FOUR, Layout.PLANES, Layout.TRIPLE):
        shown.actions_.show_layout(layout)
        shown.session.go_to_candidate(1)
        shown.actions_.viewpoint.move(zoom=40.0)
        shown.commands.run("next_candidate")
        for view in tiles(shown):
            seen = drawn(shown, view)
            to = view.projection(seen)
            place = shown.actions_.viewpoint.current
            assert place.point_mm == place.centre_mm == second.centroid_mm
            middle = to.point(*seen.crosshair)
            assert middle.x() == pytest.approx(view.width() / 2, abs=1)
            assert middle.y() == pytest.approx(view.height() / 2, abs=1)
            box = to.rect(*seen.box)
            assert box.left() >= 0
            assert box.top() >= 0
            assert box.right() <= view.width()
            assert box.bottom() <= view.height()
        check_outlines(shown, second)


def test_overlays_follow_the_choices_in_linked_views(shown):
    shown.commands.run("four_views")
    shown.session.go_to_candidate(1)
    view = tiles(shown)[0]
    assert drawn(shown, view).outlines
    shown.actions_.next_overlay()
    assert drawn(shown, view).map.role == "attention"
    shown.actions_.toggle_isolines()
    assert drawn(shown, view).map.lines
    shown.commands.run("hold_hidden", True)
    hidden = drawn(shown, view)
    assert (hidden.outlines, hidden.map, hidden.box) == ((), None, None)
    shown.commands.run("hold_hidden", False)
    assert drawn(shown, view).outlines


def test_a_click_puts_the_crosshair_there_and_two_show_one_view_alone(shown, qtbot):
    shown.commands.run("three_planes")
    axial, coronal, _ = tiles(shown)
    at = QPoint(axial.width() // 2 + 30, axial.height() // 2 - 20)
    x, y = axial.projection(drawn(shown, axial)).position_mm(QPointF(at))
    qtbot.mouseClick(axial, Qt.MouseButton.LeftButton, pos=at)
    place = shown.actions_.viewpoint.current
    np.testing.assert_allclose(place.point_mm[:2], (-x, -y), atol=0.6)
    assert drawn(shown, coronal).crosshair[0] == pytest.approx(x, abs=0.6)
    shown.views.settle()
    np.testing.assert_allclose(shown.viewer.dims.point, place.point_mm, atol=2.1)
    double_click(qtbot, coronal, Qt.MouseButton.LeftButton)
    assert [view.tile.plane for view in tiles(shown)] == [Plane.CORONAL]
    double_click(qtbot, tiles(shown)[0], Qt.MouseButton.LeftButton)
    assert len(tiles(shown)) == 3


@pytest.mark.slow
def test_a_candidate_gone_to_at_once_leaves_new_views_as_large_as_they_can_be(shown, qtbot):
    for layout in (Layout.PLANES, Layout.ONE, Layout.FOUR, Layout.ONE):
        shown.actions_.show_layout(layout)
        shown.actions_.go_to_candidate(1)
        qtbot.wait(200)
        linked = shown.views.linked
        assert shown.actions_.viewpoint.current.zoom >= 0.98 * linked.fit_zoom()


def test_wheel_and_napari_sliders_scroll_and_control_zooms_about_the_pointer(shown):
    shown.commands.run("four_views")
    view = tiles(shown)[0]
    before = drawn(shown, view).image.number
    wheel(view, 1)
    assert drawn(shown, view).image.number == before + 1
    at = QPointF(view.width() * 0.25, view.height() * 0.3)
    under = view.projection(drawn(shown, view)).position_mm(at)
    wheel(view, 3, Qt.KeyboardModifier.ControlModifier, at)
    np.testing.assert_allclose(
        view.projection(drawn(shown, view)).position_mm(at), under, atol=1e-6
    )
    assert drawn(shown, view).image.number == before + 1
    viewer = shown.viewer
    viewer.dims.set_point(2, 20.0)  # napari's slider
    assert shown.actions_.viewpoint.current.point_mm[2] == pytest.approx(viewer.dims.point[2])
    shown.commands.run("next_slice")
    shown.views.settle()
    assert viewer.dims.point[2] == pytest.approx(
        shown.actions_.viewpoint.current.point_mm[2], abs=2.1
    )
    get_plugin_settings("lesionlens").review.wheel = "zoom"
    zoom = shown.actions_.viewpoint.current.zoom
    wheel(view, 1)
    assert shown.actions_.viewpoint.current.zoom > zoom


def test_a_right_drag_changes_brightness_of_that_sequence_alone(shown, qtbot):
    shown.commands.run("four_views")
    view = next(v for v in tiles(shown) if v.tile.sequence is MrSequence.FLAIR)
    layers = shown.viewer.layers
    before = {name: tuple(layers[name].contrast_limits) for name in ("T1", "FLAIR")}
    middle = view.rect().center()
    drag(qtbot, view, Qt.MouseButton.RightButton, middle, middle + QPoint(60, 0))
    assert tuple(layers["T1"].contrast_limits) == before["T1"]
    low, high = layers["FLAIR"].contrast_limits
    assert high - low > before["FLAIR"][1] - before["FLAIR"][0]


@pytest.mark.parametrize(
    ("button", "held"),
    [
        (Qt.MouseButton.MiddleButton, Qt.KeyboardModifier.NoModifier),
        (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.AltModifier),
    ],
)
def test_a_middle_or_alt_drag_moves_all_views_and_no_crosshair(shown, qtbot, button, held):
    shown.commands.run("four_views")
    view = tiles(shown)[0]
    middle, by = view.rect().center(), QPoint(40, -20)
    crosshair = shown.actions_.viewpoint.current.point_mm
    before = [one._position_mm(QPointF(middle)) for one in tiles(shown)]
    drag(qtbot, view, button, middle, middle + by, held)
    after = [one._position_mm(QPointF(middle + by)) for one in tiles(shown)]
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert shown.actions_.viewpoint.current.point_mm == crosshair


def test_a_right_drag_right_after_a_right_click_changes_brightness_too(shown, qtbot):
    """Qt reports its press as a double click, and the drag did nothing."""
    shown.commands.run("four_views")
    view = tiles(shown)[0]
    layer = shown.viewer.layers[view.tile.sequence.display_name]
    before, middle, right = tuple(layer.contrast_limits), view.rect().center(), Qt.MouseButton(2)
    qtbot.mouseDClick(view, right, pos=middle)
    move_to(view, right, middle + QPoint(60, 0))
    qtbot.mouseRelease(view, right, pos=middle + QPoint(60, 0))
    assert tuple(layer.contrast_limits) != before
    assert all(one.isVisible() for one in tiles(shown)), "no view is shown alone"


def test_presets_of_brightness_reach_the_full_range(shown):
    layer = shown.viewer.layers["T1c"]
    data = np.asarray(layer.data)
    assert layer.contrast_limits_range == pytest.approx(list(full_range(data)))
    for name, window in (
        ("window_wide", WindowPreset.WIDE),
        ("window_brain", WindowPreset.BRAIN),
        ("window_auto", WindowPreset.AUTO),
    ):
        shown.commands.run(name)
        assert tuple(layer.contrast_limits) == pytest.approx(limits_of(data, window))
    assert limits_of(data, WindowPreset.WIDE) == (float(data.min()), float(data.max()))
    assert limits_of(data, WindowPreset.BRAIN) != limits_of(data, WindowPreset.AUTO)


def test_three_dimensions_are_naparis_and_the_views_come_back(shown):
    shown.commands.run("four_views")
    assert len(tiles(shown)) == 4
    shown.viewer.dims.ndisplay = 3
    assert not shown.views.linked.isVisible()
    shown.viewer.dims.ndisplay = 2
    assert shown.views.linked.isVisible()


@pytest.mark.parametrize("name", ["four", "planes", "single"])
def test_a_layout_that_is_chosen_in_three_dimensions_shows_its_slices(shown, name):
    shown.commands.run("four_views")
    shown.viewer.dims.ndisplay = 3
    shown.commands.run(f"layout_{name}")
    assert shown.viewer.dims.ndisplay == 2
    assert shown.views.linked.isVisible() is (name != "single")


@pytest.mark.parametrize(
    ("key", "layout"),
    [
        ("four_views", Layout.FOUR),
        ("next_row_layout", Layout.PAIR),
        ("toggle_slab", Layout.ONE),
        ("toggle_rulers", Layout.ONE),
    ],
)
def test_a_key_that_toggles_a_layout_shows_it_in_three_dimensions(shown, key, layout):
    """Where the layout was chosen already, the single view came, or the next layout, or nothing."""
    shown.actions_.show_layout(layout)
    if key.startswith("toggle"):
        shown.session.go_to_candidate(1)
        shown.commands.run(key)
    shown.viewer.dims.ndisplay = 3
    shown.commands.run(key)
    assert shown.viewer.dims.ndisplay == 2
    views = shown.session.state.choices.views
    assert views.layout is layout
    assert (views.slab, views.rulers) == (key == "toggle_slab", key == "toggle_rulers")
    assert shown.views.linked.isVisible()


def test_a_ruler_that_is_chosen_in_three_dimensions_shows_slices_to_measure_on(shown):
    shown.viewer.dims.ndisplay = 3
    shown.commands.run("measure_length")
    assert shown.viewer.dims.ndisplay == 2
    assert shown.views.linked.isVisible()


def test_views_are_remembered_by_kind_of_study(shown, analysis):
    shown.commands.run("four_views")
    assert hanging.recall(analysis.study) is Layout.FOUR
    shown.session.close()
    for data in layers_of(analysis.study, SILENT):
        shown.viewer.layers.append(Layer.create(*data))
    assert shown.session.state.choices.views.layout is Layout.FOUR
    fewer = replace(analysis.study, series=dict(list(analysis.study.series.items())[:2]))
    assert hanging.recall(fewer) is None


@pytest.mark.parametrize("route", ["the window", "napari's reader"])
def test_a_study_hung_with_another_sequence_first_shows_that(
    panel, analysis, tmp_path, monkeypatch, qtbot, route
):
    """T1c, the reference, lay on top under the caption FLAIR."""
    rules = tmp_path / "hanging.toml"
    rules.write_text('[[hanging]]\nshow = ["flair", "t1c"]\nviews = "single"\n')
    monkeypatch.setattr(hanging, "own_file", lambda: rules)
    layers = panel.viewer.layers
    if route == "the window":
        assert panel.actions_.open(analysis.study.root)
        qtbot.waitUntil(lambda: not panel.jobs.running and len(layers) == 4, timeout=PATIENCE_MS)
        assert layers.selection.active.name == "FLAIR"
    else:
        for data in layers_of(analysis.study, SILENT):
            layers.append(Layer.create(*data))
    assert panel.model.board.scene.sequence is MrSequence.FLAIR
    assert [layer.name for layer in layers if layer.visible] == ["FLAIR"]
    qtbot.waitUntil(lambda: layers.selection.active.name == "FLAIR", timeout=PATIENCE_MS)


class Shows(QObject):
    """Counts how often a widget is shown."""

    times = 0

    def eventFilter(self, watched, event):
        self.times += event.type() == QEvent.Type.Show
        return False


def test_the_next_study_of_the_kind_opens_in_linked_views_at_once(shown, analysis):
    """napari's canvas was shown in between, and painted twice for nobody."""
    shown.commands.run("four_views")
    counted = Shows()
    shown.views.canvas.installEventFilter(counted)
    for data in layers_of(replace(analysis.study), SILENT):
        shown.viewer.layers.append(Layer.create(*data))
    assert shown.session.state.analysis is None
    assert shown.session.state.choices.views.layout is Layout.FOUR
    assert len(tiles(shown)) == 4
    assert counted.times == 0
    shown.views.canvas.removeEventFilter(counted)


def test_the_other_sequence_is_shown_while_its_key_is_held(shown):
    shown.session.choose_sequence(MrSequence.FLAIR)
    shown.actions_.show_layout(Layout.ONE)
    shown.actions_.hold_comparison(True)
    assert tiles(shown)[0].tile.sequence is MrSequence.T1C
    shown.actions_.hold_comparison(False)
    assert tiles(shown)[0].tile.sequence is MrSequence.FLAIR


def test_cine_runs_from_the_last_slice_to_the_first(shown, qtbot):
    shown.commands.run("four_views")
    view = tiles(shown)[0]
    for _ in range(200):
        shown.commands.run("next_slice")
    last = drawn(shown, view).image
    assert last.number == last.count
    shown.actions_.scroll_looped()
    assert drawn(shown, view).image.number == 1
    shown.actions_.toggle_cine()
    qtbot.waitUntil(lambda: drawn(shown, view).image.number > 3, timeout=PATIENCE_MS)
    shown.actions_.toggle_cine()


def test_every_view_act_has_a_button(shown):
    toolbar = shown.views.toolbar
    assert toolbar.isVisible()
    toolbar.layouts[Layout.FOUR].click()
    assert shown.session.state.choices.views.layout is Layout.FOUR
    toolbar.windows[WindowPreset.WIDE].click()
    assert shown.session.state.choices.views.window is WindowPreset.WIDE
    for button in toolbar.switches.values():
        button.click()
        button.click()
    assert shown.session.state.choices.views.layout is Layout.FOUR


def test_buttons_and_slices_stand_by_a_study_that_was_there_before_the_panel(
    viewer, analysis, qtbot
):
    for data in layers_of(analysis.study, SILENT):
        viewer.layers.append(Layer.create(*data))
    panel = open_panel(viewer)
    viewer.window._qt_window.show()
    qtbot.waitUntil(
        lambda: panel.views.toolbar is not None and panel.views.toolbar.isVisible(),
        timeout=PATIENCE_MS,
    )
    assert panel.views.bar.isVisible()
    assert panel.session.state.study is not None


def lit(panel):
    return [layout for layout, one in panel.views.toolbar.layouts.items() if one.isChecked()]


@pytest.mark.slow
def test_the_button_of_the_layout_that_is_seen_is_lit_and_stays_so_when_it_is_clicked(shown):
    toolbar = shown.views.toolbar
    toolbar.layouts[Layout.FOUR].click()
    toolbar.layouts[Layout.FOUR].click()
    toolbar.windows[WindowPreset.AUTO].click()
    assert lit(shown) == [Layout.FOUR]
    assert toolbar.windows[WindowPreset.AUTO].isChecked()


def test_an_outline_is_redrawn_in_the_views_that_stand_or_on_naparis_canvas(shown):
    toolbar = shown.views.toolbar
    shown.commands.run("four_views")
    shown.actions_.go_to_candidate(1)
    shown.commands.run("edit_outline")
    assert shown.session.state.editing is not None
    assert lit(shown) == [Layout.FOUR]
    assert shown.views.linked.isVisible()
    assert not toolbar.switches["toggle_slab"].isEnabled()
    toolbar.layouts[Layout.SINGLE].click()
    assert lit(shown) == [Layout.SINGLE]
    assert shown.viewer.layers.selection.active.mode == "paint"
    shown.commands.run("three_planes")
    assert lit(shown) == [Layout.PLANES]
    assert not toolbar.layouts[Layout.PAIR].isVisible()  # napari's controls need the space
    assert not toolbar.overflow.isHidden()
    toolbar.overflow.menu().aboutToShow.emit()
    offered = {act.text(): act for act in toolbar.overflow.menu().actions()}
    assert set(offered) == {toolbar.switches["toggle_cine"].toolTip()} | {
        toolbar.layouts[one].toolTip()
        for one in (Layout.ONE, Layout.PAIR, Layout.TRIPLE, Layout.FOUR)
    }
    offered[toolbar.layouts[Layout.FOUR].toolTip()].trigger()
    assert lit(shown) == [Layout.FOUR]
    assert shown.session.state.editing is not None
    shown.commands.run("three_planes")
    shown.commands.run("discard_edit")
    assert lit(shown) == [Layout.PLANES]
    assert toolbar.layouts[Layout.FOUR].isEnabled()
    assert toolbar.overflow.isHidden()


@pytest.mark.slow
def test_in_three_dimensions_the_button_of_the_single_view_is_lit(shown):
    shown.commands.run("four_views")
    shown.viewer.dims.ndisplay = 3
    assert lit(shown) == [Layout.SINGLE]
    assert not shown.views.bar.isVisible()
    shown.viewer.dims.ndisplay = 2
    assert lit(shown) == [Layout.FOUR]
    assert shown.views.bar.isVisible()


def test_the_wheel_on_naparis_canvas_scrolls_and_control_zooms(shown):
    viewer = shown.viewer
    before, zoom = viewer.dims.point[2], viewer.scene.camera.zoom

    def turn(*modifiers):
        event = SimpleNamespace(
            delta=(0.0, 1.0), modifiers=modifiers, position=viewer.dims.point, handled=False
        )
        for called in viewer.mouse_wheel_callbacks:
            called(viewer, event)
        return event.handled

    assert turn()
    assert viewer.dims.point[2] == pytest.approx(before + 4.0, abs=2.1)
    assert viewer.scene.camera.zoom == zoom
    assert turn("Control")
    assert viewer.scene.camera.zoom > zoom
    assert "dims_scroll" not in {one.__name__ for one in viewer.mouse_wheel_callbacks}


def test_an_oblique_study_opens_in_the_slices_that_were_acquired(panel, analysis):
    study = analysis.study
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]]
    thick_slices = np.diag([1.0, 1.0, 3.0, 1.0])
    series = {
        name: replace(one, grid=Grid(one.grid.shape, tilt @ one.grid.affine @ thick_slices))
        for name, one in study.series.items()
    }
    oblique = replace(study, series=series)
    for data in layers_of(oblique, SILENT):
        panel.viewer.layers.append(Layer.create(*data))
    panel.viewer.show()
    assert panel.session.state.choices.views.layout is Layout.ONE
    (view,) = tiles(panel)
    seen = drawn(panel, view)
    assert not seen.image.interpolated
    assert seen.image.count == study.series[MrSequence.T1C].grid.shape[2]
    assert "interpolated" not in " ".join(seen.lines)
    bar = panel.views.bar
    assert bar.slider.maximum() == seen.image.count
    assert bar.caption.text() == f"slice {seen.image.number} of {seen.image.count}"
    panel.actions_.show_layout(Layout.SINGLE)
    assert bar.caption.text().endswith("interpolated")
    panel.actions_.show_layout(Layout.FOUR)
    panel.actions_.toggle_acquired_slices()
    lines = drawn(panel, tiles(panel)[0]).lines
    thick = oblique.series[MrSequence.T1C].grid.spacing_mm.max()
    assert lines[-1] == f"interpolated from {thick:.3g} mm slices", "not of those that it steps by"


def test_the_slider_below_the_views_goes_one_step_a_slice_as_acquired(panel, analysis):
    """Thick slices of T2 beside thin ones of T1c: napari's slider counts the thin ones."""
    study = analysis.study
    thin = study.series[MrSequence.T1C]
    i, j, k = thin.grid.shape
    thick_grid = Grid((i, j, k // 4), thin.grid.affine @ np.diag([1.0, 1.0, 4.0, 1.0]))
    data = np.ascontiguousarray(thin.load()[:, :, : k // 4 * 4 : 4])
    thick = replace(study.series[MrSequence.T2], grid=thick_grid, load=lambda: data)
    mixed = replace(study, series={MrSequence.T1C: thin, MrSequence.T2: thick})
    for one in layers_of(mixed, SILENT):
        panel.viewer.layers.append(Layer.create(*one))
    panel.viewer.show()
    panel.session.choose_sequence(MrSequence.T2)
    bar, dims = panel.views.bar, panel.viewer.dims
    assert bar.isVisible()
    assert not panel.viewer.window._qt_viewer.dims.isVisible()
    assert bar.slider.maximum() == k // 4 < dims.nsteps[2]
    seen = []
    for number in range(1, k // 4 + 1):
        bar.slider.setValue(number)
        seen.append(round(dims.point[2], 3))
        assert bar.caption.text() == f"slice {number} of {k // 4}"
    middles = [thick_grid.to_mm((0, 0, number))[2] for number in range(k // 4)]
    assert seen == pytest.approx(middles, abs=0.01)
    panel.commands.run("previous_slice")
    assert bar.slider.value() == k // 4 - 1
    panel.session.choose_sequence(MrSequence.T1C)
    assert bar.slider.maximum() == k
    panel.actions_.close()
    assert not bar.isVisible()
    assert panel.viewer.window._qt_viewer.dims.isVisible()


def test_another_plane_keeps_place_and_zoom(shown):
    viewer = shown.viewer
    shown.session.go_to_candidate(2)
    viewer.scene.camera.zoom = 7.0
    point = tuple(viewer.dims.point)
    shown.actions_.next_plane()
    assert viewer.scene.camera.zoom == pytest.approx(7.0)
    assert tuple(viewer.dims.point) == pytest.approx(point)
    assert viewer.scene.camera.center[-1] == pytest.approx(point[viewer.dims.order[-1]])
    shown.commands.run("four_views")
    shown.session.go_to_candidate(2)
    place = shown.actions_.viewpoint.current
    shown.actions_.next_plane()
    assert shown.actions_.viewpoint.current == place


def test_a_plugin_that_follows_the_pointer_gets_no_move_without_an_event(shown):
    """It failed at each move over a linked view, and with it what LesionLens does there."""
    positions, viewer = [], shown.viewer
    follow = viewer.mouse_move_callbacks.append
    follow(lambda _, event: positions.append(event.position))
    shown.actions_.show_layout(Layout.ONE)
    (view,) = tiles(shown)
    linked, asked = shown.views.linked, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown.actions_, "probe", lambda point, **_: asked.append(point))
        shown.actions_.probing = True
        linked.hovered(view.tile, (3.0, 4.0))
        shown.actions_.probing = False
    viewer.mouse_move_callbacks.pop()
    assert positions == []
    assert asked == [linked._point_at(view.tile, (3.0, 4.0))]


def test_strokes_are_kept_before_dragged_diameters(shown, analysis, qtbot):
    """A dragged end ended the edit, and its strokes were gone."""
    first = analysis.findings.candidates[0]
    shown.session.go_to_candidate(first.id)
    shown.actions_.toggle_rulers()
    shown.commands.run("edit_outline")
    editor = shown.actions_.editor
    assert editor.change(np.where(editor.drawn()[1] == Label.OEDEMA, 0, editor.drawn()[1]))
    shown.actions_.drag_rulers(rulers_of(analysis, first))
    shown.actions_.keep_rulers()
    wait(qtbot, shown)
    event = shown.session.state.review.of(first.tracking_uid)
    assert event.state is ReviewState.EDITED
    assert shown.session.state.review.diameters_of(first.tracking_uid) is not None


def measuring(panel, candidate):
    """Show the diameters of a candidate in one linked view, and return that view."""
    panel.session.go_to_candidate(candidate.id)
    panel.actions_.show_layout(Layout.ONE)
    panel.actions_.toggle_rulers()
    (view,) = tiles(panel)
    return view


def test_diameters_are_shown_where_no_acquired_slice_holds_them(
    shown, analysis, qtbot, monkeypatch
):
    """Shift+D on an oblique scan drew nothing, without a word."""
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]]
    grid = Grid((9, 9, 9), tilt)

    def tilted(state):
        return Frame.acquired(grid) if state.choices.views.acquired else Frame.patient()

    monkeypatch.setattr(views, "frame_of", tilted)
    shown.session.go_to_candidate(analysis.findings.candidates[0].id)
    shown.actions_.show_layout(Layout.ONE)
    shown.actions_.toggle_rulers()
    assert shown.session.state.choices.views.layout is Layout.PLANES
    assert not shown.session.state.choices.views.acquired
    assert "patient's axes" in shown.session.state.message
    assert len(drawn(shown, tiles(shown)[0]).rulers) == 2


def test_rulers_equal_the_reported_diameters_and_can_be_dragged(shown, analysis, qtbot):
    first = analysis.findings.candidates[0]
    view = measuring(shown, first)
    longest, across = drawn(shown, view).rulers
    lengths = [float(np.linalg.norm(np.subtract(*one.points))) for one in (longest, across)]
    labels = analysis.volumes.labels
    enhancing = np.isin(labels.data, [int(label) for label in Region.ET.labels])
    found = diameters((analysis.findings.components == first.id) & enhancing, labels.grid)
    assert lengths == pytest.approx([found.longest_mm, found.perpendicular_mm], abs=0.01)
    along, over = (one.points[1] - one.points[0] for one in (longest, across))
    assert abs(float(along @ over)) < 1e-6
    to = view.projection(drawn(shown, view))
    end = to.point(*longest.points[1]).toPoint()
    drag(qtbot, view, Qt.MouseButton.LeftButton, end, end + QPoint(25, 0))
    moved = drawn(shown, view).rulers[0]
    assert moved.lines[0].endswith("by hand")
    np.testing.assert_allclose(moved.points[1] - longest.points[1], (25 / to.zoom, 0.0), atol=1.0)
    (kept, _) = shown.session.state.analysis.findings.candidates
    assert kept.longest_axial_diameter_mm == pytest.approx(
        float(moved.lines[0].split()[0]), abs=0.06
    )
    shown.commands.run("copy_sentence")
    assert f"{kept.longest_axial_diameter_mm:.0f} ×" in QApplication.clipboard().text()
    shown.commands.run("undo")
    before = first.longest_axial_diameter_mm
    qtbot.waitUntil(
        lambda: shown.session.state.focused.longest_axial_diameter_mm == before,
        timeout=PATIENCE_MS,
    )
    shown.actions_.toggle_rulers()
    assert drawn(shown, view).rulers == ()


def test_a_click_beside_the_end_of_a_diameter_places_nothing(shown, analysis, qtbot):
    """The end jumped to the pointer, and the diameter was by hand in every file."""
    first = analysis.findings.candidates[0]
    view = measuring(shown, first)
    drawing = drawn(shown, view)
    end = view.projection(drawing).point(*drawing.rulers[0].points[1]).toPoint()
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=end + QPoint(5, 3))
    assert shown.session.state.review.diameters_of(first.tracking_uid) is None
    assert [one.lines for one in drawn(shown, view).rulers] == [one.lines for one in drawing.rulers]


def test_only_the_diameter_that_was_dragged_is_by_hand(shown, analysis, qtbot):
    """The other one, which nobody touched, was called so too."""
    first = analysis.findings.candidates[0]
    measuring(shown, first)
    longest, across = rulers_of(analysis, first)
    moved = longest.with_end(0, tuple(np.add(longest.start, (3.0, 0.0, 0.0))), (0, 0, 1))
    shown.actions_.drag_rulers((moved, across))
    shown.actions_.keep_rulers()
    wait(qtbot, shown)
    kept = rulers_of(shown.session.state.analysis, shown.session.state.focused)
    assert [ruler.moved for ruler in kept] == [True, False]


def test_dragged_diameters_that_are_not_kept_are_not_shown_later(shown, analysis):
    """The reader went on to another candidate with the button held."""
    first, second = analysis.findings.candidates
    shown.session.go_to_candidate(first.id)
    shown.actions_.toggle_rulers()
    shown.actions_.drag_rulers(
        tuple(one.with_end(0, (0, 0, 0), (0, 0, 1)) for one in rulers_of(analysis, first))
    )
    shown.session.go_to_candidate(second.id)
    shown.actions_.keep_rulers()
    assert f"You left candidate {first.id} while" in shown.session.state.message
    assert shown.session.state.choices.views.dragged is None
    assert not shown.session.state.review.events


def moved_to(view, to):
    """Move the pointer while the left button is held."""
    held = Qt.MouseButton.LeftButton
    move = QMouseEvent(
        QEvent.Type.MouseMove, QPointF(to), QPointF(view.mapToGlobal(to)),
        held, held, Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    QApplication.sendEvent(view, move)


def holding_an_end(shown, candidate, qtbot):
    """Drag an end of a diameter a little and hold it; return its view, and where it was grabbed."""
    view = measuring(shown, candidate)
    drawing = drawn(shown, view)
    end = view.projection(drawing).point(*drawing.rulers[0].points[1]).toPoint()
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=end)
    moved_to(view, end + QPoint(12, 0))
    return view, end


@pytest.mark.parametrize("act", ["next_candidate", "toggle_rulers", "scroll"])
def test_an_end_that_is_held_while_the_view_goes_elsewhere_moves_no_further(
    shown, analysis, act, qtbot
):
    """It became an end of the next candidate's diameter, or one on another slice; or it failed."""
    first, second = analysis.findings.candidates
    view, end = holding_an_end(shown, first, qtbot)
    placed = shown.session.state.choices.views.dragged
    assert placed is not None
    if act == "scroll":
        shown.actions_.scroll(8)
    else:
        shown.commands.run(act)
    moved_to(view, end + QPoint(30, 0))
    assert shown.session.state.choices.views.dragged in (placed, None)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    review = shown.session.state.review
    assert review.diameters_of(second.tracking_uid) is None
    ends = review.diameters_of(first.tracking_uid)
    if act == "scroll":
        assert np.allclose(ends, [(one.start, one.end) for one in placed.rulers], atol=5e-4)
    else:
        assert ends is None


def test_a_measurement_that_is_drawn_while_the_wheel_turns_stays_on_its_slice(shown, qtbot):
    """Its ends lay on two slices, and no view showed it any more."""
    shown.actions_.show_layout(Layout.ONE)
    shown.commands.run("measure_length")
    (view,) = tiles(shown)
    start = view.rect().center()
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
    moved_to(view, start + QPoint(40, 0))
    (measured,) = shown.session.state.choices.views.measures
    assert float(measured.text.removesuffix(" mm")) > 1.0
    shown.actions_.scroll(4)
    moved_to(view, start + QPoint(60, 0))
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=start + QPoint(60, 0))
    assert shown.session.state.choices.views.measures == (measured,)
    shown.actions_.scroll(-4)
    assert len(drawn(shown, view).measures) == 1


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.PAIR])
def test_a_drag_ends_when_its_view_goes(shown, analysis, qtbot, layout):
    """What was dragged was shown and not kept, and the next click moved the end there."""
    first = analysis.findings.candidates[0]
    _, end = holding_an_end(shown, first, qtbot)
    placed = shown.session.state.choices.views.dragged
    shown.actions_.show_layout(layout)
    QApplication.processEvents()
    ends = shown.session.state.review.diameters_of(first.tracking_uid)
    assert np.allclose(ends, [(one.start, one.end) for one in placed.rulers], atol=5e-4)
    shown.actions_.show_layout(Layout.ONE)
    (view,) = tiles(shown)
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=end + QPoint(0, 60))
    assert shown.session.state.review.diameters_of(first.tracking_uid) == ends


def test_diameters_are_dragged_on_axial_slices_only(shown, analysis):
    """In the other two planes an end left the slice, and no axial diameter was stored as one."""
    first = analysis.findings.candidates[0]
    measuring(shown, first)
    x, y, z = shown.actions_.viewpoint.current.point_mm
    along = Ruler((x - 9.0, y, z), (x + 9.0, y, z)), Ruler((x, y, z), (x + 1.0, y, z))
    shown.actions_.drag_rulers(along)
    shown.actions_.show_layout(Layout.PLANES)
    assert {view.tile.plane: len(drawn(shown, view).rulers) for view in tiles(shown)} == {
        Plane.AXIAL: 2, Plane.CORONAL: 0, Plane.SAGITTAL: 0
    }  # fmt: skip


def test_rulers_are_seen_from_every_plane_or_it_is_said_why_not(shown, analysis):
    first = analysis.findings.candidates[0]
    for layout, plane in (
        (Layout.SINGLE, Plane.CORONAL),
        (Layout.PAIR, Plane.SAGITTAL),
        (Layout.PLANES, Plane.CORONAL),
    ):
        shown.session.go_to_candidate(first.id)
        shown.actions_.show_layout(layout)
        shown.session.choose_plane(plane)
        shown.actions_.toggle_rulers()
        assert any(len(drawn(shown, view).rulers) == 2 for view in tiles(shown)), layout
        shown.actions_.toggle_rulers()
    shown.session._choose(candidate=None)
    shown.actions_.toggle_rulers()
    assert not shown.session.state.choices.views.rulers
    assert "Go to a candidate first" in shown.session.state.message


def prior_of(panel):
    """Return T1c and FLAIR of a study of old: bright everywhere, on coarser voxels of their own."""
    series = panel.session.state.study.series[MrSequence.T1C]
    affine = series.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    shape = tuple(-(-n // 2) for n in series.grid.shape)
    data = np.linspace(500.0, 900.0, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    volume = Volume(data, Grid(shape, affine))
    pictures = {MrSequence.T1C: volume, MrSequence.FLAIR: volume}
    resampled = {MrSequence.FLAIR: "interpolated from 5 mm slices"}
    return ComparisonImages("prior", "prior", pictures, resampled=resampled)


def test_the_key_shows_a_prior_in_every_view_that_has_one_and_ends_with_it(shown):
    acts = shown.actions_
    shown.session.choose_views(compared=prior_of(shown))
    shown.commands.run("four_views")
    now = {view.tile.sequence: drawn(shown, view).image.data.max() for view in tiles(shown)}
    acts.hold_comparison(True)
    held = {view.tile.sequence: drawn(shown, view) for view in tiles(shown)}
    assert list(held) == list(now)  # no other sequence takes a place
    for sequence, drawing in held.items():
        swapped = sequence in (MrSequence.T1C, MrSequence.FLAIR)
        assert drawing.lines[0].startswith("prior") is swapped
        from_thick = "interpolated from 5 mm slices" in drawing.lines[1:]
        assert from_thick is (sequence is MrSequence.FLAIR)
        assert (drawing.image.data.max() == now[sequence]) is not swapped
    low, high = shown.views.linked.limits(tiles(shown)[1].tile)
    assert 450 < low < high < 950
    acts.hold_comparison(False)
    assert all(not drawn(shown, v).lines[0].startswith("prior") for v in tiles(shown))
    shown.commands.run("four_views")
    acts.hold_comparison(True)
    assert shown.viewer.layers["prior"].visible
    assert shown.viewer.canvas.overlays["lesionlens_caption"].text.startswith("prior")
    acts.hold_comparison(False)
    assert not shown.viewer.layers["prior"].visible
    shown.session.choose_views(compared=None)
    acts.hold_comparison(True)
    assert "prior" not in shown.viewer.canvas.overlays["lesionlens_caption"].text


@pytest.mark.slow
def test_linked_views_are_a_widget_like_any_other(loaded):
    """Qt and napari ask the widget in focus for its window."""
    loaded.commands.run("four_views")
    linked = loaded.views.linked
    assert linked.window() is loaded.window()
    assert linked.tiles[0].focusProxy() is linked


@pytest.mark.slow
def test_the_buttons_above_the_views_are_as_large_as_there_is_room(loaded):
    """Larger ones in a wide window, and none of them keeps it from becoming narrow again."""
    toolbar, words = loaded.views.toolbar, []
    for width in (760, 1200):
        toolbar.resize(width, 30)
        QApplication.sendEvent(toolbar, QResizeEvent(toolbar.size(), toolbar.size()))
        words.append(toolbar.findChild(QToolButton).sizeHint().width())
    assert words[1] > words[0]
    assert toolbar.minimumSizeHint().width() < 768


def test_in_a_narrow_window_every_button_is_in_the_row_or_in_its_menu(shown, qtbot):
    """The row kept the window 1137 pixels wide: part of the panel was beside a small screen."""
    toolbar, window = shown.views.toolbar, shown.window()
    docks = [d for d in window.findChildren(QDockWidget) if d.windowTitle().startswith("layer ")]
    window.resize(1000, 560)
    qtbot.waitUntil(lambda: all(dock.isHidden() for dock in docks), timeout=PATIENCE_MS)
    QApplication.processEvents()
    assert window.minimumSizeHint().width() <= 760
    window.resize(760, 560)
    qtbot.waitUntil(lambda: not toolbar.overflow.isHidden(), timeout=PATIENCE_MS)
    buttons = (*toolbar.layouts.values(), *toolbar.windows.values(), *toolbar.switches.values())
    row = [one for one in (*buttons, toolbar.measure, toolbar.overflow) if not one.isHidden()]
    assert all(one.geometry().right() < toolbar.width() for one in row)
    toolbar.overflow.menu().aboutToShow.emit()
    offered = {act.text(): act for act in toolbar.overflow.menu().actions() if act.text()}
    for one in buttons:
        assert not one.isEnabled() or (one.toolTip() in offered) is one.isHidden()
    assert any("angle" in words for words in offered) is toolbar.measure.isHidden()
    offered[toolbar.switches["toggle_names"].toolTip()].trigger()
    assert not shown.session.state.choices.views.shows_identity
    toolbar.overflow.menu().aboutToShow.emit()
    again = {act.text(): act for act in toolbar.overflow.menu().actions()}
    assert not again[toolbar.switches["toggle_names"].toolTip()].isChecked()
    window.resize(1500, 800)
    qtbot.waitUntil(toolbar.overflow.isHidden, timeout=PATIENCE_MS)
    assert all(not one.isHidden() for one in toolbar.switches.values())


def test_words_at_the_top_of_a_narrow_view_do_not_meet(qtbot):
    """Beside each other where there is room for both and the letter between, else one below."""
    metrics = QFontMetricsF(QFont())
    left, right = ("FLAIR · axial", "slice 99 of 146 · 1 mm"), ("A Patient", "ID 0123456789")
    wide = max(map(metrics.horizontalAdvance, (*left, *right)))
    assert identity_row_offset(metrics, left, right, 2 * wide + 80) == 0
    assert identity_row_offset(metrics, left, right, 2 * wide + 10) == 2
    assert identity_row_offset(metrics, left, (), 50.0) == 0


def test_the_letter_of_the_upper_edge_hides_no_part_of_the_patient(qtbot):
    """In napari's window as it opens, "A" lay on the first letter of the name in three planes."""
    metrics = QFontMetricsF(QFont())
    left, right = ("T1c · axial", "slice 75 of 155 · 1 mm"), ("A Patient of long name", "ID 01")
    wide = max(map(metrics.horizontalAdvance, (*left, *right)))
    assert upper_letter_row(metrics, left, right, 2 * wide + 80) == 0
    assert upper_letter_row(metrics, left, right, wide + 20) == 4
    assert upper_letter_row(metrics, left, ("ID 01",), wide + 20) == 2
    assert upper_letter_row(metrics, (), right, wide + 20) == 2
    assert upper_letter_row(metrics, left, (), wide + 20) == 2


def test_the_identity_does_not_lie_on_the_lesion_in_a_small_view():
    """At 1280 × 800 six rows below three others reached into the middle of the brain."""
    assert identity_row_count(6, row_offset=0, visible_rows=14) == 6
    assert identity_row_count(6, row_offset=3, visible_rows=40) == 6
    assert identity_row_count(6, row_offset=3, visible_rows=22) == 4
    assert identity_row_count(6, row_offset=3, visible_rows=12) == 2
    assert identity_row_count(1, row_offset=3, visible_rows=12) == 1


@pytest.mark.parametrize("width", [150, 320, 900])
@pytest.mark.parametrize("height", [120, 150, 300])
def test_no_text_lies_on_a_letter_at_the_side_of_a_low_view(qtbot, monkeypatch, width, height):
    """In a low view the date or the study's name lay on "L"."""
    painted = {}

    def draw(painter, position, text, _=None):
        metrics = QFontMetricsF(painter.font())
        painted[text] = metrics.tightBoundingRect(text).translated(position)

    monkeypatch.setattr(paint, "_draw_text", draw)
    image = QImage(width, height, QImage.Format.Format_RGB32)
    for texts, corner, kept in (
        (
            ("T1c · axial", "slice 75 of 155 · 1 mm", "interpolated from 5 mm slices"),
            ("Doe, Jane", "ID 0123", "F 1961-05-04", "2026-01-05", "Brain", "Series 4"),
            {"Doe, Jane", "ID 0123", "T1c · axial"},
        ),
        (_OF_A_PRIOR, (), set(_OF_A_PRIOR)),
    ):
        painted.clear()
        drawing = Drawing(None, (0.0, 0.0), (0.0, 0.0), Edges("R", "L", "A", "P"), texts)
        painter = QPainter(image)
        to = Projection((0.0, 0.0), 1.0, width, height)
        paint.paint_text(painter, drawing, corner, "", to)
        painter.end()
        letters = {side: painted.pop(side) for side in "RL"}
        assert not painted.pop("A").intersects(painted.pop("P"))
        assert kept <= set(painted)
        for letter, text in itertools.product(letters, painted):
            assert not letters[letter].intersects(painted[text]), (letter, text)


def test_the_numbers_of_a_measurement_are_never_cut_off(qtbot):
    """At the right of a narrow view "mean 439" was read as "mean 43"."""
    metrics = QFontMetricsF(QFont())
    lines = ("T1c", "mean 439.1 · SD 100.2", "min 251 · max 812")
    to = Projection((0.0, 0.0), 1.0, 300, 200)
    wide = max(map(metrics.horizontalAdvance, lines))
    for x, y in ((10.0, 50.0), (290.0, 50.0), (290.0, 500.0), (-80.0, -80.0)):
        at = clamp_to_view(metrics, lines, QPointF(x, y), to)
        assert 0 <= at.x() <= 300 - wide
        assert metrics.ascent() <= at.y() <= 200 - 2 * metrics.height()
    assert clamp_to_view(metrics, lines, QPointF(10.0, 50.0), to) == QPointF(10.0, 50.0)


def test_the_text_of_a_measurement_covers_no_other():
    """A length of 53.3 mm before an area read as 53.3 mm²."""
    first, second = QRectF(50.0, 60.0, 80.0, 40.0), QRectF(40.0, 105.0, 80.0, 15.0)
    placed = avoid_overlap(QRectF(45.0, 95.0, 50.0, 15.0), (first, second), 200.0)
    assert placed == QRectF(45.0, 120.0, 50.0, 15.0)
    assert avoid_overlap(QRectF(45.0, 95.0, 50.0, 15.0), (first, second), 130.0).bottom() == 60.0
    aside = QRectF(45.0, 10.0, 50.0, 15.0)
    assert avoid_overlap(aside, (first, second), 200.0) == aside
    assert avoid_overlap(first, (QRectF(0.0, 0.0, 200.0, 130.0),), 130.0) == first, "no room: shown"


def test_two_measurements_at_one_place_are_written_apart(shown):
    acts = shown.actions_
    acts.show_layout(Layout.ONE)
    (view,) = tiles(shown)
    x, y, z = acts.viewpoint.current.point_mm
    acts.choose_measure(MeasureKind.REGION)
    for number in range(2):
        acts.begin_measure((x - 9.0, y - 9.0, z))
        acts.move_measure(number, 1, (x + 9.0, y + 9.0, z))
        acts.end_measure()
    written = []
    with patch.object(
        paint, "_draw_text", lambda _, at, words, *__: written.append((at.y(), words))
    ):
        view.grab()
    rows = [round(at) for at, words in written if "mm²" in words]
    assert len(rows) == 2
    assert abs(rows[0] - rows[1]) >= 3 * 9


@pytest.mark.slow
def test_the_first_picture_is_as_large_as_the_canvas_until_it_is_moved(loaded, qtbot):
    """It was fitted once, to a size that the canvas had before the window was laid out."""
    viewer, window = loaded.viewer, loaded.window()
    window.show()
    for height in (500, 900):
        window.resize(1100, height)
        qtbot.waitUntil(lambda h=height: abs(viewer.canvas.size[0] - h) < 200, timeout=PATIENCE_MS)
        zoom = viewer.scene.camera.zoom
        viewer.reset_view()
        assert viewer.scene.camera.zoom == pytest.approx(zoom)
        loaded.views.fit()
    viewer.scene.camera.zoom = zoom = 2 * viewer.scene.camera.zoom
    window.resize(1100, 500)
    qtbot.waitUntil(lambda: viewer.canvas.size[0] < 600, timeout=PATIENCE_MS)
    assert viewer.scene.camera.zoom == pytest.approx(zoom)


@pytest.fixture
def resized_to(reviewed, qtbot):
    """Gives the window a height, and waits until the canvas has about as much."""
    canvas, window = reviewed.viewer.canvas, reviewed.window()

    def resize(height):
        window.resize(1600 if height > 500 else 900, height)
        qtbot.waitUntil(lambda: abs(canvas.size[0] - height) < 200, timeout=PATIENCE_MS)

    return resize


@pytest.mark.slow
def test_a_candidate_gone_to_in_a_small_canvas_grows_with_it_and_keeps_its_zoom_in_a_smaller_one(
    reviewed, resized_to
):
    """`lesionlens review` went to the first candidate before its window had a size: a tiny head."""
    viewer, camera = reviewed.viewer, reviewed.viewer.scene.camera
    reviewed.window().show()
    resized_to(400)
    reviewed.views.fit()
    reviewed.session.go_to_candidate(1)
    centre = camera.center
    reviewed.session.choose_plane(Plane.SAGITTAL)
    reviewed.session.choose_plane(Plane.AXIAL)
    small = camera.zoom
    resized_to(900)
    np.testing.assert_allclose(camera.center[-2:], centre[-2:], atol=2.0)
    grown = camera.zoom
    viewer.fit_to_view()
    assert grown == pytest.approx(camera.zoom)
    assert grown > 1.02 * small
    reviewed.session.go_to_candidate(1)
    resized_to(400)
    assert camera.zoom == pytest.approx(grown), "as while an edit shows napari's controls"
    np.testing.assert_allclose(camera.center[-2:], centre[-2:], atol=2.0)


@pytest.mark.slow
def test_slices_shown_after_three_dimensions_grow_with_the_canvas(reviewed, resized_to):
    """While an edit showed napari's controls they were small, and stayed so when it was done."""
    viewer, camera = reviewed.viewer, reviewed.viewer.scene.camera
    reviewed.window().show()
    resized_to(900)
    reviewed.views.fit()
    reviewed.session.go_to_candidate(1)
    viewer.dims.ndisplay = 3
    resized_to(400)
    viewer.dims.ndisplay = 2
    small = camera.zoom
    resized_to(900)
    grown = camera.zoom
    viewer.fit_to_view()
    assert grown == pytest.approx(camera.zoom)
    assert grown > 1.02 * small


@pytest.mark.slow
def test_the_canvas_comes_back_as_high_as_the_linked_views_were(shown):
    """Beside them for a moment it had half of their height, and the next study was as small."""
    shown.commands.run("four_views")
    QApplication.processEvents()
    height = shown.views.linked.height()
    sizes = []
    shown.viewer.canvas.events.size.connect(lambda _: sizes.append(shown.viewer.canvas.size[0]))
    shown.commands.run("four_views")
    QApplication.processEvents()
    assert all(size > 0.9 * height for size in sizes)
    assert shown.viewer.canvas.size[0] > 0.9 * height


def test_layers_that_come_and_go_leave_the_reader_at_the_place_looked_at(shown, monkeypatch):
    """Layers of an analysis have steps of their own, to which napari went; the slice changed."""
    viewer, take = shown.viewer, shown.layers.show_overlays
    viewer.dims.set_point((0, 1, 2), (6.0, -4.0, 2.0))
    QApplication.processEvents()
    before = shown.actions_.viewpoint.current.point_mm
    finer = Layer.create(np.zeros((9, 9, 9)), {"scale": (1.7, 1.7, 1.7)}, "image")

    def come(overlays, study):
        take(overlays, study)
        viewer.layers.append(finer)

    def go(overlays, study):
        take(overlays, study)
        viewer.layers.remove(finer)

    for change in (come, go):
        monkeypatch.setattr(shown.layers, "show_overlays", change)
        shown.session.layer_arrived(replace(shown.session.state.overlays))
        QApplication.processEvents()
        assert shown.actions_.viewpoint.current.point_mm == before
    assert viewer.dims.point == pytest.approx(before)


def test_a_ruler_is_drawn_by_a_drag_and_its_end_is_moved(shown, qtbot):
    shown.commands.run("measure_length")
    qtbot.waitUntil(
        lambda: shown.views.linked is not None and bool(shown.views.linked.tiles),
        timeout=PATIENCE_MS,
    )
    tile = shown.views.linked.tiles[0]
    middle = tile.rect().center()

    def drag(start, end):
        qtbot.mousePress(tile, Qt.MouseButton.LeftButton, pos=start)
        qtbot.mouseMove(tile, end)
        point = QPointF(end)
        held = Qt.MouseButton.LeftButton
        none = Qt.KeyboardModifier.NoModifier
        glob = QPointF(tile.mapToGlobal(end))
        tile.mouseMoveEvent(QMouseEvent(QEvent.Type.MouseMove, point, glob, held, held, none))
        qtbot.mouseRelease(tile, held, pos=end)

    def lengths():
        return [one.text for one in shown.session.state.choices.views.measures]

    zoom = shown.actions_.viewpoint.current.zoom
    drag(middle, middle + QPoint(60, 0))
    assert lengths() == [f"{60 / zoom:.1f} mm"]
    drag(middle + QPoint(60, 0), middle + QPoint(90, 0))
    assert lengths() == [f"{90 / zoom:.1f} mm"]
    qtbot.mousePress(tile, Qt.MouseButton.LeftButton, pos=middle + QPoint(0, 60))
    qtbot.mouseRelease(tile, Qt.MouseButton.LeftButton, pos=middle + QPoint(80, 60))
    assert lengths()[1:] == [f"{80 / zoom:.1f} mm"]  # Qt omits moves that a busy window missed
    shown.commands.run("remove_measure")
    shown.commands.run("remove_measure")
    assert lengths() == []


def test_an_edit_keeps_the_place_and_the_zoom_of_linked_views(shown, qtbot):
    shown.actions_.show_layout(Layout.FOUR)
    tiles(shown)
    shown.session.go_to_candidate(1)
    shown.views.linked.wheel_turned(tiles(shown)[0].tile, 6.0, (0.0, 0.0), control=True)
    before = shown.actions_.viewpoint.current
    assert not shown.views.linked.is_fitted
    shown.commands.run("edit_outline")
    assert shown.session.state.editing == 1
    assert shown.actions_.viewpoint.current == before
    shown.actions_.show_layout(Layout.SINGLE)
    camera = shown.viewer.scene.camera
    assert camera.zoom == pytest.approx(before.zoom)
    np.testing.assert_allclose(camera.center[-2:], (before.centre_mm[1], before.centre_mm[0]))
    shown.actions_.show_layout(Layout.FOUR)
    shown.commands.run("discard_edit")
    tiles(shown)
    assert shown.actions_.viewpoint.current.zoom == pytest.approx(before.zoom)


@pytest.mark.parametrize("every", [False, True])
def test_an_image_of_the_open_study_that_is_deleted_in_napari_comes_back(shown, qtbot, every):
    """The canvas stayed black until another study was opened."""
    layers = shown.viewer.layers
    before, names = [*layers], [layer.name for layer in layers]
    window = shown.views.linked.limits
    if every:
        layers.clear()
    else:
        layers.remove(layers["T1c"])
    qtbot.waitUntil(lambda: len(layers) == len(before), timeout=PATIENCE_MS)
    assert sorted(layer.name for layer in layers) == sorted(names)
    assert set(layers) == set(before)
    assert [layer.name for layer in layers if layer.visible] == ["T1c"]
    assert "has been restored" in shown.session.state.message
    shown.commands.run("four_views")
    t1c = next(view for view in tiles(shown) if view.tile.sequence is MrSequence.T1C)
    assert window(t1c.tile) == tuple(layers["T1c"].contrast_limits)
    shown.session.close()
    QApplication.processEvents()
    assert not layers


def test_a_copy_of_an_image_is_the_users_and_never_the_image(shown):
    """Once it was changed, its voxels were shown as the sequence's."""
    layers = shown.viewer.layers
    own = layers["T1c"]
    copied = Layer.create(*own.as_layer_data_tuple())
    copied.name = "T1c copy"
    layers.append(copied)
    copied.data = np.zeros_like(np.asarray(own.data))
    assert shown.views._layers.image_layer(MrSequence.T1C) is own
    assert np.ptp(shown.views._layers.voxels_by_sequence()[MrSequence.T1C][0]) > 0
    layers.remove(copied)
    QApplication.processEvents()
    assert copied not in layers


def test_an_image_of_the_user_over_the_study_is_named_in_the_caption(shown):
    """Another patient's image over ours was captioned as ours."""
    shown.actions_.show_layout(Layout.SINGLE)
    caption = shown.viewer.canvas.overlays["lesionlens_caption"]
    alone = caption.text
    other = shown.viewer.add_image(np.zeros((9, 9, 9)), name="CT")
    assert caption.text == f"{alone}\nwith CT"
    other.visible = False
    assert caption.text == alone
    other.visible, other.name = True, "MR"
    assert caption.text.endswith("\nwith MR")
    shown.viewer.layers.remove(other)
    assert caption.text == alone


def test_a_copy_of_an_image_that_hides_it_is_named(shown):
    """A duplicate of T1c lay on the study's image, and the caption did not name it."""
    shown.actions_.show_layout(Layout.SINGLE)
    layers, caption = shown.viewer.layers, shown.viewer.canvas.overlays["lesionlens_caption"]
    data, keywords, kind = layers["T1c"].as_layer_data_tuple()
    layers.append(Layer.create(data, {**keywords, "name": "T1c copy"}, kind))
    assert caption.text.endswith("\nwith T1c copy")


def test_a_study_beside_larger_layers_of_the_user_fills_the_view_at_its_centre(shown):
    """In a viewer with a film it opened at its lowest slice, a tenth as large, in a corner."""
    viewer, grid = shown.viewer, shown.session.state.study.series[MrSequence.T1C].grid
    shown.actions_.show_layout(Layout.SINGLE)
    shown.views.fit()
    alone = viewer.scene.camera.zoom
    viewer.add_image(np.zeros((2, 4, 900, 900)), name="film")
    shown.views.fit()
    assert viewer.scene.camera.zoom == pytest.approx(alone, rel=0.05)
    middle = grid.to_mm((np.asarray(grid.shape) - 1) / 2)
    np.testing.assert_allclose(viewer.dims.point[1:], middle, atol=grid.spacing_mm.max())
    shown.actions_.show_layout(Layout.FOUR)
    linked = shown.views.linked
    assert shown.actions_.viewpoint.current.zoom == pytest.approx(linked.fit_zoom())


def test_a_second_window_shows_the_same_place_until_it_is_closed(shown, qtbot):
    shown.commands.run("second_window")
    beside = shown.views.second_window
    assert beside.isVisible()
    assert beside.isWindow()
    assert beside.focusWidget() is beside.view, "it takes keys before it is clicked"
    four = beside.view.tiles
    assert {view.tile.sequence for view in four} == set(shown.session.state.study.series)
    middle = QPointF(four[0].rect().center() + QPoint(20, 10))
    before = shown.actions_.viewpoint.current
    qtbot.mousePress(four[0], Qt.MouseButton.LeftButton, pos=middle.toPoint())
    qtbot.mouseRelease(four[0], Qt.MouseButton.LeftButton, pos=middle.toPoint())
    place = shown.actions_.viewpoint.current
    assert place.point_mm[:2] != before.point_mm[:2]
    assert place.zoom == before.zoom, "the second window changes no zoom to fit"
    shown.actions_.show_layout(Layout.FOUR)
    assert {view.tile.plane for view in beside.view.tiles} == set(Plane)
    beside.close()
    assert not shown.session.state.choices.views.second_window
    assert not beside.isVisible()


def test_a_second_window_stays_where_the_reader_put_it(shown):
    """Each new showing, so each next study, gave it its first size and monitor again."""
    shown.commands.run("second_window")
    beside = shown.views.second_window
    beside.setGeometry(40, 60, 700, 500)
    QApplication.processEvents()
    put = beside.geometry()
    shown.commands.run("second_window")
    assert not beside.isVisible()
    shown.commands.run("second_window")
    assert beside.isVisible()
    assert beside.size() == put.size()


def test_a_second_window_fills_a_second_monitor_with_its_title_bar(shown, monkeypatch):
    """The title bar was above the screen, so that the window could not be moved or closed."""
    shown.commands.run("second_window")
    beside = shown.views.second_window
    shown.commands.run("second_window")
    beside.move(5000, 100)  # on a monitor that is disconnected
    only = beside.parentWidget().window().screen()
    shown.commands.run("second_window")
    assert only.geometry().contains(beside.geometry().center())
    assert not beside.isMaximized()
    shown.commands.run("second_window")

    area = only.availableGeometry()
    other = SimpleNamespace(availableGeometry=lambda: area, geometry=QRect)
    monkeypatch.setattr(second_window, "QApplication", SimpleNamespace(screens=lambda: [other]))
    shown.commands.run("second_window")
    assert beside.isMaximized()
    beside.setWindowState(Qt.WindowState.WindowNoState)
    shown.commands.run("second_window")


def test_a_second_window_beside_one_view_fits_the_study_and_goes_to_candidates(shown):
    """napari's canvas has a zoom of its own: the head lay in a corner, at a pixel a millimetre."""
    shown.actions_.show_layout(Layout.SINGLE)
    shown.commands.run("second_window")
    view, grid = (
        shown.views.second_window.view,
        shown.session.state.study.series[MrSequence.T1C].grid,
    )
    place = shown.actions_.viewpoint.current
    middle = grid.to_mm((np.asarray(grid.shape) - 1) / 2)
    np.testing.assert_allclose(place.centre_mm, middle, atol=grid.spacing_mm.max())
    assert place.zoom == pytest.approx(view.fit_zoom())
    shown.session.step(1)
    at = shown.session.state.focused.centroid_mm
    np.testing.assert_allclose(shown.actions_.viewpoint.current.centre_mm, at)


def test_the_palette_opens_from_the_second_window_too(shown):
    """It did not, and the letters typed to find a command were commands: U undid, R rejected."""
    shown.commands.run("second_window")
    sequences = [key for act in shown.views.second_window.actions() for key in act.shortcuts()]
    assert QKeySequence("Ctrl+Shift+P") in sequences


def test_the_second_window_takes_nothing_while_a_dialog_waits_for_an_answer(shown, qtbot):
    shown.commands.run("second_window")
    beside, before = shown.views.second_window, shown.actions_.viewpoint.current
    view = beside.view.tiles[0]
    shown.actions_.dialogs.confirm("Close the study?", "Close", lambda: None)
    (box,) = shown.findChildren(QMessageBox)
    qtbot.waitUntil(box.isVisible, timeout=PATIENCE_MS)
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=view.rect().center() + QPoint(20, 10))
    assert not beside.isEnabled()
    assert shown.actions_.viewpoint.current == before
    box.reject()
    qtbot.waitUntil(beside.isEnabled, timeout=PATIENCE_MS)
    assert beside.focusWidget() is beside.view, "it takes keys again before it is clicked"
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=view.rect().center() + QPoint(20, 10))
    assert shown.actions_.viewpoint.current != before


def test_keys_find_the_pointer_on_the_second_window(shown, monkeypatch):
    shown.commands.run("second_window")
    view = shown.views.second_window.view.tiles[0]
    QApplication.processEvents()
    at = view.mapToGlobal(view.rect().center())
    monkeypatch.setattr(QCursor, "pos", lambda: at)
    monkeypatch.setattr(QApplication, "widgetAt", lambda _: view)
    assert shown.views.update_pointer()


def rings(panel):
    """How many marks are drawn on napari's canvas now."""
    strokes = panel.views.lines.strokes
    colour = transform_color(MARK_COLOUR)[0]
    drawn = 0 if strokes is None else np.isclose(strokes.colours, colour).all(axis=1).sum()
    return drawn // len(ellipse(np.eye(2)))


def test_a_mark_is_seen_on_the_slices_near_it_alone(shown):
    at = shown.session.state.analysis.findings.candidates[0].centroid_mm
    shown.actions_.go_to_point(at)
    shown.session.show_marks((at,))
    assert rings(shown) == 1
    shown.actions_.scroll(4)
    assert rings(shown) == 0


@pytest.mark.parametrize("other_image", ["", "subtraction"])
def test_a_mark_is_not_drawn_on_another_examination(shown, other_image):
    """It was set on the open study, and seemed to be a finding of then."""
    at = shown.session.state.analysis.findings.candidates[0].centroid_mm
    compared = replace(prior_of(shown), other_image=other_image)
    shown.session.choose_views(compared=compared, layout=Layout.PRIOR)
    shown.actions_.go_to_point(at)
    shown.session.show_marks((at,))
    prior, own = (len(drawn(shown, view).marks) for view in tiles(shown))
    assert (prior, own) == (int(bool(other_image)), 1)
    shown.actions_.show_layout(Layout.SINGLE)
    assert rings(shown) == 1
    shown.actions_.hold_comparison(True)
    assert rings(shown) == int(bool(other_image))
    shown.actions_.hold_comparison(False)


@pytest.mark.parametrize("held", [Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.AltModifier])
@pytest.mark.parametrize("layout", ["four_views", "three_planes"])
def test_a_drag_moves_all_views_with_what_is_under_the_pointer(shown, qtbot, layout, held):
    shown.commands.run(layout)
    *_, view = tiles(shown)
    middle = held is Qt.KeyboardModifier.NoModifier
    button = Qt.MouseButton.MiddleButton if middle else Qt.MouseButton.LeftButton
    start = view.rect().center()
    end = start + QPoint(37, -23)
    crosshair = shown.actions_.viewpoint.current.point_mm
    before = view._position_mm(QPointF(start))
    drag(qtbot, view, button, start, end, held)
    assert view._position_mm(QPointF(end)) == pytest.approx(before, abs=1e-6)
    assert shown.actions_.viewpoint.current.point_mm == crosshair


def test_a_right_drag_on_the_canvas_changes_the_window_and_nothing_else(shown, qtbot):
    image, camera = shown.viewer.layers["T1c"], shown.viewer.scene.camera
    low, high = image.contrast_limits
    place = (camera.center, camera.zoom)
    start = canvas().rect().center()
    drag(qtbot, canvas(), Qt.MouseButton.RightButton, start, start + QPoint(50, 0))
    wider_low, wider_high = image.contrast_limits
    assert wider_high - wider_low > high - low
    assert (camera.center, camera.zoom) == place
    assert camera.mouse_pan


def test_the_slice_bar_goes_to_the_clicked_slice_and_a_notch_further(shown, qtbot):
    """Every event of a touchpad, which sends fractions of a notch, went a slice further."""
    bar = shown.views.bar
    slider = bar.slider
    qtbot.mouseClick(slider, Qt.MouseButton.LeftButton, pos=QPoint(slider.width() * 3 // 4, 5))
    number = slider.value()
    assert number == pytest.approx(0.75 * slider.maximum(), abs=0.02 * slider.maximum() + 1)
    assert bar.caption.text().startswith(f"slice {number} of ")
    wheel(bar, 1)
    assert slider.value() == number + 1
    for _ in range(2):
        wheel(bar, 0.25)
    assert slider.value() == number + 1
    wheel(bar, 0.5)
    assert slider.value() == number + 2
    wheel(bar, -2)
    assert slider.value() == number
