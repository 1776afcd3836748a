"""What the JSON files of a result hold: findings.json, run.json and review.json as models.

Exporters write through these models and the review reads through them, so that a file is never
understood in two ways. docs/findings.schema.json is the first one's public form.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lesionlens.base.labels import RESEARCH_USE_NOTICE, MrSequence, Region, ReviewState
from lesionlens.records.attention import MapChecks
from lesionlens.records.review import ReviewAct

PointMm = tuple[float, float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class VolumeMl(_Strict):
    """Volumes in ml; null where the region could not be measured."""

    wt: float | None
    tc: float | None
    et: float | None


class LocationRow(_Strict):
    """Where in words; approximate."""

    side: str | None
    region: str | None


class AttentionRow(_Strict):
    """How the attention map fits the candidate."""

    peak_inside: bool | None
    mass_inside: float | None


class RelevanceRow(_Strict):
    """Signed Shapley values in units of the score; with `none` they sum to it."""

    t1c: float | None
    flair: float | None
    t2: float | None
    t1: float | None
    none: float | None


class SequenceScoresRow(_Strict):
    """A score for each sequence; null for an absent one."""

    t1c: float | None
    flair: float | None
    t2: float | None
    t1: float | None


class ResemblanceRow(_Strict):
    """What a candidate looks like to the engine; shares that add up to one."""

    tumour_like: float
    white_matter_lesion: float
    normal_enhancement: float


class ReviewRow(_Strict):
    """What a reader last said."""

    state: ReviewState
    reader: str | None
    time: str | None
    reason: str | None


class CandidateRow(_Strict):
    """One flagged region; millimetres are patient RAS+."""

    id: int
    tracking_uid: str
    score: float
    centroid_mm: PointMm
    bounding_box_mm: tuple[PointMm, PointMm]
    peak_mm: PointMm
    volume_ml: VolumeMl
    longest_axial_diameter_mm: float | None
    perpendicular_diameter_mm: float | None
    rano_measurable: bool | None
    location: LocationRow
    uncertainty: float | None
    attention: AttentionRow
    sequence_relevance: RelevanceRow | None
    score_alone: SequenceScoresRow | None = None
    score_left_out: SequenceScoresRow | None = None
    resemblance: ResemblanceRow | None = None
    review: ReviewRow


class QualityRow(_Strict):
    """One check of the input."""

    check: str
    passed: bool
    message: str


class SequenceRow(_Strict):
    """Which series a sequence came from, and on what evidence."""

    file: str
    detected_by: str


class FindingsFile(_Strict):
    """The whole of findings.json."""

    schema_: Literal["lesionlens/findings/1"] = Field(
        default="lesionlens/findings/1", validation_alias="schema", serialization_alias="schema"
    )
    candidates: tuple[CandidateRow, ...]
    quality: tuple[QualityRow, ...]
    reference: MrSequence
    sequences: dict[MrSequence, SequenceRow]
    conclusion: str
    warnings: tuple[str, ...] = ()


class StageRow(_Strict):
    """What one stage took."""

    name: str
    seconds: float
    peak_memory_mib: float


class InputRow(_Strict):
    """One file that was read, by its path below the study."""

    file: str
    sha256: str


class StepRow(_Strict):
    """One step of preparation."""

    step: str
    sequence: str | None
    done: bool
    message: str
    figure: float | None


class AttentionMethod(_Strict):
    """How the maps were made, the weights' range before they were scaled to 0-1, and the checks."""

    method: str
    layers: tuple[str, ...]
    raw_range: dict[Region, tuple[float, float]]
    trust: dict[Region, MapChecks] = {}


def left_out_warning(name: str, reason: str) -> str:
    """Return the warning that a file, or what an exporter writes, is missing."""
    return f"{name} was left out: {reason}"


class RunFile(_Strict):
    """The whole of run.json."""

    schema_: Literal["lesionlens/run/1"] = Field(
        default="lesionlens/run/1", validation_alias="schema", serialization_alias="schema"
    )
    started: str
    engine: str
    engine_version: str
    weights_sha256: str | None
    calibrated: bool
    device: str
    versions: dict[str, str]
    stages: tuple[StageRow, ...]
    seconds: float
    peak_memory_mib: float
    preparation: tuple[StepRow, ...]
    attention: AttentionMethod | None = None
    study_uid: str | None = None
    warnings: tuple[str, ...]
    left_out: dict[str, str] = {}
    inputs: tuple[InputRow, ...]
    notice: str = RESEARCH_USE_NOTICE


class EventRow(_Strict):
    """One act of a reader."""

    tracking_uid: str
    state: ReviewState
    reader: str | None
    time: str
    reason: str | None = None
    act: ReviewAct = ReviewAct.MARK
    outline: str | None = None


class OutlineRow(_Strict):
    """An outline that a reader drew; its voxels are in `review_edits/<sha256>.nii.gz`."""

    sha256: str
    tracking_uid: str
    corner: tuple[int, int, int]


class SpokenOf(_Strict):
    """What an event's tracking UID means, so that a review can be read on its own."""

    id: int
    tracking_uid: str
    place: str
    centroid_mm: PointMm
    volume_ml: float | None


class ReviewFile(_Strict):
    """The whole of review.json."""

    schema_: Literal["lesionlens/review/1"] = Field(
        default="lesionlens/review/1", validation_alias="schema", serialization_alias="schema"
    )
    study_uid: str | None = None
    candidates: tuple[SpokenOf, ...] = ()
    events: tuple[EventRow, ...] = ()
    outlines: tuple[OutlineRow, ...] = ()
