"""Display choices: overlays, layers of the attention, planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeVar

from lesionlens.base.labels import MrSequence, Region
from lesionlens.napari.model.choices.views import ViewChoices
from lesionlens.napari.model.geometry.planes import Plane

Choice = TypeVar("Choice")


def after(choices: Sequence[Choice], current: object) -> Choice:
    """Return the choice after the current one, cyclically; the first if it is none of them."""
    index = next((n for n, choice in enumerate(choices) if choice == current), -1)
    return choices[(index + 1) % len(choices)]


class SecondOpinion(StrEnum):
    """A second opinion on a region, computed on request."""

    GRADIENTS = "grad-cam"
    """Features that led to the region, by gradients instead of attention."""
    ROLLOUT = "rollout"
    """Attention of the candidate's peak, rolled out through all self-attention layers."""
    BY_T1 = "evidence-t1"
    BY_T1C = "evidence-t1c"
    BY_T2 = "evidence-t2"
    BY_FLAIR = "evidence-flair"
    """Signed contribution of one sequence to the probability at each voxel."""

    @property
    def sequence(self) -> MrSequence | None:
        """Sequence of a contribution map; None for others."""
        kind, _, name = self.value.partition("-")
        return MrSequence(name) if kind == "evidence" else None

    @property
    def display_name(self) -> str:
        """Name in the panel."""
        if self.sequence is not None:
            return f"{self.sequence.display_name} evidence"
        return {SecondOpinion.GRADIENTS: "Grad-CAM", SecondOpinion.ROLLOUT: "rollout"}[self]


class LayerChoice(NamedTuple):
    """One layer of the network's attention for a region, or a second opinion on it."""

    region: Region
    layer: int | SecondOpinion
    head: int | None = None
    """None for the mean of a layer's heads."""
    at_mm: tuple[float, float, float] | None = None
    """Start of a rollout, RAS+ mm."""


class Overlay(StrEnum):
    """Overlay on the image."""

    OFF = "off"
    CONTOUR = "contour"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Choices:
    """The reader's display choices."""

    candidate: int | None = None
    """Id of the candidate in focus."""
    sequence: MrSequence | None = None
    region: Region = Region.WT
    """Region whose contour and attention are shown."""
    layer: int | SecondOpinion | None = None
    """Layer of the attention, or a second opinion; None for all layers and heads combined."""
    head: int | None = None
    """Head of the layer; None for the mean of its heads."""
    only_focused: bool = False
    """Whether the map is limited to the candidate in focus."""
    overlay: Overlay = Overlay.OFF
    """Overlay; off for a new study, so that the reader reads unaided first."""
    overlay_chosen: bool = False
    """Whether the reader has switched the overlay, so that focusing does not change it."""
    opacity: float = 0.6
    """Opacity of maps, 0 to 1."""
    threshold: float = 0.0
    """Lowest score of listed candidates."""
    uncertainty: bool = False
    """Whether the uncertainty map is shown."""
    unreliable: bool = False
    """Whether maps that failed their checks are shown."""
    hidden: bool = False
    """Whether all overlays are hidden while a key is held."""
    plane: Plane = Plane.AXIAL
    views: ViewChoices = field(default_factory=ViewChoices)
    previous_sequence: MrSequence | None = None
    """Previously shown sequence, for comparison."""
