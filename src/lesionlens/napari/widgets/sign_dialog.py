"""Dialog for signing and withdrawing: patient, statement, reader's name."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLineEdit, QWidget

from lesionlens.napari.controllers.dialogs import Signature
from lesionlens.napari.qt.keyboard import HeldKeys
from lesionlens.napari.widgets.parts import label, stack

_NAME, _REASON = "your name", "why the signature is withdrawn"


class SignDialog(QDialog):
    """Shows patient, study and statement; Enter signs, Escape cancels.

    It is modal: no key or click reaches the study.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setMinimumWidth(420)
        self._identity, self._statement = label("", "title", wrap=True), label("", wrap=True)
        self._field = _NameOrReason()
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self._accept_button = self._buttons.addButton(
            "Sign", QDialogButtonBox.ButtonRole.AcceptRole
        )
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self._field.textChanged.connect(self._offer)
        self._then: Callable[[str], object] = lambda _: None
        self._known_reader = ""
        stack(self, self._identity, self._statement, self._field, self._buttons, margins=None)

    def ask(self, signature: Signature, then: Callable[[str], object]) -> None:
        """Ask; `then` takes the reader's name, or the reason of a withdrawal."""
        verb = "Withdraw" if signature.withdrawn else "Sign"
        self.setWindowTitle(f"{verb} {'the signature' if signature.withdrawn else 'this study'}?")
        self._then = then
        self._known_reader = "" if signature.withdrawn else signature.reader
        self._identity.setText("\n".join(signature.identity.lines))
        reader_text = f", as {signature.reader}" if signature.reader else ""
        self._statement.setText(f"{verb}: {signature.statement}{reader_text}.")
        self._field.setPlaceholderText(_REASON if signature.withdrawn else _NAME)
        self._field.setAccessibleName(_REASON if signature.withdrawn else _NAME)
        self._field.clear()
        self._field.setVisible(not self._known_reader)
        self._accept_button.setText(verb)
        # focus first: a focused button that is disabled passes focus, and Enter, on to Cancel
        (self._accept_button if self._known_reader else self._field).setFocus()
        self._offer()
        self.open()
        self._accept_button.setDefault(True)

    def _entered(self) -> str:
        return self._known_reader or self._field.text().strip()

    def _offer(self) -> None:
        self._accept_button.setEnabled(bool(self._entered()))

    def accept(self) -> None:
        """Sign or withdraw, if the name or reason is entered."""
        entered = self._entered()
        if entered:
            super().accept()
            self._then(entered)

    def reject(self) -> None:
        """Cancel."""
        super().reject()
        self._then = lambda _: None


class _NameOrReason(QLineEdit):
    """A field that takes a held letter once: the key that opened the dialog may still be held."""

    def __init__(self) -> None:
        super().__init__()
        self._held_keys = HeldKeys()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter a letter, unless its press repeats a held key."""
        if not (self._held_keys.is_repeat(event) and event.text().isalpha()):
            super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        """Note that a key was released."""
        self._held_keys.note_release(event)
        super().keyReleaseEvent(event)
