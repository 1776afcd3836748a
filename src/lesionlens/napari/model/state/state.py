"""What the window is drawn from: the reader's choices and everything that is open, frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.base.records.preliminary import PreliminaryCandidate, PreliminaryFindings
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.imaging.reading.series_selection import ListedStudy
from lesionlens.napari.model.choices.choices import Choices, Overlay, SecondOpinion
from lesionlens.napari.model.choices.tools import Tools
from lesionlens.napari.model.choices.views import ComparedPictures
from lesionlens.napari.model.overlays.maps import Overlays
from lesionlens.napari.model.state.identity import Identity
from lesionlens.napari.model.state.second import SecondResult
from lesionlens.results.review.journal import Draft


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be opened."""

    places: tuple[Path, ...]
    """Files and folders that are together one study."""
    named: Mapping[MrSequence, Path | str] = field(default_factory=dict)
    """Which series the reader calls what; empty leaves it to what is recognised."""
    study_uid: str | None = None
    """Which study, where there are several (`ListedStudy.uid`)."""
    date: str = ""
    """When that was, YYYYMMDD; empty if it is not known, or there is one study alone."""
    same_patient: bool = False
    """Whether a person confirmed that it is one patient, though the files contradict each other."""

    @classmethod
    def of(cls, places: Path | Sequence[Path]) -> Request:
        """Ask for one place, or for several together."""
        return cls((places,) if isinstance(places, Path) else tuple(places))


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What the reader must say before a request can be opened."""

    request: Request
    """What waits for the answer."""
    studies: tuple[ListedStudy, ...] = ()
    """One of these is to be chosen; empty if that is clear."""
    study: Study | None = None
    """No sequence of it was recognised: which series is which?"""


_STAGE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Activity:
    """What runs in the background: its name, the stage and how much of it is done (0 to 1)."""

    words: str
    stage: str = ""
    fraction: float = 0.0
    stopping: bool = False
    begun: float = 0.0
    """Of the whole, when this stage began."""

    def at(self, stage: str, fraction: float) -> Activity:
        """Return it with a stage this far: how many follow is not known, so each takes a fifth.

        Of what is left, that is: what is shown never falls back, and is never full before the end.

        Examples
        --------
        >>> now = Activity("Analysing").at("load", 1.0)
        >>> now.fraction, round(now.at("brain", 0.0).fraction, 2), now.at("load", 0.5).fraction
        (0.2, 0.2, 0.2)
        """
        begun = self.begun if stage == self.stage else self.fraction
        now = begun + (1 - begun) * _STAGE_SHARE * min(max(fraction, 0.0), 1.0)
        return replace(self, stage=stage, fraction=max(self.fraction, now), begun=begun)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something did not work, and what to do; nothing of the state is lost with it."""

    title: str
    found: str
    expected: str = ""
    next_step: str = ""
    details: str = ""
    cause: str = ""
    """What must work again for this to be over; empty if the next act ends it."""
    of_server: bool = False
    """Whether a server kept it from working, so that this machine could do it instead."""


def listed(analysis: Analysis, threshold: float) -> tuple[Candidate, ...]:
    """Return the candidates that score at least this, to whole percents as they are shown.

    What a reader added has no score and is always listed.
    """
    least = threshold - 0.005
    return tuple(c for c in analysis.findings.candidates if c.score is None or c.score >= least)


def listed_at_first(
    found: PreliminaryFindings | None, threshold: float
) -> tuple[PreliminaryCandidate, ...]:
    """Return the preliminary candidates that score at least this, as `listed` does."""
    return tuple(c for c in found.candidates if c.score >= threshold - 0.005) if found else ()


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Everything that the window is drawn from."""

    study: Study | None = None
    identity: Identity = field(default_factory=Identity)
    """Who and what that is, the same wherever it is named."""
    analysis: Analysis | None = None
    overlays: Overlays | None = None
    review: Review = field(default_factory=Review)
    choices: Choices = field(default_factory=Choices)
    preliminary: PreliminaryFindings | None = None
    """What a first look flags while the analysis runs; gone when that ends."""
    activity: Activity | None = None
    problem: Problem | None = None
    message: str = ""
    request: Request | None = None
    """How the open study was requested; None if napari read it."""
    exchanged: tuple[MrSequence, MrSequence] | None = None
    """Two sequences of the open study whose names seem exchanged."""
    query: Query | None = None
    can_undo: bool = False
    can_redo: bool = False
    probed: tuple[int, int, int] | None = None
    without: tuple[int, str] | None = None
    editing: int | None = None
    """Id of the candidate whose outline is being redrawn."""
    edited_uid: str = ""
    """Tracking UID of what is being drawn, known or new (`tools.NEW`)."""
    tools: Tools = field(default_factory=Tools)
    draft: Draft | None = None
    """Strokes that were interrupted."""
    resumed: bool = False
    """Whether what is drawn continues from them."""
    probability: NDArray[np.float32] | None = None
    """Of the whole tumour on the working grid, once a range of it was requested."""
    attention_layers: tuple[tuple[str, int], ...] = ()
    """Name and number of heads of each layer that can be shown, coarse to fine."""
    second_opinions: tuple[SecondOpinion, ...] = ()
    """The second opinions that can be requested."""
    reopened: bool = False
    """Whether the result comes from files, without the engine that could be asked more."""
    second: SecondResult | None = None
    """Another result of the open study, to compare with."""
    marks: tuple[Point, ...] = ()
    """Places that the reader marked, RAS+ mm."""
    typed: Mapping[str, str] = field(default_factory=dict)
    """Reasons that were typed and not yet used, by the tracking UID they were typed for."""

    def reason_of(self, tracking_uid: str) -> str:
        """Return what the reader typed for a candidate, else the reason of their last word."""
        event = self.review.of(tracking_uid)
        return self.typed.get(tracking_uid, (event.reason if event else None) or "")


def listed_ids(state: State) -> list[int]:
    """Return the ids that can be gone to: preliminary ones as long as there are no others."""
    threshold = state.choices.threshold
    if state.analysis is not None:
        return [c.id for c in listed(state.analysis, threshold)]
    return [c.id for c in listed_at_first(state.preliminary, threshold)]


def without_preliminary(state: State, at_first: Overlay) -> dict[str, Any]:
    """Return what changes when a first look goes: the focus on one of its candidates too.

    Where no analysis took its place, an overlay that came with a candidate goes as well.
    """
    if state.preliminary is None:
        return {}
    stays = state.analysis is not None or state.choices.asked
    overlay = state.choices.overlay if stays else at_first
    return {"preliminary": None, "choices": replace(state.choices, candidate=None, overlay=overlay)}


def only_progress_differs(old: State, new: State) -> bool:
    """Whether two states differ in how far what runs is, and in nothing else."""
    if old.activity is None or new.activity is None:
        return False
    names = (name for name in State.__dataclass_fields__ if name != "activity")
    return all(getattr(old, name) is getattr(new, name) for name in names)


def shown_sequence(state: State) -> MrSequence | None:
    """Return the sequence that is seen: the other one while the key for that is held."""
    study, choices = state.study, state.choices
    swapped = choices.views.swapped and choices.views.compared is None
    if study is None or choices.sequence is None or not swapped:
        return choices.sequence
    return other_sequence(study, choices)


def compared_now(state: State) -> ComparedPictures | None:
    """Return what stands in place of the sequence shown while the key for that is held."""
    views, sequence = state.choices.views, state.choices.sequence
    found = views.compared if views.swapped else None
    return found if found is not None and sequence in found.volumes else None


def other_sequence(study: Study, choices: Choices) -> MrSequence | None:
    """Return what is compared with the sequence shown: the one before it, else the next."""
    there = tuple(study.series)
    before = choices.before
    if before in there and before is not choices.sequence:
        return before
    if choices.sequence not in there:
        return choices.sequence
    return there[(there.index(choices.sequence) + 1) % len(there)]


def second_opinions_of(result: Any) -> tuple[SecondOpinion, ...]:
    """Return the second opinions that a result can be requested; few once it was reopened.

    Where there is one sequence alone, what it adds is all that there is: no map of it is offered.
    """
    rolls = result.trace is not None and result.trace.probe_row is not None
    evidence = result.analysis.volumes.evidence
    known = () if evidence is None or len(evidence.shares) < 2 else tuple(evidence.shares)
    there = {SecondOpinion.GRADIENTS: result.engine is not None, SecondOpinion.ROLLOUT: rolls}
    return tuple(s for s in SecondOpinion if there.get(s, s.sequence in known))
