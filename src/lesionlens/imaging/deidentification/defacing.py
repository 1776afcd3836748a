"""Remove faces from the images of a folder, located once per frame of reference.

An image is changed only if a template fits the head (`face`); otherwise the outcome states that the
face remains. Removed voxels get one constant value, so that the removal is visible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from lesionlens.base import geometry
from lesionlens.base.errors import ReadError
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.deidentification.face import Face, find_face
from lesionlens.imaging.preparation.brain import is_stripped
from lesionlens.imaging.preparation.brain_extraction import find_brain, reading_grid
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.dicom.pixels import load_stack
from lesionlens.imaging.reading.dicom.scan import DicomSlice, frames_of, scan
from lesionlens.imaging.reading.dicom.series import (
    Stack,
    geometry_problem,
    is_mosaic,
    sort_series,
)
from lesionlens.imaging.reading.dicom.shared_positions import component

METHOD = ("113102", "Clean Recognizable Visual Features Option")
MIN_SLICES, MIN_MM = 8, 80.0
"""Minimum number of slices and minimum shortest side of a series used to locate the face."""
TRIED = 3
"""Maximum number of series tried per frame of reference, the one with most coverage first."""
SQUARE_MM = 2.0
"""Pixels are classified in squares of about this edge length."""
_WHOLE_MM = 220.0
_NO_IMAGES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.30"}
)
"""Segmentations and Parametric Maps have pixels, but are not images of a head."""
_UNDECODABLE = (
    AttributeError, ValueError, RuntimeError, NotImplementedError, KeyError, OSError, EOFError,
    TypeError, IndexError, ReadError,
)  # fmt: skip


class DefacingOutcome(Enum):
    """What happened to the face in one object."""

    NO_IMAGE = "no image"
    BARE = "a brain without its head"
    TAKEN_OFF = "taken off"
    REMAINS = "remains"


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces located in a folder."""

    found: Mapping[str, Face]
    """By study and Frame of Reference UID, or by study and series if an image has none."""
    bare: frozenset[str]
    """Series of skull-stripped brains."""


def find_faces(files: list[Path], context: RunContext = SILENT) -> Faces:
    """Locate the face in each frame of reference of DICOM files.

    Parameters
    ----------
    files : list of Path
        Of any kind; files that are not MR images are skipped.
    """
    frames: dict[str, list[Stack]] = defaultdict(list)
    series: dict[str, list[DicomSlice]] = defaultdict(list)
    for item in scan(files, context).slices:
        series[item.text("SeriesInstanceUID")].append(item)
    for items in series.values():
        for stack in sort_series(items).stacks:
            if component(stack.first) == "M":
                frames[_frame_of(stack.first)].append(stack)
    found: dict[str, Face] = {}
    bare: set[str] = set()
    for frame, stacks in frames.items():
        context.check("finding faces")
        stacks.sort(key=_shown, reverse=True)
        for stack in [s for s in stacks if _can_judge(s)][:TRIED]:
            answer = _face_of(stack, context)
            if answer is not None:
                found[frame] = answer
                break
        else:
            bare |= {s.first.text("SeriesInstanceUID") for s in stacks if _is_bare(s)}
    return Faces(found, frozenset(bare))


def _frame_of(item: DicomSlice) -> str:
    """Return the frame of reference within its study: some tools write one UID for all patients."""
    frame = item.text("FrameOfReferenceUID") or item.text("SeriesInstanceUID")
    return f"{item.text('StudyInstanceUID')} {frame}"


def _shown(stack: Stack) -> float:
    """Return a sort key: coverage of the head, then resolution."""
    sides = stack.grid.spacing_mm * stack.grid.shape
    return float(np.minimum(sides, _WHOLE_MM).prod() / stack.grid.spacing_mm.max())


def _can_judge(stack: Stack) -> bool:
    sides = stack.grid.spacing_mm * stack.grid.shape
    return len(stack.slices) >= MIN_SLICES and float(sides.min()) >= MIN_MM


def _values(stack: Stack) -> NDArray[np.float32] | None:
    try:
        return load_stack(stack)
    except _UNDECODABLE:
        return None


def _is_bare(stack: Stack) -> bool:
    values = _values(stack) if _can_judge(stack) else None
    return values is not None and is_stripped(values, stack.grid)


def _face_of(stack: Stack, context: RunContext) -> Face | None:
    values = _values(stack)
    if values is None or is_stripped(values, stack.grid):
        return None
    grid = reading_grid(stack.grid)
    image = resample(values, stack.grid, grid)
    brain = find_brain({MrSequence.T1: image}, grid, context=context)
    if not brain.mask.any() or brain.doubtful is not None:
        return None
    return find_face(brain.mask, brain.grid)


def remove_face(dataset: Dataset, path: Path, faces: Faces) -> DefacingOutcome:
    """Remove the face from the pixels of an object in place, if it was located.

    Parameters
    ----------
    dataset : Dataset
        As read, before its identifiers are replaced.
    """
    kind = str(dataset.get("SOPClassUID") or "")
    if "PixelData" not in dataset or kind in _NO_IMAGES:
        return DefacingOutcome.NO_IMAGE
    if str(dataset.get("SeriesInstanceUID") or "") in faces.bare:
        dataset.RecognizableVisualFeatures = "NO"
        return DefacingOutcome.BARE
    planes = frames_of(path, dataset) or [DicomSlice(path, dataset)]
    face = faces.found.get(_frame_of(planes[0]))
    if face is None or not _usable(dataset, planes):
        dataset.RecognizableVisualFeatures = "YES"
        return DefacingOutcome.REMAINS
    try:
        pixels = _native(dataset)
    except _UNDECODABLE:
        dataset.RecognizableVisualFeatures = "YES"
        return DefacingOutcome.REMAINS
    fill = min(int(pixels.min()), 0)
    frames = pixels.reshape(len(planes), *pixels.shape[-2:])
    for frame, plane in zip(frames, planes, strict=True):
        frame[_mask(plane, frame.shape, face)] = fill
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset.RecognizableVisualFeatures = "NO"
    return DefacingOutcome.TAKEN_OFF


def _usable(dataset: Dataset, planes: list[DicomSlice]) -> bool:
    """Return whether every pixel has a position, and the pixels can be re-encoded."""
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    return (
        syntax.is_transfer_syntax
        and syntax.is_little_endian
        and int(dataset.get("SamplesPerPixel") or 1) == 1
        and int(dataset.get("NumberOfFrames") or 1) == len(planes)
        and not any(is_mosaic(plane) or geometry_problem(plane) for plane in planes)
    )


def _native(dataset: Dataset) -> NDArray[Any]:
    """Decompress in place and return the stored pixels, (F, rows, columns) or (rows, columns)."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress(generate_instance_uid=False)
    return np.array(dataset.pixel_array)


def _mask(plane: DicomSlice, shape: tuple[int, ...], face: Face) -> NDArray[np.bool_]:
    """Return the (rows, columns) mask of face pixels in a plane."""
    turn = plane.numbers("ImageOrientationPatient", 6)
    spacing = plane.numbers("PixelSpacing", 2)
    origin = plane.numbers("ImagePositionPatient", 3)
    if turn is None or spacing is None or origin is None:  # excluded by `_usable`
        raise ValueError("a plane without a place")
    steps = [max(round(SQUARE_MM / float(edge)), 1) for edge in spacing]
    row, column = (
        np.arange(0, n, step) + (step - 1) / 2 for n, step in zip(shape, steps, strict=True)
    )
    down = row[:, None, None] * spacing[0] * turn[3:]
    along = column[None, :, None] * spacing[1] * turn[:3]
    points = geometry.points_lps_from_ras((origin + down + along).reshape(-1, 3))
    held = face.at(points).reshape(len(row), len(column))
    whole = held.repeat(steps[0], axis=0).repeat(steps[1], axis=1)
    return np.asarray(whole[: shape[0], : shape[1]])
