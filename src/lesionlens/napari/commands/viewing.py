"""Commands of the views: overlays, maps, layouts, slices, window level, measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lesionlens.napari.commands.command import Command, no_result, no_study
from lesionlens.napari.model.choices.views import Layout, Window
from lesionlens.napari.model.geometry.measures import MeasureKind
from lesionlens.napari.model.screen.screen import Screen

_OVERLAYS = (
    Command("toggle_overlay", "overlay on or off", lambda acts: acts.toggle_overlay(), "T"),
    Command(
        "hold_hidden",
        "hide every overlay while held",
        lambda acts, held: acts.session.hold_hidden(held),
        "H",
        hold=True,
    ),
    Command("next_overlay", "contour or attention map", lambda acts: acts.next_overlay(), "G"),
    Command(
        "next_evidence",
        "contributions of T1, T1c, T2 and FLAIR, one after another",
        lambda acts: acts.next_evidence(),
        "Control-D",
    ),
    Command(
        "toggle_first_layer",
        "attention of the first layer, or of the deciding layers",
        lambda acts: acts.toggle_first_layer(),
        "Shift-B",
    ),
    Command(
        "next_region",
        "whole tumour, tumour core or enhancing tumour",
        lambda acts: acts.next_region(),
        "W",
    ),
    Command(
        "probe_cursor",
        "show what the voxel under the pointer attended to; hold and move to continue",
        lambda acts, held: acts.probe_cursor(held),
        "Q",
        hold=True,
    ),
    Command("end_probe", "close the probe", lambda acts: acts.end_probe(), "Shift-Q"),
    Command(
        "ask_without",
        "run the network again with the candidate masked",
        lambda acts: acts.ask_without(),
    ),
)
_LAYOUTS = (
    Command("next_sequence", "show the next sequence", lambda acts: acts.next_sequence(), "S"),
    Command("next_plane", "axial, coronal or sagittal", lambda acts: acts.next_plane(), "J"),
    Command(
        "four_views",
        "four sequences side by side, or one view",
        lambda acts: acts.toggle_layout(Layout.FOUR),
        "Shift-F",
    ),
    Command(
        "next_row_layout",
        "two sequences in a row, three, or one view",
        lambda acts: acts.next_row_layout(),
        "Shift-S",
    ),
    Command(
        "three_planes",
        "axial, coronal and sagittal together, or one view",
        lambda acts: acts.toggle_layout(Layout.PLANES),
        "Shift-J",
    ),
    Command(
        "toggle_prior",
        "an earlier examination beside this one, or one view",
        lambda acts: acts.toggle_prior(),
        "Control-B",
    ),
    Command(
        "second_window",
        "a second window with other linked views, on or off",
        lambda acts: acts.toggle_second_window(),
        "F9",
    ),
    Command(
        "show_subtraction",
        "T1c - T1 beside the sequence shown, on or off",
        lambda acts: acts.show_subtraction(),
        "Control-F7",
    ),
    Command(
        "next_other",
        "show the next other series (ADC, SWI…) beside it, or none after the last",
        lambda acts: acts.next_other(),
        "Control-F8",
        "show the next other series",
    ),
    Command(
        "toggle_acquired_slices",
        "slices as they were acquired, or along the patient's axes",
        lambda acts: acts.toggle_acquired_slices(),
        "Shift-O",
    ),
)
_SHOWN_LAYOUTS = tuple(
    Command(f"layout_{name}", f"layout: {words}", lambda acts, at=layout: acts.show_layout(at))
    for name, layout, words in (
        ("single", Layout.SINGLE, "one view on the napari canvas"),
        ("acquired", Layout.ONE, "slices as they were acquired"),
        ("pair", Layout.PAIR, "two sequences in a row"),
        ("triple", Layout.TRIPLE, "three sequences in a row"),
        ("four", Layout.FOUR, "four sequences side by side"),
        ("planes", Layout.PLANES, "axial, coronal and sagittal together"),
        ("prior", Layout.PRIOR, "an earlier examination beside this one"),
    )
)
_POSITIONS = (
    Command(
        "next_slice",
        "next slice, towards the top, front or right",
        lambda acts: acts.scroll(1),
        "Up",
        repeats=True,
    ),
    Command("previous_slice", "previous slice", lambda acts: acts.scroll(-1), "Down", repeats=True),
    Command(
        "crosshair_left",
        "move the crosshair of linked views to the left",
        lambda acts: acts.move_crosshair(-1, 0),
        "Control-Shift-Left",
        repeats=True,
    ),
    Command(
        "crosshair_right",
        "move it to the right",
        lambda acts: acts.move_crosshair(1, 0),
        "Control-Shift-Right",
        menu="move the crosshair of linked views to the right",
        repeats=True,
    ),
    Command(
        "crosshair_up",
        "move it up",
        lambda acts: acts.move_crosshair(0, -1),
        "Control-Shift-Up",
        menu="move the crosshair of linked views up",
        repeats=True,
    ),
    Command(
        "crosshair_down",
        "move it down",
        lambda acts: acts.move_crosshair(0, 1),
        "Control-Shift-Down",
        menu="move the crosshair of linked views down",
        repeats=True,
    ),
    Command(
        "toggle_cine", "play or stop the slices (cine)", lambda acts: acts.toggle_cine(), "Shift-C"
    ),
)
_PICTURE = (
    Command(
        "hold_comparison",
        "the previously shown sequence, while held",
        lambda acts, held: acts.hold_comparison(held),
        "I",
        hold=True,
    ),
    Command(
        "window_auto", "brightness: initial window", lambda acts: acts.show_window(Window.AUTO), "8"
    ),
    Command(
        "window_brain", "brightness: brain window", lambda acts: acts.show_window(Window.BRAIN), "9"
    ),
    Command(
        "window_wide", "brightness: full range", lambda acts: acts.show_window(Window.WIDE), "0"
    ),
    Command(
        "toggle_slab",
        "T1c as a maximum intensity projection",
        lambda acts: acts.toggle_slab(),
        "Shift-M",
    ),
    Command(
        "toggle_isolines",
        "maps as isolines, or in colour",
        lambda acts: acts.toggle_isolines(),
        "Shift-G",
    ),
    Command(
        "toggle_rulers",
        "both diameters of the candidate, which can be dragged",
        lambda acts: acts.toggle_rulers(),
        "Shift-D",
    ),
    Command(
        "toggle_names",
        "patient, date and series on linked views, on or off",
        lambda acts: acts.toggle_names(),
        "Shift-I",
    ),
)
MEASURES = (
    Command(
        "measure_length",
        "measure a length on a slice, on or off",
        lambda acts: acts.choose_measure(MeasureKind.RULER),
        "F3",
    ),
    Command(
        "measure_angle",
        "measure an angle on a slice, on or off",
        lambda acts: acts.choose_measure(MeasureKind.ANGLE),
        "F4",
    ),
    Command(
        "measure_region",
        "measure intensities in an ellipse, on or off",
        lambda acts: acts.choose_measure(MeasureKind.REGION),
        "F6",
    ),
    Command(
        "remove_measure",
        "remove the last measurement",
        lambda acts: acts.remove_measure(),
        "Shift-F3",
    ),
)
"""Measurements by hand."""


def _needing(unavailable: Callable[[Screen], str], *commands: Command) -> tuple[Command, ...]:
    return tuple(replace(command, unavailable=unavailable) for command in commands)


COMMANDS = (
    *_needing(no_result, *_OVERLAYS),
    *_needing(no_study, *_LAYOUTS, *_SHOWN_LAYOUTS, *_POSITIONS, *_PICTURE, *MEASURES),
)
