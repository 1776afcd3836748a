"""Commands of the review: candidates, decisions, marks, signature, worklist."""

from __future__ import annotations

from lesionlens.base.labels import ReviewState
from lesionlens.napari.commands.command import Command, no_result, no_study
from lesionlens.napari.model.screen.screen import Screen


def not_marked(screen: Screen) -> str:
    """Return why no decision is possible; while an outline is drawn, it is kept first."""
    return "" if screen.editing else screen.not_marked


def _no_candidate(screen: Screen) -> str:
    return no_result(screen) or ("" if screen.candidates else "No candidate is listed")


def _nothing_to(act: str, screen: Screen, possible: bool) -> str:
    """Return that there is nothing to undo or redo; for a signed study the act reports why."""
    return "" if possible or screen.editing or screen.signed else f"There is nothing to {act}"


COMMANDS = (
    Command(
        "next_candidate",
        "go to the next candidate",
        lambda acts: acts.step_candidate(1),
        "N",
        unavailable=_no_candidate,
    ),
    Command(
        "previous_candidate",
        "go to the previous candidate",
        lambda acts: acts.step_candidate(-1),
        "Shift-N",
        unavailable=_no_candidate,
    ),
    Command(
        "next_considered",
        "go to the next region that was also considered",
        lambda acts: acts.next_considered(),
        "Control-Shift-N",
    ),
    Command(
        "next_doubtful",
        "go to the next doubtful part of an outline",
        lambda acts: acts.step_doubtful(1),
        "Control-Shift-D",
    ),
    Command(
        "previous_doubtful",
        "go to the previous doubtful part",
        lambda acts: acts.step_doubtful(-1),
        "Control-Shift-E",
    ),
    Command(
        "leave_out",
        "remove the doubtful part shown from the outline",
        lambda acts: acts.leave_out(),
        "Control-Shift-L",
        unavailable=not_marked,
    ),
    Command(
        "next_disagreement",
        "go to the next disagreement with the second result",
        lambda acts: acts.second.step(1),
        "F7",
    ),
    Command(
        "previous_disagreement",
        "go to the previous disagreement",
        lambda acts: acts.second.step(-1),
        "Shift-F7",
    ),
    Command(
        "take_second",
        "adopt the second result here",
        lambda acts: acts.second.take(),
        "F8",
        unavailable=lambda screen: screen.not_added,
    ),
    Command("close_second", "close the second result", lambda acts: acts.second.close()),
    Command(
        "accept",
        "accept the candidate",
        lambda acts: acts.review_controller.mark(ReviewState.ACCEPTED),
        "A",
        unavailable=not_marked,
    ),
    Command(
        "reject",
        "reject the candidate",
        lambda acts: acts.review_controller.mark(ReviewState.REJECTED),
        "R",
        unavailable=not_marked,
    ),
    Command(
        "defer",
        "defer the candidate",
        lambda acts: acts.review_controller.mark(ReviewState.DEFERRED),
        "D",
        unavailable=not_marked,
    ),
    Command(
        "type_reason",
        "type the reason; Enter or Escape returns to the candidates",
        lambda acts: acts.dialogs.type_reason(),
        "Control-Shift-R",
        unavailable=no_result,
    ),
    Command(
        "sign",
        "sign that nothing further was seen, when all candidates are decided",
        lambda acts: acts.sign(),
        "Shift-A",
    ),
    Command("withdraw", "withdraw the signature, with a reason", lambda acts: acts.withdraw()),
    Command(
        "mark_here",
        "mark the position under the pointer (worklists, unaided reading)",
        lambda acts: acts.mark_here(),
        "Shift-X",
        unavailable=no_study,
    ),
    Command(
        "unmark",
        "remove the last mark",
        lambda acts: acts.unmark(),
        "Shift-Z",
        unavailable=no_study,
    ),
    Command(
        "mark_to_candidate",
        "turn your mark into a candidate, after you have signed",
        lambda acts: acts.mark_to_candidate(),
        "Control-Shift-X",
    ),
    Command(
        "next_study",
        "go to the next study of the worklist",
        lambda acts: acts.step_study(1),
        "PgDown",
    ),
    Command(
        "previous_study",
        "go to the previous study",
        lambda acts: acts.step_study(-1),
        "PgUp",
        menu="go to the previous study of the worklist",
    ),
    Command(
        "undo",
        "undo the last decision",
        lambda acts: acts.review_controller.undo(),
        "U",
        unavailable=lambda screen: _nothing_to("undo", screen, screen.can_undo),
    ),
    Command(
        "redo",
        "redo it",
        lambda acts: acts.review_controller.redo(),
        "Shift-U",
        "redo the decision",
        unavailable=lambda screen: _nothing_to("redo", screen, screen.can_redo),
    ),
)
