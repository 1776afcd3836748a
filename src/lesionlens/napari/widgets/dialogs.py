"""Questions to the reader: a confirmation, whether it is one patient, a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox, QPushButton, QWidget

from lesionlens.base.errors import PatientConflictError


def message_box(parent: QWidget, title: str, text: str) -> QMessageBox:
    """Return a message box of plain text."""
    box = QMessageBox(parent)
    box.setWindowTitle(title)
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setText(text)
    return box


def confirm(
    parent: QWidget, text: str, action: str, then: Callable[[], object], title: str = "LesionLens"
) -> QPushButton:
    """Ask without blocking; `then` is called if the action is chosen, whose button is returned."""
    box = message_box(parent, title, text)
    button = box.addButton(action, QMessageBox.ButtonRole.AcceptRole)
    box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
    box.finished.connect(lambda _: then() if box.clickedButton() is button else None)
    box.finished.connect(lambda _: box.deleteLater())
    box.open()
    return button


def confirm_patient(
    parent: QWidget, error: PatientConflictError, then: Callable[[], object]
) -> None:
    """Ask whether files are of one patient, with the differing attributes; Enter cancels.

    Values are shown on the screen only; messages, logs and records contain the attribute names.
    """
    compared = error.values or ((),) * len(error.fields)
    rows = [
        f"{field}: {' / '.join(value or 'not given' for value in values)}" if values else field
        for field, values in zip(error.fields, compared, strict=True)
    ]
    advice = "If you are sure that it is one person, confirm it: your confirmation is recorded."
    text = "\n".join((error.sentence, *rows, advice))
    button = confirm(parent, text, "It is one patient", then, "Is it one patient?")
    button.setAutoDefault(False)


def ask_name(parent: QWidget, then: Callable[[str], object]) -> None:
    """Ask for the reader's name without blocking; `then` takes it, empty if none is given."""
    dialog = QInputDialog(parent)
    dialog.setWindowTitle("LesionLens")
    dialog.setLabelText("Your name, stored with your decisions and the report:")
    dialog.finished.connect(lambda chosen: then(dialog.textValue().strip() if chosen else ""))
    dialog.finished.connect(dialog.deleteLater)
    dialog.open()


def ask_path(
    parent: QWidget,
    then: Callable[[Path], object],
    title: str,
    file_filter: str = "",
    start: str = "",
) -> None:
    """Ask for a file of these kinds, or for a folder if none are named; `then` takes the path."""
    if file_filter:
        chosen, _ = QFileDialog.getOpenFileName(parent, title, start, file_filter)
    else:
        chosen = QFileDialog.getExistingDirectory(parent, title, start)
    if chosen:
        then(Path(chosen))
