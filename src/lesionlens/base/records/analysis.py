"""The record of one complete analysis, the input of all exporters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.labels import Label, MrSequence, Region, Source, without_enhancing
from lesionlens.base.records.arrays import Volume, enhancing_as_core
from lesionlens.base.records.attention import AttentionMaps, SequenceEvidence
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.findings import Candidate, Findings
from lesionlens.base.records.followup import (
    Comparison,
    LesionMeasurement,
    TimePoint,
    are_same,
    is_outdated,
    measures_of,
    with_edits,
)
from lesionlens.base.records.prediction import MASK, EngineInfo
from lesionlens.base.records.response import SignedMeasure
from lesionlens.base.records.review import CAVITY, Review
from lesionlens.base.records.study import PreparationStep, PreparedStudy, Study
from lesionlens.base.run_context import StageTime

_UNTIL_SIGNED = re.compile(
    r"The candidates have changed: the study must be signed again"
    r"|\d+ of these candidates now have another outline: check them"
)
"""Notices on a review that was continued with a new analysis."""


def without_settled(notices: Iterable[str], review: Review) -> tuple[str, ...]:
    """Return notices, each once, without those that the signature of a review has settled."""
    signed = review.signed is not None
    return tuple(n for n in dict.fromkeys(notices) if not (signed and _UNTIL_SIGNED.fullmatch(n)))


@dataclass(frozen=True, eq=False)
class Volumes:
    """Results on the native grid of the reference sequence."""

    labels: Volume
    """Volume of uint8. 0 background, 1 core, 2 oedema, 3 enhancing; non-zero exactly in candidates.
    """
    probability: Mapping[Region, Volume]
    attention: Mapping[Region, Volume]
    """Mapping of Region to Volume of float32. 0 to 1; empty if the engine returns no trace."""
    uncertainty: Volume | None = None
    """Volume of float32 or None. 0 to 1."""
    evidence: SequenceEvidence | None = None
    """Contribution of each sequence at every voxel, on the grid of the first pass."""
    cavity: Volume | None = None
    """Volume of bool or None. The resection cavity; None from an engine that outlines none."""

    @property
    def all_labels(self) -> Volume:
        """The labels with the resection cavity where no tumour is outlined."""
        labels = self.labels
        if self.cavity is None or not self.cavity.data.any():
            return labels
        inside = self._without_tumour(self.cavity)
        return Volume(np.where(inside, np.uint8(Label.CAVITY), labels.data), labels.grid)

    @cached_property
    def cavity_ml(self) -> float | None:
        """Volume of the resection cavity; None if the engine outlines none."""
        if self.cavity is None:
            return None
        return self.labels.grid.volume_ml(self._without_tumour(self.cavity))

    def _without_tumour(self, cavity: Volume) -> NDArray[np.bool_]:
        return np.asarray(cavity.data & (self.labels.data == Label.BACKGROUND))


@dataclass(frozen=True, slots=True)
class Document:
    """A DICOM document written earlier, identified by its UIDs."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """How the analysis was made."""

    engine: EngineInfo
    """Name, version, weights."""
    device: str
    """Such as "cpu (2 threads)" or the GPU's name."""
    stages: tuple[StageTime, ...]
    """Seconds and peak memory."""
    versions: Mapping[str, str]
    """Versions of this package and of the packages that affect results."""
    inputs: tuple[tuple[str, str], ...]
    """Tuple of (name, SHA-256). Input files, by path below the study."""
    started: str
    """ISO 8601, UTC."""
    notices: tuple[str, ...] = ()
    trained_on: tuple[MrSequence, ...] = ()
    """The sequences of this study that were in the training data: results on it are too optimistic.
    """
    documents: tuple[Document, ...] = ()
    """Reports that were exported earlier."""
    series: Mapping[MrSequence, str] = field(default_factory=dict)
    """Digest of each sequence's files (`provenance.joint_sha256`)."""
    redrawn: frozenset[str] = frozenset()
    """Tracking UIDs of candidates that were decided on before this analysis, when they had a
    different outline; a later decision or signature confirms the outline."""
    omitted: int = 0
    """Number of candidates that no reader accepted and that the DICOM objects, from which this
    result was made, therefore omit."""
    omitted_decided: int = 0
    """Number of those that a reader had decided on."""
    preparation: tuple[PreparationStep, ...] | None = None
    """Steps of the preparation for the analysis of a result that was opened again, whose images may
    be prepared in another way now; None: those of `Analysis.prepared`."""

    @property
    def digests(self) -> frozenset[str]:
        """SHA-256 of the input files, whatever they are called."""
        return frozenset(sha256 for _, sha256 in self.inputs)

    @property
    def made_by(self) -> str:
        """What outlined the lesions, in words: engine, weights and release, or a mask."""
        engine = self.engine
        if engine.name == MASK:
            return MASK
        parts = [f"{engine.name} {engine.version}"]
        if engine.weights_sha256:
            parts.append(f"weights {engine.weights_sha256[:8]}")
        if release := self.versions.get("lesionlens"):
            parts.append(f"LesionLens {release}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """The network's own outlines, or those of an opened mask, without readers' edits."""

    labels: Volume
    findings: Findings
    cavity: Volume | None = None


def _without_enhancing(part: Any) -> Any:
    """Return a part of an analysis as for a study without T1c: what enhances belongs to the core.

    Volumes and diameters of the enhancing part become unknown.
    """
    match part:
        case Volume():
            labels = enhancing_as_core(part.data)
            return part if labels is part.data else Volume(labels, part.grid)
        case Volumes():
            return replace(
                part,
                labels=_without_enhancing(part.labels),
                probability=without_enhancing(part.probability),
                attention=without_enhancing(part.attention),
            )
        case AttentionMaps():
            return replace(
                part,
                maps=without_enhancing(part.maps),
                raw_range=without_enhancing(part.raw_range),
                checks=without_enhancing(part.checks),
            )
        case Review():
            relabelled = {
                digest: replace(outline, labels=enhancing_as_core(outline.labels))
                for digest, outline in part.outlines.items()
                if (outline.labels == Label.ENHANCING).any()
            }
            return part.with_outlines({**part.outlines, **relabelled}) if relabelled else part
        case Candidate() if part.volume_ml.get(Region.ET) is None and part.rano_measurable is None:
            return part
        case Candidate():
            diameters = ("longest_axial_diameter_mm", "perpendicular_diameter_mm")
            unknown: dict[str, Any] = dict.fromkeys(
                diameters if part.volume_ml.get(Region.ET) else ()
            )
            volume_ml = {**part.volume_ml, Region.ET: None}
            return replace(part, volume_ml=volume_ml, rano_measurable=None, **unknown)
        case Findings():
            return replace(part, candidates=tuple(map(_without_enhancing, part.candidates)))
        case Original():
            labels, findings = map(_without_enhancing, (part.labels, part.findings))
            return replace(part, labels=labels, findings=findings)
    return part


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """All results of one analysed study; the only argument of every exporter.

    Without T1c, enhancing tumour is relabelled as core, whether it comes from an engine, a reader
    or an opened mask.
    """

    study: Study
    prepared: PreparedStudy
    maps: AttentionMaps | None
    volumes: Volumes
    """On the native grid; labels with the outlines that readers edited."""
    findings: Findings
    """With the outlines that readers edited."""
    run: RunInfo
    review: Review = field(default_factory=Review)
    original: Original | None = None
    """The network's outlines, if readers edited them (see `findings.edits`)."""
    options: ExportOptions = field(default_factory=ExportOptions)
    """The user's export options."""
    followup: Comparison | None = None
    """Comparison with a prior examination."""

    def __post_init__(self) -> None:
        if self.has_t1c:
            return
        for name in ("maps", "volumes", "findings", "review", "original"):
            object.__setattr__(self, name, _without_enhancing(getattr(self, name)))

    def with_findings(self, change: Callable[[Findings], Findings]) -> Analysis:
        """Return a copy with changed findings, the network's own too."""
        original = self.original
        if original is not None:
            original = replace(original, findings=change(original.findings))
        return replace(self, findings=change(self.findings), original=original)

    def renamed(self, new_uids: Mapping[str, str]) -> Analysis:
        """Return a copy whose candidates have other tracking UIDs, by the current ones.

        The comparison is unchanged.
        """
        redrawn = frozenset(new_uids.get(uid, uid) for uid in self.run.redrawn)
        return replace(
            self.with_findings(lambda findings: findings.renamed(new_uids)),
            review=self.review.renamed(new_uids),
            run=replace(self.run, redrawn=redrawn),
        )

    @property
    def network(self) -> Original:
        """The outlines without readers' edits."""
        volumes = self.volumes
        return self.original or Original(volumes.labels, self.findings, volumes.cavity)

    @property
    def reference(self) -> MrSequence:
        """Sequence whose grid the volumes have."""
        return self.prepared.reference

    @property
    def has_t1c(self) -> bool:
        """Whether enhancement can be assessed."""
        return self.prepared.has_t1c

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels that the sequences can show, and the resection cavity if there is one."""
        return (*self.prepared.labels, *((Label.CAVITY,) if self.volumes.cavity_ml else ()))

    @property
    def preparation(self) -> tuple[PreparationStep, ...]:
        """Steps of the preparation of the images that were analysed."""
        own_steps = self.run.preparation
        return self.prepared.steps if own_steps is None else own_steps

    @property
    def outline_source(self) -> Source:
        """Source of outlines without a candidate: the engine or an imported segmentation."""
        is_imported = self.run.engine.name == MASK or any(
            candidate.source is Source.SEGMENTATION for candidate in self.findings.candidates
        )
        return Source.SEGMENTATION if is_imported else Source.NETWORK

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings, without duplicates, in processing order; then the failed checks."""
        failed = (check.message for check in self.findings.quality if not check.passed)
        notices = (
            *self.study.notices,
            *self.prepared.notices,
            *self.run.notices,
            *self.findings.notices,
        )
        return without_settled((*notices, *failed), self.review)

    @property
    def compared(self) -> Comparison | None:
        """The comparison with a prior examination, with the current outlines and decisions."""
        return with_edits(
            self.followup, self.findings.candidates, self.review, self.volumes.cavity_ml
        )

    @property
    def decided_count(self) -> int:
        """Number of decided candidates; deferred ones are not decided."""
        state_of = self.review.state_of
        return sum(state_of(c.tracking_uid).decided for c in self.findings.candidates)

    @property
    def review_counts(self) -> tuple[int, int]:
        """How many candidates are decided, and how many there are.

        Those that the DICOM objects of an imported result omitted are included.
        """
        run, total = self.run, len(self.findings.candidates)
        return self.decided_count + run.omitted_decided, total + run.omitted

    @property
    def response_outdated(self) -> bool:
        """Whether the signed response is based on measurements that have changed since.

        If the earlier examinations are not available, as when reopened from DICOM, only this one is
        compared, by its figures if its lesions had the tracking UIDs of the prior's. Lesions that
        the DICOM objects omitted are not compared.
        """
        signed, comparison = self.review.response, self.compared
        if signed is None:
            return False
        if comparison is not None:
            return is_outdated(signed, comparison.points)
        state, cavity_ml = self.review.state_of, self.volumes.cavity_ml
        lesions = (LesionMeasurement.of(c, state(c.tracking_uid)) for c in self.findings.candidates)
        current = measures_of((TimePoint("", None, tuple(lesions), cavity_ml=cavity_ml),))
        as_signed = self._not_omitted(m for m in signed.measures if m.ago == 0)
        if [m.tracking_uid for m in current] != [m.tracking_uid for m in as_signed]:
            current, as_signed = _without_uids(current), _without_uids(as_signed)
        return not are_same(current, as_signed)

    def _not_omitted(self, measures: Iterable[SignedMeasure]) -> tuple[SignedMeasure, ...]:
        """Return measurements without those of lesions that the DICOM objects omitted."""
        every = tuple(measures)
        known_uids = {CAVITY, *(c.tracking_uid for c in self.findings.candidates)}
        known = tuple(measure for measure in every if measure.tracking_uid in known_uids)
        return known if len(every) - len(known) <= self.run.omitted else every


def _without_uids(measures: Iterable[SignedMeasure]) -> tuple[SignedMeasure, ...]:
    """Return measurements without tracking UIDs, in the order of their figures."""
    anonymous = (replace(measure, tracking_uid="") for measure in measures)
    return tuple(sorted(anonymous, key=lambda m: [(f is None, f or 0.0) for f in m.figures]))
