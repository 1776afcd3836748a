"""Asks whether files with contradicting patient data are of one patient."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QWidget

from lesionlens.base.errors import PatientConflictError
from lesionlens.napari.widgets.parts import label, stack

_NOT_GIVEN = "not given"


class PatientDialog(QDialog):
    """Shows the differing attributes; Enter and Escape cancel.

    Values are shown on the screen only; messages, logs and records contain the attribute names.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Is it one patient?")
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setMinimumWidth(420)
        self.message = label("", wrap=True)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.yes = buttons.addButton("It is one patient", QDialogButtonBox.ButtonRole.AcceptRole)
        self.cancel = buttons.button(QDialogButtonBox.StandardButton.Cancel)
        self.yes.setAutoDefault(False)
        buttons.accepted.connect(self._confirmed)
        buttons.rejected.connect(self.reject)
        self._then: Callable[[], object] = lambda: None
        stack(self, self.message, buttons, margins=None)

    def ask(self, error: PatientConflictError, then: Callable[[], object]) -> None:
        """Ask; `then` is called if a person confirms that it is one patient."""
        self._then = then
        compared = error.values or ((),) * len(error.fields)
        rows = [
            f"{field}: {' / '.join(one or _NOT_GIVEN for one in values)}" if values else field
            for field, values in zip(error.fields, compared, strict=True)
        ]
        self.message.setText(
            "\n".join(
                (
                    f"Found {error.found}.",
                    *rows,
                    "If you are sure that it is one person, confirm it: your confirmation is "
                    "recorded.",
                )
            )
        )
        self.cancel.setDefault(True)
        self.open()
        self.cancel.setFocus()

    def _confirmed(self) -> None:
        self.accept()
        self._then()
