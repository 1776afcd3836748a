"""Read DICOM Segmentations of any program as masks on the study's grid.

No order of axes is assumed: every pixel is located by its position. Pixels that coincide with
voxels of the grid in position and size are copied; otherwise the segment is resampled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lesionlens.base import codes, geometry
from lesionlens.base.errors import ReadError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Label
from lesionlens.imaging.preparation.resampling import resample_mask

MAX_OFFSET_VOX = 0.25
"""Maximum distance of a pixel from its voxel, and of a frame from its position in an evenly spaced
stack, in pixels or slices: the positions of a series may be rounded.
"""
_GAP_TOLERANCE = 0.1
"""Maximum difference of distances between slices that are taken as equal, as a fraction."""
_STEP_TOLERANCE = 1e-3
"""Maximum difference between two frames' steps from pixel to pixel, as a fraction of a step."""
_SIZE_TOLERANCE = 2e-3
"""Maximum difference of a pixel's edges from a voxel's, in voxels."""
LESION = re.compile(
    r"tumou?r|lesion|metasta|gliom|blastom|neoplas|\bmass\b|enhanc|necro|\bcore\b|o?edema|cyst|"
    r"abnormal|infarct|h(a)?emorrhag|bleed|\b(wt|tc|et|ncr|netc?|snfh|ed)\b"
)
CAVITY = re.compile(r"(resection|surgical|operative).?cavity")
_SHORT_CAVITY = re.compile(r"\brc\b")
"""The cavity's name in BraTS 2024; anatomy may have it too."""
_EXCLUDED = re.compile(r"\b(?:without|excluding|except|minus|w/o)\b.*|\bno\s+\w+")
"""What a name says that a segment does not contain: "tumor core without edema"."""
ANATOMY = frozenset({"123037004", "T-D0050"})
"""Category "Anatomical Structure" (SCT, SRT) of organs."""
_LESION_CATEGORIES = frozenset({"49755003", "M-01000"})
"""Category "Morphologically Abnormal Structure" (SCT, SRT)."""
_CAVITY_TYPE = codes.LABEL_TYPES[Label.CAVITY].value


class Part(IntEnum):
    """Part of a lesion that a segment shows; later ones overwrite earlier ones."""

    WHOLE = 0
    OEDEMA = 1
    CORE = 2
    ENHANCING = 3

    @property
    def label(self) -> Label:
        """The voxel label of the part."""
        return (Label.OEDEMA, Label.OEDEMA, Label.CORE, Label.ENHANCING)[self]


_BY_CODE = {
    codes.TUMOUR_CORE.value: Part.CORE,
    codes.LABEL_TYPES[Label.CORE].value: Part.CORE,
    codes.LABEL_TYPES[Label.OEDEMA].value: Part.OEDEMA,
    codes.LABEL_TYPES[Label.ENHANCING].value: Part.ENHANCING,
}
_BY_NAME = (
    (re.compile(r"edema|flair|\b(snfh|ed)\b"), Part.OEDEMA),
    (re.compile(r"non.?enhanc|necro|\bcore\b|\b(tc|ncr|netc?)\b"), Part.CORE),
    (re.compile(r"enhanc|\bet\b"), Part.ENHANCING),
    (re.compile(r"infiltrat|peritumo"), Part.OEDEMA),
)
"""Parts by words of a segment's name, those of the BraTS challenges among them ("surrounding
non-enhancing FLAIR hyperintensity"); the first that fits counts.
"""


class SegmentKind(Enum):
    """What a segment outlines, by its codes or name."""

    LESION = auto()
    CAVITY = auto()
    """A resection cavity."""
    ANATOMY = auto()
    """An organ, by its category, that is not named like a lesion."""
    UNKNOWN = auto()


class Frame(NamedTuple):
    """One frame of a segment."""

    segment: int
    """Number of the segment."""
    pixels: NDArray[np.bool_]
    """(rows, columns) bool: voxels of the segment."""
    plane: NDArray[np.float64]
    """(3, 3) float64: maps (column, row, 1) to LPS+ mm."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadSegment:
    """One segment."""

    label: str
    part: Part
    """Which part of a lesion it is."""
    kind: SegmentKind
    tracking_uid: str | None
    mask: NDArray[np.bool_]
    """(I, J, K) bool: mask on the study's grid."""
    resampled: bool
    drawing_method: DrawingMethod | None = None
    """How it was outlined; None if it does not say."""
    is_networks: bool = False
    """Whether, in an object of LesionLens, the network alone outlined it."""
    fraction_outside: float = 0.0
    """Fraction of its marked pixels that lie outside the study's grid."""
    frames: tuple[Frame, ...] = ()
    """Its frames if it was resampled."""
    spacing_mm: float | None = None
    """Distance between its slices; None if unknown."""


def read_segments(ds: Dataset, grid: Grid) -> list[ReadSegment]:
    """Return the non-empty segments of a Segmentation (BINARY, FRACTIONAL or LABELMAP).

    Raises
    ------
    ReadError
        Its pixels or positions cannot be read.
    """
    try:
        frames = [*_frames(ds)]
        spacing_mm = _declared_spacing_mm(ds, frames)
        return [
            _segment(item, segment_frames, spacing_mm, grid)
            for item in ds.SegmentSequence
            if (segment_frames := [f for f in frames if f.segment == int(item.SegmentNumber)])
        ]
    except (AttributeError, KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise ReadError(
            found="a Segmentation that cannot be read",
            expected="a DICOM Segmentation with positions of its frames in the patient",
            next_step="Export it again, or analyse the study",
        ) from error


def _frames(ds: Dataset) -> Iterator[Frame]:
    """Yield each frame with a non-empty segment."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    pixels = np.asarray(ds.pixel_array).reshape(-1, ds.Rows, ds.Columns)
    kind = str(ds.SegmentationType)
    threshold = max(int(ds.get("MaximumFractionalValue", 1)), 1) / 2 if kind == "FRACTIONAL" else 1
    described_numbers = {int(item.SegmentNumber) for item in ds.SegmentSequence}
    for pixel, groups in zip(pixels, ds.PerFrameFunctionalGroupsSequence, strict=True):
        plane = plane_of(groups, shared)
        if kind == "LABELMAP":
            segments = [(n, pixel == n) for n in np.unique(pixel[pixel > 0]).tolist()]
        else:
            segment = macro(groups, shared, "SegmentIdentificationSequence")
            segments = [(int(segment.ReferencedSegmentNumber), pixel >= threshold)]
        for number, marked in segments:
            if marked.any():
                if number not in described_numbers:
                    raise ValueError(f"segment {number} is not described")
                yield Frame(number, marked, plane)


def _declared_spacing_mm(ds: Dataset, frames: list[Frame]) -> float | None:
    """Return the distance between slices as the object states it, else as its frames show it.

    A stated distance below the thickness may be the gap: then it is measured from three or more
    evenly spaced slices. With fewer it is the stated distance, or the thickness.
    """
    groups, shared = ds.PerFrameFunctionalGroupsSequence[0], ds.SharedFunctionalGroupsSequence[0]
    item = macro(groups, shared, "PixelMeasuresSequence")
    stated = abs(float(item.get("SpacingBetweenSlices") or 0))
    thickness = float(item.get("SliceThickness") or 0)
    if stated and stated >= (1 - _GAP_TOLERANCE) * thickness:
        return stated
    if frames:
        planes = [frame.plane for frame in frames]
        gaps = np.diff(
            np.unique(np.round([plane[:, 2] @ _normal(planes[0]) for plane in planes], 3))
        )
        if gaps.size > 1 and np.ptp(gaps) < _GAP_TOLERANCE * gaps.min():
            return float(gaps.min())
    return stated or thickness or None


def _normal(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = np.cross(plane[:, 0], plane[:, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def macro(groups: Dataset, shared: Dataset, name: str) -> Any:
    """Return a functional group of a frame, its own or the shared one."""
    return (groups if name in groups else shared)[name].value[0]


def plane_of(groups: Dataset, shared: Dataset) -> NDArray[np.float64]:
    """Return a frame's map of (column, row, 1) to LPS+ mm, (3, 3)."""
    position = macro(groups, shared, "PlanePositionSequence").ImagePositionPatient
    orientation = macro(groups, shared, "PlaneOrientationSequence").ImageOrientationPatient
    spacing = macro(groups, shared, "PixelMeasuresSequence").PixelSpacing
    return geometry.plane_matrix(position, orientation, spacing)


def voxels_of(marked: NDArray[Any], plane: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Return the fractional voxel indices (N, 3) of a frame's marked pixels."""
    row, column = np.nonzero(marked)
    lps = np.stack([column, row, np.ones(len(row))], axis=1) @ plane.T
    return grid.to_voxel(geometry.points_lps_from_ras(lps))


def _has_voxel_size(frames: list[Frame], spacing_mm: float | None, grid: Grid) -> bool:
    """Return whether a step from pixel to pixel, and from slice to slice, is one voxel."""
    plane = frames[0].plane
    normal = _normal(plane)
    slice_mm = _slice_step(np.array([frame.plane[:, 2] @ normal for frame in frames]), spacing_mm)
    steps_lps = np.stack([*plane[:, :2].T, normal * (slice_mm or 0.0)])
    steps = grid.to_voxel(geometry.points_lps_from_ras(steps_lps)) - grid.to_voxel((0, 0, 0))
    whole = np.abs(steps[:2] - np.rint(steps[:2])).max() <= _SIZE_TOLERANCE
    return bool(whole and np.abs(steps).max() < 1 + _GAP_TOLERANCE)


def _segment(
    item: Dataset, frames: list[Frame], spacing_mm: float | None, grid: Grid
) -> ReadSegment:
    voxels = np.concatenate([voxels_of(frame.pixels, frame.plane, grid) for frame in frames])
    nearest = np.rint(voxels).astype(np.intp)
    in_grid = grid.contains(nearest)
    fits = bool(in_grid.all()) and float(np.abs(voxels - nearest).max()) <= MAX_OFFSET_VOX
    fits = fits and _has_voxel_size(frames, spacing_mm, grid)
    if fits:
        mask = np.zeros(grid.shape, bool)
        mask[tuple(nearest.T)] = True
    else:
        mask = _resample_frames(frames, spacing_mm, grid)
    (category, _), (type_code, type_name) = (
        _code(item, f"SegmentedProperty{n}CodeSequence") for n in ("Category", "Type")
    )
    name = str(item.get("SegmentLabel", ""))
    text = " ".join(map(_asserted, (name, type_name)))
    part = _BY_CODE.get(type_code) or next(
        (p for pattern, p in _BY_NAME if pattern.search(text)), None
    )
    uid, method = str(item.get("TrackingUID", "")) or None, _drawing_method(item)
    has_identification = "SegmentationAlgorithmIdentificationSequence" in item
    return ReadSegment(
        label=name or type_name,
        part=part or Part.WHOLE,
        kind=_kind_of(category, type_code, text),
        tracking_uid=uid,
        mask=mask,
        resampled=not fits,
        drawing_method=method,
        is_networks=has_identification and method is DrawingMethod.AUTOMATIC,
        fraction_outside=1.0 - float(in_grid.mean()),
        frames=() if fits else tuple(frames),
        spacing_mm=spacing_mm,
    )


def _kind_of(category: str, type_code: str, text: str) -> SegmentKind:
    """Return what a segment outlines, by the codes of its category and type, and its name."""
    is_anatomy = category in ANATOMY
    is_short_cavity = _SHORT_CAVITY.search(text) is not None and not is_anatomy
    if type_code == _CAVITY_TYPE or CAVITY.search(text) or is_short_cavity:
        return SegmentKind.CAVITY
    if category in _LESION_CATEGORIES or LESION.search(text):
        return SegmentKind.LESION
    return SegmentKind.ANATOMY if is_anatomy else SegmentKind.UNKNOWN


def _asserted(name: str) -> str:
    """Return a name in lower case, without what it says is not contained.

    Examples
    --------
    >>> _asserted("Tumor_core (no edema)"), _asserted("Tumour, without resection cavity")
    ('tumor core ()', 'tumour, ')
    """
    return _EXCLUDED.sub("", name.lower().replace("_", " "))


def joint_mask(segments: Sequence[ReadSegment], grid: Grid) -> NDArray[np.bool_]:
    """Return the union of segments, with voxels of which only all of them together cover half."""
    mask = reduce(np.logical_or, (segment.mask for segment in segments))
    frames = [frame for segment in segments for frame in segment.frames]
    if len(segments) > 1 and frames:
        mask |= _resample_frames(frames, segments[0].spacing_mm, grid)
    return np.asarray(mask)


def _drawing_method(item: Dataset) -> DrawingMethod | None:
    method = str(item.get("SegmentAlgorithmType", "")).lower()
    return DrawingMethod(method) if method in set(DrawingMethod) else None


def _code(item: Dataset, keyword: str) -> tuple[str, str]:
    concepts = item.get(keyword) or [Dataset()]
    return str(concepts[0].get("CodeValue", "")), str(concepts[0].get("CodeMeaning", ""))


def _resample_frames(
    frames: list[Frame], spacing_mm: float | None, grid: Grid
) -> NDArray[np.bool_]:
    """Resample segments from their frames to the grid; where a slice has no frame it is empty."""
    first_plane = frames[0].plane
    normal = _normal(first_plane)
    _check_stack([frame.plane for frame in frames])
    depths = np.array([frame.plane[:, 2] @ normal for frame in frames])
    step = _slice_step(depths, spacing_mm) or float(grid.spacing_mm.max())
    lowest = int(np.argmin(depths))
    exact_index = (depths - depths[lowest]) / step + 1
    index = np.rint(exact_index).astype(int)
    if np.abs(exact_index - index).max() > MAX_OFFSET_VOX:
        raise _no_stack_error("unevenly spaced")
    rows, columns = frames[0].pixels.shape
    volume = np.zeros((columns, rows, int(index.max()) + 2), bool)
    for k, frame in zip(index, frames, strict=True):
        volume[:, :, k] |= frame.pixels.T
    lps = np.eye(4)
    lps[:3, :2], lps[:3, 2] = first_plane[:, :2], normal * step
    lps[:3, 3] = frames[lowest].plane[:, 2] - normal * step
    source = Grid(volume.shape, geometry.ras_from_lps(lps), grid.frame_uid)
    return resample_mask(volume, source, grid)


def _check_stack(planes: list[NDArray[np.float64]]) -> None:
    """Refuse frames that are not stacked along one normal, and so do not fit a grid."""
    first_plane = planes[0]
    sides = np.linalg.norm(first_plane[:, :2], axis=0)
    for plane in planes:
        if np.abs(plane[:, :2] - first_plane[:, :2]).max() > _STEP_TOLERANCE * sides.min():
            raise _no_stack_error("of several orientations or pixel spacings")
        offset = plane[:, 2] - first_plane[:, 2]
        if (np.abs(offset @ (first_plane[:, :2] / sides)) > MAX_OFFSET_VOX * sides).any():
            raise _no_stack_error("shifted against each other")


def _no_stack_error(defect: str) -> ReadError:
    return ReadError(
        found=f"a Segmentation on other voxels than the reference, whose frames are {defect}",
        expected="parallel, evenly spaced frames, so that they can be resampled",
        next_step="Export it again on the voxels of the images, or analyse the study",
    )


def _slice_step(depths: NDArray[np.float64], spacing_mm: float | None) -> float | None:
    """Return the distance between slices, mm, also if a segment leaves out some; None if unknown.

    Examples
    --------
    >>> _slice_step(np.array([20.0, 30.0]), 5.0), _slice_step(np.array([20.0, 27.5]), 5.0)
    (5.0, 7.5)
    """
    gaps = np.diff(np.unique(np.round(depths, 3)))
    if not gaps.size:
        return spacing_mm
    smallest_gap = float(gaps.min())
    count = smallest_gap / spacing_mm if spacing_mm else 1.0
    if abs(count - round(count)) > _GAP_TOLERANCE * count:  # a thickness: slices with gaps
        return smallest_gap
    return smallest_gap / max(round(count), 1)
