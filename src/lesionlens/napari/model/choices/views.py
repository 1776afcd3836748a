"""Choices of the views: layout, orientation of slices, window level, comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.napari.model.geometry.rulers import Measure, Ruler


class Layout(StrEnum):
    """Layout of the views."""

    SINGLE = "single"
    """napari's own canvas, with all layers and tools."""
    ONE = "slices"
    """One view of acquired slices."""
    PAIR = "1 × 2"
    TRIPLE = "1 × 3"
    FOUR = "2 × 2"
    PLANES = "three planes"
    PRIOR = "prior | now"
    """An earlier examination, or another image, beside this study."""

    @property
    def sequences(self) -> int:
        """Number of sequences side by side."""
        return {Layout.PAIR: 2, Layout.TRIPLE: 3, Layout.FOUR: 4}.get(self, 1)

    @property
    def linked(self) -> Layout:
        """The layout itself; one linked view in place of napari's canvas."""
        return Layout.ONE if self is Layout.SINGLE else self


class WindowPreset(StrEnum):
    """Preset of the window level."""

    AUTO = "auto"
    BRAIN = "brain"
    WIDE = "wide"


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonImages:
    """Images for comparison, such as a prior's."""

    description: str
    """Description, such as "prior of 2024-03-01"."""
    volumes: Mapping[MrSequence, Volume]
    """Volumes in the patient frame of the open study, on their own grids; missing sequences are not
    replaced."""
    components: Volume | None = None
    """Volume of int32 or None. Flagged candidates, to be outlined; candidate ids, 0 elsewhere."""
    other_image: str = ""
    """Name of another image of this study (a series, the subtraction); empty for a prior."""
    registration: str = ""
    """How it was registered, with any doubt; one or several lines."""
    resampled: Mapping[MrSequence, str] = field(default_factory=dict)
    """How the volumes were resampled from the acquired slices, of those that were."""
    window: tuple[float, float] | None = None
    """Values shown black and white at first; None: by each image's own intensities."""
    previous: ComparisonImages | None = None
    """Comparison restored afterwards."""
    layout: Layout = Layout.SINGLE
    """Layout restored afterwards."""


class DraggedRulers(NamedTuple):
    """Both diameters of a candidate while the reader drags an end."""

    candidate: int
    rulers: tuple[Ruler, ...]


@dataclass(frozen=True, slots=True)
class ViewChoices:
    """Choices of the views; they do not affect exports."""

    layout: Layout = Layout.SINGLE
    acquired: bool = True
    """Whether planes follow the acquired slices of the shown sequence, not the patient's axes."""
    window: WindowPreset = WindowPreset.AUTO
    """Window preset, from which drags continue."""
    swapped: bool = False
    """Whether the comparison is shown while a key is held."""
    compared: ComparisonImages | None = None
    """Images of the comparison; None for another sequence of this study."""
    rulers: bool = False
    """Whether the two diameters of the candidate in focus are drawn."""
    measuring: bool = False
    """Whether the pointer measures lengths in the linked views."""
    measures: tuple[Measure, ...] = ()
    """Measurements by hand, oldest first; never exported."""
    dragged: DraggedRulers | None = None
    """Rulers being dragged."""
