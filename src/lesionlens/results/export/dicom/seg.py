"""Segmentation (voxels 0 or 1): one segment for each region of each candidate.

The regions are nested, so that segments overlap: each segment is exactly a measured region, and
labels follow from which segments contain a voxel.
"""

from __future__ import annotations

import copy

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    SegmentationFractionalTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lesionlens.base.codes import (
    ABNORMAL_STRUCTURE,
    BRAIN,
    LABEL_TYPES,
    REGION_TYPES,
)
from lesionlens.base.labels import DrawingMethod, Label, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.review import CAVITY
from lesionlens.results.export import caveats
from lesionlens.results.export.dicom import frame_encoding, identity
from lesionlens.results.export.dicom.framed import FramedResult, Segment, SegmentMask
from lesionlens.results.export.dicom.refs import SourceFrames, drop_unused_frame_references
from lesionlens.results.export.pictures import rgb


def frames_of(sources: SourceFrames, segments: tuple[SegmentMask, ...]) -> NDArray[np.uint8]:
    """Return all segments as (F, rows, columns, S) uint8 on the source's frames.

    Each frame of a segment is contiguous in memory.
    """
    shape = (len(sources.placements), len(segments), sources.rows, sources.columns)
    frames = np.zeros(shape, np.uint8)
    for index, segment in enumerate(segments):
        frames[segment.box[0], index, *segment.box[1:]] = segment.mask
    return frames.transpose(0, 2, 3, 1)


def occupied_frames(segments: tuple[SegmentMask, ...], count: int) -> NDArray[np.bool_]:
    """Return in which of `count` frames each segment has a voxel, (F, S) bool."""
    occupied = np.zeros((count, len(segments)), bool)
    for index, segment in enumerate(segments):
        occupied[segment.box[0], index] = segment.mask.any(axis=(1, 2))
    return occupied


def _algorithm_type(analysis: Analysis, candidate: Candidate) -> SegmentAlgorithmTypeValues:
    """Return how a candidate was outlined (PS3.3 C.8.20.4, Segment Algorithm Type).

    AUTOMATIC by the network, SEMIAUTOMATIC if a reader edited it or it results from a reader's
    prompt, MANUAL if a reader drew it. An imported segmentation keeps its declared type; without
    one it is SEMIAUTOMATIC, because the network did not make it.
    """
    uid, review = candidate.tracking_uid, analysis.review
    if candidate.source is Source.READER:
        return _type_of(candidate.drawn or DrawingMethod.MANUAL)
    if review.is_redrawn(uid):
        return SegmentAlgorithmTypeValues.SEMIAUTOMATIC
    if candidate.source is Source.SEGMENTATION:
        return _type_of(candidate.drawn or DrawingMethod.SEMIAUTOMATIC)
    return SegmentAlgorithmTypeValues.AUTOMATIC


def _type_of(method: DrawingMethod) -> SegmentAlgorithmTypeValues:
    return SegmentAlgorithmTypeValues(method.value.upper())


def _segment_description(segment: SegmentMask, analysis: Analysis) -> SegmentDescription:
    if isinstance(segment, Segment):
        candidate, region = segment.candidate, segment.region
        name = caveats.part_name(analysis, candidate, region.display_name)
        kind, colour, tracking_id = (
            REGION_TYPES[region], region.colour, identity.tracking_id(candidate)
        )  # fmt: skip
        algorithm, source = _algorithm_type(analysis, candidate), candidate.source
    else:
        kind, colour, tracking_id = (
            LABEL_TYPES[Label.CAVITY], Label.CAVITY.colour, Label.CAVITY.display_name
        )  # fmt: skip
        name, source = tracking_id.capitalize(), analysis.outline_source
        is_automatic = source is Source.NETWORK and analysis.review.outline_of(CAVITY) is None
        algorithm = _type_of(
            DrawingMethod.AUTOMATIC if is_automatic else DrawingMethod.SEMIAUTOMATIC
        )
    is_manual = algorithm is SegmentAlgorithmTypeValues.MANUAL  # then DICOM allows no algorithm
    description = SegmentDescription(
        segment_number=segment.number,
        segment_label=name,
        segmented_property_category=identity.concept(ABNORMAL_STRUCTURE),
        segmented_property_type=identity.concept(kind),
        algorithm_type=algorithm,
        algorithm_identification=None if is_manual else identity.algorithm(analysis, source),
        tracking_uid=segment.tracking_uid,
        tracking_id=tracking_id,
        anatomic_regions=[identity.concept(BRAIN)],
        display_color=CIELabColor.from_rgb(*rgb(colour)),
    )
    if source is Source.SEGMENTATION and not is_manual:  # whose family (Type 1) is unknown
        del description.SegmentationAlgorithmIdentificationSequence
    return description


def build_seg(result: FramedResult) -> highdicom.seg.Segmentation | None:
    """Build the Segmentation; frames without a voxel of their segment are omitted.

    None without a segment.
    """
    analysis, sources, segments = result.analysis, result.sources, result.segments
    if not segments:
        return None
    all_frames = np.arange(len(sources.placements))
    parts = ("Candidate regions, research use only", caveats.brief_limitations(analysis))
    frames = frames_of(sources, segments)
    padding = frame_encoding.padding_frames(
        occupied_frames(segments, len(all_frames)), sources.rows * sources.columns
    )
    frames[padding[:, 0], 0, 0, padding[:, 1]] = 1  # otherwise highdicom omits an empty frame
    seg = highdicom.seg.Segmentation(
        source_images=sources.images(all_frames),
        pixel_array=frames,
        segmentation_type=frame_encoding.segmentation_type(sources.rows, sources.columns),
        fractional_type=SegmentationFractionalTypeValues.OCCUPANCY,
        max_fractional_value=1,
        segment_descriptions=[_segment_description(segment, analysis) for segment in segments],
        content_label="CANDIDATES",
        content_description="; ".join(filter(None, parts))[:64],
        # for single frames highdicom copies each position and states that locations are preserved
        plane_positions=None
        if sources.frame_numbers is None
        else sources.plane_positions(all_frames),
        **identity.of_new_object(analysis, "seg"),
    )
    seg.ContentCreatorName = ""  # Type 2; highdicom omits it if no person is named
    _name_segment_per_frame(seg)
    drop_unused_frame_references(seg, sources)
    for frame, index in padding:
        frame_encoding.clear_frame(seg, sources.positions[frame], index + 1)
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
