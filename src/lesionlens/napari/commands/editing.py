"""Commands that add candidates and draw outlines."""

from __future__ import annotations

from lesionlens.napari.commands.command import Command
from lesionlens.napari.model.screen.screen import Screen

EDIT = "edit_outline"
FINISH = "finish_outline"
"""Bound to Enter, which is left to napari while nothing is drawn."""
CANCEL = "cancel_pointing"
"""Bound to Escape, which is left to napari unless a prompt is drawn or a click is awaited."""


def _not_editing(screen: Screen) -> str:
    return "" if screen.editing else "No outline is drawn now"


COMMANDS = (
    Command(
        EDIT,
        "redraw the candidate's outline, or finish and keep it",
        "Shift-E",
        unavailable=lambda screen: (
            "" if screen.editing or screen.draft_text else screen.decision_obstacle
        ),
        run=lambda acts: acts.review_controller.edit_outline(),
    ),
    Command(
        "discard_edit",
        "discard the edit of the outline",
        unavailable=lambda screen: "" if screen.draft_text else _not_editing(screen),
        run=lambda acts: acts.review_controller.discard_edit(),
    ),
    Command(
        "add_lesion",
        "add the lesion at the crosshair, or under the pointer",
        "Shift-P",
        unavailable=lambda screen: screen.not_added,
    ),
    Command(
        "draw_lesion",
        "draw a lesion by hand",
        "Shift-L",
        unavailable=lambda screen: screen.not_added,
        run=lambda acts: acts.adder.draw(),
    ),
    Command(
        "draw_cavity",
        "draw the resection cavity, which is not tumour",
        "Control-Shift-V",
        unavailable=lambda screen: screen.not_added,
        run=lambda acts: acts.adder.draw_cavity(),
    ),
    Command(
        "merge",
        "merge the candidate with the nearest one",
        "Shift-K",
        unavailable=lambda screen: "" if screen.editing else screen.not_merged,
        run=lambda acts: acts.adder.merge(),
    ),
    Command(
        "hold_prompt",
        "hold and point: click to include, Alt-click to exclude; drag to scribble, with Shift for "
        "a box, with Ctrl for a lasso",
        "F2",
        hold=True,
        unavailable=lambda screen: screen.not_added,
        run=lambda acts, held: acts.prompting.set_active(held=held),
    ),
    Command(
        "prompts_exclude",
        "let prompts exclude, or include again (as Alt does for one)",
        "F5",
        "let prompts exclude, or include again",
        unavailable=lambda screen: screen.not_added,
        run=lambda acts: acts.prompting.toggle_excluding(),
    ),
    Command(
        FINISH,
        "edit: done; keep the outline",
        "Return",
        unavailable=_not_editing,
        run=lambda acts: acts.review_controller.edit_outline(),
    ),
    Command(
        "brush_ball", "edit: 3-D brush, or 2-D on the slice", "Shift-T", unavailable=_not_editing
    ),
    Command(
        "brush_limit",
        "edit: paint anywhere, or only within a range of intensity or probability",
        "Shift-R",
        unavailable=_not_editing,
    ),
    Command("smooth", "edit: smooth the outline", ",", run=lambda acts: acts.adder.smooth()),
    Command(
        "fill_holes",
        "edit: fill its holes",
        ".",
        "fill the outline's holes",
        run=lambda acts: acts.adder.fill_holes(),
    ),
    Command(
        "remove_islands",
        "edit: remove its islands",
        "Control-I",
        "remove the outline's islands",
        run=lambda acts: acts.adder.remove_islands(),
    ),
    Command("interpolate", "edit: interpolate the slices between those drawn", "Shift-W"),
    Command("split", "edit: split between two points, each under the pointer", "Shift-Y"),
    Command(
        CANCEL, "drop the prompt being drawn, or a split or mark that waits for a click", "Esc"
    ),
    Command("split_here", "edit: split at the slice shown", "Shift-H"),
)
