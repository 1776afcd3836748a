"""Point at it: clicks, scribbles, boxes and lassos outline and correct, one stroke each."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QImage, QMouseEvent
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from tests.gui.conftest import LEFT, RIGHT, FakeResult
from tests.gui.test_adding import edit_layer, rows, settled
from tests.gui.window import PATIENCE_MS, canvas, reads
from tests.helpers import stored_drafts

from lesionlens.analysis.findings.prompt_response import predicted_parts, prompt_request, redrawn
from lesionlens.base.errors import ResourceError
from lesionlens.base.labels import DrawingMethod, Label, PromptKind, Region, ReviewState
from lesionlens.napari.colours import PROMPT_COLOURS
from lesionlens.napari.model.acts.editing import OUTLINE
from lesionlens.napari.model.choices.gestures import Gesture
from lesionlens.napari.model.choices.tools import NEW
from lesionlens.napari.model.choices.views import Layout


def answered(panel, qtbot):
    questions = panel.actions_.prompting.latest_request
    qtbot.waitUntil(lambda: not questions.running, timeout=PATIENCE_MS)


def point(panel, qtbot, at_mm, belongs=True, kind=PromptKind.POINT):
    path = at_mm if kind is not PromptKind.POINT else [at_mm]
    panel.actions_.prompting.add_gesture(Gesture(kind, belongs, path))
    answered(panel, qtbot)


def drawn(panel):
    return panel.actions_.editor.drawn()[1]


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
    for number, one in enumerate(kept.prompts, 1):
        found = result.answer_prompts(prompt_request(again, kept.prompts[:number]))
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


def trail_of(panel):
    return panel.viewer.scene.overlays["lesionlens_trail"].strokes


def line_begun(missed, qtbot, layout):
    """Begin a line by F2 in a layout; return its view, and where the pointer is."""
    missed.actions_.show_layout(layout)
    look_at(missed, RIGHT)
    view = canvas() if layout is Layout.SINGLE else missed.views.linked.tiles[0]
    qtbot.keyPress(view, Qt.Key.Key_F2)
    return view, dragged(qtbot, view)


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
    qtbot.mouseClick(*denied, end - QPoint(28, 10))
    answered(missed, qtbot)
    box, point_round = missed.actions_.editor.rounds
    assert box.background
    assert (len(point_round.background), point_round.foreground) == (1, ())


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


@pytest.mark.parametrize("leave", ["finish_outline", "accept", "undo"])
def test_an_outline_is_not_left_before_its_prompt_is_answered(missed, qtbot, leave):
    ask(missed, RIGHT)
    missed.commands.run(leave)
    assert "A prompt is being answered" in reads(missed)
    answered(missed, qtbot)
    assert missed.session.state.editing == NEW
    assert drawn(missed).any()
    assert "A prompt is being answered" not in reads(missed)
    missed.commands.run("finish_outline")
    settled(missed, qtbot)
    assert rows(missed)[-1].drawn is DrawingMethod.SEMIAUTOMATIC


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
