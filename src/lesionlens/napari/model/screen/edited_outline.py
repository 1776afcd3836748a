"""The outline being drawn, as lines on a slice of a linked view."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.napari.model.geometry.contours import Line, lines_around
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.geometry.slices import Frame, Picture

_MAX_CACHED = 16

Lines = tuple[tuple[str, tuple[Line, ...]], ...]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnOutline:
    """Labels being drawn."""

    labels: NDArray[np.uint8]
    """(I, J, K) uint8 on the working grid; changes in place."""
    grid: Grid
    version: int
    """Changes with every stroke."""
    colours: tuple[tuple[int, str], ...]
    """Label and colour."""


class OutlineArtist:
    """Traces the borders of the drawn labels, cached by slice."""

    def __init__(self) -> None:
        self._cache: OrderedDict[Any, Lines] = OrderedDict()

    def lines(self, drawn: DrawnOutline, frame: Frame, plane: Plane, depth_mm: float) -> Lines:
        """Return the border of each label at a depth, in millimetres on the screen."""
        picture = Picture.of(drawn.labels, drawn.grid)
        number = picture.number_at(frame, plane, depth_mm)
        key = (drawn.version, frame.key, plane, number)
        if key not in self._cache:
            part = picture.cut(frame, plane, number, nearest=True)
            present = set(np.unique(part.data).tolist())
            self._cache[key] = tuple(
                (colour, lines_around(part.data == label, part))
                for label, colour in drawn.colours
                if label in present
            )
        self._cache.move_to_end(key)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return self._cache[key]
