"""Make volumes of MR image planes: group by series, split, sort along the normal, lay a grid.

`volumes` does it for one series. Each group of planes becomes a volume, or is set aside with its
reason; nothing is interpolated, and nothing that headers leave open is guessed. File names and the
order of files mean nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import GeometryError
from lesionlens.base.geometry import plane_matrix, ras_from_lps, shear_of
from lesionlens.base.grid import Grid
from lesionlens.base.scan_limits import MAX_SHEAR
from lesionlens.base.text import counted
from lesionlens.imaging.reading.dicom.files import Frame, is_same_image

CONVERT = "convert it with dcm2niix and open the NIfTI file"
MAX_OFFSET_VOX = 0.45
"""Largest distance of a pixel from its voxel, whose positions may be rounded: in its plane when a
series is read, in each direction when objects are written on it."""
EVEN_FRACTION, EVEN_MM = 0.05, 0.1
"""Planes are evenly spaced within this share of their distance, or this length."""
_ROUNDING = np.array([1e-3] * 8 + [0.05])
"""Largest difference within a volume of direction cosines, pixel spacing in mm, echo time in ms."""
_MIN_JOINED = 5
"""Fewest images, each with a UID of its own, that are joined."""
_SERIES = ("FrameOfReferenceUID", "SeriesNumber", "SeriesDescription")
"""Differ within one Series Instance UID only if two series have it by mistake."""
_VOLUME = (
    "TemporalPositionIndex", "TemporalPositionIdentifier", "StackID", "FrameType", "ImageType",
    "ContrastBolusAgentAdministered", "ContrastBolusAgent", "FrameAcquisitionNumber",
    "AcquisitionNumber", "TriggerTime", "FrameReferenceDateTime", "FrameAcquisitionDateTime",
    "AcquisitionDateTime", "AcquisitionTime",
)  # fmt: skip
"""What the images of one volume share, the most specific first."""
_COMPONENTS = {"PHASE": "P", "PHASE MAP": "P", "REAL": "R", "IMAGINARY": "I"}


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Parallel, evenly spaced planes of one acquisition."""

    frames: tuple[Frame, ...]
    """In ascending position along their normal."""
    grid: Grid
    """i along the rows, j down the columns, k along the normal; mm RAS+."""
    notices: tuple[str, ...] = ()


class _SetAside(Exception):
    """Why planes are not a volume."""


def with_joined_uids(frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """Join images of one series that each have a UID of their own, as after de-identification.

    They are of one series if patient, series number, description, size and orientation are equal.
    Each gets the UIDs of the first; without a common Frame of Reference UID it has none.

    Returns
    -------
    frames, notices : list of Frame, list of str
    """
    names = {
        "StudyInstanceUID": "Study Instance UID",
        "SeriesInstanceUID": "Series Instance UID",
        "FrameOfReferenceUID": "Frame of Reference UID",
    }
    if all(min(Counter(f.text(key) for f in frames).values()) > 1 for key in names):
        return frames, []
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    label = ("PatientID", "PatientName", "SeriesNumber", "SeriesDescription", "Rows", "Columns")
    for index, frame in enumerate(frames):
        rounded = (round(cosine, 2) for cosine in frame.numbers("ImageOrientationPatient"))
        groups[(*map(frame.text, label), *rounded)].append(index)
    joined, notices = list(frames), []
    for indices in groups.values():
        members = [frames[index] for index in indices]
        images = len({frame.uid for frame in members})
        own = {k: len({frame.text(k) for frame in members}) == images for k in names}
        if images < _MIN_JOINED or not any(own.values()):
            continue
        first = min(members, key=_order)
        shared = {key: first.text(key) for key, each in own.items() if each}
        if own["FrameOfReferenceUID"]:
            shared["FrameOfReferenceUID"] = ""
        for index in indices:
            joined[index] = replace(frames[index], values={**frames[index].values, **shared})
        listed = ", ".join(names[key] for key, each in own.items() if each)
        notices.append(
            f'Each image of series "{first.text("SeriesDescription")}" has its own {listed}: its '
            f"{images} images were joined by series number, description and geometry."
        )
    return joined, notices


def volumes(frames: Iterable[Frame]) -> tuple[list[Volume], list[str]]:
    """Make the volumes of one series, the largest first.

    Returns
    -------
    volumes, reasons : list of Volume, list of str
        And why other planes were set aside.
    """
    found: list[Volume] = []
    reasons: Counter[str] = Counter()
    usable = []
    for frame in sorted(frames, key=_order):
        if (problem := geometry_problem(frame)) is None:
            usable.append(frame)
        else:
            reasons[problem] += 1
    groups = sorted(_alike(usable), key=lambda group: -len(group))  # stable: the earlier one first
    for other in groups[1:]:
        difference = _difference(groups[0][0], other[0])
        if _is_one_stack([*groups[0], *other]):  # of which a part would pass for the whole
            return [], [f"slices of one stack have a different {difference}"]
        reasons[f"images with a different {difference} were separated"] += len(other)
    for group in (run for like in groups for run in _acquisitions(like)):
        try:
            parts, notices = _split(_by_position(group))
        except _SetAside as reason:
            reasons[str(reason)] += len(group)
            continue
        for part in parts:
            try:
                found.append(_volume(part, notices))
            except (_SetAside, GeometryError) as reason:
                reasons[str(reason)] += len(part)
    found.sort(key=lambda volume: -len(volume.frames))
    listed = [f"{text} ({counted(count, 'image')})" for text, count in reasons.items()]
    return found, listed


def geometry_problem(frame: Frame) -> str | None:
    """Return why a plane has no geometry, or None."""
    if frame.tile is not None and not frame.values.get("ImagePositionPatient"):
        return f"a Siemens mosaic without the private header that places its slices: {CONVERT}"
    if len(frame.numbers("ImagePositionPatient")) != 3:
        return "no usable ImagePositionPatient (three numbers): its geometry is unknown"
    orientation = np.array(frame.numbers("ImageOrientationPatient"))
    if orientation.size != 6:
        return "no usable ImageOrientationPatient (six numbers): its geometry is unknown"
    axes = orientation.reshape(2, 3)
    if not np.abs(axes @ axes.T - np.eye(2)).max() <= 0.02:
        return "an ImageOrientationPatient that is not a pair of perpendicular unit vectors"
    spacing = frame.numbers("PixelSpacing")
    if len(spacing) != 2 or min(spacing) <= 0:
        return "no usable PixelSpacing (two lengths above zero): its geometry is unknown"
    return None


def component(frame: Frame) -> str:
    """Return M, P, R or I: magnitude, phase, real, imaginary; GE states it in a private element."""
    raw = frame.values.get("GEComponent")
    number = int.from_bytes(raw[:2], "little") if isinstance(raw, bytes) else 0
    letters = {"MPRI"[number] if number < 4 else "M"}
    for text in (
        *frame.texts("ImageType")[2:],
        *frame.texts("FrameType")[2:],
        *frame.texts("ComplexImageComponent"),
    ):
        letters.add(_COMPONENTS.get(text.replace("_", " "), text.split("_")[0]))  # P_FFE
    return next((letter for letter in "PRI" if letter in letters), "M")


def _order(frame: Frame) -> tuple[float, float, str]:
    number, place = frame.number_of("InstanceNumber") or 0.0, frame.number or frame.tile or 0
    return number, float(place), frame.uid


def _measures(frame: Frame) -> NDArray[np.float64]:
    """Return (9,) orientation, pixel spacing in mm and echo time in ms, 0 without one."""
    te = frame.number_of("EffectiveEchoTime") or frame.number_of("EchoTime") or 0.0
    return np.array([*frame.numbers("ImageOrientationPatient"), *frame.numbers("PixelSpacing"), te])


def _alike(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Group frames by what all of one volume share.

    Measures are compared with those of a group's first frame: scanners and archives round them
    differently from slice to slice, and rounded again they may fall on two sides of a boundary.
    """
    groups: dict[tuple[str, ...], list[tuple[NDArray[np.float64], list[Frame]]]] = defaultdict(list)
    for frame in frames:
        exact = (*map(frame.text, (*_SERIES, "Rows", "Columns", "EchoNumbers")), component(frame))
        measures = _measures(frame)
        for reference, group in groups[exact]:
            if (np.abs(reference - measures) <= _ROUNDING).all():
                group.append(frame)
                break
        else:
            groups[exact].append((measures, [frame]))
    return [group for candidates in groups.values() for _, group in candidates]


def _normal(frame: Frame) -> NDArray[np.float64]:
    row, column = np.reshape(frame.numbers("ImageOrientationPatient"), (2, 3))
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def _depths(frames: Sequence[Frame]) -> NDArray[np.float64]:
    return np.array([f.numbers("ImagePositionPatient") for f in frames]) @ _normal(frames[0])


def _acquisitions(group: list[Frame]) -> list[list[Frame]]:
    """Return the acquisitions of a group if each is complete by itself and they interleave.

    A second acquisition a little further would otherwise fill the gaps of the first.
    """
    runs: dict[str, list[Frame]] = defaultdict(list)
    for frame in group:
        runs[frame.text("AcquisitionNumber")].append(frame)
    first = group[0]
    spacing = first.number_of("SpacingBetweenSlices") or first.number_of("SliceThickness")
    if len(runs) < 2 or not spacing or min(map(len, runs.values())) < _MIN_JOINED:
        return [group]
    depths = [np.sort(_depths(run)) for run in runs.values()]
    for gaps in map(np.diff, depths):
        if gaps.min() <= 0.5 * gaps.max() or gaps.max() > 1.5 * spacing:
            return [group]
    positions = [frozenset(np.round(depth, 1).tolist()) for depth in depths]
    one_has_all = frozenset().union(*positions) in positions
    interleaved = max(d[0] for d in depths) < min(d[-1] for d in depths)
    return list(runs.values()) if interleaved and not one_has_all else [group]


def _by_position(group: list[Frame]) -> list[list[Frame]]:
    """Return frames by their position along the normal, in ascending order.

    Positions that are rounded differently from volume to volume are one position.
    """
    tolerance = max(0.01, min(EVEN_MM, (group[0].number_of("SliceThickness") or np.inf) / 5))
    depths = _depths(group)
    positions: list[list[Frame]] = []
    last = -np.inf
    for index in np.argsort(depths, kind="stable"):
        if depths[index] - last > tolerance:
            positions.append([])
            last = float(depths[index])
        positions[-1].append(group[index])
    return positions


def _is_one_stack(frames: list[Frame]) -> bool:
    """Return whether planes follow one another evenly, whatever else they differ in."""
    positions = _by_position(frames)
    with suppress(_SetAside, GeometryError):
        return len(positions) == len(frames) and bool(_volume([f for (f,) in positions], []))
    return False


def _split(positions: list[list[Frame]]) -> tuple[list[list[Frame]], list[str]]:
    """Split frames into volumes with each position once; with notices."""
    counts = {len(frames) for frames in positions}
    if counts == {1}:
        return [[frames[0] for frames in positions]], []
    if len(counts) == 1:
        if (separated := _separated(positions)) is not None:
            notice = f"its {len(separated)} volumes (time points or phases) were separated"
            return separated, [notice]
        times = f"{counts.pop()} images at each slice position"
        if all(
            frame.number is None and is_same_image(frames[0], frame)
            for frames in positions
            for frame in frames[1:]
        ):
            notice = f"{times} have identical pixels but different SOP Instance UIDs; one was kept"
            return [[frames[0] for frames in positions]], [notice]
    else:
        for parts in _partitions(positions):
            whole = [part for part in parts if all(len(frames) == 1 for frames in part)]
            if whole:
                more = sum(map(len, positions)) - len(whole) * len(positions)
                notice = f"{more} image(s) at slice positions of a complete volume were left out"
                return [[frames[0] for frames in part] for part in whole], [notice]
        twice = sum(len(frames) > min(counts) for frames in positions)
        times = f"{twice} slice position(s) with duplicate images"
    raise _SetAside(f"{times}, and no header says which of them belong to one volume")


def _separated(positions: list[list[Frame]]) -> list[list[Frame]] | None:
    """Return the volumes of positions with as many frames each; None if frames are ambiguous."""
    if len(positions[0]) == 1:
        return [[frames[0] for frames in positions]]
    for parts in _partitions(positions):
        if all(len({len(frames) for frames in part}) == 1 for part in parts):
            split = [_separated(part) for part in parts]
            if all(volumes is not None for volumes in split):
                return [volume for volumes in split if volumes is not None for volume in volumes]
    ordered = [sorted(frames, key=_order) for frames in positions]
    numbers = [[frame.number_of("InstanceNumber") or 0.0 for frame in at] for at in ordered]
    if len({number for at in numbers for number in at}) == 1:
        numbers = [[float(frame.number or 0) for frame in at] for at in ordered]
    steps = {tuple(number - at[0] for number in at) for at in numbers}
    if len(steps) > 1 or any(len(set(step)) < len(step) for step in steps):
        return None  # not all volumes are numbered alike
    return [list(part) for part in zip(*ordered, strict=True)]


def _partitions(positions: list[list[Frame]]) -> Iterator[list[list[list[Frame]]]]:
    """Yield the frames of each position split by an attribute that differs, in its order."""
    for number in range(len(_VOLUME) + 9):
        values = {id(frame): _mark(frame, number) for frames in positions for frame in frames}
        if len(set(values.values())) < 2:
            continue
        first: dict[str, tuple[float, float, str]] = {}
        for frame in (frame for frames in positions for frame in frames):
            value = values[id(frame)]
            first[value] = min(first.get(value, _order(frame)), _order(frame))
        ordered = sorted(first, key=lambda value: (_as_number(value), first[value], value))
        yield [
            [[frame for frame in frames if values[id(frame)] == value] for frames in positions]
            for value in ordered
        ]


def _mark(frame: Frame, number: int) -> str:
    """Return what may tell volumes apart: an attribute, the object, or a dimension index."""
    if number < len(_VOLUME):
        return "\\".join(frame.texts(_VOLUME[number]))
    axis = number - len(_VOLUME) - 1
    if axis < 0:
        return "" if (frame.number, frame.tile) == (None, None) else str(frame.path)
    return "".join(frame.texts("DimensionIndexValues")[axis : axis + 1])


def _as_number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def _volume(frames: list[Frame], notices: list[str]) -> Volume:
    """Lay a grid on planes in ascending order, or set them aside."""
    first, normal = frames[0], _normal(frames[0])
    positions = np.array([frame.numbers("ImagePositionPatient") for frame in frames])
    depth = (positions - positions[0]) @ normal
    count = len(frames)
    step = normal * (first.number_of("SliceThickness") or 1.0)
    if count > 1:
        step = (positions[-1] - positions[0]) / (count - 1)
        _check_spacing(depth)
        on_line = positions[0] + np.outer(depth / depth[-1], positions[-1] - positions[0])
        shift_mm = float(np.linalg.norm(positions - on_line, axis=1).max())
        if shift_mm > max(EVEN_MM, MAX_OFFSET_VOX * min(first.numbers("PixelSpacing"))):
            raise _SetAside(f"slices that are shifted in-plane by up to {shift_mm:.1f} mm")
    lps = np.eye(4)
    keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    lps[:3, (0, 1, 3)] = plane_matrix(*map(first.numbers, keywords))
    lps[:3, 2] = step
    affine = ras_from_lps(lps)
    columns, rows = (int(first.number_of(key) or 0) for key in ("Columns", "Rows"))
    grid = Grid((columns, rows, count), affine, first.text("FrameOfReferenceUID") or None)
    if count > 1 and (shear := shear_of(grid.affine)) > MAX_SHEAR:
        angle = float(np.degrees(np.arcsin(min(shear, 1.0))))
        raise _SetAside(
            f"slices that are sheared by {angle:.0f} degrees, as by a tilted gantry: regularise "
            "its geometry in 3D Slicer and open the saved NIfTI file"
        )
    if any(frame.text("LossyImageCompression") == "01" for frame in frames):
        notices = [
            *notices,
            "its images were lossily compressed: fine detail and intensities may differ from those "
            "acquired",
        ]
    return Volume(tuple(frames), grid, tuple(notices))


def _check_spacing(depth: NDArray[np.float64]) -> None:
    """Set planes aside that are not evenly spaced: results must point at acquired images."""
    gaps, mean = np.diff(depth), depth[-1] / (depth.size - 1)
    even = mean * np.arange(depth.size)
    if float(np.abs(depth - even).max()) <= max(EVEN_FRACTION * mean, EVEN_MM):
        return
    usual = float(np.median(gaps))
    steps = gaps / usual
    if float(np.abs(steps - np.rint(steps)).max()) <= 0.1 and steps.min() > 0.5:
        missing = round(float(depth[-1]) / usual) + 1 - depth.size
        raise _SetAside(
            f"{missing} slice(s) missing: gaps of up to {gaps.max():.1f} mm, slice spacing "
            f"{usual:.1f} mm: fetch the series again"
        )
    raise _SetAside(
        f"uneven slice spacing: distances of {gaps.min():.1f} to {gaps.max():.1f} mm: {CONVERT}"
    )


def _difference(one: Frame, other: Frame) -> str:
    """Return what separates two groups of planes."""
    differs = np.abs(_measures(one) - _measures(other)) > _ROUNDING
    if any(one.text(key) != other.text(key) for key in ("Rows", "Columns")):
        return "image size (rows and columns)"
    if differs[:6].any():
        return "orientation (their planes are not parallel)"
    if differs[6:8].any():
        return "pixel spacing"
    if any(one.text(key) != other.text(key) for key in _SERIES):
        return "series or frame of reference (two series have one Series Instance UID)"
    return "echo or component"
