"""One panel, whose keys work everywhere, whose wheel changes nothing and which leaves room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from napari.settings import get_settings
from qtpy.QtCore import QPoint, QPointF, QRect, Qt
from qtpy.QtGui import QKeyEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDockWidget,
    QHeaderView,
    QLabel,
    QPushButton,
    QScrollArea,
    QSlider,
    QToolButton,
    QWidget,
)
from tests.gui.conftest import LEFT
from tests.gui.test_drop import drop
from tests.gui.window import PATIENCE_MS, at_rest, control, names, reads, wait
from tests.gui.window import canvas as napari_canvas

from lesionlens.base.errors import ResourceError
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.findings import BOTH_SIDES, Location
from lesionlens.napari import dock
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.state.state import Problem
from lesionlens.napari.qt import dock_layout
from lesionlens.napari.qt.candidate_model import cells_of
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.napari.qt.key_conflicts import clashes
from lesionlens.napari.widgets.parts import AnchoredScroll, Bars
from lesionlens.results.export.exporter import save
from lesionlens.site.database.worklist_database import WorklistDatabase, open_worklist_database


def settled_in(panel, qtbot):
    qtbot.waitUntil(lambda: panel.drops is not None, timeout=PATIENCE_MS)
    return panel


def panels(viewer):
    return [w for w in viewer.window.dock_widgets.values() if isinstance(w, dock.LesionLens)]


def by_the_menu(viewer):
    """What Plugins → LesionLens runs."""
    from napari._qt._qplugins._qnpe2 import _toggle_or_get_widget

    found = _toggle_or_get_widget("lesionlens", "LesionLens", dock.DOCK)
    if found is not None:
        viewer.window.add_dock_widget(found[0], name=found[1])


@pytest.mark.parametrize("first", ["menu", "opened", "by name"])
def test_there_is_one_panel_however_it_was_opened(viewer, first):
    ways = {
        "menu": lambda: by_the_menu(viewer),
        "opened": lambda: dock.open_panel(viewer),
        "by name": lambda: viewer.window.add_plugin_dock_widget("lesionlens", "LesionLens"),
    }
    ways.pop(first)()
    (one,) = panels(viewer)
    for way in (*ways.values(), *ways.values()):
        way()
        assert panels(viewer) == [one]
        assert one.is_open


def test_keys_work_wherever_the_focus_is(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    row = lambda: reviewed.candidates.model.rows[0]  # noqa: E731
    for widget in (napari_canvas(), reviewed.candidates.table, reviewed.window()):
        reviewed.session.go_to_candidate(1)
        QApplication.instance().focusChanged.emit(None, widget)
        qtbot.keyClick(widget, Qt.Key.Key_N)
        assert reviewed.session.state.choices.candidate == 2
        qtbot.keyClick(widget, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
        qtbot.keyClick(widget, Qt.Key.Key_R)
        assert row().state is ReviewState.REJECTED
        reviewed.commands.run("undo")
        assert row().state is not ReviewState.REJECTED


def test_letters_typed_as_a_reason_decide_nothing(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    reviewed.session.go_to_candidate(1)
    reason = control(reviewed.candidates, "Reason")
    line = reason.lineEdit()
    QApplication.instance().focusChanged.emit(None, line)
    qtbot.keyClicks(line, "radiation")
    assert reason.currentText() == "radiation"
    assert not reviewed.session.state.review.events


def key(kind, code, *, repeat):
    words = chr(code).lower()
    return QKeyEvent(kind, code, Qt.KeyboardModifier.NoModifier, words, repeat)


@pytest.mark.slow
@pytest.mark.parametrize("marked", [True, False])
def test_held_under_key_repeat_it_does_not_flicker(reviewed, qtbot, marked):
    """X11 repeats a held key as a release and a press each time, which Qt often marks as such."""
    settled_in(reviewed, qtbot)
    reviewed.session.choose_overlay(Overlay.CONTOUR)
    canvas = napari_canvas()
    seen = []
    reviewed.session.changed.connect(lambda _, new: seen.append(new.choices.hidden))
    press, release = QKeyEvent.Type.KeyPress, QKeyEvent.Type.KeyRelease
    QApplication.sendEvent(canvas, key(press, Qt.Key.Key_H, repeat=False))
    for _ in range(3):
        QApplication.sendEvent(canvas, key(release, Qt.Key.Key_H, repeat=marked))
        QApplication.sendEvent(canvas, key(press, Qt.Key.Key_H, repeat=marked))
    assert seen == [True]
    QApplication.sendEvent(canvas, key(release, Qt.Key.Key_H, repeat=False))
    qtbot.waitUntil(lambda: seen == [True, False], timeout=PATIENCE_MS)


def test_a_held_key_stays_held_when_another_is_pressed_with_it(missed, qtbot):
    """F2 ended where Shift was pressed for a box between two repeats, and the brush painted."""
    settled_in(missed, qtbot)
    native, key_2 = napari_canvas(), Qt.Key.Key_F2
    qtbot.keyPress(native, key_2)
    qtbot.keyRelease(native, key_2)
    qtbot.keyPress(native, key_2, Qt.KeyboardModifier.ShiftModifier)
    qtbot.wait(300)
    assert missed.actions_.prompting.active
    qtbot.keyRelease(native, key_2, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: not missed.actions_.prompting.active, timeout=PATIENCE_MS)


def test_what_is_held_ends_when_the_focus_goes_elsewhere(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    canvas = napari_canvas()
    QApplication.sendEvent(canvas, key(QKeyEvent.Type.KeyPress, Qt.Key.Key_H, repeat=False))
    assert reviewed.session.state.choices.hidden
    QApplication.instance().focusChanged.emit(canvas, None)
    assert not reviewed.session.state.choices.hidden


def test_a_key_of_napari_is_left_to_a_layer_of_somebody_else(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    reviewed.session.go_to_candidate(1)
    reviewed.viewer.add_shapes(ndim=3)
    canvas = napari_canvas()
    qtbot.keyClick(canvas, Qt.Key.Key_R)
    assert not reviewed.session.state.review.events
    qtbot.keyClick(canvas, Qt.Key.Key_N)  # no key of a shapes layer
    assert reviewed.session.state.choices.candidate == 2


def test_keys_that_clash_are_reported(reviewed, qtbot):
    viewer = reviewed.viewer
    assert clashes(viewer) == ()
    viewer.bind_key("N", lambda _: None, overwrite=True)
    viewer.bind_key("Control-B", lambda _: None, overwrite=True)
    words, other = sorted(clashes(viewer), reverse=True)
    assert words.startswith("N is also used by")
    assert other.startswith("Ctrl+B is also used by")
    reviewed.show_clashes(clashes(viewer))
    assert words in reads(reviewed)
    viewer.keymap.clear()


def test_another_plane_keeps_the_zoom(reviewed):
    reviewed.viewer.scene.camera.zoom = 7.5
    reviewed.actions_.next_plane()
    assert reviewed.session.state.choices.plane is Plane.CORONAL
    assert reviewed.viewer.scene.camera.zoom == pytest.approx(7.5)


def turn_the_wheel(widget):
    down = QPoint(0, -120)
    none, flow = Qt.MouseButton.NoButton, Qt.ScrollPhase.NoScrollPhase
    held, at = Qt.KeyboardModifier.NoModifier, QPointF(4, 4)
    event = QWheelEvent(at, at, down, down, none, held, flow, False)
    QApplication.sendEvent(widget, event)
    return event


def test_the_wheel_changes_no_value_of_the_panel(reviewed):
    before = reviewed.session.state.choices
    for kind in (QComboBox, QSlider):
        for widget in reviewed.findChildren(kind):
            shown = widget.currentIndex() if kind is QComboBox else widget.value()
            turn_the_wheel(widget)
            assert shown == (widget.currentIndex() if kind is QComboBox else widget.value())
    assert reviewed.session.state.choices == before


def test_the_wheel_brings_no_focus_so_that_letters_stay_keys(reviewed):
    """Qt gives the focus on a real turn of the wheel, by the policy alone."""
    by_wheel = Qt.FocusPolicy.WheelFocus
    inputs = (*reviewed.findChildren(QComboBox), *reviewed.findChildren(QAbstractSpinBox))
    assert inputs
    assert [type(w).__name__ for w in inputs if w.focusPolicy() == by_wheel] == []


@pytest.mark.slow
def test_a_failure_pushes_nothing_down(reviewed):
    blocks = (reviewed.study, reviewed.candidates)
    before = [block.mapTo(reviewed, QPoint(0, 0)) for block in blocks]
    reviewed.session.failed(Problem("The action failed", found="this", next_step="Do that"))
    QApplication.processEvents()
    assert reviewed.problem.isVisibleTo(reviewed)
    assert [block.mapTo(reviewed, QPoint(0, 0)) for block in blocks] == before


def test_a_failure_goes_when_its_cause_goes(reviewed, qtbot, monkeypatch):
    """A review that could not be saved is said; the next one that can takes it away."""

    def full(*_, **more):
        raise ResourceError(found="a full disk", expected="room", next_step="Free some space")

    reviewed.session.go_to_candidate(1)
    with monkeypatch.context() as broken:
        broken.setattr(WorklistDatabase, "add_acts", full)
        reviewed.commands.run("accept")
    assert "full disk" in reviewed.session.state.problem.found
    reviewed.commands.run("reject")
    assert reviewed.session.state.problem is None


def test_a_question_answered_takes_the_failure_of_the_last_one_away(reviewed, qtbot):
    outside = tuple(reviewed.session.state.analysis.volumes.labels.grid.to_mm((0, 0, 0)))
    reviewed.actions_.probe(outside)
    qtbot.waitUntil(lambda: not reviewed.latest_request.running, timeout=PATIENCE_MS)
    assert reviewed.session.state.problem is not None
    reviewed.actions_.probe(LEFT)
    qtbot.waitUntil(lambda: not reviewed.latest_request.running, timeout=PATIENCE_MS)
    assert reviewed.session.state.problem is None


def test_wrong_things_are_answered_alike_on_canvas_and_panel(panel, qtbot, tmp_path: Path):
    settled_in(panel, qtbot)
    wrong = tmp_path / "notes.txt"
    wrong.write_text("no scan")
    answers = []
    for widget in (panel, panel.viewer.window._qt_viewer):
        drop(widget, wrong)
        wait(qtbot, panel)
        answers.append(panel.session.state.problem)
        panel.session.dismiss()
        assert panel.session.state.problem is None
    assert answers[0].next_step
    assert answers[0] == answers[1]


@pytest.mark.parametrize("is_list", [True, False])
def test_a_folder_of_results_is_no_choice_of_studies(
    is_list, panel, analysis, qtbot, tmp_path: Path
):
    """It offered the results as studies, then asked which sequence an attention map is.

    Only the folder of a batch can be opened as a list.
    """
    settled_in(panel, qtbot)
    for name in ("one", "two"):
        save(analysis, tmp_path / "out" / name)
    (tmp_path / "out" / ".hidden").mkdir()
    if is_list:
        open_worklist_database(tmp_path / "out").close()
    drop(panel, tmp_path / "out")
    wait(qtbot, panel)
    problem = panel.session.state.problem
    assert problem.found == "2 saved results in 'out', and no images"
    assert problem.next_step.startswith("Open one of its folders")
    assert ("as a list" in problem.next_step) is is_list
    assert panel.session.state.query is None
    panel.session.dismiss()


@pytest.mark.slow
def test_a_large_font_cuts_nothing_off_and_the_canvas_keeps_its_share(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    settings = get_settings().appearance
    before = settings.font_size
    window = reviewed.window()
    try:
        settings.font_size = 14
        qtbot.waitUntil(lambda: reviewed.dock_layout._held_width is None, timeout=PATIENCE_MS)
        reviewed.session.go_to_candidate(1)
        reviewed.session.choose_overlay(Overlay.MAP)
        window.resize(1280, 800)
        window.show()
        qtbot.waitUntil(
            lambda: window.centralWidget().width() >= 0.6 * window.width(), timeout=PATIENCE_MS
        )
        window.resize(1280, 800)  # while napari's docks were there, it could not be as narrow
        qtbot.waitUntil(
            lambda: window.centralWidget().width() >= 0.6 * window.width(), timeout=PATIENCE_MS
        )
        inner = reviewed.study.parentWidget()
        assert window.width() == 1280
        assert inner.minimumSizeHint().width() <= reviewed.minimumWidth() - 14
        own = [d for d in window.findChildren(QDockWidget) if d.windowTitle() == "layer list"]
        own[0].show()  # the reader wants it: it stays
        window.resize(1270, 800)
        QApplication.processEvents()
        assert own[0].isVisible()
    finally:
        settings.font_size = before
        window.hide()


@pytest.mark.parametrize("act", ["next_candidate", "accept"])
def test_a_refusal_at_one_place_goes_as_the_reader_goes_on(reviewed, act):
    reviewed.session.go_to_candidate(1)
    refusal = ResourceError(found="nothing there", expected="a place", next_step="Point at it")
    for cause in ("outline", "question"):
        reviewed.session.refused(replace(problem_of(refusal), cause=cause))
        assert reviewed.session.state.problem is not None
        reviewed.commands.run(act)
        assert reviewed.session.state.problem is None


@pytest.mark.slow
def test_no_font_puts_the_panels_edge_below_its_scroll_bar(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    settings = get_settings().appearance
    before, window = settings.font_size, reviewed.window()
    reviewed.session.go_to_candidate(1)
    reviewed.session.choose_overlay(Overlay.MAP)
    inner = reviewed.study.parentWidget()
    bar = reviewed._scroll.verticalScrollBar()
    window.show()
    try:
        for points in (9, 10, 12):
            settings.font_size = points
            qtbot.wait(300)
            room = reviewed.minimumWidth() - bar.sizeHint().width()
            assert inner.minimumSizeHint().width() <= room, points
    finally:
        settings.font_size = before
        window.hide()


@pytest.mark.slow
def test_blocks_fold(reviewed):
    block = reviewed.attention
    overlay = control(block, "contour")
    high = block.sizeHint().height()
    block.heading.click()
    assert not overlay.isVisibleTo(reviewed)
    assert block.sizeHint().height() < high / 3
    assert block.heading.accessibleName() == "Attention: collapsed"
    block.heading.click()
    assert overlay.isVisibleTo(reviewed)


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.FOUR])
def test_tab_reaches_analyse_in_five_steps_from_the_picture(loaded, qtbot, layout):
    window = settled_in(loaded, qtbot).window()
    window.show()
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window, timeout=PATIENCE_MS)
    loaded.actions_.show_layout(layout)
    if layout is Layout.SINGLE:
        loaded.views.canvas.setFocus()
    else:
        QTest.mouseClick(loaded.views.linked.tiles[0], Qt.MouseButton.LeftButton)
    halts = []
    while len(halts) < 5 and "Analyse" not in halts:
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        halts.append(getattr(QApplication.focusWidget(), "text", str)())
    assert halts[-1] == "Analyse", halts
    window.hide()


@pytest.mark.slow
def test_where_the_keys_go_is_seen(reviewed, qtbot):
    """A ring of its own around the control in focus, in both themes."""
    window = settled_in(reviewed, qtbot).window()
    window.show()
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window, timeout=PATIENCE_MS)
    for name in ("Open", "T1c", "Analyse", "contour", "Keys", "Accept"):
        widget = control(reviewed, name)
        widget.clearFocus()
        QApplication.processEvents()
        without = widget.grab().toImage()
        widget.setFocus()
        QApplication.processEvents()
        if widget.isEnabled():
            assert widget.grab().toImage() != without, name
    window.hide()


def test_a_study_that_was_opened_by_a_button_leaves_the_keys_with_the_picture(
    panel, qtbot, make_study
):
    window = settled_in(panel, qtbot).window()
    window.show()
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window, timeout=PATIENCE_MS)
    panel.empty.findChildren(QPushButton)[0].setFocus()  # goes when the study is there
    assert panel.actions_.open(make_study())
    wait(qtbot, panel)
    assert QApplication.focusWidget() is panel.views.canvas
    window.hide()


def test_everything_that_can_be_worked_has_a_name(reviewed):
    silent = [
        widget
        for kind in (QComboBox, QSlider, QToolButton, QPushButton)
        for widget in reviewed.findChildren(kind)
        if not widget.accessibleName()
        and not getattr(widget, "text", str)()
        and widget.parent() is not None
        and not widget.objectName().startswith("qt_")
    ]
    assert silent == []
    assert control(reviewed.candidates, "Undo").accessibleName()
    assert control(reviewed.candidates, "Reason").accessibleName()


@pytest.mark.slow
def test_a_larger_font_in_an_open_window_leaves_it_as_wide_as_it_is(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    settings, window = get_settings().appearance, reviewed.window()
    before = settings.font_size
    lists = [d for d in window.findChildren(QDockWidget) if d.windowTitle() == "layer list"]
    try:
        window.resize(1900, 800)
        window.show()
        qtbot.waitUntil(lists[0].isVisible, timeout=PATIENCE_MS)
        window.resize(1800, 800)
        qtbot.waitUntil(lambda: window.width() == 1800, timeout=PATIENCE_MS)
        assert lists[0].isVisible()  # with a larger font they want more than there is
        settings.font_size = 14
        room = reviewed.dock_layout
        qtbot.waitUntil(lambda: room._held_width is None, timeout=PATIENCE_MS)
        assert window.width() == 1800
        assert window.centralWidget().width() >= 0.6 * window.width()
        table = reviewed.candidates.table
        rows = [cells_of(one) for one in reviewed.candidates.model.rows]
        for column in (0, 2, 3, 4, 5):
            wide = [table.fontMetrics().horizontalAdvance(cells[column]) for cells in rows]
            assert table.columnWidth(column) >= max(wide)
        assert table.rowHeight(0) >= table.fontMetrics().height()
        settings.font_size = before
        qtbot.waitUntil(lambda: reviewed.width() < 400, timeout=PATIENCE_MS)
    finally:
        settings.font_size = before
        window.hide()


@pytest.mark.slow
def test_a_long_place_is_read_whole_in_a_narrow_table(reviewed, qtbot):
    table, model = reviewed.candidates.table, reviewed.candidates.model
    words, header = "right thalamus and basal ganglia", table.horizontalHeader()
    header.setSectionResizeMode(1, QHeaderView.ResizeMode.Fixed)
    model.replace((replace(model.rows[0], location=words),))
    wide = table.fontMetrics().horizontalAdvance(words) + 20
    header.resizeSection(1, wide)
    qtbot.wait(50)
    plain = table.rowHeight(0)
    header.resizeSection(1, wide // 2 + 20)
    qtbot.waitUntil(
        lambda: table.rowHeight(0) > max(plain, 2 * table.fontMetrics().height()),
        timeout=PATIENCE_MS,
    )
    assert table.height() >= table.rowHeight(0) + header.height()


def test_a_candidate_in_two_long_places_fits_into_the_panel(reviewed, qtbot):
    """Its title made all the blocks wider than the panel, and their right ends were cut off."""
    window, state = reviewed.viewer.window._qt_window, reviewed.session.state
    window.resize(1280, 800)
    window.show()
    place = Location(BOTH_SIDES, "cerebellar hemisphere and temporal lobe and parietal lobe")
    found = state.analysis.findings
    named = tuple(replace(one, location=place) for one in found.candidates)
    analysis = replace(state.analysis, findings=replace(found, candidates=named))
    reviewed.session.settle(reviewed.session.log(), analysis, state.overlays)
    reviewed.session.go_to_candidate(1)
    table, scroll = reviewed.candidates.table, reviewed.findChild(AnchoredScroll)
    at_rest(qtbot, table)
    assert place.text in reads(reviewed)
    assert scroll.widget().width() <= scroll.viewport().width()
    for more in (120, -120):  # as the border of the dock is dragged
        reviewed.setFixedWidth(reviewed.width() + more)
        at_rest(qtbot, table)
        assert table.rowHeight(0) >= table.sizeHintForRow(0)
    window.hide()


@pytest.mark.slow
def test_what_is_painted_by_hand_follows_the_font_of_napari(reviewed):
    settings, bars = get_settings().appearance, reviewed.attention.findChild(Bars)
    before = settings.font_size
    try:
        reviewed.window().show()
        small = bars.font().pointSizeF()
        settings.font_size = 14
        QApplication.processEvents()
        assert bars.font().pointSizeF() > 1.3 * small
    finally:
        settings.font_size = before
        reviewed.window().hide()


@pytest.mark.slow
def test_a_window_that_grew_by_the_panel_ends_where_its_screen_does(loaded, qtbot):
    """With the panel and the buttons above the views it went on beyond a small screen's edge."""
    settled_in(loaded, qtbot)
    window = loaded.window()
    window.show()
    screen = window.screen().availableGeometry()
    window.resize(screen.width() + 200, 500)
    window.move(screen.left() + 100, screen.top())
    qtbot.waitUntil(lambda: screen.contains(window.frameGeometry()), timeout=PATIENCE_MS)
    middle = window.centralWidget()
    middle.setMinimumWidth(screen.width() + 100)  # as a new dock that wants more than it needs
    qtbot.waitUntil(lambda: window.width() > screen.width(), timeout=PATIENCE_MS)
    qtbot.wait(2 * dock_layout._FONT_SETTLE_MS)
    middle.setMinimumWidth(0)
    qtbot.waitUntil(lambda: screen.contains(window.frameGeometry()), timeout=PATIENCE_MS)


def test_napari_s_controls_come_back_while_an_outline_is_drawn(reviewed, qtbot):
    """They hold the eraser, the size of the brush and the parts; a narrow window hides them."""
    settled_in(reviewed, qtbot)
    window = reviewed.window()
    names = {d.windowTitle(): d for d in window.findChildren(QDockWidget)}
    controls, layers = names["layer controls"], names["layer list"]
    window.resize(1100, 700)
    window.show()
    qtbot.waitUntil(lambda: controls.isHidden() and layers.isHidden(), timeout=PATIENCE_MS)
    QApplication.processEvents()
    window.resize(1200, 700)
    assert window.width() == 1200
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    qtbot.waitUntil(controls.isVisible, timeout=PATIENCE_MS)
    assert not layers.isVisible()
    assert window.width() == 1200
    assert reviewed.width() >= reviewed.minimumWidth()
    reviewed.commands.run("discard_edit")
    assert not controls.isVisible()


@pytest.mark.parametrize("shown", ["layer controls", "layer list"])
def test_controls_come_back_for_every_outline_and_stay_if_the_reader_showed_them(
    reviewed, qtbot, shown
):
    """After a look at the layer list the brush had no controls any more."""
    settled_in(reviewed, qtbot)
    window = reviewed.window()
    names = {d.windowTitle(): d for d in window.findChildren(QDockWidget)}
    controls = names["layer controls"]
    window.resize(1100, 700)
    window.show()
    qtbot.waitUntil(
        lambda: controls.isHidden() and names["layer list"].isHidden(), timeout=PATIENCE_MS
    )
    QApplication.processEvents()
    names[shown].show()
    reviewed.session.go_to_candidate(1)
    for _ in range(2):
        reviewed.commands.run("edit_outline")
        qtbot.waitUntil(controls.isVisible, timeout=PATIENCE_MS)
        reviewed.commands.run("discard_edit")
        assert controls.isVisible() is (shown == "layer controls")
    assert names[shown].isVisible()


def test_napari_s_controls_do_not_push_the_panel_off_a_small_screen(reviewed, qtbot, monkeypatch):
    """At 800 x 600 *Done* and half of the panel were beyond the edge while an outline was drawn."""
    settled_in(reviewed, qtbot)
    window = reviewed.window()
    names = {d.windowTitle(): d for d in window.findChildren(QDockWidget)}
    window.resize(1000, 560)
    window.show()
    qtbot.waitUntil(names["layer controls"].isHidden, timeout=PATIENCE_MS)
    QApplication.processEvents()
    window.resize(790, 560)
    qtbot.waitUntil(lambda: window.width() == 790, timeout=PATIENCE_MS)
    small = SimpleNamespace(availableGeometry=lambda: QRect(0, 0, 800, 600))
    monkeypatch.setattr(type(window), "screen", lambda _: small)
    reviewed.session.go_to_candidate(1)
    reviewed.commands.run("edit_outline")
    qtbot.wait(2 * dock_layout._FONT_SETTLE_MS)
    assert reviewed.session.state.editing == 1
    assert not names["layer controls"].isVisible()
    assert window.width() <= 800
    reviewed.commands.run("discard_edit")


@pytest.mark.slow
def test_what_the_panel_says_is_in_sight_wherever_it_is_scrolled_to(reviewed, qtbot):
    """The last message stood below *Analyse*, out of sight of who pressed a button at the end."""
    settled_in(reviewed, qtbot)
    window = reviewed.window()
    window.resize(1100, 500)
    window.show()
    QApplication.processEvents()
    sign = control(reviewed, "Nothing further")
    (scroll,) = reviewed.findChildren(QScrollArea)
    scroll.ensureWidgetVisible(sign)
    sign.click()
    QApplication.processEvents()
    (said,) = [w for w in reviewed.findChildren(QLabel) if w.text().startswith("⚠ Not decided yet")]
    assert not said.visibleRegion().isEmpty()
    reviewed.session.begin("Exporting")
    QApplication.processEvents()
    seen = [w.text() for w in reviewed.findChildren(QLabel) if not w.visibleRegion().isEmpty()]
    assert any(words.startswith("Exporting") for words in seen)


def test_signature_export_and_answers_are_in_sight_in_a_small_window_with_the_list(reviewed, qtbot):
    """They lay below the fold of the panel at 1280 × 800."""
    viewer = reviewed.viewer
    viewer.window.resize(1280, 800)
    viewer.window.show()
    reviewed.worklist_requested.emit()
    reviewed.session.go_to_candidate(1)
    reviewed.session.notify("an answer")
    settled_in(reviewed, qtbot)
    at_rest(qtbot, reviewed.footer)
    for words in ("Nothing further", "Export"):
        button = control(reviewed.footer, words)
        assert button.visibleRegion().boundingRect() == button.rect(), words
    (answer,) = [one for one in reviewed.findChildren(QLabel) if one.text() == "an answer"]
    assert not answer.visibleRegion().isEmpty()
    viewer.window.dock_widgets[dock.WORKLIST].release()


def test_the_candidate_gone_to_is_in_sight_in_a_low_window(reviewed, qtbot):
    """With the worklist below the picture, key N left its row below the edge of the panel."""
    reviewed.viewer.window.resize(1280, 480)
    reviewed.viewer.show()
    QApplication.processEvents()
    reviewed.commands.run("next_candidate")
    table = reviewed.candidates.table
    qtbot.waitUntil(lambda: table.visibleRegion().boundingRect().height() > 40, timeout=PATIENCE_MS)


@pytest.mark.slow
def test_what_stands_at_the_lower_edge_stays_when_a_message_takes_room(panel, qtbot):
    scroll, inner = AnchoredScroll(), QWidget()
    inner.setMinimumHeight(2000)
    scroll.setWidget(inner)
    qtbot.addWidget(scroll)
    scroll.resize(300, 400)
    scroll.show()
    bar = scroll.verticalScrollBar()
    scroll.resize(300, 360)
    assert bar.value() == 0, "nobody has scrolled yet"
    bar.setValue(500)
    scroll.resize(300, 300)
    assert bar.value() == 560
    scroll.resize(300, 360)
    assert bar.value() == 500


def test_a_menus_command_runs_once_the_menu_is_off_the_screen(reviewed, qtbot):
    """Adding the layers takes a second, during which the menu stayed on the screen."""
    (opens,) = [one for one in reviewed.findChildren(QToolButton) if one.text() == "Open…"]
    (adds,) = [one for one in opens.menu().actions() if "plain layers" in one.text()]
    before = names()
    adds.trigger()
    assert names() == before
    qtbot.waitUntil(lambda: len(names() - before) > 2, timeout=PATIENCE_MS)
    assert "Added as layers, a copy: probability_wt" in reviewed.session.state.message
