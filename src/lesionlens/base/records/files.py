"""Pydantic models of the JSON files of a result: findings.json, run.json, review.json.

Exporters write and the review reads through the same models. docs/reference/findings.schema.json is
the first one's public form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from lesionlens.base.errors import ReadError, is_refusal, unreadable
from lesionlens.base.files import Model, read_model
from lesionlens.base.labels import (
    RESEARCH_USE_NOTICE,
    ComputePrecision,
    MrSequence,
    Region,
    ReviewState,
)
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.findings import (
    LESION_PARTS,
    Candidate,
    Considered,
    Findings,
    Location,
    Millilitres,
    Point,
    Score,
)
from lesionlens.base.records.response import SignedResponse
from lesionlens.base.records.review import Review, ReviewEvent, UnaidedRead
from lesionlens.base.records.study import PreparationStep, QualityCheck
from lesionlens.base.run_context import StageTime

if TYPE_CHECKING:
    from pydantic.main import IncEx

CONSIDERED = "considered.json"
"""File that contains a `ConsideredFile`."""
ORIGINAL = "review_edits/original"
"""The network's own outlines, and the comparison as computed, if readers edited outlines."""


class FileModel(BaseModel):
    """Frozen model that refuses undeclared fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def file_text(self, exclude: IncEx | None = None) -> str:
        """Return the content of the JSON file, without the fields to exclude."""
        return self.model_dump_json(by_alias=True, indent=1, exclude=exclude) + "\n"


def schema_field(name: str) -> Any:
    """Return the field `schema_`: name and version of a file's schema, stored as `schema`."""
    return Field(default=name, validation_alias="schema", serialization_alias="schema")


class ReviewRow(FileModel):
    """The last decision of a reader, as a row."""

    state: ReviewState
    reader: str | None
    time: str | None
    reason: str | None

    @classmethod
    def of(cls, event: ReviewEvent) -> ReviewRow:
        """Build the row of a decision or signature."""
        return cls(state=event.state, reader=event.reader, time=event.time, reason=event.reason)


_UNREVIEWED = ReviewRow(state=ReviewState.UNREVIEWED, reader=None, time=None, reason=None)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class CandidateRow(Candidate):
    """One flagged region; millimetres are patient RAS+."""

    review: ReviewRow

    @classmethod
    def of(cls, candidate: Candidate, review: Review) -> CandidateRow:
        """Build the row of a candidate with the reader's last decision."""
        event = review.decision_of(candidate.tracking_uid)
        last = _UNREVIEWED if event is None else ReviewRow.of(event)
        return cls(**_fields(candidate), review=last)

    @property
    def candidate(self) -> Candidate:
        """The candidate without its review, with figures rounded as in the file."""
        return Candidate(**_fields(self))


def _fields(candidate: Candidate) -> dict[str, Any]:
    return {field.name: getattr(candidate, field.name) for field in fields(Candidate)}


def as_stored(findings: Findings) -> Findings:
    """Return findings with figures rounded as in findings.json; see `rounded`."""
    return replace(findings, candidates=tuple(map(rounded, findings.candidates)))


def rounded(candidate: Candidate) -> Candidate:
    """Return a candidate with figures rounded as in findings.json.

    Window, report and a reopened result round each figure again for display; they agree only if all
    of them start from the same stored figure.
    """
    return CandidateRow.of(candidate, Review()).candidate


class SequenceRow(FileModel):
    """The series of a sequence and the evidence for its identification."""

    file: str
    detected_by: str


class FindingsFile(FileModel):
    """The whole of findings.json."""

    schema_: Literal["lesionlens/findings/1"] = schema_field("lesionlens/findings/1")
    candidates: tuple[CandidateRow, ...]
    quality: tuple[QualityCheck, ...]
    reference: MrSequence
    sequences: dict[MrSequence, SequenceRow]
    conclusion: str
    warnings: tuple[str, ...] = ()
    resection_cavity_ml: Millilitres | None = None
    """Volume of the resection cavity, which is not part of any candidate; null from an engine that
    outlines none."""
    signed: ReviewRow | None = None
    """The reader's signed statement on the whole study; null if unsigned."""

    @field_validator("candidates")
    @classmethod
    def _require_unique(cls, rows: tuple[CandidateRow, ...]) -> tuple[CandidateRow, ...]:
        for name in ("id", "tracking_uid"):
            if len({getattr(row, name) for row in rows}) < len(rows):
                raise ValueError(f"two candidates have the same {name}")
        return rows

    @property
    def unknown_parts(self) -> frozenset[Region]:
        """The parts of which no candidate's volume is known; none without a candidate."""
        return frozenset(
            region
            for region in LESION_PARTS
            if self.candidates and all(row.volume_ml.get(region) is None for row in self.candidates)
        )


class ConsideredRow(FileModel):
    """A region that scored below the threshold; millimetres are patient RAS+."""

    score: Score
    location: Location
    centroid_mm: Point
    peak_mm: Point
    volume_ml: Millilitres

    @classmethod
    def of(cls, region: Considered) -> ConsideredRow:
        """Build a row, without the voxels."""
        return cls(**{name: getattr(region, name) for name in cls.model_fields})

    @property
    def considered(self) -> Considered:
        """The region without its voxels, which are not stored."""
        return Considered(**dict(self))


class ConsideredFile(FileModel):
    """The whole of considered.json."""

    schema_: Literal["lesionlens/considered/1"] = schema_field("lesionlens/considered/1")
    considered: tuple[ConsideredRow, ...]


class InputRow(FileModel):
    """One input file, by its path below the study."""

    file: str
    sha256: str


class AttentionMethod(FileModel):
    """The method of the attention maps, their raw range before scaling to 0–1, and the checks."""

    method: str
    layers: tuple[str, ...]
    raw_range: dict[Region, tuple[float, float]]
    trust: dict[Region, MapChecks] = Field(default_factory=dict)


def trained_on_warning(sequences: Iterable[MrSequence]) -> str:
    """Return the warning that weights were trained on a study.

    Examples
    --------
    >>> trained_on_warning([MrSequence.T1])
    'The weights were trained on this study (T1): results here are better than on a new one.'
    """
    names = ", ".join(sequence.display_name for sequence in sequences)
    return (
        f"The weights were trained on this study ({names}): results here are better than on a new "
        "one."
    )


def left_out_warning(name: str, reason: str) -> str:
    """Return the warning that a file or an exporter's output is missing."""
    return f"{name} was left out: {reason}"


class RunFile(FileModel):
    """The whole of run.json."""

    schema_: Literal["lesionlens/run/1"] = schema_field("lesionlens/run/1")
    started: str
    engine: str
    engine_version: str
    weights_sha256: str | None
    calibrated: bool
    device: str
    precision: ComputePrecision | None = None
    threads: int | None = None
    versions: dict[str, str]
    stages: tuple[StageTime, ...]
    seconds: float
    peak_memory_mib: float
    preparation: tuple[PreparationStep, ...]
    attention: AttentionMethod | None = None
    study_uid: str | None = None
    warnings: tuple[str, ...]
    left_out: dict[str, str] = Field(default_factory=dict)
    inputs: tuple[InputRow, ...]
    series: dict[MrSequence, str] = Field(default_factory=dict)
    """Joint digest of each sequence's files."""
    trained_on: tuple[MrSequence, ...] = ()
    """The sequences of the study that were in the training data."""
    files: tuple[InputRow, ...] = ()
    """Every file of the result except run.json."""
    redrawn: tuple[str, ...] = ()
    """Tracking UIDs of candidates that were drawn anew since readers decided on them: see
    `RunInfo.redrawn`."""
    omitted: int = 0
    omitted_decided: int = 0
    """Candidates that the imported DICOM objects omitted, and those of them that a reader had
    decided on: see `RunInfo.omitted`."""
    notice: str = RESEARCH_USE_NOTICE


class OutlineRow(FileModel):
    """An outline edited by a reader; its voxels are in `review_edits/<sha256>.nii.gz`."""

    sha256: str
    tracking_uid: str
    corner: tuple[int, int, int]


class CandidateReference(FileModel):
    """The candidate that an event's tracking UID refers to, so that a review is self-contained."""

    id: int
    tracking_uid: str
    place: str
    centroid_mm: Point
    volume_ml: Millilitres | None


class ReviewFile(FileModel):
    """The whole of review.json."""

    schema_: Literal["lesionlens/review/1"] = schema_field("lesionlens/review/1")
    study_uid: str | None = None
    inputs_sha256: str | None = None
    """Digest of the analysed files."""
    candidates: tuple[CandidateReference, ...] = ()
    events: tuple[ReviewEvent, ...] = ()
    outlines: tuple[OutlineRow, ...] = ()
    unaided: tuple[UnaidedRead, ...] = ()
    responses: tuple[SignedResponse, ...] = ()


def read_run_file(folder: Path) -> RunFile:
    """Read the run.json of a result; raises `ReadError` if it is missing or not of LesionLens."""
    return read_part(folder / "run.json", RunFile)


def read_part(path: Path, model: type[Model]) -> Model:
    """Read a JSON file of a result; raises as `read_run_file`."""
    try:
        return read_model(path, model)
    except (OSError, ValueError) as error:
        raise unreadable_part(path, error) from error


def is_of_another_version(error: Exception | None) -> bool:
    """Return whether a file has another schema, or fields that this version does not know."""
    return isinstance(error, ValidationError) and any(
        each["type"] == "extra_forbidden"
        or (each["type"] == "literal_error" and each["loc"] == ("schema",))
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    )


def unreadable_part(path: Path, error: Exception | None = None) -> ReadError:
    """Return the error for a file that is not part of a LesionLens result, or cannot be read."""
    if is_refusal(error):
        return unreadable(error, path.name)
    if is_of_another_version(error):
        return ReadError(
            f"{path.name} was written by another version of LesionLens.",
            hint="Update LesionLens, or analyse the study again.",
        )
    return ReadError(
        f"{path.name} is missing, damaged or not written by LesionLens.",
        hint="Choose another folder, or analyse the study again.",
    )
