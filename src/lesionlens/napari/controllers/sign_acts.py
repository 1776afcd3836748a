"""Signatures: each names patient, study and reader first, and is withdrawn for a reason alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lesionlens.base.records.study import Study
from lesionlens.napari.controllers.mark_acts import WindowWorklist
from lesionlens.napari.controllers.read_controller import ReadController, what_is_signed
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.state.identity import Identity
from lesionlens.napari.preferences import keep_reader, read_preferences

_CHANGED = "Another study is open now: nothing was signed."


@dataclass(frozen=True, slots=True)
class Signature:
    """What a reader is asked to sign, or to withdraw."""

    identity: Identity
    what: str
    """In words."""
    reader: str = ""
    """Empty if nobody is named yet."""
    withdrawn: bool = False
    """Whether a signature is taken back, for which a reason is asked."""


class AskSignature(Protocol):
    """Asks the reader once; calls back with their name, or with the reason of a withdrawal."""

    def __call__(self, asked: Signature, then: Callable[[str], object]) -> object:
        """Ask."""


class SignActs(ViewActs):
    """Acts that sign a study and take a signature back."""

    session: ReviewSession
    read_controller: ReadController
    worklist: WindowWorklist | None
    review_controller: ReviewController
    ask_signature: AskSignature
    """Set by the window."""

    def leave_for(self, act: Callable[[], object]) -> bool:
        """Act once what is begun is kept."""
        raise NotImplementedError

    def show_result(self, result: Any, overlays: Any) -> None:
        """Show a result."""
        raise NotImplementedError

    def sign(self) -> None:
        """Ask for the signature of an unaided read, else of the whole study."""
        self.leave_for(self._ask_to_sign)

    def _ask_to_sign(self) -> bool:
        study = self.session.state.study
        unaided = self.read_controller.closed
        what = (
            what_is_signed(self.read_controller)
            if unaided
            else self.review_controller.what_is_signed()
        )
        if study is None or not what:
            return False
        reader = read_preferences().reader_name or ""
        asked = Signature(self.session.state.identity, what, reader)
        self.ask_signature(asked, lambda name: self._sign(study, what, name))
        return True

    def _sign(self, study: Study, what: str, reader: str) -> None:
        if self.session.state.study is not study:
            self.session.notify(_CHANGED)
            return
        if not read_preferences().reader_name:
            keep_reader(reader)
        self.read_controller.name_reader(reader)
        if self.worklist is not None:
            self.worklist.name_reader(reader)
        if not self.read_controller.closed:
            self.review_controller.sign(what, reader)
            return
        opened = self.read_controller.sign_unaided()
        if opened is not None:
            self.show_result(*opened)

    def withdraw(self) -> None:
        """Ask why the signature is withdrawn, and take it back then."""
        state, study = self.session.state, self.session.state.study
        signed = state.review.signed
        if signed is None or study is None:
            self.session.notify("There is no signature to withdraw.")
            return

        def then(reason: str) -> None:
            if self.session.state.study is study:
                self.review_controller.withdraw(reason)
                self.session.notify("The signature is withdrawn.")

        reader = read_preferences().reader_name or ""
        self.ask_signature(Signature(state.identity, signed, reader, withdrawn=True), then)
