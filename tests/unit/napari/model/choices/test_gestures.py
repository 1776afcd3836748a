"""What a press, drag and release mean with each key held."""

from __future__ import annotations

import numpy as np
import pytest

from lesionlens.base.records.prompts import PromptKind
from lesionlens.napari.model.choices.gestures import gesture_of, line_of, switched, traced

DRAG = [(0.0, 0.0), (3.0, 1.0), (4.0, 6.0)]
POSITIONS = [(0.0, 0.0, 9.0), (3.0, 1.0, 9.0), (4.0, 6.0, 9.0)]


@pytest.mark.parametrize(
    ("modifiers", "excluding", "kind", "foreground"),
    [
        (set(), False, PromptKind.SCRIBBLE, True),
        ({"Alt"}, False, PromptKind.SCRIBBLE, False),
        (set(), True, PromptKind.SCRIBBLE, False),
        ({"Alt"}, True, PromptKind.SCRIBBLE, True),
        ({"Shift"}, False, PromptKind.BOX, True),
        ({"Control"}, False, PromptKind.LASSO, True),
        ({"Shift", "Alt"}, False, PromptKind.SCRIBBLE, False),
        ({"Control"}, True, PromptKind.SCRIBBLE, False),
        ({"Shift", "Alt"}, True, PromptKind.BOX, True),
    ],
)
def test_keys_choose_what_a_drag_is_and_only_points_and_scribbles_exclude(
    modifiers, excluding, kind, foreground
):
    keys = switched(modifiers, excluding=excluding)
    drag = gesture_of(POSITIONS, keys, is_drag=True)
    assert (drag.kind, drag.foreground) == (kind, foreground)
    click = gesture_of(POSITIONS, keys, is_drag=False)
    assert (click.kind, click.foreground) == (PromptKind.POINT, "Alt" not in keys)
    assert list(click.path_mm) == POSITIONS[:1]


def test_a_drag_is_traced_as_it_is_drawn():
    box = [(0.0, 0.0), (4.0, 0.0), (4.0, 6.0), (0.0, 6.0)]
    assert traced(DRAG, {"Shift"}, is_drag=True) == box
    assert line_of(DRAG, {"Shift"}) == [*box, box[0]]
    assert line_of(DRAG, {"Control"}) == [*DRAG, DRAG[0]]
    assert line_of(DRAG, set()) == DRAG
    for keys, is_drag in (({"Shift"}, False), ({"Control"}, True), (set(), True)):
        assert traced(DRAG, keys, is_drag=is_drag) == DRAG


def test_a_scribble_has_no_gap_of_a_voxel_and_keeps_its_corners():
    path = gesture_of(POSITIONS, set(), is_drag=True).path_mm
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() <= 0.5 + 1e-9
    assert [place for place in path if place in POSITIONS] == POSITIONS
