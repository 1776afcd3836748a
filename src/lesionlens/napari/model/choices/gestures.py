"""Pointer gestures that make prompts, without Qt or napari."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lesionlens.base.labels import PromptKind
from lesionlens.base.records.findings import Point

STILL_PX = 4.0
"""Maximum movement of a click, pixels."""
_MIN_CORNERS = 3
_STEP_MM = 0.5


class Gesture(NamedTuple):
    """A prompt made by the pointer."""

    kind: PromptKind
    foreground: bool
    path_mm: Sequence[Point]
    """RAS+ mm: point, line, corners of a box in order (or two opposite ones), or of a lasso."""


def switched(modifiers: set[str], *, excluding: bool) -> set[str]:
    """Return the modifiers of a prompt: while prompts exclude, Alt means the opposite.

    Points and scribbles alone exclude, so a box or lasso with Alt is a scribble.

    Examples
    --------
    >>> switched({"Shift"}, excluding=True), switched({"Alt", "Shift"}, excluding=True)
    ({'Alt'}, {'Shift'})
    """
    names = modifiers ^ {"Alt"} if excluding else modifiers
    return {"Alt"} if "Alt" in names else names


def line_of(path: Sequence[tuple[float, float]], modifiers: set[str]) -> list[tuple[float, float]]:
    """Return the line shown during a drag: the path, a box or a closed lasso.

    Examples
    --------
    >>> line_of([(0, 0), (2, 1)], {"Shift"})
    [(0, 0), (2, 0), (2, 1), (0, 1), (0, 0)]
    """
    (a, b), (c, d) = path[0], path[-1]
    if "Shift" in modifiers:
        return [(a, b), (c, b), (c, d), (a, d), (a, b)]
    return [*path, path[0]] if "Control" in modifiers else [*path]


def traced(
    path: Sequence[tuple[float, float]], modifiers: set[str], *, is_drag: bool
) -> list[tuple[float, float]]:
    """Return the points on the slice that make a prompt: the four corners of a box."""
    return line_of(path, modifiers)[:-1] if is_drag and "Shift" in modifiers else [*path]


def gesture_of(path: list[Point], modifiers: set[str], *, is_drag: bool) -> Gesture:
    """Return the gesture of a press, drag and release.

    Parameters
    ----------
    path : list of (3,)
        Result of `traced` in RAS+ mm, at least one point.
    modifiers : set of str
        "Alt": background; "Shift": a drag is a box; "Control": a drag is a lasso.
    is_drag : bool
        Whether the pointer moved more than `STILL_PX`.

    Examples
    --------
    >>> gesture_of([(0, 0, 0)], {"Alt"}, is_drag=False).foreground
    False
    >>> drag = gesture_of([(0, 0, 0), (0, 3, 4)], set(), is_drag=True)
    >>> len(drag.path_mm)  # the gaps of a fast drag are filled
    11
    """
    foreground = "Alt" not in modifiers
    if not is_drag:
        return Gesture(PromptKind.POINT, foreground, path[:1])
    if "Shift" in modifiers:
        return Gesture(PromptKind.BOX, foreground=True, path_mm=path)
    if "Control" in modifiers and len(path) >= _MIN_CORNERS:
        return Gesture(PromptKind.LASSO, foreground=True, path_mm=path)
    return Gesture(PromptKind.SCRIBBLE, foreground, _interpolated(path))


def _interpolated(path: list[Point]) -> list[Point]:
    """Fill gaps of a fast drag: at least two points per millimetre."""
    points = path[:1]
    for before, after in pairwise(path):
        steps = max(1, int(np.ceil(math.dist(before, after) / _STEP_MM)))
        interpolated = np.linspace(before, after, steps + 1)[1:]
        points += [(x, y, z) for x, y, z in interpolated.tolist()]
    return points
