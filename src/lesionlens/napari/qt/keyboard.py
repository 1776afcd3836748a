"""The keys of the review, wherever in the window the focus is.

napari hears keys on its canvas alone: after a click on a row of the table they would go to the
table. So the widget in focus is listened to, whichever it is. What is typed into a text field stays
there, and what is pressed while a list or menu is open goes to that; a key that napari uses on the
active layer of somebody else goes to napari.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QTextEdit,
    QWidget,
)

from lesionlens.napari.commands.command import Command
from lesionlens.napari.qt.waiting import when_idle

_TYPED_INTO = (QLineEdit, QTextEdit, QPlainTextEdit, QAbstractSpinBox)
_MODIFIERS = (
    (Qt.KeyboardModifier.ControlModifier, "Control"),
    (Qt.KeyboardModifier.ShiftModifier, "Shift"),
    (Qt.KeyboardModifier.AltModifier, "Alt"),
    (Qt.KeyboardModifier.MetaModifier, "Meta"),
)
_KEY_EVENTS = (QEvent.Type.KeyPress, QEvent.Type.KeyRelease)


def main_window(widget: QObject | None) -> QMainWindow | None:
    """Return the main window that a widget is part of; None in a dialog."""
    while widget is not None and not isinstance(widget, QMainWindow):
        widget = None if isinstance(widget, QDialog) else widget.parent()
    return widget


def is_typed_into(widget: QObject | None) -> bool:
    """Whether letters pressed there are text."""
    editable = isinstance(widget, QComboBox) and widget.isEditable()
    return editable or isinstance(widget, _TYPED_INTO)


def name_of(event: QKeyEvent) -> str:
    """Return a key with its modifiers as napari writes it, such as "Shift-N"."""
    held = event.modifiers()
    words = [name for modifier, name in _MODIFIERS if held & modifier]
    return "-".join([*words, QKeySequence(event.key()).toString()])


class Keyboard(QObject):
    """Listens to the widget in focus of the window that a panel is docked in.

    It keeps no widget: what Qt owns would keep the window alive.

    Parameters
    ----------
    panel : QWidget
        Lives as long as this.
    acts : mapping of Command to callable
        What each does; one that is held takes True, then False.
    left : callable
        Whether a key is left to napari now.
    """

    def __init__(
        self,
        panel: QWidget,
        acts: Mapping[Command, Callable[..., Any]],
        left: Callable[[Command], bool],
    ) -> None:
        super().__init__(panel)
        self._acts = {command.key: (command, act) for command, act in acts.items()}
        self._left = left
        self._held: dict[int, Callable[[bool], Any]] = {}
        self._painted = True
        QApplication.instance().focusChanged.connect(self._follow)

    def listen(self, *widgets: QWidget) -> None:
        """Listen to widgets whether they have the focus or not."""
        for widget in widgets:
            widget.installEventFilter(self)

    def release(self) -> None:
        """Leave the keys to napari."""
        QApplication.instance().focusChanged.disconnect(self._follow)
        self._let_go()
        self._acts.clear()
        self._left = lambda _: True
        self.deleteLater()

    def _follow(self, _: QWidget | None, new: QWidget | None) -> None:
        """Go with the focus; what is held ends where its release would not be heard."""
        window = main_window(self.parent())
        if new is None or window is None or main_window(new) is not window or is_typed_into(new):
            self._let_go()
        else:
            new.installEventFilter(self)  # installed again, it is asked first

    def _let_go(self) -> None:
        for act in self._held.values():
            act(False)
        self._held.clear()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Act on a LesionLens key; everything else goes on."""
        if event.type() not in _KEY_EVENTS or not isinstance(event, QKeyEvent):
            return False
        if event.type() == QEvent.Type.KeyRelease:
            return self._released(event)
        if QApplication.activePopupWidget() is not None:  # arrows and letters choose in its list
            return False
        return not is_typed_into(watched) and self._pressed(event)

    def _pressed(self, event: QKeyEvent) -> bool:
        """Run the command of a key; under key repeat, as often as the window can repaint."""
        command, act = self._acts.get(name_of(event), (None, None))
        if command is None or act is None or self._left(command):
            return False
        again = event.isAutoRepeat()
        if event.key() in self._held or (again and not (command.repeats and self._painted)):
            return True
        if command.hold:
            self._held[event.key()] = act
            act(True)
            return True
        act()
        if again:
            self._painted = False
            when_idle(self._ready)
        return True

    def _ready(self) -> None:
        """Take the next repeat: those that came while the window painted are left out."""
        self._painted = True

    def _released(self, event: QKeyEvent) -> bool:
        """End what is held; a release that key repeat makes is none."""
        if event.key() not in self._held:
            return False
        if not event.isAutoRepeat():
            self._held.pop(event.key())(False)
        return True


class WheelGuard(QObject):
    """Keeps the wheel from changing values: over a list or slider it scrolls what lies behind.

    Nor does it bring the focus, for letters would then be typed into what was only scrolled over.
    """

    def guard(self, *widgets: QWidget) -> None:
        """Guard some widgets."""
        for widget in widgets:
            widget.installEventFilter(self)
            if widget.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: ARG002
        """Hand a turn of the wheel on to the parent."""
        if event.type() != QEvent.Type.Wheel:
            return False
        event.ignore()
        return True
