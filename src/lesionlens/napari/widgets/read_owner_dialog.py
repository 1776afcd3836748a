"""Dialog that asks for the reader's name before a second read begins."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialogButtonBox, QLineEdit, QWidget

from lesionlens.napari.controllers.dialogs import ReadOwner
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.widgets.parts import Dialog, label, stack

_NAME = "your name"
_EXPLANATION = (
    "An unnamed reader marked or decided in this study, last on {} at {} UTC. Enter your name, "
    "so that your work is not mixed with another reader's."
)


class ReadOwnerDialog(Dialog):
    """Shows patient, study and the time of the unnamed read; Enter begins a read of one's own.

    It is modal: no key or click reaches the study.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Whose read is this?")
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setMinimumWidth(460)
        self._identity, self._explanation = label("", "title", wrap=True), label("", wrap=True)
        self._field = QLineEdit()
        self._field.setPlaceholderText(_NAME)
        self._field.setAccessibleName(_NAME)
        self._field.textChanged.connect(self._offer)
        role = QDialogButtonBox.ButtonRole
        buttons = QDialogButtonBox()
        self._begin_own = buttons.addButton("Not mine: begin my own", role.AcceptRole)
        self._continue = buttons.addButton("Mine: continue it", role.ActionRole)
        stay = buttons.addButton("Stay unnamed", role.RejectRole)
        stay.setToolTip("Show the unnamed reader's decisions and add yours to them")
        self._begin_own.clicked.connect(lambda _=False: self._answer(owns_read=False))
        self._continue.clicked.connect(lambda _=False: self._answer(owns_read=True))
        buttons.rejected.connect(self.reject)
        self._then: Callable[[ReadOwner | None], object] = lambda _: None
        stack(self, self._identity, self._explanation, self._field, buttons, margins=None)

    def ask(
        self, identity: StudyIdentity, time: str, then: Callable[[ReadOwner | None], object]
    ) -> None:
        """Ask about acts up to a time (ISO 8601); `then` takes None if the reader stays unnamed."""
        self._then = then
        self._identity.setText("\n".join(identity.lines))
        self._explanation.setText(_EXPLANATION.format(time[:10], time[11:16]))
        self._field.clear()
        self._field.setFocus()
        self._offer()
        self.open()
        self._begin_own.setDefault(True)

    def _offer(self) -> None:
        for button in (self._begin_own, self._continue):
            button.setEnabled(bool(self._field.text().strip()))

    def _answer(self, *, owns_read: bool) -> None:
        name = self._field.text().strip()
        if name:
            self.accept()
            self._close(ReadOwner(name, owns_read))

    def reject(self) -> None:
        """Stay unnamed."""
        super().reject()
        self._close(None)

    def _close(self, owner: ReadOwner | None) -> None:
        then, self._then = self._then, lambda _: None
        then(owner)
