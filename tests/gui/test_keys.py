"""Our keys beside napari's own."""

from itertools import pairwise

import pytest
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QApplication, QComboBox
from tests.gui.window import PATIENCE_MS

from lesionlens.base.labels import ReviewState
from lesionlens.napari.commands.table import KEY_COMMANDS
from lesionlens.napari.qt.keyboard import key_name, napari_key


def test_no_key_takes_one_of_naparis():
    """By napari's table of defaults, which is whole before any window has been opened."""
    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    assert {"Ctrl+Y", "Shift+A"} <= taken
    of_shapes_and_points = {"A", "R", "D", "T", "S", "I", "Shift+A", "Shift+L", "Shift+P"}
    ours = {napari_key(command) for command in KEY_COMMANDS}
    assert len(ours) == len({command.shown_key for command in KEY_COMMANDS})
    assert "" not in ours
    within_an_edit = {"Enter", "Escape"}
    assert ours & taken == of_shapes_and_points | within_an_edit


def test_keys_pressed_while_a_list_is_open_choose_in_it(reviewed, qtbot):
    """Down went a slice on and A accepted, behind the open list."""
    settled_in(reviewed, qtbot)
    regions = next(
        one for one in reviewed.findChildren(QComboBox) if "Region" in one.accessibleName()
    )
    regions.showPopup()
    opened = regions.view()
    QApplication.instance().focusChanged.emit(None, opened)
    slice_before = reviewed.views.bar.caption.text()
    qtbot.keyClick(opened, Qt.Key.Key_Down)
    qtbot.keyClick(opened, Qt.Key.Key_A)
    assert reviewed.views.bar.caption.text() == slice_before
    assert not reviewed.session.state.review.events
    regions.hidePopup()
    QApplication.instance().focusChanged.emit(opened, reviewed.candidates.table)
    qtbot.keyClick(reviewed.candidates.table, Qt.Key.Key_A)
    assert reviewed.session.state.review.events


def settled_in(panel, qtbot):
    panel.window().show()
    qtbot.waitUntil(lambda: panel.drops is not None, timeout=PATIENCE_MS)
    panel.session.go_to_candidate(1)


def repeated(code):
    """A press as X11 repeats it while the key stays down."""
    modifier = Qt.KeyboardModifier.NoModifier
    return QKeyEvent(QEvent.Type.KeyPress, code, modifier, "", autorep=True)


def test_a_slice_key_held_goes_on_and_a_decision_is_made_once(reviewed, qtbot):
    """As fast as the window paints: repeats that wait behind a picture are left out."""
    settled_in(reviewed, qtbot)
    target = reviewed.candidates.table
    QApplication.instance().focusChanged.emit(None, target)
    where = [reviewed.views.bar.caption.text()]
    for _ in range(3):
        QApplication.sendEvent(target, repeated(Qt.Key.Key_Up))
        QApplication.sendEvent(target, repeated(Qt.Key.Key_Up))
        where.append(reviewed.views.bar.caption.text())
        qtbot.wait(20)
    numbers = [int(words.split()[1]) for words in where]
    assert [b - a for a, b in pairwise(numbers)] == [1, 1, 1]
    QApplication.sendEvent(target, repeated(Qt.Key.Key_A))
    assert not reviewed.session.state.review.events


def test_a_reason_is_typed_and_left_without_a_mouse(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    table = reviewed.candidates.table
    QApplication.instance().focusChanged.emit(None, table)
    both = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    qtbot.keyClick(table, Qt.Key.Key_R, both)
    field = reviewed.window().focusWidget()
    assert field.accessibleName() == "Reason for the decision"
    line = field.lineEdit()
    qtbot.keyClicks(line, "rim")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert reviewed.window().focusWidget() is table
    QApplication.instance().focusChanged.emit(line, table)
    qtbot.keyClick(table, Qt.Key.Key_A)
    (event,) = reviewed.session.state.review.events
    assert event.reason == "rim"
    line.setFocus()
    qtbot.keyClick(line, Qt.Key.Key_Escape)
    assert reviewed.window().focusWidget() is table


_PAGES = (Qt.Key.Key_PageDown, Qt.Key.Key_PageUp)
_ARROWS = (Qt.Key.Key_Down, Qt.Key.Key_Up)


@pytest.mark.parametrize("key", [*_PAGES, *_ARROWS])
def test_keys_of_studies_and_slices_do_not_replace_a_typed_reason(reviewed, qtbot, key):
    """PgDown, pressed for the next study, recorded "vessel" in place of what was typed."""
    settled_in(reviewed, qtbot)
    reviewed.commands.run("accept")
    line = reviewed.candidates.reason.lineEdit()
    qtbot.keyClicks(line, "seen on FLAIR")
    qtbot.keyClick(line, key)
    assert line.text() == "seen on FLAIR"
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert reviewed.session.state.review.events[-1].reason == "seen on FLAIR"


def test_arrows_choose_a_reason_and_the_keys_of_studies_none(reviewed, qtbot):
    settled_in(reviewed, qtbot)
    reviewed.commands.run("accept")
    line = reviewed.candidates.reason.lineEdit()
    for key in _PAGES:
        qtbot.keyClick(line, key)
    (event,) = reviewed.session.state.review.events
    assert event.reason is None
    qtbot.keyClick(line, Qt.Key.Key_Down)
    assert reviewed.session.state.review.events[-1].reason == "vessel"


def test_export_by_key_waits_for_a_result(loaded, monkeypatch):
    asked = []
    monkeypatch.setattr(loaded.actions_.dialogs, "ask_path", lambda *words: asked.append(words))
    loaded.commands.run("export")
    assert not asked
    assert loaded.session.state.message == "Analyse the study first."


def test_a_focus_that_falls_on_a_text_field_goes_to_the_panel(reviewed, qtbot):
    """After *Done*, its tools hidden, the keys to accept and to sign were typed as a reason."""
    panel = reviewed
    panel.window().show()
    panel.window().activateWindow()
    panel.session.go_to_candidate(1)
    panel.commands.run("edit_outline")
    settled_in(panel, qtbot)
    field, last = panel.candidates.reason, panel.candidates.tools.limit
    last.setFocus()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is last, timeout=PATIENCE_MS)
    panel.candidates.tools.hide()  # the field is the next control
    assert not field.hasFocus()
    assert not field.lineEdit().hasFocus()
    panel.commands.run("discard_edit")
    settled_in(panel, qtbot)
    qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_A)
    assert panel.session.state.review.events[-1].state is ReviewState.ACCEPTED
    assert field.currentText() == ""
    panel.commands.run("type_reason")
    assert field.lineEdit().hasFocus() or field.hasFocus()
    panel.window().hide()


@pytest.mark.parametrize(
    ("code", "modifier", "text", "name"),
    [
        (Qt.Key.Key_8, "Shift", "8", "8"),  # French: the unshifted key is "_"
        (Qt.Key.Key_Period, "Shift", ".", "."),
        (Qt.Key.Key_8, "Keypad", "8", "8"),
        (Qt.Key.Key_A, "No", "A", "A"),  # with Caps Lock
        (Qt.Key.Key_A, "Shift", "A", "Shift-A"),
        (Qt.Key.Key_Asterisk, "Shift", "*", "*"),
    ],
)
def test_a_sign_that_a_layout_has_on_shift_is_the_same_key(code, modifier, text, name):
    """On a French keyboard 8, 9, 0 and the full stop did nothing."""
    modifiers = Qt.KeyboardModifier[f"{modifier}Modifier"]
    assert key_name(QKeyEvent(QEvent.Type.KeyPress, code, modifiers, text)) == name
