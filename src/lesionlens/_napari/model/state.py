"""What the window is drawn from: the reader's choices and everything that is open, frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lesionlens._napari.model.viewing import ViewChoices
from lesionlens.base.labels import MrSequence, Region
from lesionlens.reading.series_selection import ListedStudy
from lesionlens.records.analysis import Analysis
from lesionlens.records.findings import Candidate
from lesionlens.records.review import Review
from lesionlens.records.study import Study

if TYPE_CHECKING:
    from lesionlens._napari.model.display import Overlays


class Second(StrEnum):
    """A second opinion on a region, computed when asked."""

    GRADIENTS = "grad-cam"
    """Which features made the network draw the region, by gradients instead of attention."""
    ROLLOUT = "rollout"
    """Where the candidate's peak attended, followed through all layers of self-attention."""

    @property
    def words(self) -> str:
        """In the panel."""
        return {Second.GRADIENTS: "Grad-CAM", Second.ROLLOUT: "rollout"}[self]


class LayerChoice(NamedTuple):
    """One layer of the network's attention for a region, or a second opinion on it.

    `head` None is the mean of a layer's heads; `at_mm` is where a rollout begins.
    """

    region: Region
    layer: int | Second
    head: int | None = None
    at_mm: tuple[float, float, float] | None = None


class Overlay(StrEnum):
    """What lies over the image."""

    OFF = "off"
    CONTOUR = "contour"
    MAP = "map"


class Plane(StrEnum):
    """Which plane is shown; napari's axes are R, A, S."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be opened.

    Parameters
    ----------
    places : tuple of Path
        Files and folders that are together one study.
    named : mapping of MrSequence to Path or str
        Which series the reader calls what; empty leaves it to what is recognised.
    study_uid : str or None
        Which study, where there are several (`ListedStudy.uid`).
    date : str
        When that was, YYYYMMDD; empty where it is not known, or there is one study alone.
    """

    places: tuple[Path, ...]
    named: Mapping[MrSequence, Path | str] = field(default_factory=dict)
    study_uid: str | None = None
    date: str = ""

    @classmethod
    def of(cls, places: Path | Sequence[Path]) -> Request:
        """Ask for one place, or for several together."""
        return cls((places,) if isinstance(places, Path) else tuple(places))


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What the reader must say before a request can be opened.

    Parameters
    ----------
    request : Request
        What waits for the answer.
    studies : tuple of ListedStudy
        One of these is to be chosen; empty where that is clear.
    study : Study or None
        No sequence of it was recognised: which series is which?
    """

    request: Request
    studies: tuple[ListedStudy, ...] = ()
    study: Study | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """What runs in the background: its name, the stage and how much of it is done (0 to 1)."""

    words: str
    stage: str = ""
    fraction: float = 0.0
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something did not work, and what to do; nothing of the state is lost with it."""

    title: str
    found: str
    expected: str = ""
    next_step: str = ""
    details: str = ""
    cause: str = ""
    """What must work again for this to be over; empty where the next act ends it."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the reader chose to see.

    Parameters
    ----------
    candidate : int or None
        Id of the candidate in focus.
    sequence : MrSequence or None
        The image shown.
    region : Region
        Whose contour and attention are shown.
    layer : int, Second or None
        Of the attention, or a second opinion; None for all layers and heads combined.
    head : int or None
        Of the layer; None for their mean.
    alone : bool
        Whether the map leaves out what was attended to in other candidates than the one in focus.
    overlay : Overlay
        Off when a study opens: the reader reads unaided first.
    asked : bool
        Whether the reader has switched the overlay, so that focus does not do it for them.
    opacity : float
        Of the maps, 0 to 1.
    threshold : float
        Candidates that score less are not listed.
    uncertainty : bool
        Whether the uncertainty map is shown.
    unreliable : bool
        Whether maps that failed their checks are shown all the same.
    hidden : bool
        Whether all overlays are held hidden.
    visits : int
        Counts how often a candidate was gone to; the view moves when it grows.
    views : ViewChoices
        Which views stand together, and how they are drawn.
    before : MrSequence or None
        Which sequence was shown before this one, to compare with.
    """

    candidate: int | None = None
    sequence: MrSequence | None = None
    region: Region = Region.WT
    layer: int | Second | None = None
    head: int | None = None
    alone: bool = False
    overlay: Overlay = Overlay.OFF
    asked: bool = False
    opacity: float = 0.6
    threshold: float = 0.0
    uncertainty: bool = False
    unreliable: bool = False
    hidden: bool = False
    plane: Plane = Plane.AXIAL
    visits: int = 0
    views: ViewChoices = field(default_factory=ViewChoices)
    before: MrSequence | None = None


def listed(analysis: Analysis, threshold: float) -> tuple[Candidate, ...]:
    """Return the candidates that score at least this, to whole percents as they are shown."""
    return tuple(c for c in analysis.findings.candidates if c.score >= threshold - 0.005)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Everything that the window is drawn from."""

    study: Study | None = None
    analysis: Analysis | None = None
    overlays: Overlays | None = None
    review: Review = field(default_factory=Review)
    choices: Choices = field(default_factory=Choices)
    activity: Activity | None = None
    problem: Problem | None = None
    message: str = ""
    request: Request | None = None
    """How the open study was asked for; None where napari read it."""
    query: Query | None = None
    can_undo: bool = False
    can_redo: bool = False
    probed: tuple[int, int, int] | None = None
    without: tuple[int, str] | None = None
    editing: int | None = None
    """Id of the candidate whose outline is being redrawn."""
    attention_layers: tuple[tuple[str, int], ...] = ()
    """Name and number of heads of each layer that can be shown, coarse to fine."""
    seconds: tuple[Second, ...] = ()
    """The second opinions that can be asked for."""
    reopened: bool = False
    """Whether the result comes from files, without the engine that could be asked more."""
    typed: Mapping[str, str] = field(default_factory=dict)
    """Reasons that were typed and not yet used, by the tracking UID they were typed for."""

    def reason_of(self, tracking_uid: str) -> str:
        """Return what the reader typed for a candidate, else the reason of their last word."""
        event = self.review.of(tracking_uid)
        return self.typed.get(tracking_uid, (event.reason if event else None) or "")


def shown_sequence(state: State) -> MrSequence | None:
    """Return the sequence that is seen: the other one while the key for that is held."""
    study, choices = state.study, state.choices
    if study is None or choices.sequence is None or not choices.views.swapped:
        return choices.sequence
    return other_sequence(study, choices)


def other_sequence(study: Study, choices: Choices) -> MrSequence | None:
    """Return what is compared with the sequence shown: the one before it, else the next."""
    there = tuple(study.series)
    before = choices.before
    if before in there and before is not choices.sequence:
        return before
    if choices.sequence not in there:
        return choices.sequence
    return there[(there.index(choices.sequence) + 1) % len(there)]
