"""Dialog of the RANO 2.0 response: input, draft with its arithmetic, signature."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLineEdit,
    QVBoxLayout,
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
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.preferences import read_preferences
from lesionlens.napari.widgets.parts import label
from lesionlens.results.export.words import load

Sign = Callable[[ResponseDraft, Comparison, Response, str], object]
Kind = TypeVar("Kind", bound=StrEnum)
ANOTHER_NADIR = "another nadir"
"""What a draft misses whose nadir is before its baseline."""


class ResponseDialog(QDialog):
    """Updates the draft at each change; the reader chooses and signs the category.

    Parameters
    ----------
    sign : callable
        Takes the draft, the comparison, the reader's category and name.
    """

    def __init__(self, parent: QWidget, sign: Sign) -> None:
        super().__init__(parent)
        self.setWindowTitle("Response (RANO 2.0), a draft")
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setMinimumWidth(560)
        self._sign, self._draft = sign, ResponseDraft(ResponseChoices(), None, (), None)
        self._found: Comparison | None = None
        self._baseline, self._nadir = QComboBox(), QComboBox()
        self._choices = {kind: _choice(kind) for kind in (Criterion, Disease, Steroids, Clinical)}
        self._category, self._reader = _choice(Response), QLineEdit()
        self._who = label("", "title", wrap=True)
        self._steps, self._proposed = label("", wrap=True), label("", "title", wrap=True)
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self._yes = self._buttons.addButton("Sign", QDialogButtonBox.ButtonRole.AcceptRole)
        self._lay_out()
        for box in (self._baseline, self._nadir, *self._choices.values()):
            box.currentIndexChanged.connect(self._propose)
        self._category.currentIndexChanged.connect(self._offer)
        self._reader.textChanged.connect(self._offer)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)

    def _lay_out(self) -> None:
        form, column = QFormLayout(), QVBoxLayout(self)
        rows = (
            ("Baseline (response)", self._baseline),
            ("Nadir (progression)", self._nadir),
            ("Measured by", self._choices[Criterion]),
            ("Disease", self._choices[Disease]),
            ("Steroids, now compared with then", self._choices[Steroids]),
            ("Clinical state, worse only if nothing else explains it", self._choices[Clinical]),
        )
        for words, box in rows:
            box.setAccessibleName(words)
            form.addRow(words, box)
        self._reader.setPlaceholderText("your name")
        self._reader.setAccessibleName("your name")
        self._category.setAccessibleName("your category")
        last = QFormLayout()
        last.addRow("Your category", self._category)
        last.addRow("Signed by", self._reader)
        column.addWidget(self._who)
        column.addLayout(form)
        column.addWidget(self._steps)
        column.addWidget(self._proposed)
        column.addLayout(last)
        column.addWidget(self._buttons)

    def ask(self, found: Comparison, identity: StudyIdentity, reader: str) -> None:
        """Show the draft of a comparison."""
        self._baseline.setFocus()  # not on a button that is about to be disabled
        self._who.setText(identity.text)
        self._found = None
        earlier = [name_of(found.points, n) for n in range(len(found.points) - 1)]
        for box, first in ((self._baseline, ()), (self._nadir, ("the smallest sum since",))):
            box.clear()
            box.addItems([*first, *earlier])
        for box in (*self._choices.values(), self._category):
            box.setCurrentIndex(0)
        for kind in (Steroids, Clinical):
            self._choices[kind].setCurrentText("unknown")
        self._reader.setText(reader)
        self._found = found
        self._propose()
        self.open()
        self._yes.setDefault(True)

    def _entered(self) -> ResponseChoices:
        nadir = self._nadir.currentIndex() - 1
        return ResponseChoices(
            self._baseline.currentIndex(),
            None if nadir < 0 else nadir,
            Criterion(self._choices[Criterion].currentText()),
            Disease(self._choices[Disease].currentText()),
            Steroids(self._choices[Steroids].currentText()),
            Clinical(self._choices[Clinical].currentText()),
        )

    def _propose(self) -> None:
        if self._found is None:
            return
        entered = self._entered()
        if entered.in_order:
            self._draft = propose(self._found, entered)
        else:
            steps = (STEPS["nadir_first"],)
            self._draft = ResponseDraft(entered, None, steps, None, (ANOTHER_NADIR,))
        words = load(read_preferences().sentence_language)
        self._steps.setText("\n".join(map(words.step, self._draft.steps)))
        self._proposed.setText(words.step(self._draft.text))
        self._offer()

    def _offer(self) -> None:
        self._yes.setEnabled(self._may_sign())

    def _may_sign(self) -> bool:
        usable = ANOTHER_NADIR not in self._draft.missing
        return usable and self._chosen() is not None and bool(self._reader.text().strip())

    def _chosen(self) -> Response | None:
        """Return the reader's category, or None."""
        text = self._category.currentText()
        return Response(text) if text in set(Response) else None

    def accept(self) -> None:
        """Sign the reader's category."""
        chosen = self._chosen()
        if chosen is not None and self._found is not None and self._may_sign():
            super().accept()
            self._sign(self._draft, self._found, chosen, self._reader.text())


def _choice(kind: type[Kind]) -> QComboBox:
    """Return a list of all values without a preselected one."""
    box = QComboBox()
    if kind is Response:
        box.addItem("choose")
    box.addItems([one.value for one in kind])
    return box
