"""Rebuild a result from DICOM objects (source, SEG, SR), to continue a review elsewhere.

From LesionLens objects, candidates, labels, review and attention maps are restored; probabilities
and sequence relevance are not stored in them. Segmentations of other programs become unreviewed
candidates, measured here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.analysis.findings.edits import applied
from lesionlens.base import codes
from lesionlens.base.labels import DrawingMethod, Label, Region, ReviewState, Source
from lesionlens.base.provenance import versions
from lesionlens.base.records.analysis import Analysis, Document, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.attention import AttentionMaps
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.prediction import EngineInfo
from lesionlens.base.records.review import CAVITY, Outline, Review, ReviewEvent
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.imaging.reading.input_files import InputFiles, identity_of, inputs_of
from lesionlens.results.documents import predecessor_documents
from lesionlens.results.review import report_items
from lesionlens.results.review.segment_candidates import (
    core_notices,
    identified_components,
    measure_components,
    overlap_notices,
    renumbered,
    select_lesions,
    with_surroundings,
)
from lesionlens.results.review.segments import ReadSegment, SegmentKind, read_segments
from lesionlens.results.review.sent_maps import attention_maps, method_of
from lesionlens.results.review.sent_notices import identity_notices, omission_notices
from lesionlens.results.review.sent_objects import Objects, find_objects
from lesionlens.results.review.stated_lesions import StatedLesion, StatedLesions, stated_lesions

_OMISSION_NOTICE = (
    "Candidates that no reader accepted were not sent: attention within the others "
    "depends on them and is left empty"
)

_STATED = "Stated in the report that was opened: "


def from_dicom(path: Path, study: Study, prepared: PreparedStudy) -> Analysis:
    """Build a result from the DICOM objects in a folder.

    Parameters
    ----------
    path : Path
        A file, or a folder with the objects, with or without the source images.
    study : Study
        The opened study; its reference sequence gives the grid.

    Raises
    ------
    ReadError
        There is no Segmentation of this study, or it cannot be read.
    """
    objects, grid = find_objects(path, study), prepared.native
    segments = [] if objects.seg is None else read_segments(objects.seg, grid)
    cavities = [s for s in segments if s.kind is SegmentKind.CAVITY]
    lesions, selection_notices = select_lesions([s for s in segments if s not in cavities])
    report = objects.report
    reported = report_items.candidates_in(report)
    components = identified_components(lesions, grid)
    attention, attention_notices = attention_maps(objects.maps, grid)
    omits_some = report_items.omitted_count(report) > 0
    inputs = inputs_of(study)
    own_segments, own_report = objects.own_segments, objects.own_report
    stated = stated_lesions(lesions, reported, own_segments=own_segments, own_report=own_report)
    measured = measure_components(
        components,
        stated,
        None if omits_some else attention,
        prepared,
        f"from DICOM|{identity_of(study, inputs)}",
    )
    if not omits_some:
        measured = with_surroundings(measured, stated, attention.get(Region.WT), prepared)
    findings = renumbered(measured, stated)
    notices = (
        *selection_notices,
        *([] if own_segments else core_notices(lesions)),
        *identity_notices(objects, study, prepared, len(segments)),
        *overlap_notices(lesions),
        *attention_notices,
        *([_OMISSION_NOTICE] if omits_some else []),
        *omission_notices(report, reported, components.uids),
    )
    run = _run(objects, inputs, notices)
    analysis = Analysis(
        study=study,
        prepared=prepared,
        maps=_other_maps(objects, attention),
        volumes=_volumes(cavities, components.mask, findings, attention),
        findings=findings,
        run=run,
    )
    edits = _cavity_edit(cavities, analysis) if own_segments or own_report else Review()
    review = _review(findings, stated, report, edits)
    return _with_limitations(applied(replace(analysis, review=review)), report)


def _with_limitations(analysis: Analysis, report: Dataset) -> Analysis:
    """Add the limitations in a LesionLens report that opening the objects again did not find."""
    if not report_items.is_builtin(report):
        return analysis
    texts = (text.removeprefix(_STATED) for text in report_items.limitations_in(report))
    stated = tuple(
        f"{_STATED}{text}"
        for text in texts
        if not text.startswith(analysis.warnings)  # a notice on an edit may lack its last figure
    )
    return replace(analysis, run=replace(analysis.run, notices=(*analysis.run.notices, *stated)))


def _other_maps(
    objects: Objects, attention: Mapping[Region, NDArray[np.float32]]
) -> AttentionMaps | None:
    """Return the method of maps that are not attention; their values stand on the native grid."""
    maps = AttentionMaps(maps={}, raw_range={}, method=method_of(objects.maps), layers=())
    return None if not attention or maps.is_attention else maps


def _volumes(
    cavities: Sequence[ReadSegment],
    component_mask: ComponentMask,
    findings: Findings,
    attention: Mapping[Region, NDArray[np.float32]],
) -> Volumes:
    """Collect the volumes in the objects, on the native grid."""
    grid, masks = component_mask.grid, [cavity.mask for cavity in cavities]
    labels = np.where(findings.components > 0, component_mask.labels, np.uint8(0)).astype(np.uint8)
    return Volumes(
        labels=Volume(labels, grid),
        probability={},
        attention={region: Volume(data, grid) for region, data in attention.items()},
        cavity=Volume(np.logical_or.reduce(masks), grid) if masks else None,
    )


def _run(objects: Objects, inputs: InputFiles, notices: tuple[str, ...]) -> RunInfo:
    """Return the run information in the objects, as far as known."""
    seg, report = objects.seg, objects.report
    ds: Any = seg if seg is not None else report
    segments = seg.SegmentSequence if seg is not None else [Dataset()]
    keyword = "SegmentationAlgorithmIdentificationSequence"
    item = next((segment for segment in segments if keyword in segment), segments[0])
    algorithm = (item.get(keyword) or [Dataset()])[0]
    name = (
        item.get("SegmentAlgorithmName") or algorithm.get("AlgorithmName") or ds.get("Manufacturer")
    )
    digest = re.search(r"[0-9a-f]{64}", str(algorithm.get("AlgorithmParameters", "")))
    documents: tuple[Document, ...] = ()
    if report:
        documents = (
            *predecessor_documents(report),
            Document(
                str(report.StudyInstanceUID),
                str(report.SeriesInstanceUID),
                str(report.SOPClassUID),
                str(report.SOPInstanceUID),
            ),
        )
    return RunInfo(
        engine=EngineInfo(
            name=str(name or "unknown").removeprefix("LesionLens "),
            version=str(algorithm.get("AlgorithmVersion", "unknown")),
            weights_sha256=digest[0] if digest else None,
            calibrated=report_items.has(report, codes.PROBABILITY.value),
        ),
        device="not known: from DICOM objects",
        stages=(),
        versions=_versions(ds),
        inputs=inputs.files,
        series=inputs.series,
        started=_written_at(ds),
        notices=notices,
        documents=documents,
        omitted=report_items.omitted_count(report),
        omitted_decided=report_items.omitted_decided_count(report),
    )


def _versions(ds: Dataset) -> dict[str, str]:
    """Return the release that wrote an object, if it states one; else what reads it here."""
    release = ds.get("SoftwareVersions")
    if ds.get("Manufacturer") == codes.MANUFACTURER and isinstance(release, str) and release:
        return {"lesionlens": release}
    return versions()


def _written_at(ds: Dataset) -> str:
    """Return the time of an object in this machine's zone, ISO 8601, UTC; empty if unknown."""
    with suppress(ValueError, OverflowError):  # 9999-12-31 may lie beyond year 9999 in UTC
        local = report_items.iso(str(ds.get("ContentDate", "")) + str(ds.get("ContentTime", "")))
        return datetime.fromisoformat(local).astimezone(UTC).isoformat()
    return ""


def _cavity_edit(cavities: Sequence[ReadSegment], analysis: Analysis) -> Review:
    """Return the edit by which a reader drew the resection cavity; empty if the network did.

    Also empty if it was imported: then its segment does not show whether a reader changed it.
    """
    drawn_methods = (DrawingMethod.MANUAL, DrawingMethod.SEMIAUTOMATIC)
    drawn_masks = [s.mask for s in cavities if s.drawing_method in drawn_methods]
    if not drawn_masks or analysis.outline_source is not Source.NETWORK:
        return Review()
    mask = np.logical_or.reduce(drawn_masks)
    outline = Outline.of(CAVITY, np.where(mask, np.uint8(Label.CAVITY), np.uint8(0)))
    if outline.is_empty:
        return Review()
    event = ReviewEvent(
        CAVITY, ReviewState.EDITED, reader=None, time=analysis.run.started, outline=outline.sha256
    )
    return Review((event,), {outline.sha256: outline})


def _events_of(lesion: StatedLesion) -> list[ReviewEvent]:
    """Return the decision on a candidate, after the edit that its segments alone still state."""
    if lesion.reported is None:
        return []
    decision = lesion.reported.decision
    if lesion.is_redrawn and decision.state is not ReviewState.EDITED:
        uid, time = decision.tracking_uid, decision.time
        edit = ReviewEvent(uid, ReviewState.EDITED, reader=None, time=time)
        return [edit, replace(decision, with_previous=True)]
    return [decision] if lesion.reported.decided else []


def _review(findings: Findings, stated: StatedLesions, report: Dataset, edits: Review) -> Review:
    """Return the decisions in the report, after `edits`."""
    events = list(edits.events)
    for candidate in findings.candidates:
        events += _events_of(stated[candidate.tracking_uid])
    signed, response = report_items.signed_of(report), report_items.response_of(report)
    return Review(
        (*events, *(() if signed is None else (signed,))),
        edits.outlines,
        responses=() if response is None else (response,),
    )
