"""Point at it: clicks, scribbles, boxes and lassos outline and correct, one stroke each."""

from __future__ import annotations

from itertools import count
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QImage, QMouseEvent
from qtpy.QtWidgets import QApplication, QDockWidget
from scipy import ndimage
from tests.gui.conftest import LEFT, RIGHT, FakeResult
from tests.gui.test_adding import edit_layer, rows, settled
from tests.gui.window import PATIENCE_MS, canvas, control, reads
from tests.helpers import stored_drafts

from lesionlens.analysis.findings import edit_tools
from lesionlens.analysis.findings.edits import outline_of
from lesionlens.analysis.findings.prompt_response import predicted_parts, prompt_request, redrawn
from lesionlens.base.errors import ResourceError
from lesionlens.base.labels import DrawingMethod, Label, PromptKind, Region, ReviewState
from lesionlens.napari.colours import PROMPT_COLOURS
from lesionlens.napari.model.acts.editing import OUTLINE
from lesionlens.napari.model.choices.gestures import Gesture
from lesionlens.napari.model.choices.tools import NEW
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.qt.latest_request import RequestKey


def answered(panel, qtbot):
    questions = panel.actions_.prompting.latest_request
    qtbot.waitUntil(lambda: not questions.running, timeout=PATIENCE_MS)


def point(panel, qtbot, at_mm, belongs=True, kind=PromptKind.POINT):
    path = at_mm if kind is not PromptKind.POINT else [at_mm]
    panel.actions_.prompting.add_gesture(Gesture(kind, belongs, path))
    answered(panel, qtbot)


def drawn(panel):
    return panel.actions_.editor.drawn()[1]


def test_seconds_of_prompts_count_from_the_start_of_the_edit_also_after_undo(
    missed, qtbot, monkeypatch
):
    """They counted from the first prompt, and began again when that was undone."""
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("lesionlens.napari.controllers.prompting.time", clock)
    missed.commands.run("draw_lesion")
    now[0] += 30
    point(missed, qtbot, RIGHT)
    assert [one.seconds for one in missed.actions_.editor.rounds] == [30.0]
    missed.commands.run("undo")
    now[0] += 12
    point(missed, qtbot, RIGHT)
    assert [one.seconds for one in missed.actions_.editor.rounds] == [42.0]


def test_a_missed_lesion_is_pointed_at_kept_by_enter_and_replayed_to_the_voxel(
    missed, qtbot, monkeypatch
):
    clock = SimpleNamespace(monotonic=count(0.0, 5.0).__next__)
    monkeypatch.setattr("lesionlens.napari.controllers.prompting.time", clock)
    point(missed, qtbot, RIGHT)
    assert missed.session.state.message == "", "it is answered: nothing is being prepared"
    first = drawn(missed)
    grid = missed.session.state.overlays.grid
    assert first[tuple(np.rint(grid.to_voxel(RIGHT)).astype(int))]
    away = (RIGHT[0], RIGHT[1] + 8, RIGHT[2])
    point(missed, qtbot, away, belongs=False)
    second, free = drawn(missed), missed.actions_.editor.allowed
    assert 0 < np.count_nonzero(second) < np.count_nonzero(first)
    missed.commands.run("undo")
    np.testing.assert_array_equal(drawn(missed), first)
    assert len(missed.actions_.editor.rounds) == 1
    missed.commands.run("redo")
    np.testing.assert_array_equal(drawn(missed), second)
    result = missed.session.state.result
    missed.commands.run("finish_outline")
    settled(missed, qtbot)
    assert rows(missed)[-1].drawn is DrawingMethod.SEMIAUTOMATIC
    kept = missed.actions_.read_controller.decision_log.recovered(missed.session.state.analysis)[
        0
    ].events[-1]
    assert [one.kind for one in kept.prompts] == [PromptKind.POINT] * 2
    first_s, second_s = (one.seconds for one in kept.prompts)
    assert 0 < first_s < second_s, "seconds are counted from when the outline was begun"
    assert {one.made_by for one in kept.prompts} == {"a stand-in"}
    assert kept.prompts == missed.session.state.review.events[-1].prompts
    again = np.zeros(grid.shape, np.uint8)
    for one in kept.prompts:
        found = result.answer_prompts(prompt_request(again, one))
        again = redrawn(again, found, one, free, predicted_parts(result.analysis, found))
    np.testing.assert_array_equal(again, second)


def test_a_candidate_is_corrected_and_the_other_one_is_left_alone(reviewed, qtbot):
    overlays = reviewed.session.state.overlays
    point(reviewed, qtbot, LEFT)
    assert reviewed.session.state.editing == overlays.candidate_at(LEFT)
    before = drawn(reviewed)
    point(reviewed, qtbot, LEFT, belongs=False)
    assert np.count_nonzero(drawn(reviewed)) < np.count_nonzero(before)
    point(reviewed, qtbot, RIGHT)
    assert "on another candidate" in reads(reviewed)
    reviewed.session.clear_problem(OUTLINE)
    point(reviewed, qtbot, RIGHT, belongs=False)  # it said that the outline agrees already
    assert "on another candidate" in reads(reviewed)
    others = (overlays.components > 0) & (overlays.components != reviewed.session.state.editing)
    assert not drawn(reviewed)[others].any()
    point(reviewed, qtbot, [LEFT, RIGHT], kind=PromptKind.SCRIBBLE)
    assert "Candidate 2 also lies there and is unchanged. To join them" in reads(reviewed)
    assert not drawn(reviewed)[others].any()


def test_the_refusal_of_a_prompt_is_not_shown_after_one_that_changes_nothing(reviewed, qtbot):
    """It stood beside the statement that the outline agrees with the later prompt."""
    point(reviewed, qtbot, LEFT)
    point(reviewed, qtbot, RIGHT, belongs=False)
    assert "on another candidate" in reads(reviewed)
    point(reviewed, qtbot, LEFT)
    assert "Nothing changed: the outline already agrees" in reads(reviewed)
    assert "on another candidate" not in reads(reviewed)


def test_prompts_before_a_split_are_recorded_with_it(reviewed, qtbot):
    """The record and `learn` took both halves for drawn without any prompt."""
    point(reviewed, qtbot, LEFT)
    point(reviewed, qtbot, LEFT, belongs=False)
    prompts = tuple(reviewed.actions_.editor.rounds)
    assert prompts
    middle = np.argwhere(drawn(reviewed) > 0).mean(0)
    reviewed.actions_.adder.split_at(tuple(reviewed.session.state.overlays.grid.to_mm(middle)))
    settled(reviewed, qtbot)
    kept, added = reviewed.session.state.review.events[-2:]
    assert added.added is DrawingMethod.SEMIAUTOMATIC
    assert kept.prompts == prompts


def test_what_was_said_of_a_prompt_goes_with_its_stroke(reviewed, qtbot):
    """After Ctrl+Z, which took a stroke back, the window went on that it "changes nothing"."""
    again = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    point(reviewed, qtbot, LEFT)
    point(reviewed, qtbot, LEFT, belongs=False)
    reviewed.actions_.show_layout(Layout.SINGLE)
    for held in (Qt.KeyboardModifier.ControlModifier, again):
        before = drawn(reviewed).copy()
        reviewed.session.notify("Nothing changed: the outline already agrees with this prompt.")
        qtbot.keyClick(canvas(), Qt.Key.Key_Z, held)
        assert not np.array_equal(drawn(reviewed), before)
        assert reviewed.session.state.message == ""


def test_a_new_candidate_beside_another_one_is_pointed_out(reviewed, qtbot):
    """Who wanted to extend that one got two, without a word."""
    overlays = reviewed.session.state.overlays
    there = overlays.components == overlays.candidate_at(LEFT)
    edge = np.argwhere(ndimage.binary_dilation(there, iterations=2) & (overlays.components == 0))[0]
    point(reviewed, qtbot, tuple(overlays.grid.to_mm(edge)))
    assert reviewed.session.state.editing == NEW
    assert f"new candidate, separate from {overlays.candidate_at(LEFT)}" in reads(reviewed)


@pytest.mark.parametrize("kind", [PromptKind.SCRIBBLE, PromptKind.BOX, PromptKind.LASSO])
def test_scribbles_boxes_and_lassos_are_prompts_too(missed, qtbot, kind):
    x, y, z = RIGHT
    around = [(x - 8, y - 8, z), (x + 8, y - 8, z), (x + 8, y + 8, z)]
    point(missed, qtbot, around if kind is not PromptKind.BOX else around[::2], kind=kind)
    assert [one.kind for one in missed.actions_.editor.rounds] == [kind]
    assert drawn(missed).any()


def test_what_cannot_be_answered_is_said_in_words(missed, qtbot):
    point(missed, qtbot, RIGHT, belongs=False)
    assert "Include something first" in reads(missed)
    assert missed.session.state.editing is None
    point(missed, qtbot, (500.0, 0.0, 0.0))
    assert "outside the images" in reads(missed)
    assert missed.session.state.editing is None  # nothing was begun by that


def dragged(qtbot, widget, held=Qt.KeyboardModifier.NoModifier):
    """Press and move, and do not let go; return where the pointer is."""
    middle = QPoint(widget.width() // 2, widget.height() // 2)
    qtbot.mousePress(widget, Qt.MouseButton.LeftButton, held, middle)
    for step in range(1, 7):
        end = middle + QPoint(6 * step, 3 * step)
        at = QPointF(end)
        sent = QMouseEvent(
            QEvent.Type.MouseMove, at, at, Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton, held
        )
        QApplication.sendEvent(widget, sent)
    return end


def look_at(panel, point_mm):
    """Let the middle of the canvas be a place."""
    panel.actions_.viewpoint.move(point_mm=point_mm, centre_mm=point_mm)
    dims = panel.viewer.dims
    _, down, right = (axis - dims.ndim + 3 for axis in dims.order[-3:])
    panel.viewer.scene.camera.center = (0.0, point_mm[down], point_mm[right])


def pixels_of(widget, colour):
    """Count the pixels of a widget that have a colour."""
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    data = np.frombuffer(image.constBits(), np.uint8)
    rows = data.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()]
    pixels = rows.reshape(-1, 3).astype(float)
    return int((np.abs(pixels - 255 * np.array(colour)).max(1) < 24).sum())


@pytest.mark.parametrize("held", [Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.AltModifier])
def test_a_line_is_seen_on_a_linked_view_while_it_is_dragged(missed, qtbot, held):
    missed.actions_.show_layout(Layout.PAIR)
    missed.actions_.viewpoint.move(point_mm=RIGHT, centre_mm=RIGHT)
    view = missed.views.linked.tiles[0]
    qtbot.keyPress(view, Qt.Key.Key_F2)
    colour = PROMPT_COLOURS[held == Qt.KeyboardModifier.NoModifier]
    before = pixels_of(view, colour)
    end = dragged(qtbot, view, held)
    assert pixels_of(view, colour) > before + 20
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, held, end)
    answered(missed, qtbot)


def line_begun(missed, qtbot, layout):
    """Begin a line by F2 in a layout; return its view, and where the pointer is."""
    missed.actions_.show_layout(layout)
    look_at(missed, RIGHT)
    view = canvas() if layout is Layout.SINGLE else missed.views.linked.tiles[0]
    qtbot.keyPress(view, Qt.Key.Key_F2)
    end = dragged(qtbot, view)
    return view, end


@pytest.mark.parametrize("layout", [Layout.PAIR, Layout.SINGLE])
def test_a_line_begun_in_a_study_that_was_left_is_no_prompt_of_the_next(missed, qtbot, layout):
    """It began a new candidate in the next study of the list, on another slice."""
    view, end = line_begun(missed, qtbot, layout)
    missed.session.suspend()
    if layout is Layout.PAIR:
        missed.session.restore_suspended()  # the views stay for the next study
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    answered(missed, qtbot)
    missed.session.restore_suspended()
    assert missed.session.state.editing is None
    assert missed.session.state.problem is None


@pytest.mark.parametrize("layout", [Layout.PAIR, Layout.SINGLE])
def test_a_line_during_which_the_plane_changes_is_no_prompt(missed, qtbot, layout):
    """The places of its end were taken for places in the plane where it was begun."""
    view, end = line_begun(missed, qtbot, layout)
    missed.commands.run("next_plane")
    QApplication.processEvents()
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end + QPoint(9, 40))
    answered(missed, qtbot)
    assert missed.session.state.editing is None
    assert missed.session.state.problem is None


def trail_of(panel):
    return panel.viewer.scene.overlays["lesionlens_trail"].strokes


@pytest.mark.parametrize("layout", [Layout.PAIR, Layout.SINGLE])
def test_escape_drops_the_line_being_drawn(missed, qtbot, layout):
    """Its release was a prompt all the same."""
    view, end = line_begun(missed, qtbot, layout)
    colour = PROMPT_COLOURS[True]
    shown = pixels_of(view, colour) if layout is Layout.PAIR else 0
    qtbot.keyClick(view, Qt.Key.Key_Escape)
    if layout is Layout.PAIR:
        assert pixels_of(view, colour) < shown
    else:
        assert trail_of(missed) is None
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    answered(missed, qtbot)
    assert missed.session.state.editing is None
    end = dragged(qtbot, view)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    answered(missed, qtbot)
    assert len(missed.actions_.editor.rounds) == 1, "the next line counts"


def test_a_line_during_which_three_dimensions_are_shown_is_no_prompt(missed, qtbot):
    view, end = line_begun(missed, qtbot, Layout.SINGLE)
    missed.viewer.dims.ndisplay = 3
    QApplication.processEvents()
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end + QPoint(9, 40))
    answered(missed, qtbot)
    missed.viewer.dims.ndisplay = 2
    assert missed.session.state.editing is None
    assert missed.session.state.problem is None


def test_a_line_on_the_canvas_ends_where_linked_views_take_its_place(missed, qtbot):
    """It was still shown afterwards, and the next one moved the image."""
    view, end = line_begun(missed, qtbot, Layout.SINGLE)
    missed.actions_.show_layout(Layout.PAIR)
    linked = missed.views.linked.tiles[0]
    qtbot.mouseRelease(linked, Qt.MouseButton.LeftButton, pos=end)
    missed.actions_.show_layout(Layout.SINGLE)
    assert trail_of(missed) is None
    assert missed.viewer.scene.camera.mouse_pan
    end = dragged(qtbot, view)
    assert not missed.viewer.scene.camera.mouse_pan
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    answered(missed, qtbot)
    assert len(missed.actions_.editor.rounds) == 1
    assert missed.viewer.scene.camera.mouse_pan


@pytest.mark.parametrize("layout", [Layout.PAIR, Layout.SINGLE])
def test_a_drag_of_which_a_busy_window_saw_no_movement_is_a_line(missed, qtbot, layout):
    """Qt omits such movements: the line became a point where it was begun."""
    missed.actions_.show_layout(layout)
    look_at(missed, RIGHT)
    view = canvas() if layout is Layout.SINGLE else missed.views.linked.tiles[0]
    gestures = []
    prompting = missed.actions_.prompting
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompting, "add_gesture", gestures.append)
        prompting.set_active(held=True)
        middle = QPoint(view.width() // 2, view.height() // 2)
        qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=middle)
        qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=middle + QPoint(40, 30))
    missed.actions_.prompting.set_active(held=False)
    (gesture,) = gestures
    assert gesture.kind is PromptKind.SCRIBBLE
    length = np.linalg.norm(np.subtract(gesture.path_mm[-1], gesture.path_mm[0]))
    zoom = missed.viewer.scene.camera.zoom
    zoom = zoom if layout is Layout.SINGLE else missed.actions_.viewpoint.current.zoom
    assert length == pytest.approx(50 / zoom, rel=0.02)


def test_a_line_on_a_linked_view_is_of_the_slice_where_it_was_begun(missed, qtbot, monkeypatch):
    missed.actions_.show_layout(Layout.PAIR)
    look_at(missed, RIGHT)
    view, gestures = missed.views.linked.tiles[0], []
    missed.actions_.prompting.set_active(held=True)
    monkeypatch.setattr(missed.actions_.prompting, "add_gesture", gestures.append)
    end = dragged(qtbot, view)
    missed.actions_.scroll(3)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    missed.actions_.prompting.set_active(held=False)
    (gesture,) = gestures
    assert {round(z, 3) for _, _, z in gesture.path_mm} == {RIGHT[2]}


def test_a_line_is_seen_on_the_canvas_while_it_is_dragged(missed, qtbot):
    missed.actions_.show_layout(Layout.SINGLE)
    look_at(missed, RIGHT)
    native = canvas()
    qtbot.keyPress(native, Qt.Key.Key_F2)
    end = dragged(qtbot, native, Qt.KeyboardModifier.ShiftModifier)
    trail = missed.viewer.scene.overlays["lesionlens_trail"]
    corners = trail.strokes.points
    assert len(corners) == 5  # a box, closed
    assert np.ptp(corners, axis=0).min() > 0
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=end)
    answered(missed, qtbot)
    assert trail.strokes is None
    assert [one.kind for one in missed.actions_.editor.rounds] == [PromptKind.BOX]
    denied = native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.AltModifier
    before = len(missed.actions_.editor.rounds[-1].background)
    qtbot.mouseClick(*denied, end - QPoint(28, 10))
    answered(missed, qtbot)
    assert len(missed.actions_.editor.rounds[-1].background) > before


def test_beside_a_volume_over_time_the_pointer_prompts_and_probes(missed, qtbot):
    """A click was neither while napari's world had four dimensions."""
    missed.actions_.show_layout(Layout.SINGLE)
    missed.viewer.add_image(np.zeros((3, 4, 5, 6), np.float32), name="dynamic", visible=False)
    look_at(missed, RIGHT)
    native, probed = canvas(), []
    missed.actions_.probe = lambda point_mm, **_: probed.append(point_mm)
    middle = QPoint(native.width() // 2, native.height() // 2)
    shift = Qt.KeyboardModifier.ShiftModifier
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, shift, middle)
    ((_, _, z),) = probed
    assert z == pytest.approx(RIGHT[2], abs=3.0)
    missed.actions_.prompting.set_active(held=True)
    dragged(qtbot, native, shift)
    assert len(missed.viewer.scene.overlays["lesionlens_trail"].strokes.points) == 5
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=middle)
    answered(missed, qtbot)
    assert [one.kind for one in missed.actions_.editor.rounds] == [PromptKind.BOX]
    missed.actions_.prompting.set_active(held=False)


@pytest.fixture
def painting(missed):
    """A labels layer of the user, active with its brush, under the pointer."""
    missed.actions_.show_layout(Layout.SINGLE)
    look_at(missed, RIGHT)
    image = next(layer for layer in missed.viewer.layers if layer.visible)
    layer = missed.viewer.add_labels(
        np.zeros(image.data.shape, np.uint8), name="mine", scale=image.scale,
        translate=image.translate, units=image.units,
    )  # fmt: skip
    layer.mode = "paint"
    yield layer
    missed.viewer.layers.remove(layer)


def test_a_prompt_paints_nothing_into_a_layer_of_the_user(missed, painting, qtbot):
    """The brush of a labels layer of another plugin was in the hand, and painted along."""
    layer = painting
    native = canvas()
    qtbot.keyPress(native, Qt.Key.Key_F2)
    end = dragged(qtbot, native)
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=end)
    answered(missed, qtbot)
    qtbot.keyRelease(native, Qt.Key.Key_F2)
    assert missed.actions_.editor.rounds
    assert not layer.data.any()
    missed.commands.run("discard_edit")
    assert missed.viewer.layers.selection.active is layer
    assert layer.mode == "paint"
    assert not missed.viewer.scene.camera.mouse_pan


def click(qtbot, held=Qt.KeyboardModifier.NoModifier):
    native = canvas()
    end = dragged(qtbot, native, held)
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, held, end)


def test_a_pending_mark_paints_nothing_into_a_layer_of_the_user(
    missed, painting, qtbot, monkeypatch
):
    marked = []
    monkeypatch.setattr(missed.actions_.read_controller.marking, "mark", marked.append)
    missed.actions_.placing = True
    click(qtbot)
    assert [point[2] for point in marked] == [pytest.approx(RIGHT[2], abs=3.0)]
    assert not painting.data.any()
    assert missed.viewer.layers.selection.active is painting
    click(qtbot)
    assert painting.data.any(), "the brush is back"


@pytest.mark.parametrize(
    "held", [Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier]
)
def test_a_stroke_with_a_layer_of_the_user_adds_and_probes_nothing(
    missed, painting, qtbot, monkeypatch, held
):
    acts = []
    monkeypatch.setattr(missed.actions_.adder, "add", acts.append)
    monkeypatch.setattr(missed.actions_, "probe", acts.append)
    click(qtbot, held)
    assert not acts
    painting.mode = "pan_zoom"
    click(qtbot, held)
    assert [point[2] for point in acts] == [pytest.approx(RIGHT[2], abs=3.0)]


def test_a_switch_excludes_where_alt_never_arrives(missed, qtbot, monkeypatch):
    """Some window managers take every click with Alt."""
    missed.actions_.show_layout(Layout.SINGLE)
    look_at(missed, RIGHT)
    native = canvas()
    middle = QPoint(native.width() // 2, native.height() // 2)
    missed.commands.run("prompts_exclude")
    assert "Prompts exclude now" in reads(missed)
    missed.commands.run("prompts_exclude")
    assert "Prompts include again" in reads(missed)
    qtbot.keyPress(native, Qt.Key.Key_F2)
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=middle)
    answered(missed, qtbot)
    first = drawn(missed)
    switch = control(missed, "exclude")
    assert not switch.isChecked()
    qtbot.keyClick(native, Qt.Key.Key_F5)  # with F2 held
    assert switch.isChecked()
    assert "Click: exclude" in reads(missed)
    at = middle + QPoint(8, 8)
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=at)
    answered(missed, qtbot)
    assert missed.actions_.editor.rounds[-1].background
    assert np.count_nonzero(drawn(missed)) < np.count_nonzero(first)
    missed.actions_.show_layout(Layout.PAIR)
    view = missed.views.linked.tiles[0]
    qtbot.keyPress(view, Qt.Key.Key_F2)
    before, made = pixels_of(view, PROMPT_COLOURS[False]), []
    prompting = missed.actions_.prompting
    add_gesture = prompting.add_gesture
    monkeypatch.setattr(prompting, "add_gesture", lambda one: [made.append(one), add_gesture(one)])
    end = dragged(qtbot, view)
    assert pixels_of(view, PROMPT_COLOURS[False]) > before + 20
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    answered(missed, qtbot)
    assert [(one.kind, one.foreground) for one in made] == [(PromptKind.SCRIBBLE, False)]
    missed.commands.run("discard_edit")
    assert not missed.session.state.tools.excluding


def test_a_click_on_the_canvas_and_on_a_linked_view_is_a_prompt_while_the_key_is_held(
    missed, qtbot
):
    missed.actions_.show_layout(Layout.PAIR)
    missed.actions_.viewpoint.move(point_mm=RIGHT, centre_mm=RIGHT)
    view = missed.views.linked.tiles[0]
    middle = QPoint(view.width() // 2, view.height() // 2)
    qtbot.keyPress(view, Qt.Key.Key_F2)
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=middle)
    answered(missed, qtbot)
    qtbot.waitUntil(lambda: bool(missed.actions_.editor.rounds), timeout=PATIENCE_MS)
    assert missed.actions_.prompting.active
    layer = edit_layer(missed)
    assert layer.mode == "pan_zoom"
    assert not missed.views.linked.isHidden()  # an outline goes on where the reader looks
    missed.actions_.show_layout(Layout.SINGLE)
    before = drawn(missed)
    native = canvas()
    at = QPoint(native.width() // 2 + 30, native.height() // 2)  # beside the first
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=at)
    answered(missed, qtbot)
    assert len(missed.actions_.editor.rounds) == 2
    assert (drawn(missed) != before).any()
    qtbot.keyRelease(native, Qt.Key.Key_F2)
    qtbot.waitUntil(lambda: not missed.actions_.prompting.active, timeout=PATIENCE_MS)
    assert layer.mode == "paint"


def test_prompts_before_done_are_there_after_a_kill_and_go_on_into_the_review(missed, qtbot):
    """The outline came back, and was kept as if it had been brushed."""
    point(missed, qtbot, RIGHT)
    point(missed, qtbot, (RIGHT[0], RIGHT[1] + 8, RIGHT[2]), belongs=False)
    editor, before = missed.actions_.editor, drawn(missed).copy()
    rounds, analysis = [*editor.rounds], missed.session.state.analysis
    assert len(rounds) == 2
    missed.session.end_edit()  # what a kill leaves: the file, and nothing said
    missed.actions_.show_result(missed.session.state.result, missed.session.state.overlays)
    missed.commands.run("edit_outline")
    assert editor.rounds == rounds
    point(missed, qtbot, (RIGHT[0], RIGHT[1] - 6, RIGHT[2]), belongs=False)
    assert editor.rounds[:-1] == rounds, "it goes on from the prompts before"
    missed.commands.run("undo")
    np.testing.assert_array_equal(drawn(missed), before)
    assert editor.rounds == rounds
    missed.commands.run("edit_outline")
    settled(missed, qtbot)
    (added,) = {one.tracking_uid for one in rows(missed)} - {
        one.tracking_uid for one in analysis.findings.candidates
    }
    assert missed.session.state.review.prompts_of(added) == (tuple(rounds),)


def test_napari_s_own_undo_takes_the_prompt_with_its_stroke(missed, qtbot):
    """Ctrl+Z left the prompt in the record, and the stroke in the draft and the linked views."""
    point(missed, qtbot, RIGHT)
    before, rounds = drawn(missed).copy(), [*missed.actions_.editor.rounds]
    point(missed, qtbot, (RIGHT[0], RIGHT[1] + 8, RIGHT[2]), belongs=False)
    after = drawn(missed).copy()
    missed.actions_.show_layout(Layout.SINGLE)
    qtbot.keyClick(canvas(), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(drawn(missed), before)
    assert missed.actions_.editor.rounds == rounds
    analysis = missed.session.state.analysis
    kept = stored_drafts.read(analysis, missed.actions_.read_controller.current.decision_owner())
    np.testing.assert_array_equal(kept.drawn, before)
    again = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    qtbot.keyClick(canvas(), Qt.Key.Key_Z, again)
    np.testing.assert_array_equal(drawn(missed), after)
    assert len(missed.actions_.editor.rounds) == len(rounds) + 1


def test_two_quick_clicks_while_the_key_is_held_are_two_prompts_and_no_zoom(missed, qtbot):
    """napari took the second one for a double click, and zoomed in."""
    missed.actions_.show_layout(Layout.SINGLE)
    look_at(missed, RIGHT)
    native, camera = canvas(), missed.viewer.scene.camera
    at = QPoint(native.width() // 2, native.height() // 2)
    qtbot.keyPress(native, Qt.Key.Key_F2)
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=at)
    answered(missed, qtbot)
    before, beside_it = camera.zoom, at + QPoint(30, 0)
    qtbot.mouseDClick(native, Qt.MouseButton.LeftButton, pos=beside_it)
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=beside_it)
    answered(missed, qtbot)
    assert camera.zoom == before
    assert len(missed.actions_.editor.rounds) == 2
    qtbot.keyRelease(native, Qt.Key.Key_F2)
    qtbot.waitUntil(lambda: not missed.actions_.prompting.active, timeout=PATIENCE_MS)
    missed.commands.run("discard_edit")
    qtbot.mouseDClick(native, Qt.MouseButton.LeftButton, pos=at)
    qtbot.mouseRelease(native, Qt.MouseButton.LeftButton, pos=at)
    assert camera.zoom == 2 * before


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.PLANES])
def test_the_views_stay_where_a_candidate_is_pointed_at(reviewed, qtbot, layout):
    """They went to its centre, and the next click was on another slice."""
    reviewed.actions_.show_layout(layout)
    reviewed.session.go_to_candidate(2)
    overlays = reviewed.session.state.overlays
    voxels = np.argwhere(overlays.components == 1)
    at_mm = tuple(overlays.grid.to_mm(voxels[voxels[:, 2].argmax()]).tolist())
    look_at(reviewed, at_mm)
    before = reviewed.actions_.viewpoint.current
    point(reviewed, qtbot, at_mm)
    assert reviewed.session.state.editing == reviewed.session.state.choices.candidate == 1
    assert reviewed.actions_.viewpoint.current == before


def test_the_picture_stays_in_its_place_while_the_key_is_held(missed, qtbot):
    """napari's controls came with the first prompt, and the next click met another place."""
    missed.actions_.show_layout(Layout.SINGLE)
    window = missed.window()
    (controls,) = [
        d for d in window.findChildren(QDockWidget) if d.windowTitle() == "layer controls"
    ]
    window.resize(1100, 700)
    window.show()
    qtbot.waitUntil(controls.isHidden, timeout=PATIENCE_MS)
    look_at(missed, RIGHT)
    native = canvas()
    qtbot.keyPress(native, Qt.Key.Key_F2)
    at = QPoint(native.width() // 2, native.height() // 2)
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=at)
    answered(missed, qtbot)
    qtbot.waitUntil(lambda: missed.session.state.editing is not None, timeout=PATIENCE_MS)
    qtbot.wait(100)
    assert controls.isHidden()
    qtbot.keyRelease(native, Qt.Key.Key_F2)
    qtbot.waitUntil(controls.isVisible, timeout=PATIENCE_MS)


def ask(panel, at_mm, belongs=True):
    """Point, and do not wait for the answer."""
    panel.actions_.prompting.add_gesture(Gesture(PromptKind.POINT, belongs, [at_mm]))


def test_an_answer_is_drawn_into_no_other_outline(reviewed, qtbot):
    """Who left in a hurry had the prompts of one candidate drawn into the next one."""
    overlays = reviewed.session.state.overlays
    left, right = (overlays.candidate_at(at) for at in (LEFT, RIGHT))
    ask(reviewed, LEFT, belongs=False)
    ask(reviewed, LEFT, belongs=False)
    assert reviewed.session.state.editing == left
    reviewed.commands.run("discard_edit")
    reviewed.actions_.go_to_candidate(right)
    reviewed.commands.run("edit_outline")
    answered(reviewed, qtbot)
    assert reviewed.session.state.editing == right
    before, now, _ = reviewed.actions_.editor.drawn()
    np.testing.assert_array_equal(now, before)
    assert not reviewed.actions_.editor.rounds
    point(reviewed, qtbot, RIGHT, belongs=False)
    assert len(reviewed.actions_.editor.rounds) == 1
    assert drawn(reviewed)[overlays.components == right].any()


def test_preparing_is_announced_once_a_study_also_where_an_edit_is_continued(missed, qtbot):
    """An edit continued after a crash was silent for seconds; every new outline announced it."""
    ask(missed, RIGHT)
    assert "Preparing the first prompt" in reads(missed)
    answered(missed, qtbot)
    missed.commands.run("discard_edit")
    ask(missed, RIGHT)
    assert "Preparing the first prompt" not in reads(missed)
    answered(missed, qtbot)
    analysis = missed.session.state.analysis
    missed.session._set(
        result=FakeResult(analysis)
    )  # as after a restart, with the rounds of the draft
    assert missed.actions_.editor.rounds
    ask(missed, beside(RIGHT))
    assert "Preparing the first prompt" in reads(missed)
    answered(missed, qtbot)


@pytest.mark.parametrize("leave", ["finish_outline", "accept", "undo"])
def test_an_outline_is_not_left_before_its_prompt_is_answered(missed, qtbot, leave):
    ask(missed, RIGHT)
    missed.commands.run(leave)
    assert "A prompt is being answered" in reads(missed)
    answered(missed, qtbot)
    assert missed.session.state.editing == NEW
    assert drawn(missed).any()
    assert "A prompt is being answered" not in reads(missed)
    assert "was ignored: press it again" in reads(missed)  # it was gone in half a second
    missed.commands.run("finish_outline")
    settled(missed, qtbot)
    assert rows(missed)[-1].drawn is DrawingMethod.SEMIAUTOMATIC


def test_a_refused_act_is_to_be_repeated_after_the_last_prompt_not_after_the_next(
    missed, qtbot, monkeypatch
):
    """Pressed again after the first answer it was refused again, and a later answer hid the hint.

    What was announced of the next candidate was gone after the first answer, too.
    """
    for held_back, announced in (
        ("finish_outline", "A prompt is being answered: wait"),
        ("next_candidate", "the candidate is shown once it is drawn"),
    ):
        questions, seen = missed.actions_.prompting.latest_request, []
        for place in (RIGHT, RIGHT, RIGHT):
            ask(missed, place)
        missed.commands.run(held_back)

        def submit(*given, submit=questions.submit, seen=seen):
            seen.append(reads(missed))
            submit(*given)

        with monkeypatch.context() as patched:
            patched.setattr(questions, "submit", submit)
            answered(missed, qtbot)
        assert len(seen) == 2
        for text in seen:
            assert announced in text
            assert "press it again" not in text
        if held_back == "finish_outline":
            assert "was ignored: press it again" in reads(missed)


def test_the_next_candidate_is_shown_once_the_prompts_are_answered(reviewed, qtbot):
    """N was refused, and the R typed after it rejected the candidate that was being drawn."""
    left, right = (reviewed.session.state.overlays.candidate_at(at) for at in (LEFT, RIGHT))
    prompted, other = (
        next(c.tracking_uid for c in rows(reviewed) if c.id == one) for one in (left, right)
    )
    ask(reviewed, LEFT, belongs=False)
    ask(reviewed, beside(LEFT), belongs=False)
    reviewed.commands.run("next_candidate")
    assert "the candidate is shown once it is drawn" in reads(reviewed)
    reviewed.commands.run("reject")
    answered(reviewed, qtbot)
    settled(reviewed, qtbot)
    assert reviewed.session.state.editing is None
    assert reviewed.session.state.focused.tracking_uid == other
    reviewed.commands.run("reject")
    states = [reviewed.session.state.review.state_of(uid) for uid in (prompted, other)]
    assert states == [ReviewState.EDITED, ReviewState.REJECTED]


def test_a_row_clicked_during_an_answer_is_shown_afterwards_unless_the_edit_is_discarded(
    reviewed, qtbot
):
    left, right = (reviewed.session.state.overlays.candidate_at(at) for at in (LEFT, RIGHT))
    other = next(c.tracking_uid for c in rows(reviewed) if c.id == right)
    ask(reviewed, LEFT, belongs=False)
    reviewed.actions_.go_to_candidate(right)
    reviewed.commands.run("discard_edit")
    assert "is shown once" not in reads(reviewed)
    answered(reviewed, qtbot)
    assert reviewed.session.state.focused.id == left
    ask(reviewed, LEFT, belongs=False)
    reviewed.actions_.go_to_candidate(right)
    answered(reviewed, qtbot)
    settled(reviewed, qtbot)
    assert reviewed.session.state.focused.tracking_uid == other


def test_a_refused_prompt_holds_the_reader_where_it_is_seen(reviewed, qtbot):
    ask(reviewed, LEFT, belongs=False)
    editing = reviewed.session.state.editing
    ask(reviewed, RIGHT)
    reviewed.commands.run("next_candidate")
    answered(reviewed, qtbot)
    assert "on another candidate" in reads(reviewed)
    assert "is shown once" not in reads(reviewed)
    assert "was ignored: press it again" in reads(reviewed)
    assert reviewed.session.state.editing == editing


@pytest.mark.parametrize("edits", [False, True])
def test_a_prompt_that_fails_draws_nothing_and_the_next_is_answered(
    missed, qtbot, monkeypatch, edits
):
    """*Preparing the first prompt* stayed beside the failure, as if an answer were to come."""

    def fail(*_):
        raise ResourceError(found="no response", expected="a server", next_step="Start it")

    if edits:
        missed.session.go_to_candidate(1)
        missed.commands.run("edit_outline")
    editing = missed.session.state.editing
    with monkeypatch.context() as patch:
        patch.setattr(FakeResult, "answer_prompts", fail)
        point(missed, qtbot, RIGHT)
    assert missed.session.state.problem.found == "no response"
    assert (missed.session.state.message, missed.session.state.editing) == ("", editing)
    point(missed, qtbot, RIGHT)
    assert missed.session.state.problem is None
    assert drawn(missed)[tuple(missed.session.state.overlays.grid.nearest_voxel(RIGHT))]
    before = drawn(missed)
    with monkeypatch.context() as patch:
        patch.setattr(FakeResult, "answer_prompts", fail)
        ask(missed, beside(RIGHT), belongs=False)
        ask(missed, beside(RIGHT), belongs=False)
        answered(missed, qtbot)
    np.testing.assert_array_equal(drawn(missed), before)
    assert len(missed.actions_.editor.rounds) == 1


def test_a_prompt_while_an_outline_is_measured_is_declined(missed, qtbot):
    """It waited for the next outline, and was drawn into that."""
    point(missed, qtbot, RIGHT)
    missed.commands.run("finish_outline")
    ask(missed, LEFT)
    assert "An outline is being measured" in reads(missed)
    settled(missed, qtbot)
    missed.commands.run("draw_lesion")
    point(missed, qtbot, (RIGHT[0], RIGHT[1] + 12, RIGHT[2]))
    assert len(missed.actions_.editor.rounds) <= 1


def test_a_stroke_during_the_answer_stays(missed, qtbot):
    overlays = missed.session.state.overlays
    missed.session.go_to_candidate(1)
    missed.commands.run("edit_outline")
    inside = tuple(np.argwhere(drawn(missed) > 0)[0])
    ask(missed, RIGHT)
    edit_layer(missed).data_setitem(tuple(np.array([i]) for i in inside), 0)
    answered(missed, qtbot)
    assert drawn(missed)[inside] == 0
    assert drawn(missed)[tuple(overlays.grid.nearest_voxel(RIGHT))] > 0


def test_other_requests_do_not_displace_a_prompt(missed, qtbot):
    """No prompt was answered for the rest of the session."""
    go_on = Event()
    missed.latest_request.submit(
        RequestKey("first"), lambda _: go_on.wait(PATIENCE_MS / 1000), lambda _: None
    )
    ask(missed, RIGHT)
    missed.latest_request.submit(RequestKey("latest"), lambda _: None, lambda _: None)
    go_on.set()
    answered(missed, qtbot)
    qtbot.waitUntil(lambda: not missed.latest_request.running, timeout=PATIENCE_MS)
    assert drawn(missed).any()
    point(missed, qtbot, (RIGHT[0], RIGHT[1] + 8, RIGHT[2]), belongs=False)
    assert len(missed.actions_.editor.rounds) == 2


def test_a_candidate_below_the_threshold_is_named_and_no_other_one_is_taken_for_it(reviewed, qtbot):
    """Another candidate stayed in focus, as the one that the mark or the prompt lay in."""
    session = reviewed.session
    scores = {c.id: c.score for c in rows(reviewed)}
    hidden = min(scores, key=lambda one: scores[one])
    shown = max(scores, key=lambda one: scores[one])
    at = rows(reviewed)[hidden - 1].centroid_mm
    session.go_to_candidate(shown)
    session.choose_threshold(scores[shown])
    reviewed.actions_.adder.from_mark(at)
    assert f"Candidate {hidden} is below the threshold" in reads(reviewed)
    session.notify("")
    point(reviewed, qtbot, at, belongs=False)
    assert f"Candidate {hidden} is below the threshold" in reads(reviewed)
    assert session.state.editing is None
    assert session.state.choices.candidate == shown


def beside(at_mm, along=0, by_mm=8.0):
    return tuple(v + by_mm * (axis == along) for axis, v in enumerate(at_mm))


def brush(panel, at_mm, label, half=1):
    """Paint a cube by hand; 0 erases."""
    at = panel.session.state.overlays.grid.nearest_voxel(at_mm)
    sides = [np.arange(i - half, i + half + 1) for i in at]
    taken = tuple(axis.ravel() for axis in np.meshgrid(*sides, indexing="ij"))
    with panel.actions_.editor.one_stroke():
        edit_layer(panel).data_setitem(taken, label)
    return taken


def reopened(panel):
    """What a kill leaves: the file, and nothing said."""
    panel.session.end_edit()
    panel.actions_.show_result(panel.session.state.result, panel.session.state.overlays)
    panel.commands.run("edit_outline")


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_erased_or_painted_by_hand_stays_when_another_place_is_pointed_at(
    missed, qtbot, killed
):
    """The network brought back, without a word, what the reader had just erased."""
    point(missed, qtbot, RIGHT)
    erased = brush(missed, beside(RIGHT), 0, half=0)
    painted = brush(missed, beside(RIGHT, 2), 1, half=0)
    if killed:
        reopened(missed)
    point(missed, qtbot, beside(RIGHT, 1, 4.0))
    assert drawn(missed)[erased] == 0
    assert drawn(missed)[painted] == 1
    (other,) = np.argwhere(drawn(missed) > 0)[:1]
    point(missed, qtbot, tuple(missed.session.state.overlays.grid.to_mm(other)), belongs=False)
    assert drawn(missed)[painted] == 1
    missed.commands.run("undo")
    missed.commands.run("undo")
    missed.commands.run("redo")
    assert (drawn(missed)[erased], drawn(missed)[painted]) == (0, 1)
    assert missed.actions_.editor.by_hand[erased].all()
    assert np.count_nonzero(missed.actions_.editor.by_hand) == 2
    point(missed, qtbot, beside(RIGHT))
    assert drawn(missed)[erased] > 0, "the reader pointed into it: the last act counts"
    point(missed, qtbot, beside(RIGHT, 2), belongs=False)
    assert drawn(missed)[painted] == 0


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_tool_removed_stays_when_another_place_is_pointed_at(missed, qtbot, killed):
    """The network brought back the island that the reader had just had removed."""
    point(missed, qtbot, RIGHT)
    editor, before = missed.actions_.editor, drawn(missed).copy()
    at = missed.session.state.overlays.grid.nearest_voxel(beside(RIGHT))
    removed = tuple(np.array([i]) for i in at)
    assert before[removed] > 0
    changed = before.copy()
    changed[removed] = 0
    missed.actions_.adder.apply(lambda _: changed, "")
    assert np.argwhere(editor.by_hand).tolist() == np.transpose(removed).tolist()
    missed.commands.run("undo")
    assert np.array_equal(drawn(missed), before)
    assert not editor.by_hand.any()
    missed.commands.run("redo")
    if killed:
        reopened(missed)
    point(missed, qtbot, beside(RIGHT, 1, 4.0))
    assert drawn(missed)[removed] == 0
    point(missed, qtbot, beside(RIGHT))
    assert drawn(missed)[removed] > 0, "the reader pointed into it: the last act counts"


def test_strokes_are_told_from_what_was_computed_when_an_outline_is_kept(
    missed, qtbot, monkeypatch
):
    """On thick slices strokes fill the slice; what a prompt outlined keeps its volume."""
    kept = []
    target = "lesionlens.napari.controllers.review_controller.outline_of"
    monkeypatch.setattr(target, lambda *given: kept.append(given[4]) or outline_of(*given))
    point(missed, qtbot, RIGHT)
    removed = tuple(np.argwhere(drawn(missed) > 0)[0])
    changed = drawn(missed).copy()
    changed[removed] = 0
    missed.actions_.adder.apply(lambda _: changed, "")
    missed.commands.run("finish_outline")
    settled(missed, qtbot)
    assert [np.argwhere(by_hand).tolist() for by_hand in kept] == [[list(removed)]]


def test_a_smoothed_border_may_be_moved_by_the_next_prompt(missed, qtbot, monkeypatch):
    point(missed, qtbot, RIGHT)
    smoothed = drawn(missed).copy()
    smoothed[tuple(np.argwhere(smoothed > 0)[0])] = 0
    monkeypatch.setattr(edit_tools, "smoothed", lambda *_: smoothed)
    missed.commands.run("smooth")
    assert np.array_equal(drawn(missed), smoothed)
    assert not missed.actions_.editor.by_hand.any()


def test_a_prompt_that_only_strokes_block_is_said_to_be_blocked_by_them(missed, qtbot):
    """The window said that the outline agrees already; the reader saw that it did not."""
    point(missed, qtbot, RIGHT)
    for _ in range(2):
        point(missed, qtbot, RIGHT)
    assert "the outline already agrees" in reads(missed)
    ask(missed, RIGHT)
    missed.commands.run("accept")
    answered(missed, qtbot)
    assert "the outline already agrees" in reads(missed)
    assert "was ignored: press it again" in reads(missed)  # the answer hid the refusal
    erased = brush(missed, beside(RIGHT), 0, half=0)
    point(missed, qtbot, RIGHT)
    assert drawn(missed)[erased] == 0
    assert "what you painted or erased, even with a tool, is kept" in reads(missed)


def test_an_erased_prompt_is_not_asked_again(missed, qtbot):
    point(missed, qtbot, RIGHT)
    (first,) = missed.actions_.editor.rounds[-1].foreground
    brush(missed, RIGHT, 0)
    assert drawn(missed).any()
    point(missed, qtbot, beside(RIGHT))
    assert first not in missed.actions_.editor.rounds[-1].foreground
    assert drawn(missed)[first] == 0


def test_a_prompt_of_one_region_is_none_of_the_part_that_is_shown_next(reviewed, qtbot):
    """A point in the oedema became enhancing when the enhancing part was pointed at elsewhere."""
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    brush(reviewed, LEFT, 2, half=2)
    point(reviewed, qtbot, LEFT, belongs=False)
    point(reviewed, qtbot, LEFT)
    assert reviewed.session.state.choices.region is Region.WT
    (whole,) = reviewed.actions_.editor.rounds[-1].foreground
    label = drawn(reviewed)[whole]
    reviewed.session.choose_region(Region.ET)
    point(reviewed, qtbot, tuple(np.add(LEFT, (0.0, -16.0, 0.0))))
    last = reviewed.actions_.editor.rounds[-1]
    assert last.region is Region.ET
    assert whole not in last.foreground
    assert drawn(reviewed)[whole] == label


def test_a_stroke_stays_by_hand_when_a_tool_that_removed_it_is_undone(missed, qtbot):
    """The next prompt removed it, as if the tool had painted it."""
    point(missed, qtbot, RIGHT)
    editor, painted = missed.actions_.editor, brush(missed, beside(RIGHT, 2), 1, half=0)
    before = drawn(missed).copy()
    removed = before.copy()
    removed[painted] = 0
    assert editor.change(removed)
    missed.commands.run("undo")
    assert np.array_equal(drawn(missed), before)
    assert np.argwhere(editor.by_hand).tolist() == np.transpose(painted).tolist()
    missed.commands.run("redo")
    assert not editor.by_hand.any()


def test_a_waiting_prompt_means_the_region_that_was_shown_when_it_was_made(reviewed, qtbot):
    ask(reviewed, LEFT, belongs=False)
    ask(reviewed, beside(LEFT), belongs=False)
    reviewed.session.choose_region(Region.ET)
    answered(reviewed, qtbot)
    assert [one.region for one in reviewed.actions_.editor.rounds] == [Region.WT, Region.WT]


def test_what_is_added_to_the_whole_is_oedema_though_the_edit_began_with_the_enhancing_part(
    reviewed, qtbot
):
    """The brush began with the enhancing part, and all that was added later enhanced."""
    reviewed.session.go_to_candidate(1)
    reviewed.session.choose_region(Region.ET)
    reviewed.commands.run("edit_outline")
    reviewed.session.choose_region(Region.WT)
    mine, free = drawn(reviewed) > 0, reviewed.actions_.editor.allowed
    near = np.argwhere(ndimage.binary_dilation(mine, iterations=2) & ~mine & free)[0]
    at_mm = tuple(reviewed.session.state.overlays.grid.to_mm(near))
    point(reviewed, qtbot, at_mm)
    assert drawn(reviewed)[tuple(near)] == Label.OEDEMA
    reviewed.commands.run("undo")
    edit_layer(reviewed).selected_label = int(Label.CORE)
    point(reviewed, qtbot, at_mm)
    assert drawn(reviewed)[tuple(near)] == Label.CORE, "the reader chose that part"
