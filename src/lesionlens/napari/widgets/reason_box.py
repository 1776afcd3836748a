"""The field for the reason of a decision: typed or chosen, and left by Enter or Escape."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QComboBox

from lesionlens.base.records.review import MAX_REASON

REASONS = ("", "vessel", "postoperative change", "artefact", "white-matter lesion", "not certain")


class ReasonBox(QComboBox):
    """Letters are text in it; behind Enter or Escape they are keys of the review again."""

    settled = Signal()
    """What stands there is meant."""
    left = Signal()
    """The reader is done with the field."""

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
        """Leave by Escape; what was typed stays."""
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)
