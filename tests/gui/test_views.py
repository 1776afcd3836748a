"""Linked views in a real window: one place, one zoom, letters and outlines on every one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from napari.layers import Layer
from napari.settings import get_plugin_settings
from napari.utils.colormaps.standardize_color import transform_color
from qtpy.QtCore import QEvent, QObject, QPoint, QPointF, Qt
from qtpy.QtGui import (
    QMouseEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QApplication
from tests.gui.window import PATIENCE_MS, wait

from lesionlens.analysis.findings.measure import diameters
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence, Region, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.run_context import SILENT
from lesionlens.napari.colours import MARK_COLOUR
from lesionlens.napari.loading import layers_of
from lesionlens.napari.model.acts import views
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import ComparisonImages, Layout, WindowPreset
from lesionlens.napari.model.geometry.contours import ring
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.rulers import rulers_of
from lesionlens.napari.model.geometry.slices import Frame
from lesionlens.napari.model.overlays.window_level import full_range, limits_of
from lesionlens.napari.model.studies import last_layout

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
    shown.session.notify(f"axis {axis}")  # what is drawn follows the layers' voxels


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


def test_views_are_remembered_by_kind_of_study(shown, analysis):
    shown.commands.run("four_views")
    assert last_layout.recall(analysis.study) is Layout.FOUR
    shown.session.close()
    for data in layers_of(analysis.study, SILENT):
        shown.viewer.layers.append(Layer.create(*data))
    assert shown.session.state.choices.views.layout is Layout.FOUR
    fewer = replace(analysis.study, series=dict(list(analysis.study.series.items())[:2]))
    assert last_layout.recall(fewer) is None


class Shows(QObject):
    """Counts how often a widget is shown."""

    times = 0

    def eventFilter(self, watched, event):
        self.times += event.type() == QEvent.Type.Show
        return False


def test_the_other_sequence_is_shown_while_its_key_is_held(shown):
    shown.session.choose_sequence(MrSequence.FLAIR)
    shown.actions_.show_layout(Layout.ONE)
    shown.actions_.hold_comparison(True)
    assert tiles(shown)[0].tile.sequence is MrSequence.T1C
    shown.actions_.hold_comparison(False)
    assert tiles(shown)[0].tile.sequence is MrSequence.FLAIR


def test_every_view_act_has_a_button(shown):
    toolbar = shown.views.toolbar
    assert toolbar.isVisible()
    toolbar.layouts[Layout.FOUR].click()
    assert shown.session.state.choices.views.layout is Layout.FOUR
    toolbar.windows[WindowPreset.WIDE].click()
    assert shown.session.state.choices.views.window is WindowPreset.WIDE
    assert shown.session.state.choices.views.layout is Layout.FOUR


def test_an_outline_is_redrawn_in_the_views_that_stand_or_on_naparis_canvas(shown):
    toolbar = shown.views.toolbar
    shown.commands.run("four_views")
    shown.actions_.go_to_candidate(1)
    shown.commands.run("edit_outline")
    assert shown.session.state.editing is not None
    assert shown.views.linked.isVisible()
    toolbar.layouts[Layout.SINGLE].click()
    assert not shown.views.linked.isVisible()
    assert shown.viewer.layers.selection.active.mode == "paint"
    shown.commands.run("three_planes")
    assert shown.session.state.editing is not None
    assert shown.session.state.choices.views.layout is Layout.PLANES
    shown.commands.run("discard_edit")


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


def moved_to(view, to):
    """Move the pointer while the left button is held."""
    held = Qt.MouseButton.LeftButton
    move = QMouseEvent(
        QEvent.Type.MouseMove, QPointF(to), QPointF(view.mapToGlobal(to)),
        held, held, Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    QApplication.sendEvent(view, move)


def prior_of(panel):
    """Return T1c and FLAIR of a study of old: bright everywhere, on coarser voxels of their own."""
    series = panel.session.state.study.series[MrSequence.T1C]
    affine = series.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    shape = tuple(-(-n // 2) for n in series.grid.shape)
    data = np.linspace(500.0, 900.0, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    volume = Volume(data, Grid(shape, affine))
    pictures = {MrSequence.T1C: volume, MrSequence.FLAIR: volume}
    resampled = {MrSequence.FLAIR: "interpolated from 5 mm slices"}
    return ComparisonImages("prior", pictures, resampled=resampled)


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


@pytest.mark.parametrize("every", [False, True])
def test_images_deleted_in_napari_cost_no_decision_and_end_nothing(shown, every):
    layers = shown.viewer.layers
    shown.session.go_to_candidate(1)
    shown.commands.run("accept")
    for layer in list(layers) if every else [layers["T1c"]]:
        layers.remove(layer)
    QApplication.processEvents()
    for name in (
        "next_plane",
        "next_candidate",
        "reject",
        "four_views",
        "next_sequence",
        "toggle_overlay",
    ):
        shown.commands.run(name)
        QApplication.processEvents()
    states = [event.state.value for event in shown.session.state.review.events]
    assert states == ["accepted", "rejected"]
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


def rings(panel):
    """How many marks are drawn on napari's canvas now."""
    strokes = panel.views.lines.strokes
    colour = transform_color(MARK_COLOUR)[0]
    drawn = 0 if strokes is None else np.isclose(strokes.colours, colour).all(axis=1).sum()
    return drawn // len(ring((0.0, 0.0), 1.0))


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
