"""The keys of the review: one table, from which the viewer binds and the help is written.

Letters are those that napari 0.9 leaves free on the viewer, on image and on labels layers, so that
no tool of napari loses its key.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """One key."""

    key: str
    """As napari writes it, such as "Shift-N"."""
    act: str
    """Name of the method of `Actions` that it calls."""
    words: str
    """What it does, for the help."""
    hold: bool = False
    """Whether letting go ends it (the method is called with True, then with False)."""
    repeats: bool = False
    """Whether it goes on while the key stays down."""
    of_panel: bool = False
    """Whether `act` is a method of the panel."""

    @property
    def shown(self) -> str:
        """As people write it."""
        return self.key.replace("-", "+")


KEYS = (
    Key("N", "next_candidate", "go to the next candidate"),
    Key("Shift-N", "previous_candidate", "go to the previous candidate"),
    Key("Control-Shift-N", "next_considered", "go to the next place that was also considered"),
    Key("A", "accept", "accept the candidate"),
    Key("R", "reject", "reject the candidate"),
    Key("D", "defer", "defer the candidate"),
    Key(
        "Control-Shift-R",
        "type_reason",
        "type the reason; Enter or Escape leads back to the candidates",
        of_panel=True,
    ),
    Key("Shift-A", "sign", "sign that nothing further was seen, once all is decided"),
    Key("Shift-E", "edit_outline", "redraw the candidate's outline, or end that and keep it"),
    Key("Shift-X", "mark_here", "mark the place under the pointer, in a worklist or unaided first"),
    Key("Shift-Z", "unmark", "take the last mark back"),
    Key("Control-Shift-X", "mark_to_candidate", "make your mark a candidate, once you have signed"),
    Key("PgDown", "next_study", "go to the next study of the worklist"),
    Key("PgUp", "previous_study", "go to the study before it"),
    Key("Shift-P", "add_lesion", "add the lesion at the crosshair, or under the pointer"),
    Key("Shift-L", "draw_lesion", "draw a lesion by hand"),
    Key("Shift-K", "merge", "merge the candidate with the one nearest to it"),
    Key("Shift-T", "brush_ball", "edit: the brush is a ball, or a disc on the slice"),
    Key("Shift-R", "brush_limit", "edit: paint anywhere, or within intensity or probability"),
    Key(",", "smooth", "edit: smooth the outline"),
    Key(".", "fill_holes", "edit: fill its holes"),
    Key("Control-I", "remove_islands", "edit: remove its islands"),
    Key("Shift-W", "interpolate", "edit: draw the slices left out between those drawn"),
    Key("Shift-Y", "split", "edit: split between two points, each under the pointer"),
    Key("Shift-H", "split_here", "edit: split at the slice shown"),
    Key("U", "undo", "undo the last decision"),
    Key("Shift-U", "redo", "redo it"),
    Key("T", "toggle_overlay", "overlay on or off"),
    Key("H", "hold_hidden", "hide every overlay while held", hold=True),
    Key("G", "next_overlay", "contour or attention map"),
    Key("Control-D", "next_evidence", "what T1, T1c, T2 and FLAIR each add, one after another"),
    Key("Shift-B", "toggle_first_layer", "where the first layer attends, or what decided"),
    Key("W", "next_region", "whole tumour, tumour core or enhancing tumour"),
    Key("S", "next_sequence", "show the next sequence"),
    Key("J", "next_plane", "axial, coronal or sagittal"),
    Key(
        "Q",
        "probe_cursor",
        "ask the voxel under the pointer what it attended to; hold it and move to ask on",
        hold=True,
    ),
    Key("Shift-Q", "end_probe", "put the probe's answer away"),
    Key("Shift-F", "four_views", "four sequences side by side, or one view"),
    Key("Shift-S", "next_row_layout", "two sequences in a row, three, or one view"),
    Key("Shift-J", "three_planes", "axial, coronal and sagittal together, or one view"),
    Key("Control-B", "toggle_prior", "an earlier examination beside this one, or one view"),
    Key(
        "Shift-O",
        "toggle_acquired_slices",
        "slices as they were acquired, or along the patient's axes",
    ),
    Key("Up", "next_slice", "next slice, towards the top, front or right", repeats=True),
    Key("Down", "previous_slice", "previous slice", repeats=True),
    Key(
        "Control-Shift-Left",
        "crosshair_left",
        "move the crosshair of linked views to the left",
        repeats=True,
    ),
    Key("Control-Shift-Right", "crosshair_right", "move it to the right", repeats=True),
    Key("Control-Shift-Up", "crosshair_up", "move it up", repeats=True),
    Key("Control-Shift-Down", "crosshair_down", "move it down", repeats=True),
    Key("Shift-C", "toggle_cine", "let the slices run, or stand still"),
    Key("I", "hold_comparison", "the sequence shown before, while held", hold=True),
    Key("8", "window_auto", "brightness: as at first"),
    Key("9", "window_brain", "brightness: for the brain"),
    Key("0", "window_wide", "brightness: everything in the data"),
    Key("Shift-M", "toggle_slab", "T1c as the brightest of a thick slab"),
    Key("Shift-G", "toggle_isolines", "maps as lines of equal value, or as colour"),
    Key("Shift-D", "toggle_rulers", "both diameters of the candidate, to measure along"),
    Key("Shift-I", "toggle_names", "patient, date and series on linked views, or not"),
    Key("Control-Shift-S", "ask_export", "export the result and your review", of_panel=True),
    Key("K", "show_keys", "show these keys", of_panel=True),
)
"""Every key of the plugin; `tests/gui` holds it against napari's own."""
