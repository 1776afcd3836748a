"""Commands that add candidates and draw outlines."""

from __future__ import annotations

from lesionlens.napari.commands.command import Command
from lesionlens.napari.model.screen.screen import Screen

EDIT = "edit_outline"
FINISH = "finish_outline"
"""Bound to Enter, which is left to napari while nothing is drawn."""


def _not_editing(screen: Screen) -> str:
    return "" if screen.editing else "No outline is drawn now"


def _not_redrawn(screen: Screen) -> str:
    return "" if screen.editing or screen.draft_words else screen.not_marked


COMMANDS = (
    Command(
        EDIT,
        "redraw the candidate's outline, or finish and keep it",
        lambda acts: acts.review_controller.edit_outline(),
        "Shift-E",
        unavailable=_not_redrawn,
    ),
    Command(
        "discard_edit",
        "leave the outline as it was",
        lambda acts: acts.review_controller.discard_edit(),
        unavailable=lambda screen: "" if screen.draft_words else _not_editing(screen),
    ),
    Command(
        "add_lesion",
        "add the lesion at the crosshair, or under the pointer",
        lambda acts: acts.add_lesion(),
        "Shift-P",
        unavailable=lambda screen: screen.not_added,
    ),
    Command(
        "draw_lesion",
        "draw a lesion by hand",
        lambda acts: acts.adder.draw(),
        "Shift-L",
        unavailable=lambda screen: screen.not_added,
    ),
    Command(
        "draw_cavity",
        "draw the resection cavity, which is no tumour",
        lambda acts: acts.adder.draw_cavity(),
        "Control-Shift-V",
        unavailable=lambda screen: screen.not_added,
    ),
    Command(
        "merge",
        "merge the candidate with the nearest one",
        lambda acts: acts.adder.merge(),
        "Shift-K",
        unavailable=lambda screen: "" if screen.editing else screen.not_merged,
    ),
    Command(
        "hold_prompt",
        "hold and point: click to include, Alt-click to exclude; drag to scribble, with Shift for "
        "a box, with Ctrl for a lasso",
        lambda acts, held: acts.prompting.hold(held),
        "F2",
        hold=True,
    ),
    Command(
        "prompts_exclude",
        "let prompts exclude, or include again (as Alt does for one)",
        lambda acts: acts.prompting.switch(),
        "F5",
        "let prompts exclude, or include again",
        unavailable=lambda screen: screen.not_added,
    ),
    Command(
        FINISH,
        "edit: done; keep what is drawn",
        lambda acts: acts.review_controller.edit_outline(),
        "Return",
        unavailable=_not_editing,
    ),
    Command(
        "brush_ball",
        "edit: 3-D brush, or 2-D on the slice",
        lambda acts: acts.brush_ball(),
        "Shift-T",
    ),
    Command(
        "brush_limit",
        "edit: paint anywhere, or only within a range of intensity or probability",
        lambda acts: acts.brush_limit(),
        "Shift-R",
        unavailable=_not_editing,
    ),
    Command("smooth", "edit: smooth the outline", lambda acts: acts.adder.smooth(), ","),
    Command(
        "fill_holes",
        "edit: fill its holes",
        lambda acts: acts.adder.fill_holes(),
        ".",
        "fill the outline's holes",
    ),
    Command(
        "remove_islands",
        "edit: remove its islands",
        lambda acts: acts.adder.remove_islands(),
        "Control-I",
        menu="remove the outline's islands",
    ),
    Command(
        "interpolate",
        "edit: interpolate the slices between those drawn",
        lambda acts: acts.adder.interpolate(),
        "Shift-W",
    ),
    Command(
        "split",
        "edit: split between two points, each under the pointer",
        lambda acts: acts.split(),
        "Shift-Y",
    ),
    Command(
        "split_here",
        "edit: split at the slice shown",
        lambda acts: acts.adder.split_at(acts.viewpoint.now.point_mm),
        "Shift-H",
    ),
)
