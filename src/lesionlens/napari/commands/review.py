"""Commands of the review: candidates, decisions, marks, signature, worklist."""

from __future__ import annotations

from lesionlens.base.labels import ReviewState
from lesionlens.napari.commands.command import Command, no_result, no_study
from lesionlens.napari.model.screen.screen import Screen


def no_decision(screen: Screen) -> str:
    """Return why no decision is possible; while an outline is drawn, it is kept first."""
    return "" if screen.editing else screen.decision_obstacle


def _no_candidate(screen: Screen) -> str:
    return no_result(screen) or ("" if screen.candidates else "No candidate is listed")


def _unless_possible(act: str, screen: Screen, *, possible: bool) -> str:
    """Return that there is nothing to undo or redo; for a signed study the act reports why."""
    if possible or screen.editing or screen.signature.signed:
        return ""
    return f"There is nothing to {act}"


COMMANDS = (
    Command(
        "next_candidate",
        "go to the next candidate",
        "N",
        unavailable=_no_candidate,
        run=lambda acts: acts.step_candidate(1),
    ),
    Command(
        "previous_candidate",
        "go to the previous candidate",
        "Shift-N",
        unavailable=_no_candidate,
        run=lambda acts: acts.step_candidate(-1),
    ),
    Command(
        "next_considered",
        "go to the next region that was also considered",
        "Control-Shift-N",
        unavailable=no_result,
    ),
    *(
        Command(
            name,
            f"{name} the candidate",
            key,
            unavailable=no_decision,
            run=lambda acts, to=state: acts.review_controller.decide(to),
        )
        for name, key, state in (
            ("accept", "A", ReviewState.ACCEPTED),
            ("reject", "R", ReviewState.REJECTED),
            ("defer", "D", ReviewState.DEFERRED),
        )
    ),
    Command(
        "type_reason",
        "type the reason; Enter or Escape returns to the candidates",
        "Control-Shift-R",
        unavailable=no_result,
        run=lambda acts: acts.dialogs.type_reason(),
    ),
    Command(
        "sign", "sign that nothing further was seen, once all candidates are decided", "Shift-A"
    ),
    Command("withdraw", "withdraw the signature, with a reason"),
    Command(
        "mark_here",
        "mark the position under the pointer (worklists, unaided reading)",
        "Shift-X",
        unavailable=no_study,
    ),
    Command("unmark", "remove the last mark", "Shift-Z", unavailable=no_study),
    Command(
        "mark_to_candidate",
        "turn your mark into a candidate, after you have signed",
        "Control-Shift-X",
    ),
    Command(
        "next_study",
        "go to the next study of the worklist",
        "PgDown",
        run=lambda acts: acts.step_study(1),
    ),
    Command(
        "previous_study",
        "go to the previous study",
        "PgUp",
        "go to the previous study of the worklist",
        run=lambda acts: acts.step_study(-1),
    ),
    Command(
        "undo",
        "undo the last decision",
        "U",
        unavailable=lambda screen: _unless_possible("undo", screen, possible=screen.can_undo),
        run=lambda acts: acts.review_controller.undo(),
    ),
    Command(
        "redo",
        "redo it",
        "Shift-U",
        "redo the decision",
        unavailable=lambda screen: _unless_possible("redo", screen, possible=screen.can_redo),
        run=lambda acts: acts.review_controller.redo(),
    ),
)
