"""Records of a worklist: studies, and the acts of readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from lesionlens.base.labels import Phase
from lesionlens.base.records.review import ReviewEvent, UnaidedMark


class StudyState(StrEnum):
    """One reader's progress with one study."""

    NEW = "new"
    ANALYSED = "analysed"
    IN_REVIEW = "in review"
    SIGNED = "signed"


class Arm(StrEnum):
    """Part of the analysis that a reader is shown."""

    UNAIDED = "unaided"
    CANDIDATES = "candidates"
    MAPS = "candidates and maps"

    @property
    def aided(self) -> bool:
        """Whether anything of the analysis is shown."""
        return self is not Arm.UNAIDED


@dataclass(frozen=True, slots=True)
class ReadKey:
    """Key of a read; readers and sessions of a reader study are separate."""

    study: str
    """Name of the study in the worklist."""
    reader: str
    """The reader, as set in the preferences; empty if unnamed."""
    session: int = 0
    """Session of a reader study, from 1; 0 outside one."""
    arm: Arm = Arm.MAPS
    """Part of the analysis that is shown; outside a reader study all of it."""


@dataclass(frozen=True, slots=True)
class StudyEntry:
    """One study of a worklist."""

    name: str
    """Name of the study, and of its result folder below the list's."""
    place: str
    """Folder or file; empty while it is only in the archive."""
    patient: str = ""
    """Patient identifier; never a name."""
    date: str = ""
    """YYYY-MM-DD, empty if unknown."""
    sequences: tuple[str, ...] = ()
    """Available sequences; empty until the study is described."""
    study_uid: str = ""
    """Study Instance UID, if a folder has several studies, or the study is in an archive."""
    candidates: int | None = None
    """Number of flagged regions; None before the analysis."""
    highest: float | None = None
    """Highest score among them."""
    warnings: tuple[str, ...] = ()
    """Warnings of reading, checks and analysis."""
    analysis_warnings: tuple[str, ...] = ()
    """Those of `warnings` that only the result has; they may reveal its findings."""


class Status(StrEnum):
    """Outcome of a study's analysis."""

    ANALYSED = "analysed"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """Outcome of one study."""

    name: str
    status: Status
    """`STOPPED`: cancelled by the user; nothing was written."""
    exit_status: int
    """Exit status that `lesionlens analyze` would have had."""
    message: str
    """The conclusion, or the error."""
    seconds: float = 0.0
    """Wall time."""
    candidates: int = 0
    """Number of candidates, flagged or added by a reader."""
    engine: str = ""
    """Name, version and SHA-256 of the weights."""
    peak_memory_mib: float = 0.0
    """Peak memory of the process at the end of the study."""


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """A study as one reader sees it in the list."""

    entry: StudyEntry
    """The study; candidates and score are None if hidden from the reader."""
    state: StudyState
    """This reader's progress."""
    other_states: tuple[tuple[str, StudyState], ...] = ()
    """Tuple of (reader, StudyState). Progress of other readers, by name."""
    session: int = 0
    arm: Arm = Arm.MAPS
    """Session and arm of a reader study; otherwise 0 and all of the analysis."""
    analysed: bool = False
    """Whether the study was analysed, also if its findings are hidden from the reader."""

    @property
    def key(self) -> tuple[str, int]:
        """Key of the row: a study has one row per session of a reader study."""
        return self.entry.name, self.session


@dataclass(frozen=True, slots=True)
class Mark(UnaidedMark):
    """A position that a reader marked, before or after the analysis was shown."""

    phase: Phase = Phase.UNAIDED


@dataclass(frozen=True, slots=True)
class Read:
    """One reader's read of one study, derived from their acts."""

    key: ReadKey
    marks: tuple[Mark, ...] = ()
    """Marks that were not removed, oldest first, with their phase."""
    verdicts: tuple[ReviewEvent, ...] = ()
    """The last decision on each candidate."""
    unaided: str | None = None
    signed: str | None = None
    """Statements signed before the analysis was shown, and at the end."""
    unaided_seconds: float = 0.0
    aided_seconds: float = 0.0
    """Display time of the study, until the read was complete."""
    begun: str = ""
    acts: tuple[ReviewEvent, ...] = field(default=(), repr=False)

    def marks_of(self, phase: Phase) -> tuple[Mark, ...]:
        """Return the marks of one phase."""
        return tuple(mark for mark in self.marks if mark.phase is phase)

    @property
    def complete(self) -> bool:
        """Whether everything is signed."""
        return (self.signed if self.key.arm.aided else self.unaided) is not None
