"""Commands of the views: overlays, maps, layouts, slices, window level, measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lesionlens.napari.commands.command import Command, no_result, no_study
from lesionlens.napari.model.choices.views import Layout, WindowPreset
from lesionlens.napari.model.screen.screen import Screen

_OVERLAYS = (
    Command("toggle_overlay", "overlay on or off", "T"),
    Command(
        "hold_hidden",
        "hide every overlay while held",
        "H",
        hold=True,
        run=lambda acts, held: acts.session.hold_hidden(hidden=held),
    ),
    Command("next_overlay", "contour or attention map", "G"),
    Command("next_evidence", "contributions of T1, T1c, T2 and FLAIR, one by one", "Control-D"),
    Command("next_region", "whole tumour, tumour core or enhancing tumour", "W"),
)
_LAYOUTS = (
    Command("next_sequence", "show the next sequence", "S"),
    Command("next_plane", "axial, coronal or sagittal", "J"),
    Command(
        "four_views",
        "four sequences side by side, or one view",
        "Shift-F",
        run=lambda acts: acts.toggle_layout(Layout.FOUR),
    ),
    Command("next_row_layout", "two sequences in a row, three, or one view", "Shift-S"),
    Command(
        "three_planes",
        "axial, coronal and sagittal together, or one view",
        "Shift-J",
        run=lambda acts: acts.toggle_layout(Layout.PLANES),
    ),
    Command("toggle_prior", "an earlier examination beside this one, or one view", "Control-B"),
    Command("show_subtraction", "T1c - T1 beside the sequence shown, on or off", "Control-F7"),
    Command(
        "next_other",
        "show the next other series (ADC, SWI…) beside it, or none after the last",
        "Control-F8",
        "show the next other series",
    ),
    Command(
        "toggle_acquired_slices",
        "slices as they were acquired, or along the patient's axes",
        "Shift-O",
    ),
)
_SHOWN_LAYOUTS = tuple(
    Command(f"layout_{name}", f"layout: {words}", run=lambda acts, at=layout: acts.show_layout(at))
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
        "Up",
        repeats=True,
        run=lambda acts: acts.scroll(1),
    ),
    Command(
        "previous_slice", "previous slice", "Down", repeats=True, run=lambda acts: acts.scroll(-1)
    ),
)
_PICTURE = (
    Command("hold_comparison", "the previously shown sequence, while held", "I", hold=True),
    *(
        Command(
            f"window_{window}",
            f"brightness: {words}",
            key,
            run=lambda acts, to=window: acts.apply_window_preset(to),
        )
        for window, words, key in (
            (WindowPreset.AUTO, "initial window", "8"),
            (WindowPreset.BRAIN, "brain window", "9"),
            (WindowPreset.WIDE, "full range", "0"),
        )
    ),
)
_RULERS = Command(
    "toggle_rulers", "both diameters of the candidate, which can be dragged", "Shift-D"
)
_MEASURES = (
    Command("measure_length", "measure a length on a slice, on or off", "F3"),
    Command("remove_measure", "remove the last measurement", "Shift-F3"),
)


def _with_availability(
    unavailable: Callable[[Screen], str], *commands: Command
) -> tuple[Command, ...]:
    return tuple(replace(command, unavailable=unavailable) for command in commands)


COMMANDS = (
    *_with_availability(no_result, *_OVERLAYS),
    *_with_availability(no_study, *_LAYOUTS, *_SHOWN_LAYOUTS, *_POSITIONS, *_PICTURE),
    *_with_availability(no_result, _RULERS),
    *_with_availability(no_study, *_MEASURES),
)
