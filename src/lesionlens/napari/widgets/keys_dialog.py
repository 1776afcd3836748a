"""The table of keys, in columns that fit a small screen."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QDialog, QLabel, QScrollArea, QWidget

from lesionlens.napari.commands.table import KEY_COMMANDS
from lesionlens.napari.widgets.parts import stack

_COLUMNS, _WIDTH_LETTERS = 2, 164
"""Number of columns, and their total width in letters."""
_MAX_SCREEN_FRACTION = 0.9
"""Maximum share of the screen; the rest is scrolled."""


class KeysDialog(QDialog):
    """Shows all keys; Escape closes it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("LesionLens keys")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._table = QLabel(_table())
        self._table.setTextFormat(Qt.TextFormat.RichText)
        self._table.setWordWrap(True)
        self._table.setContentsMargins(12, 4, 12, 4)
        self._scroll = scroll = QScrollArea()
        scroll.setWidget(self._table)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        stack(self, scroll)

    def showEvent(self, event: QShowEvent) -> None:
        """Fit the size to the text in the window's font, and stay on the screen."""
        super().showEvent(event)
        table, screen = self._table, self.screen().availableSize()
        table.ensurePolished()
        letters = table.fontMetrics().averageCharWidth() * _WIDTH_LETTERS
        width = min(letters, round(_MAX_SCREEN_FRACTION * screen.width()))
        table.setFixedSize(width, table.heightForWidth(width))
        bar = self._scroll.verticalScrollBar().sizeHint().width()
        self.resize(
            width + bar + 2, min(table.height() + 2, round(_MAX_SCREEN_FRACTION * screen.height()))
        )
        available, frame = self.screen().availableGeometry(), self.frameGeometry()
        left = min(frame.left(), available.right() - frame.width())
        top = min(frame.top(), available.bottom() - frame.height())
        self.move(max(left, available.left()), max(top, available.top()))


def _table() -> str:
    rows = -(-len(KEY_COMMANDS) // _COLUMNS)
    lines = []
    for number in range(rows):
        cells = "".join(
            f'<td style="white-space: nowrap; padding-right: 10px">'
            f"<b>{escape(command.shown_key)}</b></td>"
            f'<td width="38%" style="padding-right: 18px">{escape(command.description)}</td>'
            for command in KEY_COMMANDS[number::rows]
        )
        lines.append(f"<tr>{cells}</tr>")
    return f"<table cellspacing='0'>{''.join(lines)}</table>"
