"""RT Structure Set: contours of each candidate's regions, for treatment planning systems.

Contours run along pixel edges, halfway between inside and outside pixel centres, so that filling
them gives the same mask. A hole is connected to its outer contour by a zero-width channel, because
CLOSED_PLANAR has no holes (PS3.3, C.8.8.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage
from scipy import ndimage
from skimage.measure import find_contours

from lesionlens.base import codes
from lesionlens.base.geometry import Mask, filled_polygon
from lesionlens.results.export import caveats, lookup
from lesionlens.results.export.dicom import identity
from lesionlens.results.export.dicom.copied_attributes import PATIENT_AND_STUDY
from lesionlens.results.export.dicom.framed import FramedResult, Segment
from lesionlens.results.export.dicom.refs import SourceFrames
from lesionlens.results.export.dicom.seg import algorithm_type

Points = NDArray[np.float64]
STUDY = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: class of the referenced study in a structure set."""
SERIES_ATTRIBUTES = {
    "SeriesDescription": "series_description",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "manufacturer_model_name",
    "SoftwareVersions": "software_versions",
    "DeviceSerialNumber": "device_serial_number",
}


def outlines(mask: Mask) -> list[Points]:
    """Return the closed contours of a (rows, columns) frame, one per part, with holes connected.

    Returns
    -------
    list of (N, 2) float64
        Row and column of the vertices; (0, 0) is the centre of the first pixel.

    Examples
    --------
    >>> ring = np.ones((5, 5), bool); ring[2, 2] = False
    >>> (contour,) = outlines(ring)
    >>> bool((fill_contours([contour], (5, 5)) == ring).all())
    True
    """
    parts, count = ndimage.label(mask)
    contours = []
    for number in range(1, count + 1):
        lines = find_contours(np.pad(parts == number, 1).astype(np.float64), 0.5)
        outer, *holes = sorted((line[:-1] - 1 for line in lines), key=_area, reverse=True)
        for hole in holes:
            outer = _connect_hole(outer, hole)
        contours.append(outer)
    return contours


def _area(line: Points) -> float:
    rows, columns = line.T
    return abs(float(rows @ np.roll(columns, -1) - columns @ np.roll(rows, -1))) / 2


def _connect_hole(outer: Points, hole: Points) -> Points:
    """Connect a hole to its outer contour at the nearest vertices."""
    gaps = np.linalg.norm(outer[:, None] - hole[None], axis=2)
    outer_index, hole_index = np.unravel_index(int(gaps.argmin()), gaps.shape)
    rotated_hole = np.roll(hole, -int(hole_index), axis=0)
    return np.concatenate(
        [outer[: outer_index + 1], rotated_hole, rotated_hole[:1], outer[outer_index:]]
    )


def fill_contours(lines: list[Points], shape: tuple[int, int]) -> Mask:
    """Return the (rows, columns) pixels with centres inside closed contours, by the even-odd rule.

    Parameters
    ----------
    lines : list of (N, 2) float64
        Rows and columns.
    """
    inside = np.zeros(shape, bool)
    for line in lines:
        inside ^= filled_polygon(line, shape)
    return inside


def build_contours(result: FramedResult) -> Dataset | None:
    """Build the structure set; None if no candidate has an outline."""
    sources, segments = result.sources, result.regions
    if not segments:
        return None
    structure_set = _header(result)
    structure_set.ReferencedFrameOfReferenceSequence = [_frame_of_reference_item(sources)]
    structure_set.StructureSetROISequence = Sequence(
        _roi_item(result, segment) for segment in segments
    )
    structure_set.ROIContourSequence = Sequence(
        _roi_contour_item(sources, segment) for segment in segments
    )
    structure_set.RTROIObservationsSequence = Sequence(
        _observation_item(segment) for segment in segments
    )
    structure_set.ApprovalStatus = "UNAPPROVED"
    return structure_set


def _header(result: FramedResult) -> Dataset:
    sources = result.sources
    structure_set = empty_object(result, "contours", RTStructureSetStorage)
    structure_set.Modality = "RTSTRUCT"
    schemes = identity.of_new_object(result.analysis, "seg")[
        "coding_schemes"
    ]  # those of the Segmentation
    structure_set.CodingSchemeIdentificationSequence = Sequence(schemes)
    structure_set.OperatorsName = ""
    structure_set.FrameOfReferenceUID = sources.datasets[0].FrameOfReferenceUID
    structure_set.PositionReferenceIndicator = ""
    structure_set.StructureSetLabel = "RESEARCH"
    structure_set.StructureSetDescription = "Candidate regions, research use only"
    structure_set.StructureSetDate = structure_set.SeriesDate
    structure_set.StructureSetTime = structure_set.SeriesTime
    return structure_set


def empty_object(result: FramedResult, kind: str, sop_class_uid: str) -> Dataset:
    """Return an object without highdicom support, with patient, study and equipment attributes.

    Parameters
    ----------
    kind : str
        A key of `identity.SERIES`.
    """
    attributes = identity.of_new_object(result.analysis, kind)
    source = result.sources.datasets[0]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in PATIENT_AND_STUDY:
        if keyword in source:
            setattr(dataset, keyword, getattr(source, keyword))
    dataset.SpecificCharacterSet = attributes["specific_character_set"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, attributes["sop_instance_uid"]
    dataset.SeriesInstanceUID = attributes["series_instance_uid"]
    dataset.SeriesNumber = attributes["series_number"]
    for keyword, name in SERIES_ATTRIBUTES.items():
        setattr(dataset, keyword, attributes[name])
    dataset.InstanceNumber = 1
    for prefix in ("Series", "InstanceCreation"):
        setattr(dataset, f"{prefix}Date", attributes["series_date"].strftime("%Y%m%d"))
        setattr(dataset, f"{prefix}Time", attributes["series_time"].strftime("%H%M%S"))
    return dataset


def image_item(sources: SourceFrames, frame: int) -> Dataset:
    """Return the reference item for a source frame."""
    dataset, numbers = sources.reference(frame)
    item = Dataset()
    item.ReferencedSOPClassUID = dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    if numbers is not None:
        item.ReferencedFrameNumber = numbers
    return item


def _frame_of_reference_item(sources: SourceFrames) -> Dataset:
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = sources.datasets[0].SeriesInstanceUID
    images = [image_item(sources, number) for number in range(len(sources.datasets))]
    if sources.frame_numbers is not None:
        images[0].ReferencedFrameNumber = list(sources.frame_numbers)
    series.ContourImageSequence = Sequence(images)
    study.ReferencedSOPClassUID = STUDY
    study.ReferencedSOPInstanceUID = sources.datasets[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = sources.datasets[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi_item(result: FramedResult, segment: Segment) -> Dataset:
    analysis, source = result.analysis, result.sources.datasets[0]
    item = Dataset()
    item.ROINumber = segment.number
    item.ReferencedFrameOfReferenceUID = source.FrameOfReferenceUID
    item.ROIName = caveats.part_name(analysis, segment.candidate, segment.region.display_name)
    item.ROIDescription = f"Research use only. Tracking UID {segment.candidate.tracking_uid}"
    item.ROIGenerationAlgorithm = algorithm_type(analysis, segment.candidate).value
    return item


def _roi_contour_item(sources: SourceFrames, segment: Segment) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = segment.number
    item.ROIDisplayColor = list(lookup.rgb(segment.region.colour))
    item.ContourSequence = Sequence(_contour_items(sources, segment))
    return item


def _contour_items(sources: SourceFrames, segment: Segment) -> Iterator[Dataset]:
    frames, rows, columns = segment.box
    corner = (rows.start, columns.start)
    for offset, frame in enumerate(range(frames.start, frames.stop)):
        for line in outlines(segment.mask[offset]):
            row, column = (line + corner).T
            points_lps = (
                np.column_stack([column, row, np.ones(len(line))]) @ sources.planes[frame].T
            )
            item = Dataset()
            item.ContourImageSequence = [image_item(sources, frame)]
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(line)
            item.ContourData = [f"{value:.4f}" for value in points_lps.ravel()]
            yield item


def _observation_item(segment: Segment) -> Dataset:
    item, region_code = Dataset(), codes.REGION_TYPES[segment.region]
    item.ObservationNumber = item.ReferencedROINumber = segment.number
    item.RTROIIdentificationCodeSequence = [identity.concept(region_code)]
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    return item


def check_contours(result: FramedResult, stored: Dataset, _built: Dataset) -> str:
    """Compare the filled contours of a structure set as read back; see `objects.Check`."""
    sources, segments = result.sources, result.regions
    for item, segment in zip(stored.ROIContourSequence, segments, strict=True):
        stored_masks = masks_of(item, sources)
        for frame in range(len(sources.placements)):
            expected = segment.frame(frame, sources.rows, sources.columns)
            stored_mask = stored_masks.get(frame)
            if expected.any() if stored_mask is None else not np.array_equal(stored_mask, expected):
                return "a contour in contours.dcm that differs from the result when read back"
    return ""


def masks_of(item: Any, sources: SourceFrames) -> dict[int, Mask]:
    """Fill the contours of one region; return its (rows, columns) pixels by source frame.

    Parameters
    ----------
    item : Dataset
        Item of the ROI Contour Sequence.
    """
    frame_by_reference = {(d.SOPInstanceUID, n[0] if n else None): frame
             for frame in range(len(sources.placements))
             for d, n in [sources.reference(frame)]}  # fmt: skip
    masks: dict[int, Mask] = {}
    for contour in item.ContourSequence:
        (image,) = contour.ContourImageSequence
        number = image.get("ReferencedFrameNumber")
        frame = frame_by_reference[
            image.ReferencedSOPInstanceUID, None if number is None else int(number)
        ]
        lps = np.array(contour.ContourData, np.float64).reshape(-1, 3)
        plane = sources.planes[frame]
        column, row = np.linalg.lstsq(plane[:, :2], (lps - plane[:, 2]).T, rcond=None)[0]
        mask = fill_contours([np.column_stack([row, column])], (sources.rows, sources.columns))
        masks[frame] = masks.get(frame, np.zeros_like(mask)) | mask
    return masks
