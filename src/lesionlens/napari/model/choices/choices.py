"""What the reader can choose to see: overlays, layers of the attention, planes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lesionlens.base.labels import MrSequence, Region
from lesionlens.napari.model.choices.views import ViewChoices
from lesionlens.napari.model.geometry.planes import Plane


class SecondOpinion(StrEnum):
    """A second opinion on a region, computed when asked."""

    GRADIENTS = "grad-cam"
    """Which features made the network draw the region, by gradients instead of attention."""
    ROLLOUT = "rollout"
    """Where the candidate's peak attended, followed through all layers of self-attention."""
    BY_T1 = "evidence-t1"
    BY_T1C = "evidence-t1c"
    BY_T2 = "evidence-t2"
    BY_FLAIR = "evidence-flair"
    """What one sequence adds to the probability at each voxel, or takes from it."""

    @property
    def sequence(self) -> MrSequence | None:
        """Whose evidence it is; None of the others."""
        kind, _, name = self.value.partition("-")
        return MrSequence(name) if kind == "evidence" else None

    @property
    def words(self) -> str:
        """In the panel."""
        if self.sequence is not None:
            return f"{self.sequence.words} evidence"
        return {SecondOpinion.GRADIENTS: "Grad-CAM", SecondOpinion.ROLLOUT: "rollout"}[self]


class LayerChoice(NamedTuple):
    """One layer of the network's attention for a region, or a second opinion on it.

    `head` None is the mean of a layer's heads; `at_mm` is where a rollout begins.
    """

    region: Region
    layer: int | SecondOpinion
    head: int | None = None
    at_mm: tuple[float, float, float] | None = None


class Overlay(StrEnum):
    """What lies over the image."""

    OFF = "off"
    CONTOUR = "contour"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the reader chose to see."""

    candidate: int | None = None
    """Id of the candidate in focus."""
    sequence: MrSequence | None = None
    """The image shown."""
    region: Region = Region.WT
    """Whose contour and attention are shown."""
    layer: int | SecondOpinion | None = None
    """Of the attention, or a second opinion; None for all layers and heads combined."""
    head: int | None = None
    """Of the layer; None for their mean."""
    alone: bool = False
    """Whether the map leaves out what was attended to in other candidates than the one in focus."""
    overlay: Overlay = Overlay.OFF
    """Off when a study opens: the reader reads unaided first."""
    asked: bool = False
    """Whether the reader has switched the overlay, so that focus does not do it for them."""
    opacity: float = 0.6
    """Of the maps, 0 to 1."""
    threshold: float = 0.0
    """Candidates that score less are not listed."""
    uncertainty: bool = False
    """Whether the uncertainty map is shown."""
    unreliable: bool = False
    """Whether maps that failed their checks are shown all the same."""
    hidden: bool = False
    """Whether all overlays are held hidden."""
    plane: Plane = Plane.AXIAL
    views: ViewChoices = field(default_factory=ViewChoices)
    """Which views stand together, and how they are drawn."""
    before: MrSequence | None = None
    """Which sequence was shown before this one, to compare with."""
