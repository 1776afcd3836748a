"""How the reader looks: side by side or alone, as acquired or along the patient, how bright."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.napari.model.geometry.measures import Measure, MeasureKind
from lesionlens.napari.model.geometry.rulers import Ruler


class Layout(StrEnum):
    """Which views are shown together."""

    SINGLE = "single"
    """napari's own canvas, with every layer and tool in it."""
    ONE = "slices"
    """One view of slices as they were acquired."""
    PAIR = "1 × 2"
    TRIPLE = "1 × 3"
    FOUR = "2 × 2"
    PLANES = "three planes"
    PRIOR = "prior | now"
    """One sequence of an earlier examination, or another picture, beside this one's."""

    @property
    def sequences(self) -> int:
        """How many sequences stand side by side; 1 if one is shown alone."""
        return {Layout.PAIR: 2, Layout.TRIPLE: 3, Layout.FOUR: 4}.get(self, 1)


class Window(StrEnum):
    """How grey values become brightness."""

    AUTO = "auto"
    BRAIN = "brain"
    WIDE = "wide"


@dataclass(frozen=True, slots=True, eq=False)
class ComparedPictures:
    """Pictures that replace those shown while a key is held: of a prior study, say."""

    words: str
    """What they are, such as "prior of 2024-03-01"."""
    volumes: Mapping[MrSequence, Volume]
    """In the patient frame of the open study, on grids of their own; sequences that are missing are
    not swapped."""
    components: Volume | None = None
    """Volume of int32 or None. What was flagged there, to be outlined; candidate ids, 0 elsewhere.
    """
    beside: str = ""
    """Names another picture of this study (a series, the subtraction); empty for a prior's."""
    how: str = ""
    """How it was laid there, with its doubt."""
    instead_of: ComparedPictures | None = None
    """What is compared again once that is put away."""
    layout: Layout = Layout.SINGLE
    """Which views are shown again then."""


@dataclass(frozen=True, slots=True)
class ViewChoices:
    """What the reader chose of the views; none of it changes what is exported."""

    layout: Layout = Layout.SINGLE
    """Which views are shown together."""
    hung: tuple[MrSequence, ...] = ()
    """The order of the sequences in the views, by a rule; empty for the study's own."""
    acquired: bool = True
    """Whether the planes follow the slices of the sequence shown; else the patient's own axes."""
    window: Window = Window.AUTO
    """Preset of brightness; a drag by hand continues from there."""
    cine: bool = False
    """Whether slices run one after the other."""
    swapped: bool = False
    """Whether the other sequence is shown in place of this one while a key is held."""
    compared: ComparedPictures | None = None
    """What is shown then, if it is not another sequence of this study."""
    slab: bool = False
    """Whether T1c is shown as the brightest of a thick slab."""
    isolines: bool = False
    """Whether maps are drawn as lines of equal value, so that the texture stays readable."""
    named: bool = True
    """Whether patient, date and series stand on the views."""
    rulers: bool = False
    """Whether the two diameters of the candidate in focus are drawn."""
    second_window: bool = False
    """Whether other linked views stand in a window of their own."""
    measuring: MeasureKind | None = None
    """What the pointer measures in the linked views."""
    measures: tuple[Measure, ...] = ()
    """What was measured by hand, oldest first; never exported."""
    dragged: tuple[int, tuple[Ruler, ...]] | None = None
    """The candidate whose rulers the reader moved, and where they are until they are kept."""
