"""The field for the reason of a decision: typed or chosen."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QComboBox

from lesionlens.base.records.review import MAX_REASON

REASONS = ("", "vessel", "postoperative change", "artefact", "white-matter lesion", "not certain")


class ReasonBox(QComboBox):
    """Takes letters as text until Enter or Escape."""

    settled = Signal()
    """The reason was entered."""
    left = Signal()
    """The reader left the field."""

    def __init__(self) -> None:
        super().__init__()
        self.setEditable(True)
        self.addItems(REASONS)
        self.lineEdit().setPlaceholderText("reason (optional)")
        self.lineEdit().setMaxLength(MAX_REASON)
        self.setAccessibleName("Reason for the decision")
        self.activated.connect(lambda _: self.settled.emit())
        self.lineEdit().returnPressed.connect(self._settle)

    def _settle(self) -> None:
        self.settled.emit()
        self.left.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave the field by Escape; the text is kept."""
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)
