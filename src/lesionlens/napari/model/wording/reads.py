"""Messages on the read in progress."""

from __future__ import annotations

RESTORED = "Decisions from an earlier session were restored."
ON_PREVIOUS_RESULT = (
    "The decisions on the previous result are kept with it and do not apply to this one."
)
ON_OTHER_CANDIDATES = (
    "Decisions on candidates that this result does not have are kept with the previous one."
)
SHOWN_UNNAMED = "The decisions of the unnamed read"
ELSEWHERE = (
    "Decisions on this study were also made in another window. All are kept: open it again to "
    "see them."
)
SAVED_LATER = "it is saved with your next decision, or when you leave the study"
UNSAVED = "Unsaved decisions would be lost: remove the cause, or leave again to discard them."
UNSAVED_ANALYSED = (
    "Unsaved decisions would be lost if the candidates change: remove the cause, or analyse again."
)
REPEAT = "then repeat the action"
DECIDE_AGAIN = "decide again on the result that you left"
OPEN_AGAIN = "then open the study again: until then its analysis is not shown"
NOT_BEGUN = (
    "The read of this study could not be started, so its analysis is not shown: open the study "
    "again."
)
UNRATED = "This reader study requires a rating for every mark: choose your confidence, then mark."
REOPENED = (
    "This decision is on a different result from the one that you signed: the study is in review "
    "again. Sign it again."
)
