"""What a worklist knows: its studies, and every act of every reader on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from lesionlens.base.labels import Phase, ReviewState
from lesionlens.base.records.findings import Point
from lesionlens.base.records.review import ReviewEvent, UnaidedMark


class StudyState(StrEnum):
    """How far one reader is with one study."""

    NEW = "new"
    ANALYSED = "analysed"
    IN_REVIEW = "in review"
    SIGNED = "signed"


class Arm(StrEnum):
    """What a reader is shown of the analysis, once it is shown at all."""

    UNAIDED = "unaided"
    CANDIDATES = "candidates"
    MAPS = "candidates and maps"

    @property
    def aided(self) -> bool:
        """Whether anything of the analysis is shown."""
        return self is not Arm.UNAIDED


@dataclass(frozen=True, slots=True)
class ReadKey:
    """Whose read of which study: readers and sessions of a reader study are kept apart."""

    study: str
    """Its name in the worklist."""
    reader: str
    """As set in the preferences; empty if nobody is named."""
    session: int = 0
    """Of a reader study, from 1; 0 outside one."""
    arm: Arm = Arm.MAPS
    """What is shown; outside a reader study everything."""


@dataclass(frozen=True, slots=True)
class StudyEntry:
    """One study of a worklist."""

    name: str
    """Of the study, and of the folder of its result below the list's."""
    place: str
    """Folder or file; empty while it is in the archive alone."""
    patient: str = ""
    """Identifier; never a name."""
    date: str = ""
    """YYYY-MM-DD, empty if nothing says it."""
    sequences: tuple[str, ...] = ()
    """Present ones; empty before the study was described."""
    study_uid: str = ""
    """Where a folder holds several, or the study is in an archive."""
    candidates: int | None = None
    """Flagged regions; None before the analysis."""
    highest: float | None = None
    """Score of the first of them."""
    warnings: tuple[str, ...] = ()
    """Of reading, checks and analysis."""


class Status(StrEnum):
    """How far a study came."""

    ANALYSED = "analysed"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """What happened to one study."""

    name: str
    """Of the study."""
    status: Status
    """Stopped: the user requested it; nothing was written."""
    exit_status: int
    """That `lesionlens analyze` would have ended with."""
    message: str
    """The conclusion, or why there is none."""
    seconds: float = 0.0
    """Wall time."""
    candidates: int = 0
    """Flagged regions."""
    engine: str = ""
    """Name, version and SHA-256 of the weights."""
    peak_memory_mib: float = 0.0
    """Of the process, when the study ended."""


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """A study as one reader sees it in the list."""

    entry: StudyEntry
    """What is known of it; candidates and score are None while they are closed to the reader."""
    state: StudyState
    """How far this reader is."""
    others: tuple[tuple[str, StudyState], ...] = ()
    """Tuple of (reader, StudyState). How far the others are, by name."""
    session: int = 0
    arm: Arm = Arm.MAPS
    """Int and Arm. Of a reader study, else 0 and everything."""

    @property
    def key(self) -> tuple[str, int]:
        """Names the row: a study comes once in every session of a reader study."""
        return self.entry.name, self.session


@dataclass(frozen=True, slots=True)
class Mark(UnaidedMark):
    """A place that a reader marked, before or after the analysis was shown."""

    phase: Phase = Phase.UNAIDED


@dataclass(frozen=True, slots=True)
class ReaderVerdict:
    """What a reader last decided on one candidate."""

    tracking_uid: str
    state: ReviewState
    at_mm: Point | None
    confidence: int | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """One reader's read of one study, as their acts left it."""

    key: ReadKey
    """Whose, and of which study."""
    marks: tuple[Mark, ...] = ()
    """Those that were not taken back, oldest first; each says in which phase it was set."""
    verdicts: tuple[ReaderVerdict, ...] = ()
    """The last on each candidate."""
    unaided: str | None = None
    signed: str | None = None
    """What was signed before the analysis was shown, and at the end."""
    unaided_seconds: float = 0.0
    aided_seconds: float = 0.0
    """Time that the study was before the reader."""
    begun: str = ""
    acts: tuple[ReviewEvent, ...] = field(default=(), repr=False)

    def marks_of(self, phase: Phase) -> tuple[Mark, ...]:
        """Return the marks that were set in one phase."""
        return tuple(mark for mark in self.marks if mark.phase is phase)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to sign."""
        return (self.signed if self.key.arm.aided else self.unaided) is not None
