"""The dialog in which a reader signs."""

import pytest

pytest.importorskip("napari")

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QApplication, QLineEdit, QWidget

from lesionlens.napari.controllers.dialogs import Signature
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.widgets.sign_dialog import SignDialog

SHIFT = Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def field(qtbot):
    parent = QWidget()
    qtbot.addWidget(parent)
    dialog = SignDialog(parent)
    dialog.ask(Signature(StudyIdentity("head"), "nothing seen"), lambda _: None)
    (made,) = dialog.findChildren(QLineEdit)
    yield made
    dialog.reject()


def send(field, kind, key, text, *, at_ms, is_repeat=False):
    event = QKeyEvent(kind, key, SHIFT, text, is_repeat)
    event.setTimestamp(at_ms)
    QApplication.sendEvent(field, event)


@pytest.mark.parametrize("is_repeat", [True, False], ids=["recognised by Qt", "under X11"])
def test_the_held_key_that_opened_the_dialog_is_not_typed_into_the_name(field, is_repeat):
    """Shift+A, held for a second, made the reader's name AAAAA."""
    kinds = QEvent.Type.KeyRelease, QEvent.Type.KeyPress
    for at_ms in (10, 40, 70):
        for kind in kinds:
            send(field, kind, Qt.Key.Key_A, "A", at_ms=at_ms, is_repeat=is_repeat)
    assert field.text() == ""
    send(field, QEvent.Type.KeyPress, Qt.Key.Key_B, "B", at_ms=70)
    assert field.text() == "B"  # another key, at the same moment
    field.clear()
    for at_ms in (200, 400):
        send(field, QEvent.Type.KeyPress, Qt.Key.Key_A, "A", at_ms=at_ms)
        send(field, QEvent.Type.KeyRelease, Qt.Key.Key_A, "A", at_ms=at_ms + 50)
    assert field.text() == "AA"
    send(field, QEvent.Type.KeyPress, Qt.Key.Key_Backspace, "\b", at_ms=600, is_repeat=True)
    assert field.text() == "A"
