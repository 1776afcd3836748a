"""Dialog of the RANO 2.0 response: input, draft with its arithmetic, signature."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QWidget,
)

from lesionlens.analysis.followup.response import propose
from lesionlens.analysis.followup.response_case import STEPS, name_of
from lesionlens.base.records.followup import Comparison
from lesionlens.base.records.response import (
    Clinical,
    Criterion,
    Disease,
    Response,
    ResponseChoices,
    ResponseDraft,
    Steroids,
)
from lesionlens.napari.controllers.dialogs import SignResponse
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.widgets.parts import Dialog, label, stack
from lesionlens.results.export.report_texts import ReportTexts, load

ANOTHER_NADIR = "another nadir"
"""What a draft misses whose nadir is before its baseline."""


class ResponseDialog(Dialog):
    """Updates the draft at each change; the reader chooses and signs the category."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setMinimumWidth(560)
        self._sign: SignResponse = lambda *_: None
        self._draft = ResponseDraft(ResponseChoices(), None, (), None)
        self._comparison: Comparison | None = None
        self._notices: tuple[str, ...] = ()
        self._baseline, self._nadir = QComboBox(), QComboBox()
        self._choices = {kind: QComboBox() for kind in (Criterion, Disease, Steroids, Clinical)}
        self._category, self._reader = QComboBox(), QLineEdit()
        self._labels: dict[str, tuple[QLabel, QWidget]] = {}
        self._identity = label("", "title", wrap=True)
        self._steps, self._proposed = label("", wrap=True), label("", "title", wrap=True)
        self._buttons = QDialogButtonBox()
        self._cancel_button = self._buttons.addButton("", QDialogButtonBox.ButtonRole.RejectRole)
        self._sign_button = self._buttons.addButton("", QDialogButtonBox.ButtonRole.AcceptRole)
        self._lay_out()
        self._show_texts(load())
        for box in (self._baseline, self._nadir, *self._choices.values()):
            box.currentIndexChanged.connect(self._propose)
        self._category.currentIndexChanged.connect(self._offer)
        self._reader.textChanged.connect(self._offer)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)

    def _lay_out(self) -> None:
        form, last = QFormLayout(), QFormLayout()
        self._add_row(form, "baseline", self._baseline)
        self._add_row(form, "nadir", self._nadir)
        for kind, box in self._choices.items():
            self._add_row(form, kind.__name__.lower(), box)
        self._add_row(last, "category", self._category)
        self._add_row(last, "reader", self._reader)
        parts = (self._identity, form, self._steps, self._proposed, last, self._buttons)
        stack(self, *parts, margins=None)

    def _add_row(self, form: QFormLayout, name: str, field: QWidget) -> None:
        self._labels[name] = QLabel(), field
        form.addRow(*self._labels[name])

    def _show_texts(self, texts: ReportTexts) -> None:
        """Show labels, buttons and choices; nothing is chosen afterwards."""
        self._texts = texts
        self.setWindowTitle(texts.entry("response_form", "title"))
        for name, (label_widget, field) in self._labels.items():
            label_widget.setText(texts.entry("response_form", name))
            field.setAccessibleName(texts.entry("response_form", name))
        self._reader.setPlaceholderText(texts.entry("response_form", "name"))
        self._sign_button.setText(texts.entry("response_form", "sign"))
        self._cancel_button.setText(texts.entry("response_form", "cancel"))
        for kind, box in self._choices.items():
            box.clear()
            for value in kind:
                box.addItem(texts.entry("entered", value), value)
        self._category.clear()
        self._category.addItem(texts.entry("response_form", "choose"), None)
        for category in Response:
            self._category.addItem(category.value, category)

    def ask(
        self,
        comparison: Comparison,
        notices: tuple[str, ...],
        identity: StudyIdentity,
        reader: str,
        sign: SignResponse,
    ) -> None:
        """Show the draft of a comparison; `notices` are those of its analysis."""
        self._comparison, self._notices, self._sign = None, notices, sign
        self._show_texts(self._texts)
        self._baseline.setFocus()  # not on a button that is about to be disabled
        self._identity.setText(identity.text)
        earlier = [name_of(comparison.points, n) for n in range(len(comparison.points) - 1)]
        smallest = self._texts.entry("response_form", "smallest")
        for box, extra in ((self._baseline, ()), (self._nadir, (smallest,))):
            box.clear()
            box.addItems([*extra, *earlier])
        for unknown in (Steroids.UNKNOWN, Clinical.UNKNOWN):
            box = self._choices[type(unknown)]
            box.setCurrentIndex(box.findData(unknown))
        self._reader.setText(reader)
        self._reader.setReadOnly(bool(reader))  # as in every signature: the reader of the read
        self._comparison = comparison
        self._propose()
        self.open()
        self._sign_button.setDefault(True)

    def _entered(self) -> ResponseChoices:
        nadir = self._nadir.currentIndex() - 1
        return ResponseChoices(
            self._baseline.currentIndex(),
            None if nadir < 0 else nadir,
            Criterion(self._choices[Criterion].currentData()),
            Disease(self._choices[Disease].currentData()),
            Steroids(self._choices[Steroids].currentData()),
            Clinical(self._choices[Clinical].currentData()),
        )

    def _propose(self) -> None:
        if self._comparison is None:
            return
        entered = self._entered()
        if entered.in_order:
            self._draft = propose(self._comparison, entered, self._notices)
        else:
            steps = (STEPS["nadir_first"],)
            self._draft = ResponseDraft(entered, None, steps, None, (ANOTHER_NADIR,))
        self._steps.setText("\n".join(self._draft.steps))
        self._proposed.setText(self._draft.text)
        self._offer()

    def _offer(self) -> None:
        self._sign_button.setEnabled(self._may_sign())

    def _may_sign(self) -> bool:
        usable = ANOTHER_NADIR not in self._draft.missing
        return usable and self._chosen() is not None and bool(self._reader.text().strip())

    def _chosen(self) -> Response | None:
        category = self._category.currentData()
        return None if category is None else Response(category)

    def accept(self) -> None:
        """Sign the reader's category."""
        category = self._chosen()
        if category is not None and self._comparison is not None and self._may_sign():
            super().accept()
            self._sign(self._draft, category, self._reader.text().strip())
