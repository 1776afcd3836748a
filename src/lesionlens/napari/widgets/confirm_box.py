"""A confirmation dialog."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QMessageBox, QWidget


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
