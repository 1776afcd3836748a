"""Segmentation (voxels 0 or 1): per candidate one segment for each region that it has.

The regions are nested, so that segments overlap: whoever takes one segment has the whole of what
the report measured, and the labels are told apart by which segments hold a voxel.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    SegmentationFractionalTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lesionlens.base.codes import ABNORMAL_STRUCTURE, BRAIN, REGION_TYPES
from lesionlens.base.errors import ExportError
from lesionlens.base.labels import Drawn, Region, ReviewState, Source
from lesionlens.export.dicom import even, identity
from lesionlens.export.dicom.geometry import plane_positions
from lesionlens.export.dicom.refs import SourceFrames
from lesionlens.records.analysis import Analysis
from lesionlens.records.findings import Candidate


@dataclass(frozen=True, slots=True)
class Segment:
    """One region of one candidate; `number` is its place in the Segmentation, from 1."""

    number: int
    candidate: Candidate
    region: Region


def segments_of(analysis: Analysis, sources: SourceFrames) -> tuple[Segment, ...]:
    """List the segments: by region, the largest first, and within it from the top down.

    Viewers draw segments that do not overlap as one labelled volume. OHIF (3.13) loses slices of
    one whose last slice comes before that of another drawn earlier: in this order none does.
    """
    labels, components = analysis.volumes.labels.data, analysis.findings.components
    fixed = sources.places[0].fixed
    depths = np.empty(len(sources.places))
    depths[[place.index for place in sources.places]] = sources.positions @ sources.normal
    found: list[tuple[float, Candidate, Region]] = []
    for region in Region:
        inside = np.where(np.isin(labels, region.labels), components, 0)
        rows: list[tuple[float, Candidate, Region]] = []
        for candidate in identity.exported(analysis):
            others = tuple(axis for axis in range(3) if axis != fixed)
            held = (inside == candidate.id).any(axis=others)
            if held.any():
                rows.append((float(depths[held].min()), candidate, region))
        found += sorted(rows, key=lambda row: -row[0])
    return tuple(Segment(number, c, region) for number, (_, c, region) in enumerate(found, 1))


def mask_of(analysis: Analysis, segment: Segment) -> NDArray[np.bool_]:
    """Return a segment's voxels on the native grid, (I, J, K)."""
    labels, components = analysis.volumes.labels.data, analysis.findings.components
    inside: NDArray[np.bool_] = components == segment.candidate.id
    return inside & np.isin(labels, segment.region.labels)


def frames_of(
    analysis: Analysis, sources: SourceFrames, segments: tuple[Segment, ...]
) -> NDArray[np.uint8]:
    """Return all segments as (F, rows, columns, S) uint8 on the source's frames."""
    shape = (len(sources.places), sources.rows, sources.columns, len(segments))
    frames = np.zeros(shape, np.uint8)
    for index, segment in enumerate(segments):
        frames[..., index] = sources.stack(mask_of(analysis, segment))
    return frames


def algorithm_type(analysis: Analysis, candidate: Candidate) -> SegmentAlgorithmTypeValues:
    """Say how a candidate was drawn (PS3.3 C.8.20.4, Segment Algorithm Type).

    AUTOMATIC as the network drew it, SEMIAUTOMATIC where a reader changed that or the program grew
    it from where a reader pointed, MANUAL where a reader drew it.
    """
    uid, review = candidate.tracking_uid, analysis.review
    if candidate.source is Source.READER:
        return SegmentAlgorithmTypeValues((candidate.drawn or Drawn.MANUAL).value.upper())
    if review.state_of(uid) is ReviewState.EDITED or review.outline_of(uid) is not None:
        return SegmentAlgorithmTypeValues.SEMIAUTOMATIC
    return SegmentAlgorithmTypeValues.AUTOMATIC


def _described(segment: Segment, analysis: Analysis) -> SegmentDescription:
    kind, colour = algorithm_type(analysis, segment.candidate), segment.region.colour
    by_hand = kind is SegmentAlgorithmTypeValues.MANUAL  # no algorithm may be named then
    return SegmentDescription(
        segment_number=segment.number,
        segment_label=f"{segment.candidate.id} {segment.region.words}",
        segmented_property_category=identity.concept(ABNORMAL_STRUCTURE),
        segmented_property_type=identity.concept(REGION_TYPES[segment.region]),
        algorithm_type=kind,
        algorithm_identification=None if by_hand else identity.algorithm(analysis),
        tracking_uid=segment.candidate.tracking_uid,
        tracking_id=identity.tracking_id(segment.candidate),
        anatomic_regions=[identity.concept(BRAIN)],
        display_color=CIELabColor.from_rgb(*(int(colour[i : i + 2], 16) for i in (1, 3, 5))),
    )


def build_seg(
    analysis: Analysis, sources: SourceFrames, segments: tuple[Segment, ...]
) -> highdicom.seg.Segmentation:
    """Build the Segmentation; frames without a voxel of their segment are left out.

    Parameters
    ----------
    analysis : Analysis
        With at least one segment.
    sources : SourceFrames
        Of the reference series.
    segments : tuple of Segment
        From `segments_of`.
    """
    every = np.arange(len(sources.places))
    frames = frames_of(analysis, sources, segments)
    added = even.empty_frames(frames)
    frames[added[:, 0], 0, 0, added[:, 1]] = 1  # else highdicom leaves an empty frame out
    seg = highdicom.seg.Segmentation(
        source_images=sources.images(every),
        pixel_array=frames,
        segmentation_type=even.kind_of(sources.rows, sources.columns),
        fractional_type=SegmentationFractionalTypeValues.OCCUPANCY,
        max_fractional_value=1,
        segment_descriptions=[_described(segment, analysis) for segment in segments],
        content_label="CANDIDATES",
        content_description="Candidate regions, research use only",
        # of single frames highdicom takes each image's own and says that locations are preserved
        plane_positions=None if sources.numbers is None else plane_positions(sources, every),
        **identity.of_new_object(analysis, "seg"),
    )
    _name_segment_per_frame(seg)
    if added.size:
        even.clear(seg, [(sources.positions[frame], index + 1) for frame, index in added])
    return seg


def _name_segment_per_frame(seg: Dataset) -> None:
    """Move the segment's number of a single-segment object from shared to each frame.

    highdicom shares it there; other readers, and highdicom's own `ReferencedSegment`, look for it
    at the frame, where the standard allows it as well.
    """
    shared = seg.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    for groups in seg.PerFrameFunctionalGroupsSequence:
        groups.SegmentIdentificationSequence = copy.deepcopy(shared.SegmentIdentificationSequence)
    del shared.SegmentIdentificationSequence


def check_seg(
    path: Path, analysis: Analysis, sources: SourceFrames, segments: tuple[Segment, ...]
) -> None:
    """Read a Segmentation back and compare every frame with the labels.

    Raises
    ------
    ExportError
        A voxel, a place or a tracking UID differs.
    """
    read = pydicom.dcmread(path)
    left = frames_of(analysis, sources, segments)
    places = {tuple(np.round(p, 3)): n for n, p in enumerate(sources.positions)}
    frames = np.asarray(read.pixel_array).reshape(-1, read.Rows, read.Columns)
    frames = frames[: int(read.NumberOfFrames)]  # of a tiny frame, padding reads as another one
    for frame, groups in zip(frames, read.PerFrameFunctionalGroupsSequence, strict=True):
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        at = places.get(tuple(np.round([float(v) for v in position], 3)))
        if at is None or not np.array_equal(frame > 0, left[at, ..., number - 1] > 0):
            raise _differs("frame")
        left[at, ..., number - 1] = 0
    if left.any():
        raise _differs("missing frame")
    named = [str(s.TrackingUID) for s in read.SegmentSequence]
    if named != [s.candidate.tracking_uid for s in segments]:
        raise _differs("tracking UID")


def _differs(what: str) -> ExportError:
    return ExportError(
        found=f"a {what} in seg.dcm that differs, read back, from the result",
        expected="what was meant to be written",
        next_step="Report this as a defect; nothing was saved",
    )
