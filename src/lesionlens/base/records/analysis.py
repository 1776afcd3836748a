"""The whole of one analysis: all that an exporter may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import MrSequence, Region, without_enhancing
from lesionlens.base.records.arrays import Volume, enhancing_as_core
from lesionlens.base.records.attention import AttentionMaps
from lesionlens.base.records.evidence import SequenceEvidence
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.followup import Comparison, Measured, TimePoint, measures_of
from lesionlens.base.records.prediction import EngineInfo
from lesionlens.base.records.response import SignedMeasure
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.base.run_context import StageTime


@dataclass(frozen=True, slots=True, eq=False)
class Volumes:
    """Results on the native grid of the reference sequence."""

    labels: Volume
    """Volume of uint8. 0 background, 1 core, 2 oedema, 3 enhancing; non-zero exactly where a
    candidate is."""
    probability: Mapping[Region, Volume]
    attention: Mapping[Region, Volume]
    """Mapping of Region to Volume of float32. 0 to 1; empty if the engine gives none."""
    uncertainty: Volume | None = None
    """Volume of float32 or None. 0 to 1."""
    evidence: SequenceEvidence | None = None
    """What each sequence adds at every voxel, on the grid of the first pass."""
    doubtful: Volume | None = None
    """Volume of uint16 or None. Number of the doubtful part of each voxel, 0 elsewhere; None if
    there is none."""

    def without_enhancing(self) -> Volumes:
        """Return them without enhancing tumour: what is labelled so belongs to the core."""
        labels = enhancing_as_core(self.labels.data)
        return replace(
            self,
            labels=self.labels if labels is self.labels.data else Volume(labels, self.labels.grid),
            probability=without_enhancing(self.probability),
            attention=without_enhancing(self.attention),
        )


@dataclass(frozen=True, slots=True)
class Document:
    """A DICOM document that was written before, by the UIDs that it is named with."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """How it was made."""

    engine: EngineInfo
    """Name, version, weights."""
    device: str
    """Such as "cpu (2 threads)" or the GPU's name."""
    stages: tuple[StageTime, ...]
    """Seconds and peak memory."""
    versions: Mapping[str, str]
    """Of this package and of what decides results."""
    inputs: tuple[tuple[str, str], ...]
    """Tuple of (name, SHA-256). The files read, by path below the study."""
    started: str
    """ISO 8601, UTC."""
    notices: tuple[str, ...] = ()
    """All warnings of the run."""
    trained_on: tuple[MrSequence, ...] = ()
    """The sequences of this study that the weights were trained on: results on it are too good."""
    documents: tuple[Document, ...] = ()
    """Reports that were written of it before."""


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """What the network drew, where a reader redrew some of it (see `findings.edits`)."""

    labels: Volume
    findings: Findings

    def without_enhancing(self) -> Original:
        """Return it without enhancing tumour."""
        labels = Volume(enhancing_as_core(self.labels.data), self.labels.grid)
        return Original(labels, self.findings.without_enhancing())


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything known of one analysed study; the one argument of every exporter.

    `original` is there where readers redrew outlines: `volumes.labels` and `findings` are theirs.
    `options` is what the user asked of the files; `followup` compares with a prior examination.

    Without T1c nothing of it is enhancing tumour, whoever drew it: an engine, a reader, a mask that
    was opened or an earlier version. What is marked so belongs to the core.
    """

    study: Study
    prepared: PreparedStudy
    maps: AttentionMaps | None
    volumes: Volumes
    findings: Findings
    run: RunInfo
    review: Review = field(default_factory=Review)
    original: Original | None = None
    options: ExportOptions = field(default_factory=ExportOptions)
    followup: Comparison | None = None

    def __post_init__(self) -> None:
        if self.prepared.has_t1c:
            return
        for name in ("maps", "volumes", "findings", "review", "original"):
            held = getattr(self, name)
            if held is not None:
                object.__setattr__(self, name, held.without_enhancing())

    @property
    def compared(self) -> Comparison | None:
        """The comparison with a prior examination, by the outlines and decisions of now."""
        if self.followup is None:
            return None
        return self.followup.at(self.findings.candidates, self.review)

    @property
    def response_outdated(self) -> bool:
        """Whether the response that holds was signed on other measures than those of now.

        Without the earlier examinations, as when reopened from DICOM, those of this one count.
        """
        signed, found = self.review.response, self.compared
        if signed is None:
            return False
        if found is None:
            state = self.review.state_of
            here = (Measured.of(c, state(c.tracking_uid)) for c in self.findings.candidates)
            now = measures_of((TimePoint("", None, tuple(here)),))
            then = tuple(one for one in signed.measures if one.ago == 0)
        else:
            now, then = measures_of(found.points), signed.measures
        return len(now) != len(then) or not all(map(SignedMeasure.same, now, then))

    def images(self) -> Mapping[str, NDArray[np.float32]]:
        """Return each present sequence on the working grid (what pictures are drawn from)."""
        return {
            sequence.value: self.prepared.channels[index]
            for index, sequence in enumerate(type(self.prepared.reference))
            if self.prepared.present[index]
        }
