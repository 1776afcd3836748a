"""What was missed is added in one click or stroke; tools stay in tissue; strokes outlive a kill."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from tests.gui.conftest import LEFT, RIGHT, FakeResult
from tests.gui.window import PATIENCE_MS, at_rest, canvas, reads, settled
from tests.helpers import stored_drafts
from tests.helpers.analysed_head import without_right

from lesionlens.base.files.folder_lock import lock_now
from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Region, ReviewState, Source
from lesionlens.base.run_context import SILENT
from lesionlens.napari.controllers import lesion_adder
from lesionlens.napari.loading import layers_of
from lesionlens.napari.model.choices.tools import Limit
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen import board
from lesionlens.napari.preferences import store_reader
from lesionlens.results.export.exporter import save
from lesionlens.results.review import drafts
from lesionlens.results.review.reopen import read_result, reopen


def edit_layer(panel):
    (layer,) = (x for x in panel.viewer.layers if x.metadata["lesionlens"].get("role") == "edit")
    return layer


def rows(panel):
    return panel.session.state.analysis.findings.candidates


def test_a_missed_lesion_is_added_by_a_click_or_a_key_and_leaves_with_the_rest(
    missed, analysis, qtbot, tmp_path
):
    truth = analysis.findings.components == 2
    missed.actions_.show_layout(Layout.PAIR)
    linked = missed.views.linked
    missed.actions_.viewpoint.move(point_mm=RIGHT, centre_mm=RIGHT)
    view = linked.tiles[0]
    middle = QPoint(view.width() // 2, view.height() // 2)
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier, middle)
    settled(missed, qtbot)
    new = rows(missed)[-1]
    assert (new.source, new.drawn, new.score) == (Source.READER, DrawingMethod.SEMIAUTOMATIC, None)
    added = missed.session.state.analysis.findings.components == new.id
    assert np.count_nonzero(added & truth) > 0.5 * np.count_nonzero(truth)
    assert len(missed.session.state.review.events[-1].prompts) == 1
    assert missed.session.state.choices.candidate == new.id
    assert missed.candidates.model.rows[-1].score == "added"
    missed.commands.run("undo")
    settled(missed, qtbot)
    assert len(rows(missed)) == 1
    missed.actions_.add_lesion()
    settled(missed, qtbot)
    assert rows(missed)[-1].location.side == "right"
    shown = missed.session.state.analysis
    save(replace(shown, review=missed.session.state.review), tmp_path / "out")
    again = reopen(read_result(tmp_path / "out"), shown.study, shown.prepared)
    np.testing.assert_array_equal(again.findings.components, shown.findings.components)
    np.testing.assert_array_equal(again.volumes.labels.data, shown.volumes.labels.data)
    assert again.findings.candidates[-1].source is Source.READER
    assert "added by a reader" in (tmp_path / "out" / "report.html").read_text()


def test_a_lesion_drawn_in_one_stroke_stays_in_tissue_and_in_its_range(missed, qtbot):
    missed.commands.run("draw_lesion")
    layer = edit_layer(missed)
    assert layer.mode == "paint"
    assert layer._type_string == "labels"
    missed.actions_.brush_ball()
    assert layer.n_edit_dimensions == 3
    allowed = missed.actions_.editor.allowed
    outside = np.argwhere(~allowed)[0]
    layer.brush_size = 9
    for place in (outside, np.rint(layer.world_to_data(RIGHT)).astype(int)):
        layer.paint(tuple(place), 3)
    layer.fill(tuple(outside), 2)
    drawn = np.asarray(layer.data)
    assert not drawn[~allowed].any()
    count = np.count_nonzero(drawn == 3)
    assert count > 100
    missed.commands.run("undo")
    missed.commands.run("undo")
    missed.session.choose_limit(Limit.INTENSITY)
    image = missed.session.state.overlays.images[missed.session.state.tools.sequence]
    bright = float(np.percentile(image, 99))
    missed.session.choose_range(bright, 1e5)
    layer.paint(tuple(np.rint(layer.world_to_data(RIGHT)).astype(int)), 3)
    drawn = np.asarray(layer.data)
    assert 0 < np.count_nonzero(drawn) < count
    assert image[drawn > 0].min() >= bright
    missed.commands.run("edit_outline")
    settled(missed, qtbot)
    assert rows(missed)[-1].drawn is DrawingMethod.SEMIAUTOMATIC  # the range helped
    assert missed.session.state.review.state_of(rows(missed)[-1].tracking_uid) is (
        ReviewState.ACCEPTED
    )


def test_tools_change_the_outline_as_strokes_and_it_is_split_and_merged(missed, qtbot):
    missed.commands.run("edit_outline")
    layer = edit_layer(missed)
    before = np.asarray(layer.data).copy()
    inside = np.argwhere(before > 0)
    middle = tuple(inside[len(inside) // 2])
    layer.brush_size = 1
    layer.paint(middle, 0)
    missed.commands.run("fill_holes")
    assert np.asarray(layer.data)[middle] > 0
    missed.commands.run("undo")
    assert np.asarray(layer.data)[middle] == 0
    missed.commands.run("redo")
    layer.data_setitem(tuple(np.array([[2], [2], [2]])), 3)
    missed.commands.run("remove_islands")
    assert np.asarray(layer.data)[2, 2, 2] == 0
    slices = np.flatnonzero((np.asarray(layer.data) > 0).any(axis=(0, 1)))
    hole = np.nonzero(np.asarray(layer.data)[:, :, slices[2]])
    layer.data_setitem((*hole, np.full(len(hole[0]), slices[2])), 0)
    missed.commands.run("interpolate")
    assert np.asarray(layer.data)[:, :, slices[2]].any()
    missed.commands.run("smooth")
    assert missed.session.state.problem is None


def test_a_candidate_is_split_where_two_clicks_say_merged_and_taken_back(missed, qtbot):
    acts, overlays = missed.actions_, missed.session.state.overlays
    missed.commands.run("edit_outline")
    inside = np.argwhere(overlays.components == 1)
    ends = inside[inside[:, 0].argmin()], inside[inside[:, 0].argmax()]
    acts.split()
    assert edit_layer(missed).mode == "pan_zoom"
    for end in ends:
        acts.adder.add_split_point(tuple(overlays.grid.to_mm(end)))
    missed.commands.run("accept")  # too early, and not silently
    assert "being measured" in reads(missed)
    settled(missed, qtbot)
    assert "was ignored: press it again" in reads(missed)
    first, second = rows(missed)
    assert second.source is Source.READER
    assert missed.session.state.editing is None
    acts.go_to_candidate(second.id)
    missed.commands.run("merge")
    settled(missed, qtbot)
    (both,) = rows(missed)  # the one that the network flagged stays, also when it was not in focus
    assert (both.id, both.source, both.score) == (first.id, Source.NETWORK, first.score)
    missed.commands.run("undo")
    settled(missed, qtbot)
    assert [c.id for c in rows(missed)] == [first.id, second.id]
    missed.commands.run("undo")
    settled(missed, qtbot)
    assert [c.source for c in rows(missed)] == [Source.NETWORK]


def test_diameters_by_hand_stay_with_the_half_that_they_measure(missed, qtbot):
    """The larger half kept them, though they lay in the other one, which was measured anew."""
    acts, (whole,) = missed.actions_, rows(missed)
    low, high = np.asarray(whole.bounding_box_mm)
    x, y, _ = np.asarray(whole.centroid_mm)
    top = high[2] - 0.25 * (high[2] - low[2])
    ends = (((x - 5, y, top), (x + 5, y, top)), ((x, y - 4, top), (x, y + 4, top)))
    acts.review_controller.place_diameters(whole.tracking_uid, ends)
    missed.commands.run("edit_outline")
    acts.adder.split_at((x, y, top - 2))
    settled(missed, qtbot)
    larger, smaller = rows(missed)
    assert larger.tracking_uid == whole.tracking_uid
    assert (smaller.diameters_by, smaller.longest_axial_diameter_mm) == (Source.READER, 10.0)
    assert larger.diameters_by is Source.NETWORK
    assert missed.session.state.review.split_from(smaller.tracking_uid) == whole.tracking_uid
    missed.commands.run("undo")
    settled(missed, qtbot)
    (again,) = rows(missed)
    assert (again.diameters_by, again.longest_axial_diameter_mm) == (Source.READER, 10.0)
    missed.commands.run("redo")
    settled(missed, qtbot)
    assert [c.diameters_by for c in rows(missed)] == [Source.NETWORK, Source.READER]
    missed.commands.run("undo")
    settled(missed, qtbot)
    missed.commands.run("edit_outline")
    acts.adder.split_at((x, y, low[2] + 0.4 * (high[2] - low[2])))
    settled(missed, qtbot)
    assert [c.diameters_by for c in rows(missed)] == [Source.READER, Source.NETWORK]


@pytest.mark.parametrize("erased", ["around them", "elsewhere"])
def test_diameters_by_hand_outlive_only_an_outline_that_contains_them(missed, qtbot, erased):
    """They measured what the reader had just erased, in every file and without a word."""
    acts, (whole,) = missed.actions_, rows(missed)
    low, high = np.asarray(whole.bounding_box_mm)
    x, y, _ = np.asarray(whole.centroid_mm)
    top = high[2] - 0.25 * (high[2] - low[2])
    ends = (((x - 5, y, top), (x + 5, y, top)), ((x, y - 4, top), (x, y + 4, top)))
    acts.review_controller.place_diameters(whole.tracking_uid, ends)
    missed.commands.run("edit_outline")
    drawn = acts.review_controller.editor.drawn().current
    height = missed.session.state.overlays.grid.to_mm(np.argwhere(drawn))[:, 2]
    voxels = tuple(np.argwhere(drawn)[(height > top - 3) == (erased == "around them")].T)
    without = drawn.copy()
    without[voxels] = 0
    acts.adder.apply(lambda _: without, "")
    missed.commands.run("edit_outline")
    settled(missed, qtbot)
    (redrawn,) = rows(missed)
    keeps = erased == "elsewhere"
    assert (redrawn.diameters_by is Source.READER) is keeps
    assert ("lie mostly outside the new outline" in reads(missed)) is not keeps
    assert redrawn.volume_ml[Region.WT] < whole.volume_ml[Region.WT]
    missed.commands.run("undo")
    settled(missed, qtbot)
    (again,) = rows(missed)
    assert (again.diameters_by, again.longest_axial_diameter_mm) == (Source.READER, 10.0)
    assert again.volume_ml == whole.volume_ml
    missed.commands.run("redo")
    settled(missed, qtbot)
    assert (rows(missed)[0].diameters_by is Source.READER) is keeps


@pytest.mark.parametrize("by_hand", [(0,), (1,), (0, 1)], ids=["kept", "gone", "both"])
def test_a_merge_keeps_the_diameters_by_hand_and_says_whose_they_are(missed, qtbot, by_hand):
    """Those of the candidate that was merged into the other one vanished without a word."""
    acts, (whole,) = missed.actions_, rows(missed)
    x, y, z = whole.centroid_mm
    missed.commands.run("edit_outline")
    acts.adder.split_at((x, y, z))
    settled(missed, qtbot)
    halves = rows(missed)
    for n in by_hand:
        x, y, z = halves[n].centroid_mm
        ends = (((x - 5 - n, y, z), (x + 5 + n, y, z)), ((x, y - 4, z), (x, y + 4, z)))
        acts.review_controller.place_diameters(halves[n].tracking_uid, ends)
    acts.go_to_candidate(halves[0].id)
    missed.commands.run("reject")
    acts.go_to_candidate(halves[1].id)
    missed.commands.run("merge")
    settled(missed, qtbot)
    assert f"No longer rejected: {halves[0].id}." in reads(missed)
    (both,) = rows(missed)
    expected = 10.0 if 0 in by_hand else 12.0
    assert (both.diameters_by, both.longest_axial_diameter_mm) == (Source.READER, expected)
    assert f"by hand on {halves[by_hand[0]].id}" in reads(missed)
    assert missed.session.state.review.part_of(halves[1].tracking_uid) == whole.tracking_uid
    missed.commands.run("undo")
    settled(missed, qtbot)
    placed = [c.diameters_by is Source.READER for c in rows(missed)]
    assert placed == [0 in by_hand, 1 in by_hand]
    missed.commands.run("redo")
    settled(missed, qtbot)
    assert [c.longest_axial_diameter_mm for c in rows(missed)] == [expected]


def test_the_key_takes_split_points_under_the_pointer_of_linked_views(missed, qtbot):
    """Both points were the crosshair, and so the same place."""
    acts = missed.actions_
    missed.viewer.window.show()
    acts.show_layout(Layout.PAIR)
    missed.commands.run("edit_outline")
    acts.viewpoint.move(point_mm=LEFT, centre_mm=LEFT)
    view = missed.views.linked.tiles[0]
    at_rest(qtbot, view)
    missed.commands.run("split")
    for off in (-20, 20):
        QCursor.setPos(view.mapToGlobal(view.rect().center() + QPoint(off, 0)))
        qtbot.waitUntil(lambda: QApplication.widgetAt(QCursor.pos()) is view, timeout=PATIENCE_MS)
        missed.commands.run("split")
    settled(missed, qtbot)
    assert len(rows(missed)) == 2


def test_escape_cancels_a_split_whose_second_half_is_not_pointed_at(missed, qtbot):
    """It could only be completed: the button and the key took the crosshair as the other half."""
    acts = missed.actions_
    missed.viewer.window.show()
    missed.window().activateWindow()
    missed.commands.run("edit_outline")
    layer = edit_layer(missed)
    missed.commands.run("split")
    acts.adder.add_split_point(LEFT)
    at_rest(qtbot, canvas())
    canvas().setFocus()
    qtbot.waitUntil(canvas().hasFocus, timeout=PATIENCE_MS)
    qtbot.keyClick(canvas(), Qt.Key.Key_Escape)
    assert (missed.session.state.tools.points, layer.mode) == (None, "paint")
    assert not acts.adder.add_split_point(RIGHT)
    assert len(rows(missed)) == 1
    assert missed.session.state.editing is not None
    missed.commands.run("cancel_pointing")
    assert missed.session.state.message == (
        "No prompt is drawn, and no split or mark waits for a click."
    )


def test_no_slice_that_is_out_of_sight_splits_an_outline(missed, qtbot):
    """In 3-D, the slice that the canvas had shown before cut it, without a line to see."""
    missed.commands.run("edit_outline")
    missed.actions_.viewpoint.move(point_mm=rows(missed)[0].centroid_mm)
    missed.viewer.dims.ndisplay = 3
    missed.commands.run("split_here")
    assert missed.session.state.message.startswith("No slice is shown in 3-D")
    assert (missed.jobs.running, len(rows(missed))) == (False, 1)
    missed.viewer.dims.ndisplay = 2
    missed.commands.run("split_here")
    settled(missed, qtbot)
    assert len(rows(missed)) == 2


def test_an_outline_is_cut_along_the_oblique_slice_that_is_shown(missed, monkeypatch, qtbot):
    """It was cut along the patient's axes, across the slice in view."""
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]]
    monkeypatch.setattr(board, "shown_grid", lambda _: Grid((9, 9, 9), tilt))
    missed.actions_.show_layout(Layout.ONE)
    centre = rows(missed)[0].centroid_mm
    missed.commands.run("edit_outline")
    missed.actions_.viewpoint.move(point_mm=centre)
    missed.commands.run("split_here")
    settled(missed, qtbot)
    findings = missed.session.state.analysis.findings
    grid = missed.session.state.analysis.volumes.labels.grid
    depths = [
        (grid.to_mm(np.argwhere(findings.components == half.id)) - centre) @ tilt[:3, 2]
        for half in rows(missed)
    ]
    below, above = sorted(depths, key=np.mean)
    assert abs(below.max()) <= 3.0, "voxels are 4 mm"
    assert abs(above.min()) <= 3.0


def test_slices_are_interpolated_across_the_oblique_ones_that_are_shown(missed, monkeypatch):
    """Along the patient's axes no slice was empty, so that nothing was."""
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]]
    spaced = Grid((60, 60, 60), tilt @ np.diag([4.0, 4.0, 4.0, 1.0]))
    monkeypatch.setattr(board, "shown_grid", lambda _: spaced)
    monkeypatch.setattr(lesion_adder, "shown_grid", lambda _: spaced)
    missed.actions_.show_layout(Layout.ONE)
    missed.commands.run("edit_outline")
    editor = missed.actions_.review_controller.editor
    drawn, grid = editor.drawn().current, missed.session.state.overlays.grid
    depth_mm = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1)) @ tilt[:3, 2]
    left_out = np.floor(depth_mm / 4 + 0.5) % 2 == 0
    editor.change(np.where(left_out, np.uint8(0), drawn))
    before = np.count_nonzero(editor.drawn().current)
    missed.commands.run("interpolate")
    assert missed.session.state.message == ""
    after = editor.drawn().current > 0
    assert np.count_nonzero(after) > before
    assert np.count_nonzero(after & (drawn > 0)) > 0.8 * np.count_nonzero(after)


def test_nothing_is_interpolated_in_a_plane_that_is_out_of_sight(missed):
    """In 3-D, slices of the plane that the canvas had shown before were filled."""
    missed.commands.run("edit_outline")
    layer = edit_layer(missed)
    slices = np.flatnonzero((np.asarray(layer.data) > 0).any(axis=(0, 1)))
    hole = np.nonzero(np.asarray(layer.data)[:, :, slices[2]])
    layer.data_setitem((*hole, np.full(len(hole[0]), slices[2])), 0)
    missed.viewer.dims.ndisplay = 3
    missed.commands.run("interpolate")
    assert missed.session.state.message.startswith("No slice is shown in 3-D")
    assert not np.asarray(layer.data)[:, :, slices[2]].any()
    missed.viewer.dims.ndisplay = 2
    missed.commands.run("interpolate")
    assert np.asarray(layer.data)[:, :, slices[2]].any()


def test_nothing_of_the_brush_stays_on_the_picture(missed, qtbot):
    """Napari left the box behind its brush there: a black square amid the brain."""
    viewer = missed.viewer
    viewer.window.resize(900, 700)
    viewer.window.show()
    missed.commands.run("edit_outline")
    missed.actions_.split()
    shown = canvas()
    at_rest(qtbot, shown)
    before = viewer.screenshot(canvas_only=True, flash=False)
    missed.actions_.cancel_pointing()  # not yet: the brush is in the hand again
    for off in (40, 0):
        qtbot.mouseMove(shown, shown.rect().center() + QPoint(off, 30))
        qtbot.wait(30)
    assert viewer.canvas.overlays["_brush_circle"].visible
    missed.session.choose_tools(points=())
    at_rest(qtbot, shown)
    after = viewer.screenshot(canvas_only=True, flash=False)
    assert before.shape == after.shape
    assert np.array_equal(before, after)


def test_the_larger_part_of_a_split_keeps_score_and_identity(missed, qtbot):
    """The half that was clicked first kept them, were it a sliver."""
    acts, overlays = missed.actions_, missed.session.state.overlays
    (before,) = rows(missed)
    missed.session.type_reason("ring")
    missed.commands.run("accept")
    missed.commands.run("edit_outline")
    inside = np.argwhere(overlays.components == 1)
    sliver = inside[inside[:, 0].argmin()]
    acts.split()
    for end in (sliver, np.add(sliver, (2, 0, 0))):
        acts.adder.add_split_point(tuple(overlays.grid.to_mm(end)))
    settled(missed, qtbot)
    kept = next(c for c in rows(missed) if c.tracking_uid == before.tracking_uid)
    added = next(c for c in rows(missed) if c.tracking_uid != before.tracking_uid)
    assert kept.score == before.score
    assert added.score is None
    assert kept.volume_ml[Region.WT] > 0.5 * before.volume_ml[Region.WT]
    assert added.volume_ml[Region.WT] < kept.volume_ml[Region.WT]
    assert missed.session.state.review.of(before.tracking_uid).reason == "ring"


def test_strokes_before_done_are_there_after_a_kill_and_ask_to_go_on(missed, qtbot):
    acts, session = missed.actions_, missed.session
    missed.commands.run("edit_outline")
    layer = edit_layer(missed)
    layer.brush_size = 5
    place = tuple(np.rint(layer.world_to_data(RIGHT)).astype(int))
    with layer.block_history():  # as a drag of the mouse
        layer.paint(place, 3)
    drawn = np.asarray(layer.data).copy()
    analysis, overlays = session.state.analysis, session.state.overlays
    kept = stored_drafts.read(analysis)
    np.testing.assert_array_equal(kept.drawn, drawn)
    session.end_edit()  # what a kill leaves: the file, and nothing said
    acts.show_result(FakeResult(analysis), overlays)
    assert "interrupted" in reads(missed.candidates)
    missed.commands.run("draw_lesion")
    assert session.state.editing is None  # first say what becomes of it
    missed.commands.run("edit_outline")
    np.testing.assert_array_equal(edit_layer(missed).data, drawn)
    missed.commands.run("edit_outline")
    settled(missed, qtbot)
    assert rows(missed)[0].volume_ml != analysis.findings.candidates[0].volume_ml
    assert stored_drafts.read(analysis) is None


def test_the_button_that_adds_a_lesion_names_the_click_where_no_crosshair_is_shown(
    missed, monkeypatch
):
    """It asked to point at the lesion, where the pointer cannot be while it is on the button."""
    missed.actions_.show_layout(Layout.SINGLE)
    monkeypatch.setattr(missed.actions_, "renew_pointer", lambda: False)
    missed.actions_.add_lesion()
    assert "Ctrl-click the lesion" in missed.session.state.message


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_strokes_that_another_window_draws_are_not_offered_but_pointed_out(missed):
    """They were offered as interrupted, while both windows wrote one file."""
    analysis, overlays = missed.session.state.analysis, missed.session.state.overlays
    drawn = np.ones(analysis.prepared.working.shape, np.uint8)
    uid = analysis.findings.candidates[0].tracking_uid
    stored_drafts.write(analysis, drafts.OutlineDraft(uid, drawn))
    lock = lock_now(stored_drafts.path_of(analysis))
    try:
        missed.actions_.show_result(FakeResult(analysis), overlays)
        assert "interrupted" not in reads(missed.candidates)
        assert "You are drawing an outline of this study in another window." in reads(missed)
    finally:
        os.close(lock)


def draw_under_changing_names(missed):
    missed.commands.run("edit_outline")
    layer = edit_layer(missed)
    for place, name in ((LEFT, ""), (RIGHT, "B. Reader"), (None, "C. Reader")):
        store_reader(name)
        if place is not None:
            layer.paint(tuple(np.rint(layer.world_to_data(place)).astype(int)), 3)


def test_strokes_follow_a_name_that_changes_while_they_are_drawn(missed, qtbot):
    """Under the earlier name they stayed, and were offered to it after they had been kept."""
    analysis = missed.session.state.analysis
    draw_under_changing_names(missed)
    assert stored_drafts.read(analysis, "B. Reader").drawn.any()
    missed.commands.run("edit_outline")
    settled(missed, qtbot)
    assert missed.session.state.review.events[-1].reader == "C. Reader"
    owners = (None, "", "B. Reader", "C. Reader")
    assert [stored_drafts.read(analysis, owner) for owner in owners] == [None] * 4


def test_strokes_that_follow_a_name_replace_none_that_it_has(missed, qtbot):
    """Strokes interrupted under the new name were overwritten, or deleted at Done."""
    analysis = missed.session.state.analysis
    drawn = np.zeros(analysis.prepared.working.shape, np.uint8)
    drawn[5:8, 5:8, 5:8] = 1
    own = drafts.OutlineDraft(analysis.findings.candidates[0].tracking_uid, drawn)
    for name in ("B. Reader", "C. Reader"):
        stored_drafts.write(analysis, own, name)
    draw_under_changing_names(missed)
    missed.commands.run("edit_outline")
    settled(missed, qtbot)
    for name in ("B. Reader", "C. Reader"):
        np.testing.assert_array_equal(stored_drafts.read(analysis, name).drawn, drawn)


def test_strokes_come_back_where_their_layer_is_deleted_in_napari(missed, qtbot):
    """They were gone without a word, with their copy on the disk."""
    missed.session.go_to_candidate(1)
    missed.commands.run("edit_outline")
    editor = missed.actions_.editor
    drawn = np.where(editor.drawn()[1] == 2, 0, editor.drawn()[1]).astype(np.uint8)
    assert editor.change(drawn)
    missed.viewer.layers.remove(edit_layer(missed))
    assert missed.session.state.editing is None
    assert "layer of the outline was deleted" in reads(missed)
    missed.commands.run("accept")
    missed.commands.run("edit_outline")
    np.testing.assert_array_equal(editor.drawn()[1], drawn)
    missed.commands.run("finish_outline")
    settled(missed, qtbot)
    uid = rows(missed)[0].tracking_uid
    assert missed.session.state.review.of(uid).state is ReviewState.EDITED


def test_a_study_that_napari_opens_during_an_edit_is_not_said_to_have_lost_an_outline(missed):
    """The message stood beside the new study, as if the strokes of the other one were gone."""
    analysis = missed.session.state.analysis
    missed.session.go_to_candidate(1)
    missed.commands.run("edit_outline")
    drawn = np.zeros_like(missed.actions_.editor.drawn().current)
    assert missed.actions_.editor.change(drawn)
    study = replace(analysis.study, name="another")
    for data in layers_of(study, SILENT):
        missed.viewer.layers.append(Layer.create(*data))
    assert missed.session.state.study is study
    assert "deleted" not in reads(missed)
    np.testing.assert_array_equal(stored_drafts.read(analysis).drawn, drawn)


def test_another_sequence_leaves_the_brush_where_it_is(missed):
    """A drag moved the picture instead of painting, also after a short look at the other one."""
    missed.session.go_to_candidate(1)
    missed.commands.run("edit_outline")
    layer, selection = edit_layer(missed), missed.viewer.layers.selection
    missed.commands.run("next_sequence")
    assert (selection.active, layer.mode) == (layer, "paint")
    missed.session.choose_views(swapped=True)
    missed.session.choose_views(swapped=False)
    assert (selection.active, layer.mode) == (layer, "paint")
    missed.commands.run("discard_edit")
    shown = missed.layers.image_layer(missed.session.state.choices.sequence)
    assert selection.active is shown, "the status bar reads the values of the picture"


def test_a_click_in_three_dimensions_adds_nothing(missed, qtbot):
    """It has no depth: a lesion was grown somewhere behind the pointer, and counted as new."""
    missed.actions_.show_layout(Layout.SINGLE)
    missed.viewer.window.show()
    at_rest(qtbot, canvas())
    missed.viewer.dims.ndisplay = 3
    missed.viewer.scene.camera.zoom = 0.2  # without a GPU, each pixel of a volume takes long
    QApplication.processEvents()
    middle = QPoint(canvas().width() // 2, canvas().height() // 2)
    qtbot.mouseClick(
        canvas(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier, middle
    )
    assert "A click in 3-D has no depth" in reads(missed)
    assert not missed.jobs.running
    missed.commands.run("mark_here")
    assert "on a slice of the open study first" in reads(missed)
    missed.viewer.dims.ndisplay = 2


@pytest.mark.parametrize("way", ["key", "row"])
def test_who_moves_on_while_an_outline_is_measured_decides_on_the_candidate_moved_to(
    missed, qtbot, way
):
    """The move was refused, and the decision typed after it was on the outline just drawn."""
    acts, overlays = missed.actions_, missed.session.state.overlays
    missed.commands.run("edit_outline")
    inside = np.argwhere(overlays.components == 1)
    acts.split()
    for end in (inside[inside[:, 0].argmin()], inside[inside[:, 0].argmax()]):
        acts.adder.add_split_point(tuple(overlays.grid.to_mm(end)))
    settled(missed, qtbot)
    first, second = rows(missed)
    acts.go_to_candidate(first.id)
    missed.commands.run("edit_outline")
    layer = edit_layer(missed)
    voxel = np.argwhere(np.asarray(layer.data) > 0)[0]
    layer.data_setitem(tuple(voxel[:, None]), 0)
    missed.commands.run("finish_outline")
    assert acts.review_controller.busy
    if way == "key":
        missed.commands.run("next_candidate")
    else:
        acts.go_to_candidate(second.id)
    assert "is shown once it finishes" in reads(missed)
    settled(missed, qtbot)
    missed.commands.run("reject")
    review = missed.session.state.review
    assert review.state_of(second.tracking_uid) is ReviewState.REJECTED
    assert review.state_of(first.tracking_uid) is ReviewState.EDITED
    assert "is shown once it finishes" not in reads(missed)


def test_a_mark_that_the_edit_includes_goes_to_that_candidate(missed, qtbot):
    """It was looked up before the edit was kept, and then refused as a new lesion."""
    acts = missed.actions_
    missed.session.go_to_candidate(1)
    missed.commands.run("edit_outline")
    grid, labels = missed.session.state.overlays.grid, acts.editor.drawn().current.copy()
    beside = ndimage.binary_dilation(labels > 0, iterations=2) & (labels == 0) & acts.editor.allowed
    labels[beside] = 2
    assert acts.editor.change(labels)
    mark = tuple(float(v) for v in grid.to_mm(np.argwhere(beside)[0]))
    acts.adder.from_mark(mark)
    settled(missed, qtbot)
    assert missed.session.state.message == "Your mark lies in candidate 1, which is now in focus."


def another_network(analysis):
    """Return the analysis as of a network with other weights, which missed the right lesion."""
    found = without_right(analysis)
    engine = replace(found.run.engine, weights_sha256="f" * 64)
    return FakeResult(replace(found, run=replace(found.run, engine=engine)))


def test_a_result_that_arrives_while_an_outline_is_drawn_waits_for_it(missed, analysis, qtbot):
    """It ended the edit, and offered the strokes no longer, as they were on another result."""
    other = another_network(analysis)
    missed.commands.run("draw_lesion")
    layer = edit_layer(missed)
    layer.paint(tuple(np.rint(layer.world_to_data(RIGHT)).astype(int)), 3)
    drawn = np.asarray(layer.data).copy()
    missed.actions_.show_result(other, overlays_of(other.analysis))
    assert missed.session.state.message.startswith(
        "The result is shown once the outline is finished"
    )
    np.testing.assert_array_equal(edit_layer(missed).data, drawn)
    missed.commands.run("finish_outline")
    qtbot.waitUntil(lambda: missed.session.state.result is other, timeout=PATIENCE_MS)
    settled(missed, qtbot)
    assert [row.source for row in rows(missed)] == [Source.NETWORK, Source.READER]
    missed.commands.run("draw_lesion")
    missed.actions_.show_result(again := another_network(analysis), overlays_of(again.analysis))
    missed.commands.run("discard_edit")
    qtbot.waitUntil(lambda: missed.session.state.result is again, timeout=PATIENCE_MS)


def test_a_result_that_waits_is_not_shown_on_another_study(missed, analysis, qtbot):
    other = another_network(analysis)
    missed.commands.run("draw_lesion")
    missed.actions_.show_result(other, overlays_of(other.analysis))
    missed.actions_.close()
    qtbot.waitUntil(lambda: "was discarded" in missed.session.state.message, timeout=PATIENCE_MS)
    assert missed.session.state.study is missed.session.state.result is None
