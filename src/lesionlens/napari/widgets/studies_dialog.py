"""Dialog for choosing one of several studies in a folder."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QWidget,
)

from lesionlens.imaging.reading.open import ListedStudy
from lesionlens.napari.model.wording.candidates import date_text
from lesionlens.napari.widgets.parts import label, show_texts, stack, text_table

_COLUMNS = ("Date", "Study", "Series", "Images")


class StudiesDialog(QDialog):
    """A table of studies with the latest preselected; `choose` takes the UID of one."""

    def __init__(
        self, parent: QWidget, choose: Callable[[str], object], cancel: Callable[[], object]
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Which study?")
        self._listed: tuple[ListedStudy, ...] = ()
        self._table = text_table(_COLUMNS, "Studies")
        header = self._table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self._table.doubleClicked.connect(lambda _: self.accept())
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        buttons.addButton("Open", QDialogButtonBox.ButtonRole.AcceptRole).setDefault(True)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        self._choose = choose
        self.accepted.connect(self._on_accepted)
        self.rejected.connect(cancel)
        hint = label("There is more than one study here. Studies are never mixed.")
        stack(self, hint, self._table, buttons, margins=None)
        self.resize(560, 320)

    def show_studies(self, studies: tuple[ListedStudy, ...]) -> None:
        """Ask for one of these studies; without any, close."""
        if studies == self._listed:
            return
        self._listed = studies
        if not studies:
            self.hide()
            return
        rows = [
            (date_text(s.date), s.description or s.uid, str(s.series), str(s.images))
            for s in studies
        ]
        show_texts(self._table, rows)
        self._table.selectRow(len(studies) - 1)
        self.open()

    def _on_accepted(self) -> None:
        row = self._table.currentRow()
        if 0 <= row < len(self._listed):
            self._choose(self._listed[row].uid)
