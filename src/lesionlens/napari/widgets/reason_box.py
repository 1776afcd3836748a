"""The field for the reason of a decision: typed or chosen."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeyEvent, QWheelEvent
from qtpy.QtWidgets import QComboBox

from lesionlens.base.records.review import MAX_REASON

REASONS = ("", "vessel", "postoperative change", "artefact", "white-matter lesion", "not certain")
_PLACEHOLDER = "reason (optional)"
_STUDY_KEYS = (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
_SLICE_KEYS = (Qt.Key.Key_Up, Qt.Key.Key_Down)
_LEAVING = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Tab, Qt.Key.Key_Backtab)


class ReasonBox(QComboBox):
    """Takes letters as text until Enter or Escape.

    If no reason can be given, the field stays enabled and discards what is typed: in a disabled
    field, letters typed after its key would run commands.
    """

    settled = Signal()
    """The reason was entered."""
    left = Signal()
    """The reader left the field."""

    def __init__(self) -> None:
        super().__init__()
        self.setEditable(True)
        self.addItems(REASONS)
        self.lineEdit().setPlaceholderText(_PLACEHOLDER)
        self.lineEdit().setMaxLength(MAX_REASON)
        self.setAccessibleName("Reason for the decision")
        self.activated.connect(lambda _: self.settled.emit())
        self.lineEdit().returnPressed.connect(self._settle)

    def refuse(self, reason: str) -> None:
        """Accept no reason and show why not; accept one again if `reason` is empty."""
        self.lineEdit().setReadOnly(bool(reason))
        self.lineEdit().setPlaceholderText(reason or _PLACEHOLDER)
        self.setToolTip(reason)

    @property
    def refusing(self) -> bool:
        """Whether no reason can be given."""
        return bool(self.lineEdit().isReadOnly())

    def _discards(self, key: int) -> bool:
        if self.refusing:
            return key not in _LEAVING
        is_typed = self.currentText() not in REASONS
        return key in _STUDY_KEYS or (key in _SLICE_KEYS and is_typed)

    def _settle(self) -> None:
        if not self.refusing:
            self.settled.emit()
        self.left.emit()

    def showPopup(self) -> None:
        """Offer the usual reasons if one can be given."""
        if not self.refusing:
            super().showPopup()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Choose a reason if one can be given."""
        if self.refusing:
            event.ignore()
        else:
            super().wheelEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave the field by Escape; the text is kept.

        The keys of studies choose no reason, and those of slices replace none that was typed: a
        reason that is chosen counts as entered.
        """
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        elif self._discards(event.key()):
            event.accept()
        else:
            super().keyPressEvent(event)
