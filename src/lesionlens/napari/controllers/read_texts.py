"""Texts on the read in progress: its phase, the *Analyse* button and the signature."""

from __future__ import annotations

from lesionlens.base.labels import Phase
from lesionlens.base.text import counted
from lesionlens.napari.controllers.read_controller import ReadController
from lesionlens.napari.model.wording import reads
from lesionlens.site.worklist.read_session import ReadSession


def phase_text(controller: ReadController) -> str:
    """Describe the phase of the read in one line, and how it ends."""
    read_session = controller.read_session
    if read_session is None:
        return ""
    key = read_session.key
    session = f"Session {key.session}, {key.arm.value}. " if key.session else ""
    if read_session.is_signed:
        return session + _signed_text(controller, read_session)
    if not read_session.is_analysis_hidden:
        unaided = read_session.read.unaided
        return f"{session}{f'Unaided: {unaided}. ' if unaided else ''}Decide, then sign."
    if not read_session.key.arm.aided:
        return f"{session}Mark what you see, then sign. The analysis is not shown."
    analysis = "The analysis is ready and" if controller.withheld else "The analysis"
    shown_before = read_session.shown_before
    disclosure = (
        f" It was not on {shown_before}, which your signature states." if shown_before else ""
    )
    return f"{session}{analysis} stays hidden until you sign your own read.{disclosure}"


def _signed_text(controller: ReadController, read_session: ReadSession) -> str:
    """Return what was signed, on the result shown or on another one."""
    read, state = read_session.read, controller.session.state
    if read_session.is_unaided_signed:
        return f"Signed: {read.unaided}. Go to the next study (PgDown)."
    if state.analysis is not None and state.review.signed is None:
        return f"Signed on another result of this study: {read.signed}."
    return f"Signed: {read.signed}."


def analyse_button_text(controller: ReadController) -> str | None:
    """Return the text of *Analyse* during an unaided read; empty if it is not available.

    None outside an unaided read.

    Examples
    --------
    >>> from lesionlens.napari.model.acts.session import ReviewSession
    >>> analyse_button_text(ReadController(ReviewSession())) is None
    True
    """
    read_session = controller.read_session
    if read_session is None or not read_session.is_analysis_hidden:
        return None
    if not read_session.key.arm.aided or controller.withheld or read_session.is_unaided_signed:
        return ""
    return "Analyse: shown after you have signed"


def unaided_statement_to_sign(controller: ReadController) -> str:
    """Return the statement of an unaided signature; empty, with a message, if already signed."""
    read_session = controller.read_session
    if read_session is None or read_session.is_unaided_signed:
        signed = "This read is signed. Go to the next study."
        controller.session.decline(reads.NOT_BEGUN if read_session is None else signed)
        return ""
    return read_session.unaided_summary


def sign_button_text(controller: ReadController) -> str:
    """Return the text of the sign button; empty if there is nothing to sign.

    Examples
    --------
    >>> from lesionlens.napari.model.acts.session import ReviewSession
    >>> sign_button_text(ReadController(ReviewSession()))
    ''
    """
    if (
        controller.read_session is None
        or not controller.closed
        or controller.read_session.is_unaided_signed
    ):
        return ""
    count = len(controller.read_session.read.marks_of(Phase.UNAIDED))
    return f"Sign {counted(count, 'mark')}" if count else "Nothing seen"
