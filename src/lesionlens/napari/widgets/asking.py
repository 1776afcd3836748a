"""Questions to the reader: for confirmation, for a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget


def confirm(parent: QWidget, words: str, action: str, then: Callable[[], object]) -> None:
    """Ask without blocking; `then` is called if the action is chosen."""
    box = QMessageBox(parent)
    box.setWindowTitle("LesionLens")
    box.setText(words)
    yes = box.addButton(action, QMessageBox.ButtonRole.AcceptRole)
    box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
    box.finished.connect(lambda _: then() if box.clickedButton() is yes else None)
    box.finished.connect(lambda _: box.deleteLater())
    box.open()


def ask_path(
    parent: QWidget, then: Callable[[Path], object], words: str, kinds: str = "", start: str = ""
) -> None:
    """Ask for a file of these kinds, or for a folder if none are named; `then` takes the path."""
    if kinds:
        chosen, _ = QFileDialog.getOpenFileName(parent, words, start, kinds)
    else:
        chosen = QFileDialog.getExistingDirectory(parent, words, start)
    if chosen:
        then(Path(chosen))
