"""One panel, whose keys work everywhere, whose wheel changes nothing and which leaves room."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QKeyEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QLabel,
    QPushButton,
    QScrollArea,
    QSlider,
    QToolButton,
)
from tests.gui.test_drop import drop
from tests.gui.window import PATIENCE_MS, control, names, wait
from tests.gui.window import canvas as napari_canvas

from lesionlens.base.errors import ResourceError
from lesionlens.base.labels import ReviewState
from lesionlens.napari import dock
from lesionlens.napari.model.choices.views import Layout
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


def test_a_menus_command_runs_once_the_menu_is_off_the_screen(reviewed, qtbot):
    """Adding the layers takes a second, during which the menu stayed on the screen."""
    (opens,) = [one for one in reviewed.findChildren(QToolButton) if one.text() == "Open…"]
    (adds,) = [one for one in opens.menu().actions() if "plain layers" in one.text()]
    before = names()
    adds.trigger()
    assert names() == before
    qtbot.waitUntil(lambda: len(names() - before) > 2, timeout=PATIENCE_MS)
    assert "Added as layers, a copy: probability_wt" in reviewed.session.state.message
