"""The reader's marks, their confidence, and the signature of an unaided read."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QSpinBox

from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.controllers.read_texts import phase_text, sign_button_text
from lesionlens.napari.model.geometry.planes import position_text
from lesionlens.napari.qt.keyboard import leave_after_enter
from lesionlens.napari.widgets.parts import Section, label, push_button, row
from lesionlens.site.database.records import Mark

_NOT_STATED = -1
VISIBLE_ROWS = 4


class _ConfidenceBox(QSpinBox):
    """A percentage that the keys of studies do not change: a page is the whole range."""

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Ignore PgUp and PgDown."""
        if event.key() in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown):
            event.accept()
        else:
            super().keyPressEvent(event)


class ReadBlock(Section):
    """Shows the read in progress; hidden if there is none."""

    go_to_requested = Signal(object)
    """RAS+ mm."""

    def __init__(self, acts: Actions) -> None:
        super().__init__("YOUR READ")
        self._controller = controller = acts.read_controller
        self._phase_label = label("", "dim", wrap=True)
        self._list = QListWidget()
        self._list.setAccessibleName("Your marks")
        self._list.itemClicked.connect(
            lambda item: self.go_to_requested.emit(item.data(Qt.ItemDataRole.UserRole).at_mm)
        )
        self._confidence = _ConfidenceBox()
        self._confidence.setRange(_NOT_STATED, 100)
        self._confidence.setSpecialValueText("not stated")
        self._confidence.setSuffix("%")
        self._confidence.setSingleStep(10)
        self._confidence.setAccessibleName("Confidence of the next mark or decision")
        self._confidence.setToolTip("Confidence of the next mark or decision")
        self._confidence.valueChanged.connect(self._on_confidence)
        leave_after_enter(self._confidence, self)
        mark, remove = BY_NAME["mark_here"], BY_NAME["unmark"]
        tip = (
            "Mark the crosshair position of linked views, or the next position you click; "
            f"{mark.shown_key} marks the position under the pointer"
        )
        self._mark = push_button(mark.captioned("Mark"), acts.mark_by_mouse, tip)
        tip = remove.hint("Remove the selected mark, or the last one")
        self._remove = push_button(
            remove.captioned("Remove"), lambda: acts.unmark(self._chosen()), tip
        )
        tip = "Sign your own read under your name; then the analysis is shown"
        caption = BY_NAME["sign"].captioned("Sign")
        self._sign = push_button(caption, acts.sign, tip, "primary")
        tip = "Outline the lesion at the selected mark, or at the last one"
        tip = BY_NAME["mark_to_candidate"].hint(tip)
        self._add = push_button(
            "Make it a candidate", lambda: acts.mark_to_candidate(self._chosen()), tip
        )
        confidence = row(label("confidence", "dim"), self._confidence, self._mark)
        buttons = row(self._remove, self._add)
        self.add(self._phase_label, self._list, confidence, buttons, self._sign)
        controller.current.changed.connect(self.show_read)
        self.show_read()

    def show_read(self) -> None:
        """Show the current read."""
        read_session = self._controller.read_session
        self.setVisible(read_session is not None)
        confidence = self._controller.marking.confidence
        self._confidence.setValue(_NOT_STATED if confidence is None else confidence)
        if read_session is None:
            return
        self._phase_label.setText(phase_text(self._controller))
        marks, chosen_uid = self._controller.marking.marks, self._chosen()
        self._list.clear()
        for number, mark in enumerate(marks, 1):
            item = QListWidgetItem(mark_text(number, mark, with_phase=read_session.unaided_first))
            item.setData(Qt.ItemDataRole.UserRole, mark)
            self._list.addItem(item)
            if mark.uid == chosen_uid:
                self._list.setCurrentItem(item)
        rows = min(max(len(marks), 1), VISIBLE_ROWS)
        self._list.setFixedHeight(rows * (self._list.fontMetrics().height() + 8) + 8)
        for widget in (self._list, self._remove):
            widget.setVisible(bool(marks))
        for widget in (self._mark, self._confidence):
            widget.setEnabled(not read_session.is_signed)
        self._remove.setEnabled(any(self._controller.marking.can_remove(mark) for mark in marks))
        self._add.setVisible(bool(marks) and self._controller.analysis_shown)
        caption = sign_button_text(self._controller)
        self._sign.setVisible(bool(caption))
        self._sign.setText(BY_NAME["sign"].captioned(caption))

    def _on_confidence(self, value: int) -> None:
        self._controller.marking.confidence = None if value == _NOT_STATED else value

    def _chosen(self) -> str:
        item = self._list.currentItem()
        return "" if item is None else str(item.data(Qt.ItemDataRole.UserRole).uid)


def mark_text(number: int, mark: Mark, *, with_phase: bool) -> str:
    """Write one mark in a line: its location, how sure, before or after.

    Examples
    --------
    >>> from lesionlens.base.labels import Phase
    >>> mark_text(1, Mark("1", (-30.2, 8.0, -2.0), 70, Phase.UNAIDED), with_phase=True)
    '1 · x -30  y 8  z -2 mm · 70% · unaided'
    """
    parts = [str(number), position_text(mark.at_mm)]
    if mark.confidence is not None:
        parts.append(f"{mark.confidence}%")
    if with_phase:
        parts.append(mark.phase.value)
    return " · ".join(parts)
