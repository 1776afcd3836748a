"""Records of monitoring: results as they are counted, without patient names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from lesionlens.base.labels import ReviewState


@dataclass(frozen=True, slots=True)
class PromptEffort:
    """Effort of a reader to outline one candidate with prompts."""

    prompts: int
    seconds: float
    """From the start of the edit to the last prompt."""


@dataclass(frozen=True, slots=True)
class MonitoredCandidate:
    """One candidate with each reader's last verdict."""

    tracking_uid: str
    """Tracking UID, the same in every reader's copy of a result."""
    score: float
    """0 to 1."""
    volume_ml: float | None
    """Whole tumour."""
    uncertainty: float | None
    """0 to 1."""
    verdicts: Mapping[str, ReviewState]
    """By reader; "" for an unnamed reader."""
    added_by: str | None = None
    """Reader who added it, "" for an unnamed one; None for the network's."""
    prompt_efforts: Mapping[str, PromptEffort] = field(default_factory=dict)
    """By reader, if the outline was made or corrected with prompts."""
    is_other_finding: bool = False
    """Whether it is listed separately, as probably not tumour."""

    @property
    def added(self) -> bool:
        """Whether a reader added it."""
        return self.added_by is not None


@dataclass(frozen=True, slots=True)
class MonitoredStudy:
    """One result folder."""

    name: str
    """Name of the folder."""
    day: date
    engine: str
    """Name, version and first digits of the weights' SHA-256."""
    candidates: tuple[MonitoredCandidate, ...]
    """The network's candidates, and those added by readers."""
    failed_checks: tuple[str, ...] = ()
    brain_ml: float | None = None
    registration: float | None = None
    """Volume of the brain; lowest registration quality."""
    images: Mapping[str, float] = field(default_factory=dict)
    """Image features, see `reading.image_features`; may be empty."""
    started: str = ""
    """When the analysis began, ISO 8601; copies of it share this."""

    @property
    def flagged(self) -> tuple[MonitoredCandidate, ...]:
        """The network's candidates, without those that are listed separately."""
        return tuple(c for c in self.candidates if not (c.added or c.is_other_finding))

    @property
    def other_findings(self) -> tuple[MonitoredCandidate, ...]:
        """The network's candidates that are listed separately."""
        return tuple(candidate for candidate in self.candidates if candidate.is_other_finding)

    @property
    def week(self) -> str:
        """ISO week, such as 2026-W07."""
        year, week, _ = self.day.isocalendar()
        return f"{year}-W{week:02d}"
