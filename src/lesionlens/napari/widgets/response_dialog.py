"""Dialog of the RANO 2.0 response: the sums of the targets, the reader's category, signature."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QDialog, QDialogButtonBox, QFormLayout, QLineEdit, QWidget

from lesionlens.analysis.followup.sums import sum_lines
from lesionlens.base.records.followup import Comparison, name_of
from lesionlens.base.records.response import Response
from lesionlens.napari.controllers.dialogs import SignResponse
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.widgets.parts import label, stack


class ResponseDialog(QDialog):
    """Shows the sums against a baseline; the reader chooses and signs the category."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setMinimumWidth(560)
        self._sign: SignResponse = lambda *_: None
        self._comparison: Comparison | None = None
        self._baseline, self._category, self._reader = QComboBox(), QComboBox(), QLineEdit()
        self._identity, self._sums = label("", "title", wrap=True), label("", wrap=True)
        form, last = QFormLayout(), QFormLayout()
        rows = (
            (form, "Baseline", self._baseline),
            (last, "Your category", self._category),
            (last, "Signed by", self._reader),
        )
        for layout, name, field in rows:
            layout.addRow(name, field)
            field.setAccessibleName(name)
        self.setWindowTitle("Response (RANO 2.0)")
        self._reader.setPlaceholderText("your name")
        self._category.addItem("choose", None)
        for category in Response:
            self._category.addItem(f"{category.value} ({category.display_name})", category)
        buttons = QDialogButtonBox()
        roles = QDialogButtonBox.ButtonRole
        buttons.addButton("Cancel", roles.RejectRole)
        self._sign_button = buttons.addButton("Sign", roles.AcceptRole)
        stack(self, self._identity, form, self._sums, last, buttons, margins=None)
        self._baseline.currentIndexChanged.connect(self._show_sums)
        self._category.currentIndexChanged.connect(self._offer)
        self._reader.textChanged.connect(self._offer)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)

    def ask(
        self, comparison: Comparison, identity: StudyIdentity, reader: str, sign: SignResponse
    ) -> None:
        """Show the sums of a comparison; `sign` is called with what the reader signs."""
        self._comparison, self._sign = comparison, sign
        self._identity.setText(identity.text)
        self._baseline.clear()
        self._baseline.addItems(
            [name_of(comparison.points, n) for n in range(len(comparison.points) - 1)]
        )
        self._baseline.setFocus()  # not on a button that is about to be disabled
        self._category.setCurrentIndex(0)
        self._reader.setText(reader)
        self._reader.setReadOnly(bool(reader))  # as in every signature: the reader of the read
        self._show_sums()
        self._offer()
        self.open()
        self._sign_button.setDefault(True)

    def _show_sums(self) -> None:
        if self._comparison is not None and self._baseline.currentIndex() >= 0:
            lines = sum_lines(self._comparison, self._baseline.currentIndex())
            self._sums.setText("\n".join(lines))

    def _offer(self) -> None:
        self._sign_button.setEnabled(self._chosen() is not None and bool(self._name()))

    def _name(self) -> str:
        return str(self._reader.text()).strip()

    def _chosen(self) -> Response | None:
        category = self._category.currentData()
        return None if category is None else Response(category)

    def accept(self) -> None:
        """Sign the reader's category."""
        category, name = self._chosen(), self._name()
        if category is not None and name:
            super().accept()
            self._sign(self._baseline.currentIndex(), category, name)
