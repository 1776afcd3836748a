"""Remove faces from the images of a folder, located once per frame of reference.

An image is changed only if a template fits the head (`face`); otherwise the outcome states that the
face remains. Removed voxels get one constant value, so that the removal is visible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from lesionlens.base import geometry
from lesionlens.base.errors import ReadError
from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.patient import Patient, conflict_among
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.deidentification.face import Face, find_face
from lesionlens.imaging.preparation import brain_extraction
from lesionlens.imaging.preparation.brain import foreground, is_stripped
from lesionlens.imaging.preparation.brain_extraction import find_brain, reading_grid
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.dicom.pixels import load_stack
from lesionlens.imaging.reading.dicom.scan import DicomSlice, frames_of, grouped, scan
from lesionlens.imaging.reading.dicom.series import Stack, geometry_problem, is_mosaic, sort_series
from lesionlens.imaging.reading.dicom.shared_positions import component

METHOD = ("113102", "Clean Recognizable Visual Features Option")
MIN_SLICES, MIN_SIDE_MM = 8, 80.0
"""Minimum number of slices and minimum shortest side of a series used to locate the face."""
MAX_SERIES_PER_FRAME = 3
"""Maximum number of series tried per frame of reference, the one with most coverage first."""
SQUARE_MM = 2.0
"""Pixels are classified in squares of about this edge length."""
_MAX_HEAD_MM = 220.0
"""Sides longer than this do not count as additional coverage of the head."""
_DERIVED_SOP_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.30"}
)
"""Segmentation and Parametric Map objects, which have pixels but show no face."""
_DECODING_ERRORS = (
    AttributeError, ValueError, RuntimeError, NotImplementedError, KeyError, OSError, EOFError,
    TypeError, IndexError, ReadError,
)  # fmt: skip


class DefacingOutcome(Enum):
    """What happened to the face in one object."""

    NO_IMAGE = "no image"
    SKULL_STRIPPED = "skull-stripped"
    REMOVED = "removed"
    REMAINS = "remains"


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces located in a folder."""

    by_frame: Mapping[tuple[str, Patient], Face]
    """Face by study and Frame of Reference UID, or by study and series if an image has none; and by
    the patient as the headers state it.
    """
    stripped_series: frozenset[tuple[str, Patient]]
    """Series Instance UIDs of series with skull-stripped volumes alone, and their patients."""


def find_faces(files: list[Path], context: RunContext = SILENT) -> Faces:
    """Locate the face in each frame of reference of DICOM files.

    Parameters
    ----------
    files : list of Path
        Of any kind; files that are not MR images are skipped.
    """
    face_by_frame: dict[tuple[str, Patient], Face] = {}
    stripped_series: set[tuple[str, Patient]] = set()
    for frame, slices in _slices_by_frame(scan(files, context).slices):
        context.check("finding faces")
        patients = {item.patient for item in slices}
        stacks = sorted(_magnitude_stacks(slices), key=_coverage_key, reverse=True)
        for stack in [s for s in stacks if _is_large_enough(s)][:MAX_SERIES_PER_FRAME]:
            face = _locate_face(stack, context)
            if face is not None:
                face_by_frame.update(((frame, patient), face) for patient in patients)
                break
        else:
            uids = [stack.first.text("SeriesInstanceUID") for stack in stacks]
            heads = {uid for uid, s in zip(uids, stacks, strict=True) if not _is_stripped_series(s)}
            stripped_series.update(product({*uids} - heads, patients))
    return Faces(face_by_frame, frozenset(stripped_series))


def _slices_by_frame(slices: Iterable[DicomSlice]) -> Iterator[tuple[str, list[DicomSlice]]]:
    """Yield each frame of reference and its slices: of one patient, even if two have its UIDs."""
    by_frame: dict[str, dict[Patient, list[DicomSlice]]] = defaultdict(lambda: defaultdict(list))
    for item in slices:
        by_frame[_frame_key(item)][item.patient].append(item)
    for frame, by_patient in by_frame.items():
        if conflict_among(by_patient, gaps=False):
            yield from ((frame, own) for own in by_patient.values())
        else:
            yield frame, list(chain.from_iterable(by_patient.values()))


def _magnitude_stacks(slices: Iterable[DicomSlice]) -> list[Stack]:
    """Return the magnitude volumes of all series among slices."""
    series = grouped(slices, "SeriesInstanceUID")
    stacks = chain.from_iterable(sort_series(items).stacks for items in series.values())
    return [stack for stack in stacks if component(stack.first) == "M"]


def _frame_key(image: DicomSlice) -> str:
    """Return a key of study and frame of reference: some tools write one UID for all patients."""
    frame = image.text("FrameOfReferenceUID") or image.text("SeriesInstanceUID")
    return f"{image.text('StudyInstanceUID')} {frame}"


def _coverage_key(stack: Stack) -> float:
    """Return a sort key: coverage of the head, then resolution."""
    sides = stack.grid.spacing_mm * stack.grid.shape
    return float(np.minimum(sides, _MAX_HEAD_MM).prod() / stack.grid.spacing_mm.max())


def _is_large_enough(stack: Stack) -> bool:
    sides = stack.grid.spacing_mm * stack.grid.shape
    return len(stack.slices) >= MIN_SLICES and float(sides.min()) >= MIN_SIDE_MM


def _pixels_or_none(stack: Stack) -> Floats | None:
    try:
        return load_stack(stack)
    except _DECODING_ERRORS:
        return None


def _is_stripped_series(stack: Stack) -> bool:
    values = _pixels_or_none(stack) if _is_large_enough(stack) else None
    return values is not None and _is_stripped(values, stack.grid)


def _is_stripped(values: Floats, grid: Grid) -> bool:
    """Return whether an image is a stripped brain, and no head on a blank background."""
    return is_stripped(values, grid) and not (
        brain_extraction.outline_content(values, grid, foreground(values)).may_be_head
    )


def _locate_face(stack: Stack, context: RunContext) -> Face | None:
    values = _pixels_or_none(stack)
    if values is None or _is_stripped(values, stack.grid):
        return None
    grid = reading_grid(stack.grid)
    image = resample(values, stack.grid, grid)
    brain = find_brain({MrSequence.T1: image}, grid, context=context)
    if not brain.mask.any() or brain.doubt is not None:
        return None
    return find_face(brain.mask, brain.grid)


def remove_face(dataset: Dataset, path: Path, faces: Faces) -> DefacingOutcome:
    """Remove the face from the pixels of an object in place, if it was located.

    Parameters
    ----------
    dataset : Dataset
        As read, before its identifiers are replaced.
    """
    sop_class = str(dataset.get("SOPClassUID") or "")
    if "PixelData" not in dataset or sop_class in _DERIVED_SOP_CLASSES:
        return DefacingOutcome.NO_IMAGE
    image = DicomSlice(path, dataset)
    if (image.text("SeriesInstanceUID"), image.patient) in faces.stripped_series:
        dataset.RecognizableVisualFeatures = "NO"
        return DefacingOutcome.SKULL_STRIPPED
    planes = frames_of(path, dataset) or [image]
    face = faces.by_frame.get((_frame_key(planes[0]), image.patient))
    pixels = _stored_pixels(dataset) if face and _is_editable(dataset, planes) else None
    if face is None or pixels is None:
        dataset.RecognizableVisualFeatures = "YES"
        return DefacingOutcome.REMAINS
    fill = min(int(pixels.min()), 0)
    frames = pixels.reshape(len(planes), *pixels.shape[-2:])
    for frame, plane in zip(frames, planes, strict=True):
        frame[_face_mask(plane, frame.shape, face)] = fill
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset.RecognizableVisualFeatures = "NO"
    return DefacingOutcome.REMOVED


def _is_editable(dataset: Dataset, planes: list[DicomSlice]) -> bool:
    """Return whether every pixel has a position, and the pixels can be re-encoded."""
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    return (
        syntax.is_transfer_syntax
        and syntax.is_little_endian
        and int(dataset.get("SamplesPerPixel") or 1) == 1
        and int(dataset.get("NumberOfFrames") or 1) == len(planes)
        and not any(is_mosaic(plane) or geometry_problem(plane) for plane in planes)
    )


def _stored_pixels(dataset: Dataset) -> NDArray[Any] | None:
    """Decompress in place and return the pixels, (F, rows, columns) or (rows, columns).

    None if they cannot be decoded.
    """
    try:
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.decompress(generate_instance_uid=False)
        return np.array(dataset.pixel_array)
    except _DECODING_ERRORS:
        return None


def _face_mask(plane: DicomSlice, shape: tuple[int, ...], face: Face) -> Mask:
    """Return the (rows, columns) mask of face pixels in a plane."""
    orientation = plane.numbers("ImageOrientationPatient", 6)
    spacing = plane.numbers("PixelSpacing", 2)
    origin = plane.numbers("ImagePositionPatient", 3)
    if orientation is None or spacing is None or origin is None:  # excluded by `_is_editable`
        raise ValueError("a plane without a position")
    steps = [max(round(SQUARE_MM / float(edge)), 1) for edge in spacing]
    row, column = (
        np.arange(0, n, step) + (step - 1) / 2 for n, step in zip(shape, steps, strict=True)
    )
    row_offsets = row[:, None, None] * spacing[0] * orientation[3:]
    column_offsets = column[None, :, None] * spacing[1] * orientation[:3]
    points = geometry.points_lps_from_ras((origin + row_offsets + column_offsets).reshape(-1, 3))
    in_face = face.contains(points).reshape(len(row), len(column))
    mask = in_face.repeat(steps[0], axis=0).repeat(steps[1], axis=1)
    return np.asarray(mask[: shape[0], : shape[1]])
