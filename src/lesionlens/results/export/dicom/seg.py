"""Segmentation (voxels 0 or 1): one segment for each region of each candidate.

The regions are nested, so that segments overlap: each segment is exactly a measured region, and
labels follow from which segments contain a voxel.
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

from lesionlens.analysis.findings.candidates import tracking_uids
from lesionlens.analysis.findings.components import boxes_of
from lesionlens.base.codes import (
    ABNORMAL_STRUCTURE,
    BRAIN,
    LABEL_TYPES,
    LISTED_APART,
    REGION_TYPES,
)
from lesionlens.base.errors import ExportError
from lesionlens.base.geometry import Box, bounding_box
from lesionlens.base.labels import DrawingMethod, Label, Region, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.review import CAVITY
from lesionlens.results.export import caveats, lookup
from lesionlens.results.export.dicom import frame_encoding, identity
from lesionlens.results.export.dicom.refs import SourceFrames, keep_used_frames


@dataclass(frozen=True, slots=True, eq=False)
class SegmentMask:
    """The voxels of one segment, on the source's frames."""

    number: int
    """Segment number, from 1."""
    tracking_uid: str
    box: Box
    """Bounding box: frames, rows and columns."""
    inside: NDArray[np.bool_]
    """(f, r, c): its voxels within the box."""

    def frame(self, index: int, rows: int, columns: int) -> NDArray[np.bool_]:
        """Return its mask on a whole frame, (rows, columns)."""
        whole = np.zeros((rows, columns), bool)
        if self.box[0].start <= index < self.box[0].stop:
            whole[self.box[1:]] = self.inside[index - self.box[0].start]
        return whole


@dataclass(frozen=True, slots=True, eq=False)
class Segment(SegmentMask):
    """One region of one candidate."""

    candidate: Candidate
    region: Region


def cavity_of(
    analysis: Analysis, sources: SourceFrames, segments: tuple[Segment, ...]
) -> tuple[SegmentMask, ...]:
    """Return the segment of the resection cavity, which belongs to no candidate; empty without."""
    labels = analysis.volumes.all_labels
    inside = sources.stack(labels.data) == Label.CAVITY
    box = bounding_box(inside)
    if box is None:
        return ()
    middle = labels.grid.to_mm(np.argwhere(labels.data == Label.CAVITY).mean(axis=0))
    (uid,) = tracking_uids(f"{analysis.study.uid}|resection cavity", [middle], [0.0])
    return (SegmentMask(len(segments) + 1, uid, box, inside[box]),)


def segments_of(analysis: Analysis, sources: SourceFrames) -> tuple[Segment, ...]:
    """Return the segments: by region, largest first, and within it from the top down.

    Viewers combine non-overlapping segments into one label volume. OHIF (3.13) loses slices of a
    segment whose last slice precedes that of an earlier one; this order avoids it.
    """
    labels = sources.stack(analysis.volumes.labels.data)
    components = sources.stack(analysis.findings.components)
    boxes = boxes_of(components)
    depths = sources.positions @ sources.normal
    found: list[tuple[float, Candidate, Region, Box, NDArray[np.bool_]]] = []
    for region in Region:
        rows = []
        for candidate in identity.exported(analysis):
            box = boxes.get(candidate.id)
            if box is None:
                continue
            inside = (components[box] == candidate.id) & np.isin(labels[box], region.labels)
            held = inside.any(axis=(1, 2))
            if held.any():
                rows.append((float(depths[box[0]][held].min()), candidate, region, box, inside))
        found += sorted(rows, key=lambda row: -row[0])
    return tuple(
        Segment(number, candidate.tracking_uid, box, inside, candidate, region)
        for number, (_, candidate, region, box, inside) in enumerate(found, 1)
    )


def frames_of(sources: SourceFrames, segments: tuple[SegmentMask, ...]) -> NDArray[np.uint8]:
    """Return all segments as (F, rows, columns, S) uint8 on the source's frames.

    Each frame of a segment is contiguous in memory.
    """
    shape = (len(sources.placements), len(segments), sources.rows, sources.columns)
    frames = np.zeros(shape, np.uint8)
    for index, segment in enumerate(segments):
        frames[segment.box[0], index, *segment.box[1:]] = segment.inside
    return frames.transpose(0, 2, 3, 1)


def frames_held(segments: tuple[SegmentMask, ...], count: int) -> NDArray[np.bool_]:
    """Return on which of `count` frames each segment has a voxel, (F, S)."""
    held = np.zeros((count, len(segments)), bool)
    for index, segment in enumerate(segments):
        held[segment.box[0], index] = segment.inside.any(axis=(1, 2))
    return held


def algorithm_type(analysis: Analysis, candidate: Candidate) -> SegmentAlgorithmTypeValues:
    """Return how a candidate was outlined (PS3.3 C.8.20.4, Segment Algorithm Type).

    AUTOMATIC by the network, SEMIAUTOMATIC if a reader edited it or it was made from a reader's
    prompt, MANUAL if a reader drew it. A segmentation of others keeps what it says; as a mask that
    says nothing was not made by our network, it is SEMIAUTOMATIC.
    """
    uid, review = candidate.tracking_uid, analysis.review
    if candidate.source is Source.READER:
        return _type_of(candidate.drawn or DrawingMethod.MANUAL)
    if review.state_of(uid) is ReviewState.EDITED or review.outline_of(uid) is not None:
        return SegmentAlgorithmTypeValues.SEMIAUTOMATIC
    if candidate.source is Source.SEGMENTATION:
        return _type_of(candidate.drawn or DrawingMethod.SEMIAUTOMATIC)
    return SegmentAlgorithmTypeValues.AUTOMATIC


def _type_of(method: DrawingMethod) -> SegmentAlgorithmTypeValues:
    return SegmentAlgorithmTypeValues(method.value.upper())


def _described(segment: SegmentMask, analysis: Analysis) -> SegmentDescription:
    if not isinstance(segment, Segment):
        return _described_cavity(segment, analysis)
    kind, colour = algorithm_type(analysis, segment.candidate), segment.region.colour
    by_hand = kind is SegmentAlgorithmTypeValues.MANUAL  # no algorithm may be named then
    described = SegmentDescription(
        segment_number=segment.number,
        segment_label=caveats.part_name(analysis, segment.candidate, segment.region.display_name),
        segmented_property_category=identity.concept(ABNORMAL_STRUCTURE),
        segmented_property_type=identity.concept(REGION_TYPES[segment.region]),
        algorithm_type=kind,
        algorithm_identification=None
        if by_hand
        else identity.algorithm(analysis, segment.candidate.source),
        tracking_uid=segment.candidate.tracking_uid,
        tracking_id=identity.tracking_id(segment.candidate),
        anatomic_regions=[identity.concept(BRAIN)],
        display_color=CIELabColor.from_rgb(*lookup.rgb(colour)),
    )
    if segment.candidate.apart:
        described.SegmentDescription = LISTED_APART.meaning
    return _without_family(described, segment.candidate.source)


def _without_family(described: SegmentDescription, source: Source) -> SegmentDescription:
    """Name the algorithm of others, but identify none: its family (Type 1 there) is unknown."""
    if source is Source.SEGMENTATION and "SegmentationAlgorithmIdentificationSequence" in described:
        del described.SegmentationAlgorithmIdentificationSequence
    return described


def _described_cavity(segment: SegmentMask, analysis: Analysis) -> SegmentDescription:
    label, kind = Label.CAVITY, SegmentAlgorithmTypeValues.AUTOMATIC
    source = identity.source_of(analysis)
    if analysis.review.outline_of(CAVITY) is not None or source is Source.SEGMENTATION:
        kind = SegmentAlgorithmTypeValues.SEMIAUTOMATIC
    described = SegmentDescription(
        segment_number=segment.number,
        segment_label=label.display_name.capitalize(),
        segmented_property_category=identity.concept(ABNORMAL_STRUCTURE),
        segmented_property_type=identity.concept(LABEL_TYPES[label]),
        algorithm_type=kind,
        algorithm_identification=identity.algorithm(analysis, source),
        tracking_uid=segment.tracking_uid,
        tracking_id=label.display_name,
        anatomic_regions=[identity.concept(BRAIN)],
        display_color=CIELabColor.from_rgb(*lookup.rgb(label.colour)),
    )
    return _without_family(described, source)


def build_seg(
    analysis: Analysis, sources: SourceFrames, segments: tuple[SegmentMask, ...]
) -> highdicom.seg.Segmentation:
    """Build the Segmentation; frames without a voxel of their segment are omitted.

    Parameters
    ----------
    analysis : Analysis
        Analysis with at least one segment.
    segments : tuple of SegmentMask
        From `segments_of` and `cavity_of`.
    """
    every = np.arange(len(sources.placements))
    words = ("Candidate regions, research use only", caveats.limits_in_brief(analysis))
    frames = frames_of(sources, segments)
    added = frame_encoding.empty_frames(
        frames_held(segments, len(every)), sources.rows * sources.columns
    )
    frames[added[:, 0], 0, 0, added[:, 1]] = 1  # otherwise highdicom omits an empty frame
    seg = highdicom.seg.Segmentation(
        source_images=sources.images(every),
        pixel_array=frames,
        segmentation_type=frame_encoding.kind_of(sources.rows, sources.columns),
        fractional_type=SegmentationFractionalTypeValues.OCCUPANCY,
        max_fractional_value=1,
        segment_descriptions=[_described(segment, analysis) for segment in segments],
        content_label="CANDIDATES",
        content_description="; ".join(filter(None, words))[:64],
        # of single frames highdicom takes each image's own and says that locations are preserved
        plane_positions=None if sources.numbers is None else sources.plane_positions(every),
        **identity.of_new_object(analysis, "seg"),
    )
    _name_segment_per_frame(seg)
    keep_used_frames(seg, sources)
    if added.size:
        frame_encoding.clear(seg, [(sources.positions[frame], index + 1) for frame, index in added])
    return seg


def _name_segment_per_frame(seg: Dataset) -> None:
    """Move the segment number of a single-segment object from shared to per-frame groups.

    highdicom stores it as shared; other readers, and highdicom's own `ReferencedSegment`, expect it
    per frame, which the standard also allows.
    """
    shared = seg.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    for groups in seg.PerFrameFunctionalGroupsSequence:
        groups.SegmentIdentificationSequence = copy.deepcopy(shared.SegmentIdentificationSequence)
    del shared.SegmentIdentificationSequence


def check_seg(path: Path, sources: SourceFrames, segments: tuple[SegmentMask, ...]) -> None:
    """Read a Segmentation back and compare every frame with the segments.

    Raises
    ------
    ExportError
        A voxel, a position or a tracking UID differs.
    """
    read = pydicom.dcmread(path)
    left = {
        tuple(row) for row in np.argwhere(frames_held(segments, len(sources.placements))).tolist()
    }
    places = {tuple(np.round(p, 3)): n for n, p in enumerate(sources.positions)}
    frames = np.asarray(read.pixel_array).reshape(-1, read.Rows, read.Columns)
    frames = frames[: int(read.NumberOfFrames)]  # padding of a tiny frame is read as another frame
    for frame, groups in zip(frames, read.PerFrameFunctionalGroupsSequence, strict=True):
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        index = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber) - 1
        at = places.get(tuple(np.round([float(v) for v in position], 3)))
        if at is None or not np.array_equal(frame > 0, segments[index].frame(at, *frame.shape)):
            raise _differs("frame")
        if frame.any() and (at, index) not in left:
            raise _differs("frame that is there twice")
        left.discard((at, index))
    if left:
        raise _differs("missing frame")
    named = [str(s.TrackingUID) for s in read.SegmentSequence]
    if named != [s.tracking_uid for s in segments]:
        raise _differs("tracking UID")


def _differs(what: str) -> ExportError:
    return identity.differs(f"a {what} in seg.dcm that differs, read back, from the result")
