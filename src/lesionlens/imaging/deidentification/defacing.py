"""Faces taken off the images of a folder: found once a frame of reference, by one of its series.

An image is changed only where a template fits the head (`face`); elsewhere the outcome states that
the face remains. What is taken off gets one even value, so that everyone sees that it is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
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
from lesionlens.imaging.reading.dicom.scan import DicomSlice, scan
from lesionlens.imaging.reading.dicom.series import (
    Stack,
    component,
    geometry_problem,
    is_mosaic,
    sort_series,
)

METHOD = ("113102", "Clean Recognizable Visual Features Option")
LEAST_SLICES, LEAST_MM = 8, 80.0
"""Of a series by which a face is found, and its shortest side."""
TRIED = 3
"""Series of a frame of reference that are asked, the one that shows most first."""
SQUARE_MM = 2.0
"""Pixels are decided in squares of about this edge."""
_WHOLE_MM = 220.0
_NO_IMAGES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.30"}
)
"""Segmentations and Parametric Maps have pixels, but show no head."""
_UNDECODABLE = (
    AttributeError, ValueError, RuntimeError, NotImplementedError, KeyError, OSError, EOFError,
    TypeError, IndexError, ReadError,
)  # fmt: skip


class FaceOutcome(Enum):
    """What happened to the face in one object."""

    NO_IMAGE = "no image"
    BARE = "a brain without its head"
    TAKEN_OFF = "taken off"
    REMAINS = "remains"


@dataclass(frozen=True, slots=True)
class Faces:
    """What is known of the heads in a folder."""

    found: Mapping[str, Face]
    """By frame of reference, or by series where an image names none."""
    bare: frozenset[str]
    """Series that show a brain alone."""


def find_faces(files: list[Path], context: RunContext = SILENT) -> Faces:
    """Find the face of each frame of reference in DICOM files.

    Parameters
    ----------
    files : list of Path
        Of any kind; what is no MR image is passed over.
    context : RunContext
        Reports progress and is checked for cancellation between files and series.
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
    return item.text("FrameOfReferenceUID") or item.text("SeriesInstanceUID")


def _shown(stack: Stack) -> float:
    """Rank a stack: how much of a head it covers, then how fine it is."""
    sides = stack.grid.spacing_mm * stack.grid.shape
    return float(np.minimum(sides, _WHOLE_MM).prod() / stack.grid.spacing_mm.max())


def _can_judge(stack: Stack) -> bool:
    sides = stack.grid.spacing_mm * stack.grid.shape
    return len(stack.slices) >= LEAST_SLICES and float(sides.min()) >= LEAST_MM


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


def take_off(dataset: Dataset, path: Path, faces: Faces) -> FaceOutcome:
    """Take the face off the pixels of an object, in place, if it is known.

    Parameters
    ----------
    dataset : Dataset
        As read, before its identifiers change.
    path : Path
        Its file.
    faces : Faces
        Of its folder.
    """
    kind = str(dataset.get("SOPClassUID") or "")
    if "PixelData" not in dataset or kind in _NO_IMAGES:
        return FaceOutcome.NO_IMAGE
    if str(dataset.get("SeriesInstanceUID") or "") in faces.bare:
        dataset.RecognizableVisualFeatures = "NO"
        return FaceOutcome.BARE
    planes = [*_planes(dataset, path)]
    face = faces.found.get(_frame_of(planes[0])) if planes else None
    if face is None or not _usable(dataset, planes):
        dataset.RecognizableVisualFeatures = "YES"
        return FaceOutcome.REMAINS
    try:
        pixels = _native(dataset)
    except _UNDECODABLE:
        dataset.RecognizableVisualFeatures = "YES"
        return FaceOutcome.REMAINS
    fill = min(int(pixels.min()), 0)
    frames = pixels.reshape(len(planes), *pixels.shape[-2:])
    for frame, plane in zip(frames, planes, strict=True):
        frame[_mask(plane, frame.shape, face)] = fill
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset.RecognizableVisualFeatures = "NO"
    return FaceOutcome.TAKEN_OFF


def _planes(dataset: Dataset, path: Path) -> Iterator[DicomSlice]:
    """Yield the planes of an object: one, or its frames."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        yield DicomSlice(path, dataset)
        return
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for index, groups in enumerate(per_frame):
        yield DicomSlice(path, dataset, index, (groups, *shared[:1]))


def _usable(dataset: Dataset, planes: list[DicomSlice]) -> bool:
    """Whether every pixel's place is known, and can be written again."""
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    return (
        syntax.is_transfer_syntax
        and syntax.is_little_endian
        and int(dataset.get("SamplesPerPixel") or 1) == 1
        and int(dataset.get("NumberOfFrames") or 1) == len(planes)
        and not any(is_mosaic(plane) or geometry_problem(plane) for plane in planes)
    )


def _native(dataset: Dataset) -> NDArray[Any]:
    """Return the stored pixels, (F, rows, columns) or (rows, columns), uncompressed from now on."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress(generate_instance_uid=False)
    return np.array(dataset.pixel_array)


def _mask(plane: DicomSlice, shape: tuple[int, ...], face: Face) -> NDArray[np.bool_]:
    """Report which pixels of a plane, (rows, columns), are face."""
    turn, spacing = (plane.numbers(f"{name}", n) for name, n in _PLACE[:2])
    origin = plane.numbers(*_PLACE[2])
    if turn is None or spacing is None or origin is None:  # `_usable` has refused it
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


_PLACE = (("ImageOrientationPatient", 6), ("PixelSpacing", 2), ("ImagePositionPatient", 3))
