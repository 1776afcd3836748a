"""What must be settled before outlines or decisions are changed, or the study is signed."""

from __future__ import annotations

from lesionlens.napari.controllers.decision_log import DecisionLog
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.wording.edits import SIGNED, unfinished_drawing

_DECIDED_ELSEWHERE = (
    "Another window decided on this study too: open it again to see all, then sign."
)
_SIGNED_ELSEWHERE = (
    "Another window signed this study: withdraw the signature there, or open the study again to "
    "see it."
)
_SIGNED_WHILE_DRAWING = (
    "Another window signed this study: withdraw the signature there, or discard what you are "
    "drawing and open the study again."
)


class Obstacles:
    """Checks of one window; each notifies the reader of what it finds."""

    def __init__(self, session: ReviewSession, log: DecisionLog) -> None:
        self._session, self._log = session, log

    def notify_if_signed(self) -> bool:
        """Whether the study is signed, here or in another window."""
        state = self._session.state
        if state.review.signed is not None:
            self._session.decline(f"{SIGNED}.")
        elif state.analysis is not None and self._log.decided_elsewhere(
            state.analysis, signed=True
        ):
            is_drawing = state.editing is not None
            self._session.decline(_SIGNED_WHILE_DRAWING if is_drawing else _SIGNED_ELSEWHERE)
        else:
            return False
        return True

    def notify_if_decided_elsewhere(self) -> bool:
        """Whether another window decided on the study since, which may not be signed."""
        analysis = self._session.state.analysis
        unseen = analysis is not None and self._log.decided_elsewhere(analysis)
        if unseen:
            self._session.decline(_DECIDED_ELSEWHERE)
        return unseen

    def notify_if_unfinished(self) -> bool:
        """Whether interrupted strokes are offered, which began from the outlines shown.

        Continued after another change of outlines, they would undo it; after a signature, they
        could not be kept.
        """
        message = unfinished_drawing(self._session.state)
        if message:
            self._session.decline(message)
        return bool(message)
