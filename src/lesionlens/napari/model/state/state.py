"""State of the window: the open study, its analysis and the reader's choices; frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import (
    Candidate,
    Point,
    PreliminaryCandidate,
    PreliminaryFindings,
)
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.imaging.reading.open import ListedStudy
from lesionlens.napari.model.choices.choices import Choices, Overlay, after
from lesionlens.napari.model.choices.tools import Tools
from lesionlens.napari.model.choices.views import ComparisonImages
from lesionlens.napari.model.overlays.maps import Overlays
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.results.review.drafts import OutlineDraft
from lesionlens.results.review.log import ReviewLog

if TYPE_CHECKING:
    from lesionlens.results.result import Result

ANALYSING = "Analysing"
"""Name of the analysis' job."""
_NO_REVIEW = Review()
_HALF_PERCENT = 0.005


@dataclass(frozen=True, slots=True)
class Request:
    """A study to open."""

    paths: tuple[Path, ...]
    """Files and folders of one study."""
    named: Mapping[MrSequence, Path | str] = field(default_factory=dict)
    """Series assigned by the reader; empty for automatic recognition."""
    study_uid: str | None = None
    """Study to open if there are several (`ListedStudy.uid`)."""
    date: str = ""
    """Its date, YYYYMMDD; empty if unknown, or if there is only one study."""
    same_patient: bool = False
    """Whether a person confirmed that contradicting files are of one patient."""
    result: Path | None = None
    """Saved result whose series are opened, whichever were chosen for the study since."""
    in_place_of: Study | None = None
    """The open study, if it is opened again with other series: its place in a list, and the read
    in progress there, are kept.
    """

    @classmethod
    def of(cls, paths: Path | Sequence[Path]) -> Request:
        """Return a request for one path, or several as one study."""
        return cls((paths,) if isinstance(paths, Path) else tuple(paths))


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A decision needed to open a request."""

    request: Request
    """Waiting request."""
    studies: tuple[ListedStudy, ...] = ()
    """Studies to choose from; empty if there is only one."""
    study: Study | None = None
    """Study without recognised sequences, whose series must be assigned."""


_STAGE_FRACTION = 0.2


@dataclass(frozen=True, slots=True)
class Activity:
    """A background job: name, stage and progress (0 to 1)."""

    name: str
    stage: str = ""
    fraction: float = 0.0
    stopping: bool = False
    stage_start: float = 0.0
    """Progress at the start of this stage."""

    def at(self, stage: str, fraction: float) -> Activity:
        """Return the activity with a stage's progress.

        Each stage takes a fifth of the remaining progress, as the number of stages is unknown, so
        that progress never decreases and is never complete before the end.

        Examples
        --------
        >>> now = Activity("Analysing").at("load", 1.0)
        >>> now.fraction, round(now.at("brain", 0.0).fraction, 2), now.at("load", 0.5).fraction
        (0.2, 0.2, 0.2)
        """
        start = self.stage_start if stage == self.stage else self.fraction
        progress = start + (1 - start) * _STAGE_FRACTION * min(max(fraction, 0.0), 1.0)
        return replace(self, stage=stage, fraction=max(self.fraction, progress), stage_start=start)


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure with its cause and the next step."""

    title: str
    found: str
    expected: str = ""
    next_step: str = ""
    details: str = ""
    cause: str = ""
    """Cause, by which a later success clears it; empty if the next act clears it."""

    @property
    def sentence(self) -> str:
        """The observation, as a sentence."""
        return f"Found {self.found}." if self.expected else f"{self.found}."


class Notice(Enum):
    """Kind of a message that a later event clears."""

    OTHER = auto()
    HELP = auto()
    """How to prompt, while its key is held."""
    PREPARING = auto()
    """The first prompt is being prepared."""
    BUSY = auto()
    """A prompt is being answered, so that other acts wait."""
    WAITING = auto()
    """An answer of the network takes long."""


@dataclass(frozen=True, slots=True)
class Edit:
    """An outline that is being drawn."""

    candidate: int
    """Id of the candidate, or `NEW` or `DRAWN_CAVITY` (`choices.tools`)."""
    tracking_uid: str
    continues_draft: bool = False
    """Whether it continues the strokes of an earlier session."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """State of the window."""

    study: Study | None = None
    identity: StudyIdentity = field(default_factory=StudyIdentity)
    result: Result | None = None
    """The result as it was made or reopened: its engine and trace, and the network's outlines."""
    analysis: Analysis | None = None
    """The analysis of the result, with the reader's review and outlines."""
    log: ReviewLog = field(default_factory=ReviewLog)
    """The log of that review; acts change a copy (`ReviewSession.log`)."""
    overlays: Overlays | None = None
    choices: Choices = field(default_factory=Choices)
    preliminary: PreliminaryFindings | None = None
    """Preliminary candidates while the analysis runs."""
    activity: Activity | None = None
    problem: Problem | None = None
    message: str = ""
    notice: Notice = Notice.OTHER
    """Kind of the message."""
    declined: bool = False
    """Whether the message is the reason why an act was not done."""
    request: Request | None = None
    """How the open study was requested; None if napari read it."""
    query: Query | None = None
    edit: Edit | None = None
    """The outline that is being drawn."""
    tools: Tools = field(default_factory=Tools)
    draft: OutlineDraft | None = None
    """Interrupted strokes of an earlier session."""
    probability: NDArray[np.float32] | None = None
    """Whole-tumour probability on the working grid, once a probability range was requested."""
    marks: tuple[Point, ...] = ()
    """The reader's marks, RAS+ mm."""
    typed: Mapping[str, str] = field(default_factory=dict)
    """Typed reasons without a decision, by tracking UID."""

    @property
    def review(self) -> Review:
        """The review of the analysis; empty without one."""
        return _NO_REVIEW if self.analysis is None else self.analysis.review

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates of the analysis; empty without one."""
        return () if self.analysis is None else self.analysis.findings.candidates

    @property
    def listed(self) -> tuple[Candidate, ...]:
        """The candidates at or above the threshold, both rounded to whole percents as shown.

        Candidates added by a reader have no score and are always listed.
        """
        minimum = self.choices.threshold - _HALF_PERCENT
        return tuple(c for c in self.candidates if c.score is None or c.score >= minimum)

    @property
    def listed_preliminary(self) -> tuple[PreliminaryCandidate, ...]:
        """The preliminary candidates at or above the threshold; empty once there is an analysis."""
        if self.preliminary is None or self.analysis is not None:
            return ()
        minimum = self.choices.threshold - _HALF_PERCENT
        return tuple(c for c in self.preliminary.candidates if c.score >= minimum)

    @property
    def shown_candidates(self) -> tuple[Candidate | PreliminaryCandidate, ...]:
        """The listed candidates, before the analysis preliminary ones."""
        return self.listed or self.listed_preliminary

    @property
    def listed_ids(self) -> list[int]:
        """Ids of the shown candidates."""
        return [candidate.id for candidate in self.shown_candidates]

    @property
    def focused(self) -> Candidate | None:
        """The candidate in focus; None unless it is listed."""
        return next((c for c in self.listed if c.id == self.choices.candidate), None)

    @property
    def edited(self) -> Candidate | None:
        """The candidate whose outline is being drawn; None for a new one and the cavity."""
        return next((c for c in self.candidates if c.id == self.editing), None)

    @property
    def evidence_sequences(self) -> tuple[MrSequence, ...]:
        """The sequences with a contribution map, or for which one can be computed.

        None with a single sequence.
        """
        if self.result is None:
            return ()
        evidence = self.result.analysis.volumes.evidence
        sequences: tuple[MrSequence, ...] = ()
        if evidence is not None:
            sequences = tuple(evidence.shares)
        elif self.result.can_explain:
            sequences = self.result.analysis.prepared.sequences
        return sequences if len(sequences) > 1 else ()

    @property
    def editing(self) -> int | None:
        """Id of the candidate whose outline is being drawn; None if none is."""
        return None if self.edit is None else self.edit.candidate

    @property
    def edited_uid(self) -> str:
        """Tracking UID of the candidate whose outline is being drawn; empty if none is."""
        return "" if self.edit is None else self.edit.tracking_uid

    @property
    def analysing(self) -> bool:
        """Whether an analysis runs."""
        return self.activity is not None and self.activity.name == ANALYSING

    def reason_of(self, tracking_uid: str) -> str:
        """Return the typed reason for a candidate, else that of the last decision."""
        event = self.review.of(tracking_uid)
        return self.typed.get(tracking_uid, (event.reason if event else None) or "")


def without_preliminary(state: State, default_overlay: Overlay) -> dict[str, Any]:
    """Return the changes that remove preliminary candidates and the focus on them.

    Without an analysis an automatically shown overlay is removed too.
    """
    if state.preliminary is None:
        return {}
    keeps_overlay = state.analysis is not None or state.choices.overlay_chosen
    overlay = state.choices.overlay if keeps_overlay else default_overlay
    return {"preliminary": None, "choices": replace(state.choices, candidate=None, overlay=overlay)}


def only_progress_differs(old: State, new: State) -> bool:
    """Whether two states differ only in the progress of a job."""
    if old.activity is None or new.activity is None:
        return False
    names = (name for name in State.__dataclass_fields__ if name != "activity")
    return all(getattr(old, name) is getattr(new, name) for name in names)


def shown_sequence(state: State) -> MrSequence | None:
    """Return the shown sequence: the other one while the comparison key is held."""
    study, choices = state.study, state.choices
    swapped = choices.views.swapped and choices.views.compared is None
    if study is None or choices.sequence is None or not swapped:
        return choices.sequence
    return other_sequence(study, choices)


def compared_now(state: State) -> ComparisonImages | None:
    """Return the images shown instead of the sequence while the comparison key is held."""
    views, sequence = state.choices.views, state.choices.sequence
    compared = views.compared if views.swapped else None
    return compared if compared is not None and sequence in compared.volumes else None


def other_sequence(study: Study, choices: Choices) -> MrSequence | None:
    """Return the sequence for comparison: the previously shown one, else the next."""
    available = tuple(study.series)
    previous = choices.previous_sequence
    if previous in available and previous is not choices.sequence:
        return previous
    shown = choices.sequence
    return after(available, shown) if shown in available else shown
