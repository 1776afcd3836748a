"""Signatures of a study: signing and withdrawing, each after a dialog."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lesionlens.base.errors import LesionLensError
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.napari.controllers.dialogs import Signature
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.controllers.read_texts import unaided_statement_to_sign
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.model.overlays.maps import Overlays
from lesionlens.napari.model.wording import reads
from lesionlens.napari.preferences import store_reader

if TYPE_CHECKING:
    from lesionlens.results.result import Result

STUDY_CHANGED = "Another study is open now: nothing was signed."
RESULT_CHANGED = "The result changed while the dialog was open: nothing was signed. Sign again."
_READER_CHANGED = (
    "The reader's name changed while the dialog was open: nothing was signed. Sign again."
)
_NOT_WITHDRAWN = (
    "The study, its signatures or the reader's name changed while the dialog was open: "
    "nothing was withdrawn."
)
_NAMELESS = "Enter your name in the preferences first: a withdrawal needs a reader's name."


class SignActs(MarkActs):
    """Acts that sign a study or withdraw the signature."""

    review_controller: ReviewController
    show_result: Callable[[Result, Overlays], None]

    def sign(self) -> None:
        """Ask for the signature of an unaided read, otherwise of the whole study."""
        self.leave_for(self._ask_to_sign)

    def _ask_to_sign(self) -> bool:
        study, statement = self.session.state.study, self._statement_to_sign()
        if study is None or not statement:
            return False
        reader = self.read_controller.current.reader or ""
        signature = Signature(self.session.state.identity, statement, reader)
        findings = self._findings()
        self.dialogs.ask_signature(
            signature, lambda name: self._sign(study, findings, statement, name)
        )
        return True

    def _findings(self) -> Findings | None:
        """Return the findings that are shown; None during an unaided read."""
        analysis = self.session.state.analysis
        return None if analysis is None else analysis.findings

    def _statement_to_sign(self) -> str:
        """Return the statement of a signature; empty, with a message, if it is not possible."""
        if self.read_controller.closed:
            return unaided_statement_to_sign(self.read_controller)
        return self.review_controller.statement_to_sign()

    def _sign(self, study: Study, findings: Findings | None, statement: str, reader: str) -> None:
        """Sign, unless the study or its result changed while the dialog was open."""
        if self.session.state.study is not study:
            self.session.decline(STUDY_CHANGED)
            return
        current_statement = self._statement_to_sign()
        if current_statement != statement or self._findings() is not findings:
            if current_statement:
                self.session.decline(RESULT_CHANGED)
            return
        notice = self._name_reader(reader)
        if notice is None:
            return
        if not self.read_controller.closed:
            self.review_controller.sign(statement, reader)
            if notice:
                self.session.notify(notice)
            return
        withheld = self.read_controller.sign_unaided()
        if withheld is not None:
            self.show_result(*withheld)

    def ask_name(self, then: Callable[[], object]) -> None:
        """Ask for the reader's name, then act; a reader who gives none stays unnamed."""

        def answer(name: str) -> None:
            if not name or self._name_reader(name) is not None:
                then()

        self.dialogs.ask_name(answer)

    def _name_reader(self, reader: str) -> str | None:
        """Continue an unnamed read under the name that was typed, also in the preferences.

        Returns a notice if other decisions of that reader were set aside; else "". None, with a
        message, if the name cannot be stored, or if the read is another reader's by now.
        """
        notice, current = "", self.read_controller.current
        if current.reader and current.reader != reader:
            self.session.decline(_READER_CHANGED)
            return None
        is_unnamed = not current.reader
        if is_unnamed:
            notice = self.read_controller.set_other_aside(reader)
        try:
            self.read_controller.name_reader(reader)
        except LesionLensError as error:
            current.report_unsaved(error, reads.REPEAT)
            return None
        if is_unnamed:
            store_reader(reader)
        if self.worklist is not None:
            self.worklist.name_reader(reader)
        return notice

    def withdraw(self) -> None:
        """Ask for a reason, then withdraw the signature."""
        signed = self.session.state.review.signed
        if signed is None:
            self.session.decline("There is no signature to withdraw.")
            return

        def withdraw(reason: str) -> None:
            self.review_controller.withdraw(reason)
            self.session.notify("The signature is withdrawn.")

        self._ask_reason(signed, lambda review: review.signed == signed, withdraw)

    def _ask_reason(
        self,
        subject: str,
        is_unchanged: Callable[[Review], bool],
        withdraw: Callable[[str], object],
    ) -> None:
        """Ask for a reason, then withdraw what `subject` names, unless it has changed meanwhile."""
        state, reader = self.session.state, self.read_controller.current.reader
        if not reader:
            self.session.decline(_NAMELESS)
            return

        def then(reason: str) -> None:
            current = self.session.state
            is_same_reader = self.read_controller.current.reader == reader
            if is_same_reader and current.study is state.study and is_unchanged(current.review):
                withdraw(reason)
            else:
                self.session.decline(_NOT_WITHDRAWN)

        signature = Signature(state.identity, subject, reader, withdrawn=True)
        self.dialogs.ask_signature(signature, then)
