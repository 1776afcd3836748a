"""What was missed is added in one click or stroke; tools stay in tissue; strokes outlive a kill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from tests.gui.conftest import RIGHT, FakeResult
from tests.gui.window import PATIENCE_MS, reads, settled
from tests.helpers import stored_drafts
from tests.helpers.analysed_head import without_right

from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Region, ReviewState, Source
from lesionlens.napari.controllers import lesion_adder
from lesionlens.napari.model.choices.tools import Limit
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.screen import board
from lesionlens.results.export.exporter import save
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
