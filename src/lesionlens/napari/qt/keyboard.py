"""Keys of the commands, wherever the focus is in the window.

napari handles keys only on its canvas, so that after a click on the table they would go to the
table. So an event filter follows the focus. Text fields, open lists and menus keep their keys, and
a key that napari uses on a foreign active layer goes to napari.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QInputEvent, QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QSlider,
    QTextEdit,
    QWidget,
)

from lesionlens.napari.commands.command import Command
from lesionlens.napari.commands.table import KEY_COMMANDS
from lesionlens.napari.qt.waiting import once_idle, when_idle

_NAPARI_NAMES = {"PgDown": "PageDown", "PgUp": "PageUp", "Esc": "Escape"}
_TEXT_WIDGETS = (QLineEdit, QTextEdit, QPlainTextEdit, QAbstractSpinBox)
_MODIFIERS = (
    (Qt.KeyboardModifier.ControlModifier, "Control"),
    (Qt.KeyboardModifier.ShiftModifier, "Shift"),
    (Qt.KeyboardModifier.AltModifier, "Alt"),
    (Qt.KeyboardModifier.MetaModifier, "Meta"),
)
_KEY_EVENTS = (QEvent.Type.KeyPress, QEvent.Type.KeyRelease)
_REPEAT_WINDOW_MS = 100
"""A key that is pressed again within this time was held: under X11 the repeats of a held key are
releases and presses, which Qt does not always recognise as such."""


def main_window(widget: QObject | None) -> QMainWindow | None:
    """Return the main window of a widget; None in a dialog."""
    while widget is not None and not isinstance(widget, QMainWindow):
        widget = None if isinstance(widget, QDialog) else widget.parent()
    return widget


def takes_text(widget: QObject | None) -> bool:
    """Whether a widget takes typed letters as text."""
    editable = isinstance(widget, QComboBox) and widget.isEditable()
    return editable or isinstance(widget, _TEXT_WIDGETS)


def leave_after_enter(box: QAbstractSpinBox, to: QWidget) -> None:
    """Move the focus from a number to `to` after Enter, so that the next keys run commands."""

    def leave() -> None:
        if box.hasFocus():
            to.setFocus()

    queued = Qt.ConnectionType.QueuedConnection  # Enter is still being handled
    box.editingFinished.connect(leave, queued)


def modifiers_of(event: QInputEvent) -> list[str]:
    """Return the names of the modifiers held, in napari's notation and order."""
    return [name for modifier, name in _MODIFIERS if event.modifiers() & modifier]


def key_name(event: QKeyEvent) -> str:
    """Return a key with modifiers in napari's notation, such as "Shift-N".

    Digits and signs that a keyboard layout has on Shift are named without it, such as "8" in
    French.
    """
    key, modifiers = QKeySequence(event.key()).toString(), modifiers_of(event)
    if event.text() == key and not key.isalpha():
        modifiers = [modifier for modifier in modifiers if modifier != "Shift"]
    return "-".join([*modifiers, key])


class HeldKeys:
    """Tells the repeats of a held key from new presses.

    Under X11 each repeat is a release and a press at the same millisecond, which Qt does not always
    recognise.
    """

    def __init__(self) -> None:
        self._released_ms: dict[int, int] = {}

    def note_release(self, event: QKeyEvent) -> None:
        """Note when a key was released."""
        self._released_ms[event.key()] = event.timestamp()

    def is_repeat(self, event: QKeyEvent) -> bool:
        """Return whether a press repeats a held key."""
        at_release = 0 < event.timestamp() == self._released_ms.get(event.key())
        return at_release or bool(event.isAutoRepeat())


class Keyboard(QObject):
    """Handles keys of the window that a panel is docked in.

    No widget is referenced, as that would keep the window alive.

    Parameters
    ----------
    run : callable
        Runs a command by its name; for a held one it takes True, then False.
    is_left_to_napari : callable
        Returns whether a command's key is currently left to napari.
    """

    def __init__(
        self,
        panel: QWidget,
        run: Callable[..., object],
        is_left_to_napari: Callable[[Command], bool],
    ) -> None:
        super().__init__(panel)
        self._commands = {command.key: command for command in KEY_COMMANDS}
        self._run, self._is_left_to_napari = run, is_left_to_napari
        self._held_commands: dict[int, str] = {}
        """Names of the held commands, by their keys."""
        self._release_timers: dict[int, QTimer] = {}
        self._held_keys = HeldKeys()
        self._accepts_repeat = True
        QApplication.instance().focusChanged.connect(self._on_focus_changed)

    def listen(self, *widgets: QWidget) -> None:
        """Filter the keys of widgets, independent of the focus."""
        for widget in widgets:
            widget.installEventFilter(self)

    def release(self) -> None:
        """Remove the event filters."""
        QApplication.instance().focusChanged.disconnect(self._on_focus_changed)
        self._end_held_commands()
        self._run = self._is_left_to_napari = lambda *_: True
        self.deleteLater()

    def _on_focus_changed(self, old: QWidget | None, new: QWidget | None) -> None:
        """Follow the focus; a held command ends, as its release would be missed.

        A focus that falls on a text field, as the control that had it was hidden or disabled, goes
        to the panel: the next key would become text.
        """
        window, panel = main_window(self.parent()), self.parent()
        old_unusable = old is not None and not (old.isVisible() and old.isEnabled())
        if old_unusable and takes_text(new) and panel.isAncestorOf(new):
            panel.setFocus()
            return
        if new is None or window is None or main_window(new) is not window or takes_text(new):
            self._end_held_commands()
        else:
            new.installEventFilter(self)  # reinstalled, to be called first

    def _end_held_commands(self) -> None:
        for key in tuple(self._held_commands):
            self._end_held_command(key)

    def _end_held_command(self, key: int) -> None:
        self._cancel_release(key)
        self._run(self._held_commands.pop(key), False)

    def _cancel_release(self, key: int) -> None:
        """Stop waiting for the end of a held command."""
        timer = self._release_timers.pop(key, None)
        if timer is not None:
            timer.stop()
            timer.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Handle a LesionLens key; other events pass."""
        if event.type() not in _KEY_EVENTS or not isinstance(event, QKeyEvent):
            return False
        if event.type() == QEvent.Type.KeyRelease:
            return self._on_release(event)
        if QApplication.activePopupWidget() is not None:  # keys select in its list
            return False
        return not takes_text(watched) and self._on_press(event)

    def _on_press(self, event: QKeyEvent) -> bool:
        """Run the command of a key; repeats are limited to the repaint rate.

        A held command continues whatever modifiers are pressed meanwhile.
        """
        if event.key() in self._held_commands:
            self._cancel_release(event.key())
            return True
        command = self._commands.get(key_name(event))
        if command is None or self._is_left_to_napari(command):
            return False
        if command.hold:  # with a repeat too: its first press, or that after a release, was late
            self._held_commands[event.key()] = command.name
            self._run(command.name, True)
            return True
        is_repeat = self._held_keys.is_repeat(event)
        if is_repeat and not (command.repeats and self._accepts_repeat):
            return True
        self._run(command.name)
        if is_repeat:
            self._accepts_repeat = False
            when_idle(self._accept_repeat)
        return True

    def _accept_repeat(self) -> None:
        """Accept the next repeat; those during painting were skipped."""
        self._accepts_repeat = True

    def _on_release(self, event: QKeyEvent) -> bool:
        """End a held command soon, unless its key is pressed again: the release was a repeat."""
        key = event.key()
        self._held_keys.note_release(event)
        if key not in self._held_commands:
            return False
        if not event.isAutoRepeat():
            self._cancel_release(key)
            self._release_timers[key] = once_idle(
                lambda: self._end_held_command(key), self, _REPEAT_WINDOW_MS
            )
            self._release_timers[key].start()
        return True


class WheelGuard(QObject):
    """Keeps the wheel from changing values: over a list or slider it scrolls the area behind.

    The wheel does not set the focus either, as keys would then go to the control.
    """

    def __init__(self, parent: QWidget) -> None:
        """Guard the controls that the parent has now."""
        super().__init__(parent)
        for kind in (QComboBox, QSlider, QAbstractSpinBox):
            for widget in parent.findChildren(kind):
                widget.installEventFilter(self)
                if widget.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Forward a wheel event to the parent."""
        if event.type() != QEvent.Type.Wheel:
            return False
        event.ignore()
        return True


def napari_key(command: Command) -> str:
    """Return a command's key in the notation of napari's tables, such as "Ctrl+B"."""
    *modifiers, key = command.shown_key.split("+")
    return str(coerce_keybinding("+".join((*modifiers, _NAPARI_NAMES.get(key, key)))))


def keymap_of(owner_class: type) -> dict[Any, Any]:
    """Return napari's bindings of a layer or viewer class, including inherited ones."""
    bindings: dict[Any, Any] = {}
    for base in reversed(owner_class.__mro__):
        bindings |= base.__dict__.get("class_keymap", {})
    return bindings
