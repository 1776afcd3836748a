"""Planes of a view, and the patient's side at each edge, from directions."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

_POSITIVE_LETTERS, _NEGATIVE_LETTERS = "RAS", "LPI"
_MIN_COMPONENT = 0.4  # relative to the largest component, for a second letter (about 22°)


class Plane(StrEnum):
    """Plane of a view; napari's axes are R, A, S."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"

    @property
    def through(self) -> int:
        """Axis of napari along which the slices are stacked."""
        return {Plane.SAGITTAL: 0, Plane.CORONAL: 1, Plane.AXIAL: 2}[self]


class Edges(NamedTuple):
    """Letters at the four edges of a view; empty if unknown."""

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""


def position_text(point_mm: Sequence[float]) -> str:
    """Format a point (RAS+ mm) as all lists and views do.

    Coordinates are signed and name no side: a file's origin need not lie in the patient's midline.

    Examples
    --------
    >>> position_text((-30.2, 8.0, -2.0))
    'x -30  y 8  z -2 mm'
    """
    components = zip("xyz", point_mm, strict=True)
    return "  ".join(f"{axis} {value:z.0f}" for axis, value in components) + " mm"


def intensity_text(value: float) -> str:
    """Format an intensity: four significant digits, or rounded to an integer up to a million.

    Examples
    --------
    >>> intensity_text(15113.0), intensity_text(0.51237), intensity_text(1.234e9)
    ('15113', '0.5124', '1.234e+09')
    """
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.4g}"


def letters_of(direction: ArrayLike) -> str:
    """Return the letters of the patient's side in a direction (RAS+).

    Examples
    --------
    >>> letters_of((-1.0, 0.1, 0.0)), letters_of((0.0, 0.8, 0.6)), letters_of((0.0, 0.0, 0.0))
    ('L', 'AS', '')
    """
    components = np.asarray(direction, dtype=np.float64)
    largest = float(np.abs(components).max(initial=0.0))
    if largest <= 0:
        return ""
    order = [
        axis
        for axis in np.argsort(-np.abs(components))
        if abs(components[axis]) >= _MIN_COMPONENT * largest
    ]
    return "".join(
        _POSITIVE_LETTERS[axis] if components[axis] > 0 else _NEGATIVE_LETTERS[axis]
        for axis in order
    )


def edges_of(rightwards: ArrayLike, downwards: ArrayLike) -> Edges:
    """Return the letters of a view from its directions in the patient.

    Parameters
    ----------
    rightwards, downwards : (3,)
        Directions in the patient (RAS+) of a step to the right and of a step down on the screen.

    Examples
    --------
    >>> edges_of((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    Edges(left='R', right='L', top='A', bottom='P')
    """
    right, down = np.asarray(rightwards, np.float64), np.asarray(downwards, np.float64)
    return Edges(letters_of(-right), letters_of(right), letters_of(-down), letters_of(down))
