"""Wrapped lines of text, each with a button that shows the position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QToolButton, QWidget

from lesionlens.napari.widgets.parts import flat_button, label, row, stack

Line = tuple[object, str, str]
"""Value (None for no button), text of the button, text beside it."""


class _Line(QWidget):
    """A button and words; a click on either presses the button."""

    def __init__(self, button: QToolButton, text: str) -> None:
        super().__init__()
        self._button = button
        layout = row(button, label(text, "dim", wrap=True), spacing=4)
        layout.setStretch(1, 1)
        self.setLayout(layout)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Emit the value of a clicked text."""
        if self.rect().contains(event.pos()):
            self._button.click()


class PickRows(QWidget):
    """Shows lines; a click on one calls `pick` with its value."""

    def __init__(self, pick: Callable[[Any], object]) -> None:
        super().__init__()
        self._pick = pick
        self.shown: tuple[Line, ...] = ()
        self._layout = stack(self, spacing=2)

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Show lines; nothing is done if they are unchanged."""
        if tuple(lines) == self.shown:
            return
        self.shown = tuple(lines)
        while self._layout.count():
            self._layout.takeAt(0).widget().deleteLater()
        for value, head, text in lines:
            button = flat_button(head)
            button.setToolTip("Go to this position")
            button.setEnabled(value is not None)
            button.clicked.connect(lambda _=False, value=value: self._pick(value))
            self._layout.addWidget(_Line(button, text))
