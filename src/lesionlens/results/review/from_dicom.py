"""Rebuild a result from DICOM objects (source, SEG, SR), to continue a review elsewhere.

From LesionLens objects, candidates, labels, review and attention maps are restored; probabilities
and sequence relevance are not stored in them. Segmentations of other programs become unreviewed
candidates, measured here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from lesionlens.analysis.findings import anatomy
from lesionlens.analysis.findings.candidates import Context, Evidence, describe
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.analysis.findings.edits import applied
from lesionlens.analysis.findings.kinds import with_kinds
from lesionlens.base import codes, geometry
from lesionlens.base.errors import ReadError
from lesionlens.base.geometry import TOUCHING
from lesionlens.base.grid import MIN_FRACTION_BEYOND, Grid
from lesionlens.base.labels import DrawingMethod, Label, Region, ReviewState, Source
from lesionlens.base.provenance import versions
from lesionlens.base.records.analysis import Analysis, Document, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import as_stored
from lesionlens.base.records.findings import Candidate, Findings, conclusion_of
from lesionlens.base.records.patient import Patient, PatientField, in_words
from lesionlens.base.records.prediction import Capability, EngineInfo
from lesionlens.base.records.review import CAVITY, Outline, Review, ReviewEvent
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.imaging.reading.dicom.documents import MANUFACTURER
from lesionlens.imaging.reading.readers import InputFiles, identity_of, inputs_of
from lesionlens.results.review import report_items
from lesionlens.results.review.from_mask import without_parts
from lesionlens.results.review.report_items import ReportedCandidate
from lesionlens.results.review.segments import (
    Methods,
    Part,
    ReadSegment,
    drawing_methods,
    plane_of,
    read_segments,
    sources_of,
    unknown_parts,
    voxels_of,
)
from lesionlens.results.review.sent_objects import Objects, find_objects, map_label, referenced

_NUMBER = re.compile(r"([1-9]\d{0,3}) ")
_NO_AGREEMENT_NOTICE = (
    "Candidates that no reader accepted were not sent: how much of the attention lies in the "
    "others is left empty"
)


def from_dicom(path: Path, study: Study, prepared: PreparedStudy) -> Analysis:
    """Build a result from the DICOM objects in a folder.

    Parameters
    ----------
    path : Path
        A file, or a folder with the objects, with or without the source images.
    study : Study
        The opened study; its reference sequence gives the grid.
    prepared : PreparedStudy
        From `preparation.prepare.prepare`.

    Raises
    ------
    ReadError
        There is no Segmentation of this study, or it cannot be read.
    """
    objects, grid = find_objects(path, study), prepared.native
    segments = [] if objects.seg is None else read_segments(objects.seg, grid)
    cavities = [s.mask for s in segments if s.cavity]
    lesions, notices = _select_lesions([s for s in segments if not s.cavity])
    notices += _identity_notices(objects, study, prepared, len(segments))
    report = objects.report
    reported = {} if report is None else report_items.candidates_in(report)
    components, uids = identified = _components(lesions, grid)
    notices += _overlap_notices(lesions)
    attention, attention_notices = _attention_maps(objects.maps, grid)
    notices += attention_notices
    is_builtin = _is_builtin(objects)
    unknown = unknown_parts(lesions, reported, by_lesion=is_builtin)
    inputs = inputs_of(study)
    identity = identity_of(study, inputs)
    omits_some = bool(attention) and report is not None and report_items.omitted_count(report) > 0
    notices += [_NO_AGREEMENT_NOTICE] * omits_some
    maps = {} if omits_some else attention
    measured = _measure_components(identified, reported, maps, prepared, identity, unknown)
    listed_apart = {s.tracking_uid for s in lesions if s.listed_apart}
    listed_apart |= {uid for uid, candidate in reported.items() if candidate.listed_apart}
    is_own = is_builtin or (report is not None and report_items.is_builtin(report))
    findings = _with_origins(
        measured,
        sources_of(lesions, reported) if is_own else {},
        drawing_methods(lesions),
        listed_apart,
    )
    findings = _renumbered(findings, _stored_numbers(objects, lesions, reported))
    notices += _omission_notices(report, reported, uids)
    labels = np.where(findings.components > 0, components.labels, np.uint8(0)).astype(np.uint8)
    run = _run(objects, inputs, tuple(notices))
    edits = _cavity_edit(segments, run) if is_own else Review()
    analysis = Analysis(
        study=study,
        prepared=prepared,
        maps=None,
        volumes=Volumes(
            labels=Volume(labels, grid),
            probability={},
            attention={region: Volume(data, grid) for region, data in attention.items()},
            cavity=Volume(np.logical_or.reduce(cavities), grid) if cavities else None,
        ),
        findings=findings,
        run=run,
        review=_review(findings, reported, report, edits),
    )
    return applied(analysis)


def _select_lesions(segments: list[ReadSegment]) -> tuple[list[ReadSegment], list[str]]:
    """Select segments that are labelled as lesions, or else all that are not anatomy."""
    notices = []
    lesions = [s for s in segments if s.lesion and not s.organ]
    if segments and not lesions:
        lesions = [s for s in segments if not s.organ] or segments
        notices.append(f"No segment is labelled as a lesion: {len(lesions)} used as candidates")
    skipped = [s.label for s in segments if s not in lesions]
    if skipped:
        notices.append(f"Segments of anatomy were omitted: {', '.join(skipped)[:200]}")
    if any(s.resampled for s in lesions):
        notices.append("The Segmentation is on another grid than the reference: it was resampled")
    max_beyond = max((s.fraction_outside for s in lesions), default=0.0)
    if max_beyond > MIN_FRACTION_BEYOND:
        notices.append(
            f"Up to {max_beyond:.1%} of a segment lies outside the reference and is left out. "
            "Is it of this study?"
        )
    return lesions, notices


def _identity_notices(
    objects: Objects, study: Study, prepared: PreparedStudy, n_read: int
) -> list[str]:
    """Return notices about empty or other segments, another patient or another frame."""
    datasets = [ds for ds in (objects.seg, objects.report, *objects.maps) if ds is not None]
    fields = {f for ds in datasets for f in study.patient.compared(Patient.of(ds.get)).conflicts}
    notices = []
    empty_count = (
        0
        if objects.seg is None
        else sum(int(item.SegmentNumber) > 0 for item in objects.seg.SegmentSequence) - n_read
    )
    if empty_count:
        notices.append(
            f"Segments without a marked pixel (of fractions, at least one half): {empty_count}"
        )
    if objects.other_count:
        notices.append(f"The newest Segmentation is used, not the others ({objects.other_count})")
    if fields:
        field_names = in_words(f for f in PatientField if f in fields)
        notices.append(
            f"{field_names[0].upper()}{field_names[1:]} differ{'' if len(fields) > 1 else 's'} "
            "between the DICOM objects and the images. Are they of one patient?"
        )
    images = {f.sop_instance_uid for f in study.series[prepared.reference].files}
    frame, seg = prepared.native.frame_uid, objects.seg
    seg_frame = None if seg is None else seg.get("FrameOfReferenceUID")
    differs = bool(frame and seg_frame) and seg_frame != frame
    if seg is not None and differs and not images & referenced(seg):
        notices.append(
            "The Segmentation has another frame of reference than the reference: it was not "
            "registered to it. Check its position"
        )
    return notices


def _omission_notices(
    report: Dataset | None, reported: Mapping[str, ReportedCandidate], uids: list[str | None]
) -> list[str]:
    """Return notices about what the objects do not contain."""
    statements = [reported[u] for u in uids if u is not None and u in reported]
    scored = any(statement.score is not None for statement in statements)
    by_readers = sum(statement.source is Source.READER for statement in statements)
    notices = [] if scored or by_readers == len(uids) else ["The objects contain no score"]
    notices.append(
        "Reopened from DICOM objects: they contain no probabilities, uncertainty, doubtful parts "
        "or contributions of sequences"
    )
    if report is not None and report_items.has(report, report_items.TIME_POINT):
        notices.append(
            "The objects contain no comparison with an earlier examination: compare again"
        )
    return notices


def _overlap_notices(segments: list[ReadSegment]) -> list[str]:
    """Return notices about overlapping lesions; a shared voxel belongs to the first."""
    covered_labels, overlapping, occupied = [], False, None
    for uid, group in _groups(segments):
        mask = np.logical_or.reduce([s.mask for s in group])
        if occupied is not None and (mask & occupied).any():
            overlapping = True
            if mask.any() and not (mask & ~occupied).any():
                covered_labels.append(group[0].label or str(uid))
        occupied = mask if occupied is None else occupied | mask
    notices = []
    if overlapping:
        notices.append(
            "Segments of several lesions overlap: each voxel belongs to the first of them"
        )
    if covered_labels:
        labels = ", ".join(covered_labels)[:200]
        notices.append(f"Segments within other segments are not separate candidates: {labels}")
    return notices


def _components(segments: list[ReadSegment], grid: Grid) -> tuple[ComponentMask, list[str | None]]:
    """Group segments into candidates: by tracking UID, else by connectivity."""
    labels = np.zeros(grid.shape, np.uint8)
    for segment in sorted(segments, key=lambda s: s.part):
        labels[segment.mask] = segment.part.label
    components = np.zeros(grid.shape, np.int32)
    uids: list[str | None] = []
    for uid, group in _groups(segments):
        mask = np.logical_or.reduce([s.mask for s in group]) & (components == 0)
        if uid is not None:
            numbered, count = mask.astype(np.int32), int(mask.any())
        else:
            numbered, count = ndimage.label(mask, structure=TOUCHING)
        components = np.where(numbered > 0, numbered + len(uids), components).astype(np.int32)
        uids += [uid] * count
    return ComponentMask(labels, components, len(uids), grid), uids


def _groups(segments: list[ReadSegment]) -> Iterator[tuple[str | None, list[ReadSegment]]]:
    """Yield groups of segments: by tracking UID, or None for parts of unidentified lesions."""
    by_uid: dict[str | None, list[ReadSegment]] = {}
    for segment in segments:
        by_uid.setdefault(segment.tracking_uid, []).append(segment)
    has_shared_uids = any(uid is not None and len(group) > 1 for uid, group in by_uid.items())
    all_whole = all(s.part is Part.WHOLE for s in segments)
    if has_shared_uids or (all_whole and None not in by_uid):
        yield from by_uid.items()
    elif all_whole and len(segments) > 1:
        yield from ((None, [segment]) for segment in segments)
    elif segments:
        yield None, segments  # parts of lesions with their own identifiers


def _measure_components(
    identified: tuple[ComponentMask, list[str | None]],
    reported: Mapping[str, ReportedCandidate],
    attention: Mapping[Region, NDArray[np.float32]],
    prepared: PreparedStudy,
    identity: str,
    unknown_by_uid: Mapping[str | None, frozenset[Region]],
) -> Findings:
    """Measure the components.

    Tracking UIDs come from the objects if available, else from the `identity` of the study.
    """
    components, uids = identified
    statements = [
        ReportedCandidate() if uid is None else reported.get(uid, ReportedCandidate())
        for uid in uids
    ]
    context = Context(
        whole_tumour=None,
        head=anatomy.head_of(prepared),
        has_t1c=prepared.has_t1c,
        identity=f"from DICOM|{identity}",
        quality=prepared.quality,
    )
    evidence = Evidence([s.score for s in statements], attention=attention.get(Region.WT))
    findings = describe(components, evidence, context)
    candidates, unknown = [], {}
    for candidate in findings.candidates:
        first_voxel = np.unravel_index(
            int(np.argmax(findings.components == candidate.id)), findings.components.shape
        )
        uid = uids[int(components.components[first_voxel]) - 1]
        candidates.append(candidate if uid is None else replace(candidate, tracking_uid=uid))
        unknown[candidate.id] = unknown_by_uid[uid]
    with_kind = with_kinds(candidates, findings.components, prepared, context.head)
    return as_stored(without_parts(replace(findings, candidates=with_kind), unknown))


def _with_origins(
    findings: Findings,
    sources: Mapping[str | None, Source],
    methods: Methods,
    listed_apart: set[str | None],
) -> Findings:
    """Record who flagged each candidate, how it was outlined, and whether it is listed apart.

    Candidates without a source are of other programs.
    """

    def with_origin(candidate: Candidate) -> Candidate:
        uid = candidate.tracking_uid
        source = sources.get(uid, Source.SEGMENTATION)
        method = methods.get(uid, methods.get(None))
        if source is Source.READER:
            by_hand = method is DrawingMethod.MANUAL
            method = DrawingMethod.MANUAL if by_hand else DrawingMethod.SEMIAUTOMATIC
            return replace(candidate, source=source, drawn=method)
        method = None if source is Source.NETWORK else method
        return replace(candidate, source=source, drawn=method, apart=uid in listed_apart)

    candidates = tuple(map(with_origin, findings.candidates))
    return replace(findings, candidates=candidates, conclusion=conclusion_of(candidates))


def _is_builtin(objects: Objects) -> bool:
    return objects.seg is not None and objects.seg.get("Manufacturer") == MANUFACTURER


def _stored_numbers(
    objects: Objects, segments: Sequence[ReadSegment], reported: Mapping[str, ReportedCandidate]
) -> dict[str, int]:
    """Return the number of each tracking UID in LesionLens objects."""
    numbers: dict[str, int] = {}
    if _is_builtin(objects):
        for segment in segments:
            match = _NUMBER.match(segment.label)
            if match is not None and segment.tracking_uid is not None:
                numbers[segment.tracking_uid] = int(match[1])
    if objects.report is not None and report_items.is_builtin(objects.report):
        numbers |= {uid: c.number for uid, c in reported.items() if c.number is not None}
    return numbers


def _renumbered(findings: Findings, numbers: Mapping[str, int]) -> Findings:
    """Restore the candidates' numbers; others get the next ones."""
    known_ids = [numbers[c.tracking_uid] for c in findings.candidates if c.tracking_uid in numbers]
    if not known_ids or len(set(known_ids)) < len(known_ids):
        return findings
    next_number = itertools.count(max(known_ids) + 1)
    new_ids = np.zeros(len(findings.candidates) + 1, np.int32)
    for candidate in findings.candidates:
        uid = candidate.tracking_uid
        new_ids[candidate.id] = numbers[uid] if uid in numbers else next(next_number)
    renumbered = (replace(c, id=int(new_ids[c.id])) for c in findings.candidates)
    candidates = tuple(sorted(renumbered, key=lambda c: c.id))
    return replace(findings, candidates=candidates, components=new_ids[findings.components])


def _attention_maps(
    maps: tuple[Dataset, ...], grid: Grid
) -> tuple[dict[Region, NDArray[np.float32]], list[str]]:
    """Return the LesionLens attention maps on the grid, and a notice of those that are missing."""
    if not maps:
        return {}, ["The objects contain no attention map"]
    attention, omitted = {}, []
    for ds in maps:
        try:
            volume = _map_on_grid(ds, grid)
        except (AttributeError, LookupError, ValueError, TypeError, RuntimeError) as error:
            raise ReadError(
                found=f"a map {map_label(ds)!r} that cannot be read",
                expected="a Parametric Map as it was sent",
                next_step="Fetch the study with its results again, or take the map out of it",
            ) from error
        name = map_label(ds).removeprefix("attention_")
        region = next((r for r in Region if r.value == name), None)
        if region is None:
            continue
        if volume is None:
            omitted.append(region.display_name)
        else:
            attention[region] = volume
    names = ", ".join(omitted)
    if not names:
        return attention, []
    return attention, [f"Attention maps on another grid than the reference are not shown: {names}"]


def _map_on_grid(ds: Dataset, grid: Grid) -> NDArray[np.float32] | None:
    """Return a map on the grid; None if it has other voxels."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    slope = float(shared.RealWorldValueMappingSequence[0].RealWorldValueSlope)
    frames = np.asarray(ds.pixel_array).reshape(-1, ds.Rows, ds.Columns) * slope
    if not np.isfinite(frames).all():
        raise ValueError("values that are not numbers")
    volume = np.zeros(grid.shape, np.float32)
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        voxels = voxels_of(np.ones(frame.shape, bool), plane_of(groups, shared), grid)
        nearest = np.rint(voxels).astype(np.intp)
        if not grid.contains(nearest).all() or np.abs(voxels - nearest).max() > 0.05:
            return None
        volume[tuple(nearest.T)] = frame.ravel()
    return volume


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
    if report is not None:
        documents = (
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
            capabilities=frozenset({Capability.SEGMENT}),
            calibrated=report is not None and report_items.has(report, codes.PROBABILITY.value),
        ),
        device="not known: from DICOM objects",
        stages=(),
        versions=versions(),
        inputs=inputs.files,
        series=inputs.series,
        started=report_items.iso(str(ds.get("ContentDate", "")) + str(ds.get("ContentTime", ""))),
        notices=notices,
        documents=documents,
    )


def _cavity_edit(segments: list[ReadSegment], run: RunInfo) -> Review:
    """Return the edit by which a reader drew the resection cavity; empty if the network did."""
    drawn_methods = (DrawingMethod.MANUAL, DrawingMethod.SEMIAUTOMATIC)
    drawn_masks = [s.mask for s in segments if s.cavity and s.drawing_method in drawn_methods]
    if not drawn_masks:
        return Review()
    mask = np.logical_or.reduce(drawn_masks)
    box = geometry.bounding_box(mask)
    if box is None:
        return Review()
    i, j, k = (int(side.start) for side in box)
    labels = np.where(mask[box], np.uint8(Label.CAVITY), np.uint8(0))
    outline = Outline(CAVITY, (i, j, k), labels)
    event = ReviewEvent(CAVITY, ReviewState.EDITED, None, run.started, outline=outline.sha256)
    return Review((event,), {outline.sha256: outline})


def _review(
    findings: Findings,
    reported: Mapping[str, ReportedCandidate],
    report: Dataset | None,
    edits: Review,
) -> Review:
    """Return the decisions in the report, after `edits`."""
    events = list(edits.events)
    for candidate in findings.candidates:
        statement = reported.get(candidate.tracking_uid)
        if statement is not None and statement.decided:
            events.append(
                ReviewEvent(
                    candidate.tracking_uid,
                    statement.state,
                    statement.reader,
                    statement.time,
                    statement.reason,
                    diameters=statement.diameters,
                )
            )
    signed = None if report is None else report_items.signed_of(report)
    response = None if report is None else report_items.response_of(report)
    return Review(
        (*events, *(() if signed is None else (signed,))),
        edits.outlines,
        responses=() if response is None else (response,),
    )
