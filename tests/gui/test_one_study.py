"""From the choice of a study on nothing of the one before can be acted on; one name for all."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QApplication
from tests.gui.conftest import LEFT, FakeResult
from tests.gui.window import PATIENCE_MS, at_rest, canvas, names, read, reads, sign, wait
from tests.phantoms.analysis import make_analysis

from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.base.labels import ReviewAct, ReviewState
from lesionlens.base.records.review import Review
from lesionlens.base.run_context import SILENT
from lesionlens.napari.controllers import next_study, opened_study, worklist_controller
from lesionlens.napari.loading import layers_of
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.viewer.identity_text import visual_order
from lesionlens.results.review.reopen import is_result
from lesionlens.site.database.worklist_database import WorklistDatabase


def held_back(monkeypatch, module, name, gate):
    """Let a reading function of a module wait for the gate; the list holds its failures."""
    fails, plain = [], getattr(module, name)

    def wait_and_read(*given, **options):
        gate.wait(PATIENCE_MS / 1000)
        if fails:
            raise fails.pop()
        return plain(*given, **options)

    monkeypatch.setattr(module, name, wait_and_read)
    return fails


@pytest.fixture
def slow(monkeypatch):
    """Studies whose reading waits until the test lets it go on, or fail."""
    gate = threading.Event()
    gate.set()
    fails = held_back(monkeypatch, next_study, "read_entry", gate)
    monkeypatch.setattr(worklist_controller.WorklistController, "read_next", lambda _: None)
    return gate, fails


def opened(panel, listed, qtbot):
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    wait(qtbot, panel)
    assert panel.session.state.analysis is not None
    panel.session.step(1)


def highlighted(listed):
    rows = listed.table.selectionModel().selectedRows()
    return [listed.model.rows[index.row()].entry.name for index in rows]


def marks(dock, name):
    return [
        act for act in read(dock, name).acts if act.act not in (ReviewAct.BEGIN, ReviewAct.LEAVE)
    ]


def test_no_act_reaches_the_study_before_while_another_one_opens(panel, listed, slow, qtbot):
    gate, _ = slow
    opened(panel, listed, qtbot)
    session = panel.session
    gate.clear()
    listed.controller.open_row(listed.model.rows[1])
    assert highlighted(listed) == ["b"]
    assert session.state.study is None
    assert [layer.name for layer in panel.viewer.layers] == []
    assert not panel.study.isVisibleTo(panel)
    panel.viewer.cursor.position = LEFT
    for name in ("mark_here", "accept", "reject", "sign", "edit_outline", "undo"):
        panel.commands.run(name)
    assert not panel.signing.isVisible()
    gate.set()
    wait(qtbot, panel)
    assert marks(listed, "a") == []
    assert marks(listed, "b") == []
    assert session.state.identity.text == "ID Pb · 2026-01-05 · b"  # as its row has it
    assert highlighted(listed) == ["b"]


@pytest.mark.parametrize("error", [ReadError(found="x", expected="y", next_step="z"), None])
def test_a_study_comes_back_as_it_was_where_the_other_does_not_open(
    panel, listed, slow, qtbot, error
):
    gate, fails = slow
    opened(panel, listed, qtbot)
    session = panel.session
    panel.commands.run("reject")
    panel.actions_.show_layout(Layout.SINGLE)
    panel.commands.run("measure_length")  # shows linked views, which are not remembered
    panel.commands.run("next_plane")
    before, layers = session.state, list(panel.viewer.layers)
    pictures = [layer for layer in layers if "sequence" in layer.metadata.get("lesionlens", {})]
    gate.clear()
    listed.controller.open_row(listed.model.rows[1])
    if error is not None:
        fails.append(error)
    else:
        panel.jobs.stop()
    gate.set()
    wait(qtbot, panel)
    assert session.state.study is before.study
    assert session.state.review == before.review
    assert session.state.choices == before.choices
    assert (session.state.problem is None) is (error is None)
    assert [layer for layer in panel.viewer.layers if layer in pictures] == pictures
    assert highlighted(listed) == ["a"]
    panel.commands.run("accept")
    (verdict,) = read(listed, "a").verdicts
    assert verdict.state is ReviewState.ACCEPTED


@pytest.mark.parametrize("end", ["stopped", "failed", "read"])
@pytest.mark.parametrize("from_list", [False, True])
def test_a_list_that_is_closed_while_a_row_opens_leaves_nothing_behind(
    panel, listed, slow, one, qtbot, from_list, end
):
    """The study before vanished without a word, or came back with a read in the closed list."""
    gate, fails = slow
    if from_list:
        opened(panel, listed, qtbot)
    else:
        assert panel.actions_.open(one / "head")
        wait(qtbot, panel)
        assert listed.controller.open(listed.list_folder)
    study = panel.session.state.study
    gate.clear()
    listed.controller.open_row(listed.model.rows[1])
    if end == "failed":
        fails.append(ReadError(found="x", expected="y", next_step="z"))
    if end == "read":  # too late to be stopped
        panel.jobs.stop = lambda: None
    listed.release()
    gate.set()
    wait(qtbot, panel)
    assert panel.session.state.study is (None if from_list else study)
    assert panel.session.suspended_study is None
    assert panel.empty.isVisibleTo(panel) is from_list


def test_a_result_that_is_no_longer_in_the_list_is_said(panel, listed, qtbot):
    """The study opened as one that nobody had analysed, beside a row with its candidates."""
    assert listed.controller.open(listed.list_folder)
    (listed.list_folder / "b").unlink()
    listed.controller.open_row(listed.model.rows[1])
    wait(qtbot, panel)
    assert panel.session.state.study is not None
    assert "its result is no longer in the list's folder" in panel.session.state.message
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    assert panel.session.state.message == ""  # nobody has analysed this one


def test_from_a_list_that_vanished_no_study_is_opened_and_the_open_one_stays(panel, listed, qtbot):
    """It was called a defect in LesionLens, and the next study had a name but no pictures."""
    opened(panel, listed, qtbot)
    study = panel.session.state.study
    listed.list_folder.rename(listed.list_folder.with_name("unmounted"))
    listed.controller.open_row(listed.model.rows[1])
    wait(qtbot, panel)
    assert panel.session.state.study is study
    assert "has vanished" in listed.controller.session.state.problem.found
    assert panel.session.state.problem is None
    listed.list_folder.with_name("unmounted").rename(listed.list_folder)
    listed.controller.open_row(listed.model.rows[1])
    wait(qtbot, panel)
    assert panel.session.state.study is not study
    assert listed.controller.session.state.problem is None


def test_a_closed_result_is_still_closed_when_its_study_comes_back(
    panel, listed, prefer, slow, qtbot
):
    gate, fails = slow
    prefer(unaided_first=True)
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    wait(qtbot, panel)
    assert panel.actions_.read_controller.withheld is not None
    gate.clear()
    listed.controller.open_row(listed.model.rows[1])
    assert panel.actions_.read_controller.withheld is None
    fails.append(ReadError(found="x", expected="y", next_step="z"))
    gate.set()
    wait(qtbot, panel)
    assert panel.actions_.read_controller.withheld is not None
    assert panel.session.state.analysis is None
    sign(panel)
    assert panel.session.state.analysis is not None
    assert read(listed, "a").unaided


def test_a_study_dropped_beside_the_list_is_no_row_of_it(panel, listed, one, qtbot):
    opened(panel, listed, qtbot)
    assert highlighted(listed) == ["a"]
    panel.actions_.open(one / "head")
    assert panel.session.state.study is None
    wait(qtbot, panel)
    assert listed.session.state.current is None
    assert highlighted(listed) == []


@pytest.mark.parametrize(
    ("keys", "shown", "passed"), [("vv", "c", ("b",)), ("v^v", "b", ()), ("vv^^v", "b", ("c",))]
)
def test_a_study_passed_over_before_it_was_shown_is_named(
    panel, listed, slow, qtbot, keys, shown, passed
):
    """A key pressed twice went two studies on without a word."""
    opened(panel, listed, qtbot)
    gate, _ = slow
    gate.clear()
    for key in keys:
        panel.commands.run({"v": "next_study", "^": "previous_study"}[key])
    gate.set()
    wait(qtbot, panel)
    assert highlighted(listed) == [shown]
    told = f"Passed over, not shown: {', '.join(passed)}."
    assert (told in reads(panel)) is bool(passed)
    panel.commands.run("previous_study")
    wait(qtbot, panel)
    assert "Passed over" not in reads(panel)


def test_the_highlight_follows_the_keys_and_is_in_sight(panel, listed, qtbot):
    opened(panel, listed, qtbot)
    listed.table.setFixedHeight(70)
    for name in "bc":
        panel.commands.run("next_study")
        wait(qtbot, panel)
        assert highlighted(listed) == [name]
        row = listed.table.currentIndex()
        shown = listed.table.viewport().rect()
        assert shown.contains(listed.table.visualRect(row).center())


def test_the_row_stays_in_sight_where_the_list_becomes_lower(panel, listed, qtbot):
    """The last list opens in a dock that is then moved below the image."""
    panel.viewer.window.show()
    listed.table.setFixedHeight(300)
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    listed.table.setFixedHeight(70)
    at_rest(qtbot, listed.table)
    shown = listed.table.viewport().rect()
    assert shown.contains(listed.table.visualRect(listed.table.currentIndex()).center())


def test_a_signature_names_patient_study_and_reader_before_it_counts(panel, listed, qtbot):
    opened(panel, listed, qtbot)
    acts, session = panel.actions_, panel.session
    for _ in range(2):
        panel.commands.run("accept")
        panel.commands.run("next_candidate")
    acts.sign()
    assert session.state.review.signed is None
    words = reads(panel.signing)
    for line in session.state.identity.lines:
        assert line in words
    assert "as A. Reader" in words
    panel.signing.reject()
    assert session.state.review.signed is None
    sign(panel)
    assert session.state.review.signed == "nothing further seen, A. Reader"
    assert read(listed, "a").complete
    acts.mark_here()
    assert read(listed, "a").complete
    assert "withdraw" in session.state.message.lower()
    acts.withdraw()
    panel.signing._field.setText("wrong patient")
    panel.signing.accept()
    assert [act.act for act in marks(listed, "a")][-2:] == [ReviewAct.DECIDE, ReviewAct.WITHDRAW]


def test_what_changed_while_the_reader_was_asked_is_not_signed(panel, listed, qtbot):
    """A result that arrived meanwhile was signed with candidates that nobody had decided."""
    opened(panel, listed, qtbot)
    for _ in range(2):
        panel.commands.run("accept")
        panel.commands.run("next_candidate")
    panel.actions_.sign()
    panel.actions_.review_controller.undo()
    panel.signing.accept()
    assert panel.session.state.review.signed is None
    assert "Not decided yet" in reads(panel)


def test_a_result_that_arrives_while_the_reader_is_asked_is_not_signed_unseen(panel, listed, qtbot):
    """Its candidates had the same decisions, and other outlines."""
    opened(panel, listed, qtbot)
    for _ in range(2):
        panel.commands.run("accept")
        panel.commands.run("next_candidate")
    shown = panel.session.state.analysis
    panel.actions_.sign()
    assert panel.signing.isVisible()
    again = replace(shown, review=Review(), findings=replace(shown.findings, notices=("new",)))
    panel.actions_.show_result(FakeResult(again), overlays_of(again))
    panel.signing.accept()
    assert panel.session.state.review.signed is None
    assert "result changed while the dialog was open" in reads(panel)
    sign(panel)
    assert panel.session.state.review.signed is not None


def test_a_study_of_a_list_that_cannot_be_written_opens_all_the_same(
    panel, listed, qtbot, monkeypatch
):
    """The panel named it, no image was shown, and the failure was called a defect."""

    def write(*_):
        raise ResourceError(found="a full disk", expected="free space", next_step="Free some")

    assert listed.controller.open(listed.list_folder)
    with monkeypatch.context() as patched:
        patched.setattr(WorklistDatabase, "write_note", write)
        listed.controller.open_row(listed.model.rows[0])
        wait(qtbot, panel)
    assert panel.session.state.analysis is not None
    assert panel.session.state.problem is None
    assert names() >= {"T1c"}
    assert "The list cannot be written now: Found a full disk" in reads(listed)
    assert highlighted(listed) == ["a"]
    panel.session.go_to_candidate(1)
    panel.commands.run("accept")
    listed.session.refresh()
    assert "cannot be written now" not in reads(listed), "the decision was stored in it"
    database = listed.session.database
    assert database.read_note("place A. Reader") == ["a", 0]


def test_a_row_whose_read_cannot_begin_is_refused_before_anything_changes(
    panel, listed, qtbot, monkeypatch
):
    """Its result was shown without a read, without images, and also before an unaided read."""
    opened(panel, listed, qtbot)
    study = panel.session.state.study

    def damaged(*_):
        raise ReadError(found="a damaged list", expected="a list", next_step="Restore it")

    monkeypatch.setattr(WorklistDatabase, "read", damaged)
    assert not listed.controller.open_row(listed.model.rows[1])
    assert panel.session.state.study is study
    assert "a damaged list" in reads(listed)
    assert not panel.jobs.running


def test_a_mark_that_waits_for_its_click_goes_with_its_study(panel, listed, qtbot):
    """The first click in the next study set it there."""
    opened(panel, listed, qtbot)
    panel.actions_.show_layout(Layout.SINGLE)
    panel.actions_.mark_by_mouse()
    assert "Click the position to mark" in reads(panel)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert not panel.actions_.place_mark(panel.actions_.viewpoint.current.point_mm)
    assert panel.actions_.read_controller.marking.marks == ()


def test_escape_cancels_a_mark_that_waits_for_its_click(panel, listed, qtbot):
    opened(panel, listed, qtbot)
    panel.actions_.show_layout(Layout.SINGLE)
    panel.actions_.mark_by_mouse()
    panel.commands.run("cancel_pointing")
    assert "Click the position to mark" not in reads(panel)
    assert not panel.actions_.place_mark(panel.actions_.viewpoint.current.point_mm)
    assert panel.actions_.read_controller.marking.marks == ()


def test_in_three_dimensions_no_mark_is_set_at_a_crosshair_out_of_sight(panel, listed, qtbot):
    opened(panel, listed, qtbot)
    panel.actions_.show_layout(Layout.FOUR)
    panel.viewer.dims.ndisplay = 3
    panel.actions_.mark_by_mouse()
    panel.viewer.dims.ndisplay = 2
    assert "Click the position to mark" in reads(panel)
    assert panel.actions_.read_controller.marking.marks == ()


@pytest.mark.parametrize("other", ["layout", "key"])
def test_a_mark_that_waits_for_its_click_waits_no_longer_than_its_view(panel, listed, qtbot, other):
    """A click long afterwards, on the canvas again, set a mark that nobody wanted."""
    opened(panel, listed, qtbot)
    acts = panel.actions_
    acts.show_layout(Layout.SINGLE)
    acts.mark_by_mouse()
    if other == "layout":
        acts.show_layout(Layout.ONE)
        acts.show_layout(Layout.SINGLE)
    else:
        acts.renew_pointer = lambda: True
        panel.viewer.cursor.position = LEFT
        acts.mark_here()
    count = len(acts.read_controller.marking.marks)
    assert not acts.place_mark(acts.viewpoint.current.point_mm)
    assert len(acts.read_controller.marking.marks) == count


def test_a_signed_merge_stays_signed_and_is_logged_once_however_often_it_is_opened(
    panel, listed, qtbot
):
    """Each opening appended the merged candidate's decisions, which voided the signature."""
    opened(panel, listed, qtbot)
    panel.session.go_to_candidate(2)
    panel.commands.run("accept")
    panel.session.go_to_candidate(1)
    panel.commands.run("merge")
    wait(qtbot, panel)
    assert len(panel.session.state.analysis.findings.candidates) == 1
    sign(panel)
    decided = [(e.tracking_uid, e.state) for e in panel.session.state.review.events]
    assert panel.session.state.review.signed
    for _ in range(2):
        panel.actions_.close()
        opened(panel, listed, qtbot)
        review = panel.session.state.review
        assert [(e.tracking_uid, e.state) for e in review.events] == decided
        assert review.signed


def test_one_name_in_list_panel_and_picture(panel, listed, qtbot):
    opened(panel, listed, qtbot)
    assert "a" in reads(panel.study).splitlines()
    assert identity_texts(panel) == [*panel.session.state.identity.lines]


def identity_texts(panel):
    """The patient's identity over napari's image, line by line."""
    overlays = panel.viewer.canvas.overlays.items()
    shown = {name: getattr(one, "text", "").strip() for name, one in overlays if one.visible}
    return [text for name, text in shown.items() if "identity" in name and text]


def test_the_ground_behind_the_identity_is_no_wider_than_each_line(panel):
    """One rectangle for all lines dimmed the brain beside the shorter ones, in a small window."""
    single = panel.views.single
    single.set_up()
    single.identify(("A patient with a long name", "O"))
    assert identity_texts(panel) == ["A patient with a long name", "O"]
    single.identify(("O",))
    assert identity_texts(panel) == ["O"]
    single.tear_down()
    assert identity_texts(panel) == []


def test_a_long_name_covers_neither_caption_nor_letter(panel):
    single = panel.views.single
    single.set_up()
    single.caption("T1c · axial")
    space = panel.viewer.canvas.overlays["lesionlens_identity_space"]
    single.identify(("A B",))
    assert not space.visible
    single.identify(("A " + "long " * 300 + "name",))
    assert space.visible
    assert identity_texts(panel)[0].endswith("…")
    overlays, visuals = panel.viewer.canvas.overlays, canvas_visuals(panel)
    first_line = visuals[overlays["lesionlens_identity_1"]]
    for name in ("caption", "top_center"):
        above = visuals[overlays[f"lesionlens_{name}"]]
        assert top_of(first_line) >= top_of(above) + above.y_size
    single.tear_down()
    assert not space.visible


def test_a_long_caption_does_not_cover_the_letter_of_the_upper_edge(panel):
    """On a narrow canvas, "prior of 2026-01-05" or a series' description lay on "A"."""
    single = panel.views.single
    single.set_up()
    size, overlays = panel.viewer.canvas.size, panel.viewer.canvas.overlays
    caption = overlays["lesionlens_caption"]
    try:
        panel.viewer.canvas.size = (500, 410)
        single.caption("T1c · axial")
        assert (caption.text, caption.font_size) == ("T1c · axial", 11)
        single.caption("prior of 2026-01-05 · T1c · axial")
        assert (caption.text, caption.font_size) == ("prior of 2026-01-05\nT1c\naxial", 8)
        assert 0 < canvas_visuals(panel)[caption].x_size <= 410 / 2 - 10 - 20
        panel.viewer.canvas.size = (500, 1000)
        assert caption.text == "prior of 2026-01-05 · T1c · axial"
        assert canvas_visuals(panel)[caption].x_size <= 1000 / 2 - 10 - 20
    finally:
        panel.viewer.canvas.size = size
        single.tear_down()


def canvas_visuals(panel):
    """What napari draws of each overlay, by overlay."""
    visuals = panel.viewer.window._qt_viewer.canvas._viewer_overlay_to_visual
    return {overlay: of_overlay[0] for overlay, of_overlay in visuals.items() if of_overlay}


def top_of(visual):
    return visual.node.transform.translate[1]


def test_the_identity_ends_above_the_letter_at_the_right_of_a_low_canvas(panel):
    """In a small window above a list, the study's name lay on "L"."""
    single = panel.views.single
    single.set_up()
    single.caption("T1c · axial")
    lines = ("Doe, Jane", "ID 0123", "F", "2026-01-05", "Brain")
    size, overlays = panel.viewer.canvas.size, panel.viewer.canvas.overlays
    try:
        for height, n_shown in ((700, 5), (253, 3), (200, 2)):
            panel.viewer.canvas.size = (height, 411)
            single.identify(lines)
            assert identity_texts(panel) == [*lines[:n_shown]]
        name = "Doe-Featherstonehaugh, Jane Elizabeth Victoria of Somewhere"
        single.identify((name, "ID 0123"))
        shown = identity_texts(panel)
        assert shown[0].startswith("Doe-F")
        assert shown[0].endswith("where")
        assert "…" in shown[0]
        assert shown[1] == "ID 0123", "the name is shortened where there is no room below"
        assert not overlays["lesionlens_identity_space"].visible
    finally:
        panel.viewer.canvas.size = size
        single.tear_down()


@pytest.mark.parametrize(
    ("line", "on_screen"),
    [
        ("Doe, Jane (2)", "Doe, Jane (2)"),
        ("\u05db\u05d4\u05df \u05d3\u05df", "\u05df\u05d3 \u05df\u05d4\u05db"),
        ("\u2068ID 12-\u05db\u05d4\u2069", "ID 12-\u05d4\u05db"),
        ("\u2068\u05db\u05d4\u05df 12\u2069", "12 \u05df\u05d4\u05db"),
        ("\u0623\u062d\u0645\u062f", "\u062f\u0645\u062d\u0623"),
    ],
)
def test_a_name_that_runs_to_the_left_is_not_spelt_backwards(qapp, line, on_screen):
    """Napari draws each character to the right of the one before."""
    assert visual_order(line) == on_screen


def test_a_mark_is_where_the_pointer_is_though_it_has_not_moved(panel, analysis, prefer, qtbot):
    """The pointer stood there before the study came: napari knew another place, or none."""
    prefer(unaided_first=True)
    window = panel.viewer.window
    window.resize(1000, 700)
    window.show()
    shown = canvas()
    at_rest(qtbot, shown)
    QCursor.setPos(shown.mapToGlobal(shown.rect().center()))
    qtbot.waitUntil(lambda: QApplication.widgetAt(QCursor.pos()) is shown, timeout=PATIENCE_MS)
    panel.session.open(analysis.study)
    for data in layers_of(analysis.study, SILENT):
        panel.viewer.layers.append(Layer.create(*data))
    at_rest(qtbot, shown)
    camera = panel.viewer.scene.camera  # millimetres grow to the left and up
    off = shown.mapFromGlobal(QCursor.pos()) - shown.rect().center()
    panel.actions_.mark_here()
    (mark,) = panel.actions_.read_controller.marking.marks
    expected = np.array(camera.center[:0:-1]) - np.array([off.x(), off.y()]) / camera.zoom
    vertical, horizontal = panel.viewer.dims.order[1:]
    assert np.allclose((mark.at_mm[horizontal], mark.at_mm[vertical]), expected, atol=2.5)
    QCursor.setPos(panel.mapToGlobal(panel.rect().center()))
    panel.actions_.mark_here()
    assert len(panel.actions_.read_controller.marking.marks) == 1
    assert "Point at the position" in panel.session.state.message


def test_pictures_of_an_analysed_study_are_there_before_its_result_and_nothing_reaches_a_left_one(
    panel, listed, monkeypatch, qtbot
):
    """A result is prepared anew, which takes seconds: the reader looks at the scan meanwhile."""
    gate = threading.Event()
    plain = opened_study.reopen_result

    def wait_and_reopen(*given):
        gate.wait(PATIENCE_MS / 1000)
        return plain(*given)

    monkeypatch.setattr(opened_study, "reopen_result", wait_and_reopen)
    monkeypatch.setattr(worklist_controller.WorklistController, "read_next", lambda _: None)
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    qtbot.waitUntil(lambda: panel.session.state.study is not None, timeout=PATIENCE_MS)
    assert panel.jobs.running
    assert panel.session.state.analysis is None
    assert [layer.name for layer in panel.viewer.layers]
    listed.controller.open_row(listed.model.rows[1])
    assert panel.session.state.study is None  # the first one is out of reach at once
    gate.set()
    wait(qtbot, panel)
    assert panel.session.state.identity.study == "b"
    assert panel.session.state.analysis is not None


def test_a_click_or_the_filter_leaves_the_highlight_on_the_open_study(panel, listed, qtbot):
    """A row that was only clicked looked as if it were the open one."""
    opened(panel, listed, qtbot)
    table = listed.table
    other = table.visualRect(listed.model.index(1, 0)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=other)
    assert highlighted(listed) == ["a"]
    assert table.currentIndex().row() == 1  # Enter opens it
    for words in ("Pb", ""):
        listed.filter.setText(words)
        assert highlighted(listed) == ["a"] * (not words)


def test_a_list_opens_where_the_reader_was(panel, listed, qtbot):
    """After a crash the study that was open had to be looked for."""
    opened(panel, listed, qtbot)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    listed.session.close()  # as the end of the process does
    panel.session.close()
    listed.session.state = type(listed.session.state)()
    assert listed.controller.open(listed.list_folder)
    assert highlighted(listed) == []
    assert listed.table.currentIndex().row() == 1
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert highlighted(listed) == ["b"]


def analysed_by_hand(panel, listed, head, monkeypatch, qtbot, on_load=lambda: None):
    """Press Analyse in the list's last study, and return its result's folder."""

    def load(choice):
        on_load()
        return lambda *given, **named: made

    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    made = FakeResult(make_analysis(head, panel.session.state.study))
    monkeypatch.setattr(panel.actions_.loaded_lens, "load", load)
    assert panel.actions_.analyse()
    wait(qtbot, panel)
    qtbot.waitUntil(
        lambda: not listed.controller._results._unstored, timeout=PATIENCE_MS
    )  # it polls
    return listed.list_folder / "c"


def test_an_analysis_made_in_the_window_is_there_when_its_study_is_opened_again(
    panel, listed, head, slow, monkeypatch, qtbot
):
    assert is_result(analysed_by_hand(panel, listed, head, monkeypatch, qtbot))
    assert listed.session.state.problem is None
    count = len(panel.session.state.analysis.findings.candidates)
    qtbot.waitUntil(
        lambda: listed.model.rows[2].entry.candidates == count, timeout=PATIENCE_MS
    )  # it is stored; the list polls once more
    panel.session.step(1)
    panel.commands.run("accept")
    uid = panel.session.state.focused.tracking_uid
    panel.commands.run("previous_study")
    wait(qtbot, panel)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert listed.session.state.current == ("c", 0)
    assert panel.session.state.analysis is not None
    assert panel.session.state.review.state_of(uid) is ReviewState.ACCEPTED


def test_a_result_that_cannot_be_kept_in_the_list_is_said_and_shown_all_the_same(
    panel, listed, head, slow, monkeypatch, qtbot
):
    folder = listed.list_folder / "c"
    folder.mkdir()
    (folder / "findings.json").write_text("another program's")
    assert analysed_by_hand(panel, listed, head, monkeypatch, qtbot) == folder
    assert "'c' was not saved in the list" in listed.session.state.problem.title
    assert (folder / "findings.json").read_text() == "another program's"
    assert panel.session.state.analysis is not None


def test_a_failure_that_comes_while_the_list_looks_is_reported_by_the_next_look(listed):
    class Ending(Future):
        """Ends right after it was asked for the first time."""

        def done(self):
            ended = super().done()
            if not ended:
                self.set_exception(ReadError(found="x", expected="y", next_step="z"))
            return ended

    listed.controller._results._unstored = [("c", Ending())]
    listed.controller._results.report_unstored()
    assert listed.session.state.problem is None
    listed.controller._results.report_unstored()
    assert "'c' was not saved in the list" in listed.session.state.problem.title
    assert not listed.controller._results._unstored


@pytest.fixture
def arriving(panel, listed, one, slow, monkeypatch, qtbot):
    """The last study of the list, open while the result that was analysed ahead is being read."""
    gate = threading.Event()
    fails = held_back(monkeypatch, worklist_controller, "reopen_result", gate)
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    (listed.list_folder / "c").symlink_to(one / "result")
    listed.controller._poll_database()
    assert panel.jobs.running
    return gate, fails


def test_a_result_that_arrives_does_not_hold_the_reader_up(panel, listed, arriving, qtbot):
    gate, _ = arriving
    panel.commands.run("previous_study")
    assert highlighted(listed) == ["b"]
    gate.set()
    wait(qtbot, panel)
    assert listed.session.state.current == ("b", 0)
    assert panel.session.state.identity.text == "ID Pb · 2026-01-05 · b"
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    assert panel.session.state.analysis is not None


@pytest.mark.parametrize("error", [ReadError(found="x", expected="y", next_step="z"), None])
def test_a_result_that_was_cancelled_or_is_unreadable_is_not_opened_each_second(
    panel, listed, arriving, qtbot, error
):
    gate, fails = arriving
    if error is not None:
        fails.append(error)
    else:
        panel.jobs.stop()
    gate.set()
    wait(qtbot, panel)
    assert (panel.session.state.problem is None) is (error is None)
    listed.controller._poll_database()
    assert not panel.jobs.running
    assert listed.session.state.current == ("c", 0)


def test_a_result_of_other_series_is_refused_until_the_study_is_opened_again(
    panel, listed, arriving, qtbot, monkeypatch
):
    gate, _ = arriving
    reopen = opened_study.prepare_and_reopen

    def of_other_series(*arguments):
        analysed = reopen(*arguments)
        return replace(analysed, study=replace(analysed.study))

    with monkeypatch.context() as patched:
        patched.setattr(opened_study, "prepare_and_reopen", of_other_series)
        gate.set()
        wait(qtbot, panel)
    assert "other series of this study" in panel.session.state.problem.found
    assert panel.session.state.analysis is None
    listed.controller._poll_database()
    assert not panel.jobs.running
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    assert panel.session.state.problem is None
    assert panel.session.state.analysis is not None


def test_what_is_refused_while_a_job_runs_leaves_it_on_the_screen(panel, listed, slow, qtbot):
    """The job was shown as ended: nothing could cancel it, and everything else was refused."""
    gate, _ = slow
    gate.clear()
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    assert not panel.actions_.reopen(listed.list_folder.parent)
    assert panel.session.state.problem.title == "Open the study first"
    assert panel.session.state.activity is not None
    gate.set()
    wait(qtbot, panel)
    gate.clear()
    assert listed.controller.jobs.start(
        "Scanning", lambda _: gate.wait(PATIENCE_MS / 1000), lambda _: None
    )
    assert not listed.controller.open(listed.list_folder.parent)
    assert listed.session.state.problem.title == "There is no list"
    assert listed.session.state.activity is not None
    gate.set()
    wait(qtbot, listed.controller)
