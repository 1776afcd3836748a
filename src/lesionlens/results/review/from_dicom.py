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
from lesionlens.base.grid import MIN_SHARE_BEYOND, Grid
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
from lesionlens.results.review.segments import Part, ReadSegment, plane_of, read_segments, voxels_of
from lesionlens.results.review.sent_objects import Objects, find_objects, map_label, referenced

_NUMBER = re.compile(r"([1-9]\d{0,3}) ")


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
    chosen, notices = _lesions([s for s in segments if not s.cavity])
    notices += _doubts(objects, study, prepared, len(segments))
    reported = {} if objects.report is None else report_items.candidates_in(objects.report)
    marked, uids = identified = _components(chosen, grid)
    notices += _overlaps(chosen)
    attention, elsewhere = _attention(objects.maps, grid)
    notices += elsewhere
    ours = _is_builtin(objects)
    parted = ours or any(s.part is not Part.WHOLE for s in chosen)
    inputs = inputs_of(study)
    of = identity_of(study, inputs)
    described = _described(identified, reported, attention, prepared, of, parted=parted)
    apart = {s.tracking_uid for s in chosen if s.apart}
    apart |= {uid for uid, one in reported.items() if one.apart}
    by_us = ours or (objects.report is not None and report_items.is_builtin(objects.report))
    findings = _with_origins(described, reported if by_us else None, _methods(chosen), apart)
    findings = _numbered(findings, _numbers(objects, chosen, reported))
    scored = [uid for uid in uids if uid in reported and reported[uid].score is not None]
    theirs = [uid for uid in uids if uid in reported and reported[uid].source is Source.READER]
    if not scored and len(theirs) < len(uids):
        notices.append("The objects give no score")
    notices.append(
        "Reopened from DICOM objects: probabilities, doubtful parts and which sequence mattered "
        "were not sent"
    )
    if objects.report is not None and report_items.has(objects.report, report_items.TIME_POINT):
        notices.append("The comparison with an earlier examination was not sent: compare again")
    labels = np.where(findings.components > 0, marked.labels, np.uint8(0)).astype(np.uint8)
    run = _run(objects, inputs, tuple(notices))
    edits = _cavity_edit(segments, run) if by_us else Review()
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
        review=_review(findings, reported, objects.report, edits),
    )
    return applied(analysis)


def _lesions(segments: list[ReadSegment]) -> tuple[list[ReadSegment], list[str]]:
    """Select the segments that are lesions; if none says so, all that are not anatomy."""
    notices = []
    chosen = [s for s in segments if s.lesion and not s.organ]
    if segments and not chosen:
        chosen = [s for s in segments if not s.organ] or segments
        notices.append(f"No segment says that it is a lesion: {len(chosen)} taken as candidates")
    left = [s.label for s in segments if s not in chosen]
    if left:
        notices.append(f"Segments of anatomy are not taken: {', '.join(left)[:200]}")
    if any(s.resampled for s in chosen):
        notices.append("The Segmentation lies on other voxels than the reference: resampled")
    beyond = max((s.beyond for s in chosen), default=0.0)
    if beyond > MIN_SHARE_BEYOND:
        notices.append(
            f"Up to {beyond:.1%} of a segment lies outside the reference and is left out. "
            "Is it of this study?"
        )
    return chosen, notices


def _doubts(objects: Objects, study: Study, prepared: PreparedStudy, read: int) -> list[str]:
    """Return notices of what was not `read`, and of another patient or frame of reference."""
    made = [ds for ds in (objects.seg, objects.report, *objects.maps) if ds is not None]
    fields = {f for ds in made for f in study.patient.compared(Patient.of(ds.get)).conflicts}
    notices = []
    unmarked = (
        0
        if objects.seg is None
        else sum(int(item.SegmentNumber) > 0 for item in objects.seg.SegmentSequence) - read
    )
    if unmarked:
        notices.append(
            f"Segments without a marked pixel (of fractions, at least one half): {unmarked}"
        )
    if objects.others:
        notices.append(f"The newest Segmentation is taken, not the others ({objects.others})")
    if fields:
        named = in_words(f for f in PatientField if f in fields)
        notices.append(
            f"{named[0].upper()}{named[1:]} differ{'' if len(fields) > 1 else 's'} between the "
            "DICOM objects and the images. Are they of one patient?"
        )
    images = {f.sop_instance_uid for f in study.series[prepared.reference].files}
    frame, seg = prepared.native.frame_uid, objects.seg
    theirs = None if seg is None else seg.get("FrameOfReferenceUID")
    if seg is not None and frame and theirs and theirs != frame and not images & referenced(seg):
        notices.append(
            "The Segmentation has another frame of reference than the reference: it was not "
            "registered to it. Check its place"
        )
    return notices


def _overlaps(segments: list[ReadSegment]) -> list[str]:
    """Return notices of voxels that several lesions claim: the first of them keeps them."""
    covered, shared, taken = [], False, None
    for uid, group in _groups(segments):
        inside = np.logical_or.reduce([s.mask for s in group])
        if taken is not None and (inside & taken).any():
            shared = True
            if inside.any() and not (inside & ~taken).any():
                covered.append(group[0].label or str(uid))
        taken = inside if taken is None else taken | inside
    notices = []
    if shared:
        notices.append("Segments of several lesions overlap: each voxel is of the first of them")
    if covered:
        listed = ", ".join(covered)[:200]
        notices.append(f"Segments that lie within others are no candidates of their own: {listed}")
    return notices


def _components(segments: list[ReadSegment], grid: Grid) -> tuple[ComponentMask, list[str | None]]:
    """Group segments into candidates: by tracking UID, else by connectivity."""
    labels = np.zeros(grid.shape, np.uint8)
    for segment in sorted(segments, key=lambda s: s.part):
        labels[segment.mask] = segment.part.label
    components = np.zeros(grid.shape, np.int32)
    uids: list[str | None] = []
    for uid, group in _groups(segments):
        inside = np.logical_or.reduce([s.mask for s in group]) & (components == 0)
        if uid is not None:
            parts, count = inside.astype(np.int32), int(inside.any())
        else:
            parts, count = ndimage.label(inside, structure=TOUCHING)
        components = np.where(parts > 0, parts + len(uids), components).astype(np.int32)
        uids += [uid] * count
    return ComponentMask(labels, components, len(uids), grid), uids


def _groups(segments: list[ReadSegment]) -> Iterator[tuple[str | None, list[ReadSegment]]]:
    """Yield groups of segments: by tracking UID, or None for parts of unidentified lesions."""
    by_uid: dict[str | None, list[ReadSegment]] = {}
    for segment in segments:
        by_uid.setdefault(segment.tracking_uid, []).append(segment)
    shared = any(uid is not None and len(group) > 1 for uid, group in by_uid.items())
    whole = all(s.part is Part.WHOLE for s in segments)
    if shared or (whole and None not in by_uid):
        yield from by_uid.items()
    elif whole and len(segments) > 1:
        yield from ((None, [segment]) for segment in segments)
    elif segments:
        yield None, segments  # parts of lesions with their own identifiers


def _described(
    identified: tuple[ComponentMask, list[str | None]],
    reported: Mapping[str, ReportedCandidate],
    attention: Mapping[Region, NDArray[np.float32]],
    prepared: PreparedStudy,
    of: str,
    *,
    parted: bool,
) -> Findings:
    """Measure the components; UIDs come from the objects if available, else from the study `of`.

    Where segments are not `parted`, nothing is known of core and enhancing part.
    """
    marked, uids = identified
    known = [
        ReportedCandidate() if uid is None else reported.get(uid, ReportedCandidate())
        for uid in uids
    ]
    context = Context(
        whole_tumour=None,
        head=anatomy.head_of(prepared),
        has_t1c=parted and prepared.has_t1c,
        identity=f"from DICOM|{of}",
        quality=prepared.quality,
    )
    evidence = Evidence([one.score for one in known], attention=attention.get(Region.WT))
    found = describe(marked, evidence, context)
    if not parted:
        found = without_parts(found)
    named = []
    for candidate in found.candidates:
        first = np.unravel_index(
            int(np.argmax(found.components == candidate.id)), found.components.shape
        )
        uid = uids[int(marked.components[first]) - 1]
        named.append(candidate if uid is None else replace(candidate, tracking_uid=uid))
    candidates = with_kinds(named, found.components, prepared, context.head)
    return as_stored(replace(found, candidates=candidates))


Methods = Mapping[str | None, DrawingMethod | None]


def _methods(segments: Sequence[ReadSegment]) -> Methods:
    """Return how each tracking UID was outlined; under None, how those without a UID were.

    None where segments that belong together differ.
    """
    seen: dict[str | None, set[DrawingMethod | None]] = {}
    for segment in segments:
        for uid in {segment.tracking_uid, None}:
            seen.setdefault(uid, set()).add(segment.drawn)
    return {uid: found.pop() if len(found) == 1 else None for uid, found in seen.items()}


def _with_origins(
    found: Findings,
    reported: Mapping[str, ReportedCandidate] | None,
    methods: Methods,
    apart: set[str | None],
) -> Findings:
    """Record who flagged each candidate, how it was outlined, and whether it is listed apart.

    `reported` is None for objects of others.
    """

    def known(candidate: Candidate) -> Candidate:
        uid = candidate.tracking_uid
        source, drawn = Source.SEGMENTATION, methods.get(uid, methods.get(None))
        if reported is not None:
            source = reported.get(uid, ReportedCandidate()).source
        if source is Source.READER:
            by_hand = drawn is DrawingMethod.MANUAL
            drawn = DrawingMethod.MANUAL if by_hand else DrawingMethod.SEMIAUTOMATIC
            return replace(candidate, source=source, drawn=drawn)
        drawn = None if source is Source.NETWORK else drawn
        return replace(candidate, source=source, drawn=drawn, apart=uid in apart)

    candidates = tuple(map(known, found.candidates))
    return replace(found, candidates=candidates, conclusion=conclusion_of(candidates))


def _is_builtin(objects: Objects) -> bool:
    return objects.seg is not None and objects.seg.get("Manufacturer") == MANUFACTURER


def _numbers(
    objects: Objects, segments: Sequence[ReadSegment], reported: Mapping[str, ReportedCandidate]
) -> dict[str, int]:
    """Return the number of each tracking UID in LesionLens objects."""
    numbers: dict[str, int] = {}
    if _is_builtin(objects):
        for segment in segments:
            found = _NUMBER.match(segment.label)
            if found is not None and segment.tracking_uid is not None:
                numbers[segment.tracking_uid] = int(found[1])
    if objects.report is not None and report_items.is_builtin(objects.report):
        numbers |= {uid: one.number for uid, one in reported.items() if one.number is not None}
    return numbers


def _numbered(found: Findings, numbers: Mapping[str, int]) -> Findings:
    """Restore the candidates' numbers; others get the next ones."""
    sent = [numbers[c.tracking_uid] for c in found.candidates if c.tracking_uid in numbers]
    if not sent or len(set(sent)) < len(sent):
        return found
    free = itertools.count(max(sent) + 1)
    ids = np.zeros(len(found.candidates) + 1, np.int32)
    for candidate in found.candidates:
        uid = candidate.tracking_uid
        ids[candidate.id] = numbers[uid] if uid in numbers else next(free)
    named = (replace(c, id=int(ids[c.id])) for c in found.candidates)
    candidates = tuple(sorted(named, key=lambda c: c.id))
    return replace(found, candidates=candidates, components=ids[found.components])


def _attention(
    maps: tuple[Dataset, ...], grid: Grid
) -> tuple[dict[Region, NDArray[np.float32]], list[str]]:
    """Return the LesionLens attention maps on the grid, and a notice of those on other voxels."""
    found, elsewhere = {}, []
    for ds in maps:
        try:
            volume = _map_on(ds, grid)
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
            elsewhere.append(region.display_name)
        else:
            found[region] = volume
    names = ", ".join(elsewhere)
    if not names:
        return found, []
    return found, [f"Attention maps on other voxels than the reference are not shown: {names}"]


def _map_on(ds: Dataset, grid: Grid) -> NDArray[np.float32] | None:
    """Return a map on the grid; None if it has other voxels."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    slope = float(shared.RealWorldValueMappingSequence[0].RealWorldValueSlope)
    frames = np.asarray(ds.pixel_array).reshape(-1, ds.Rows, ds.Columns) * slope
    if not np.isfinite(frames).all():
        raise ValueError("values that are no numbers")
    volume = np.zeros(grid.shape, np.float32)
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        places = voxels_of(np.ones(frame.shape, bool), plane_of(groups, shared), grid)
        nearest = np.rint(places).astype(np.intp)
        if not grid.contains(nearest).all() or np.abs(places - nearest).max() > 0.05:
            return None
        volume[tuple(nearest.T)] = frame.ravel()
    return volume


def _run(objects: Objects, inputs: InputFiles, notices: tuple[str, ...]) -> RunInfo:
    """Return the run information in the objects, as far as known."""
    seg, report = objects.seg, objects.report
    ds: Any = seg if seg is not None else report
    segments = seg.SegmentSequence if seg is not None else [Dataset()]
    named = "SegmentationAlgorithmIdentificationSequence"
    item = next((one for one in segments if named in one), segments[0])
    about = (item.get(named) or [Dataset()])[0]
    name = item.get("SegmentAlgorithmName") or about.get("AlgorithmName") or ds.get("Manufacturer")
    digest = re.search(r"[0-9a-f]{64}", str(about.get("AlgorithmParameters", "")))
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
            version=str(about.get("AlgorithmVersion", "unknown")),
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
    drawn = [s.mask for s in segments if s.cavity and s.drawn is not None]
    if not drawn:
        return Review()
    inside = np.logical_or.reduce(drawn)
    box = geometry.bounding_box(inside)
    if box is None:
        return Review()
    i, j, k = (int(side.start) for side in box)
    labels = np.where(inside[box], np.uint8(Label.CAVITY), np.uint8(0))
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
        found = reported.get(candidate.tracking_uid)
        if found is not None and found.decided:
            events.append(
                ReviewEvent(
                    candidate.tracking_uid,
                    found.state,
                    found.reader,
                    found.time,
                    found.reason,
                    diameters=found.diameters,
                )
            )
    signed = None if report is None else report_items.signed_of(report)
    response = None if report is None else report_items.response_of(report)
    return Review(
        (*events, *(() if signed is None else (signed,))),
        edits.outlines,
        responses=() if response is None else (response,),
    )
