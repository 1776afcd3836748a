"""What must be settled before outlines or decisions are changed, or the study is signed."""

from __future__ import annotations

from lesionlens.napari.controllers.decision_log import DecisionLog
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.wording.edits import SIGNED, unfinished_drawing

_DECIDED_ELSEWHERE = (
    "Decisions on this study were also made in another window: open it again to see them all, "
    "then sign."
)
_SIGNED_ELSEWHERE = (
    "This study was signed in another window: withdraw the signature there, or open the study "
    "again to see it."
)
_SIGNED_WHILE_DRAWING = (
    "This study was signed in another window: withdraw the signature there, or discard what you "
    "are drawing and open the study again."
)


class Obstacles:
    """Checks of one window; each returns the reason that is to be shown, empty if there is none."""

    def __init__(self, session: ReviewSession, log: DecisionLog) -> None:
        self._session, self._log = session, log

    def signed(self) -> str:
        """Return that the study is signed, here or in another window."""
        state = self._session.state
        if state.review.signed is not None:
            return f"{SIGNED}."
        if state.analysis is None or not self._log.decided_elsewhere(state.analysis, signed=True):
            return ""
        return _SIGNED_ELSEWHERE if state.editing is None else _SIGNED_WHILE_DRAWING

    def unsettled(self) -> str:
        """Return what must be settled before a signature: strokes, or another window's decisions.

        Interrupted strokes could not be kept once the study is signed.
        """
        state = self._session.state
        unseen = state.analysis is not None and self._log.decided_elsewhere(state.analysis)
        return unfinished_drawing(state) or (_DECIDED_ELSEWHERE if unseen else "")
