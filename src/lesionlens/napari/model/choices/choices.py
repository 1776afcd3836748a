"""Display choices: overlays, regions, planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from lesionlens.base.labels import MrSequence, Region
from lesionlens.napari.model.choices.views import ViewChoices
from lesionlens.napari.model.geometry.planes import Plane

Choice = TypeVar("Choice")


def after(choices: Sequence[Choice], current: object) -> Choice:
    """Return the choice after the current one, cyclically; the first if it is none of them."""
    index = next((n for n, choice in enumerate(choices) if choice == current), -1)
    return choices[(index + 1) % len(choices)]


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
    evidence: MrSequence | None = None
    """Sequence whose contribution is shown in place of the attention."""
    overlay: Overlay = Overlay.OFF
    """Overlay; off for a new study, so that the reader reads unaided first."""
    overlay_chosen: bool = False
    """Whether the reader has switched the overlay, so that focusing does not change it."""
    opacity: float = 0.6
    """Opacity of maps, 0 to 1."""
    threshold: float = 0.0
    """Lowest score of listed candidates."""
    unreliable: bool = False
    """Whether maps that failed their checks are shown."""
    hidden: bool = False
    """Whether all overlays are hidden while a key is held."""
    plane: Plane = Plane.AXIAL
    views: ViewChoices = field(default_factory=ViewChoices)
    previous_sequence: MrSequence | None = None
    """Previously shown sequence, for comparison."""
