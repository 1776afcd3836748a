"""Sort slices into volumes: group by series and geometry, order along the normal, build a grid.

Rules for imperfect series (see the documentation):

- A series is split by size, orientation, pixel spacing, echo and image component, by frame of
  reference, number and description (two series under one UID), and if every position occurs
  several times (time points, contrast phases, stacks).
- Slices are ordered by their position along the normal; names and numbers are ignored.
- Of two images at one position that of the complete volume is kept, else the lower instance
  number, with a notice. Where all are there several times and nothing says which belong together,
  they are refused.
- Two acquisitions in one series whose slices interleave are two volumes.
- Missing or unevenly spaced slices are interpolated to even spacing, with a notice, if no gap
  exceeds three slices and at most a tenth is missing. As the reference such a series is refused,
  because results must refer to acquired images.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import GeometryError
from lesionlens.base.geometry import Affine, plane_matrix, ras_from_lps
from lesionlens.base.grid import Grid
from lesionlens.imaging.reading.dicom.scan import PHILIPS_SCALE, DicomSlice, grouped
from lesionlens.imaging.reading.dicom.shared_positions import component, number_of, split_volumes
from lesionlens.imaging.reading.sequences import AcquisitionParameters

EVEN_FRACTION, EVEN_MM = 0.05, 0.1
SCALE_TOLERANCE = 0.01
ROUNDING = np.array([1e-3] * 8 + [0.05])
"""Maximum difference within a volume of the direction cosines, the pixel spacing in mm, and the
echo time in ms."""
_FLOAT = struct.Struct("<f")
_SERIES_KEYWORDS = ("FrameOfReferenceUID", "SeriesNumber", "SeriesDescription")
"""Attributes that differ only if two series have one Series Instance UID by mistake."""
_MIN_ACQUISITION, _MAX_STEP = 5, 1.5
"""Minimum slices of a complete acquisition, and its largest step from slice to slice, relative to
the spacing in the header: with larger steps it is a package that another one completes."""
MAX_OFFSET_VOX = 0.45
"""Maximum distance of a pixel from its voxel, whose positions may be rounded: in its plane when a
series is read, in each direction when objects are written on it.
"""
MAX_MISSING_FRACTION, MAX_GAP_SLICES = 0.1, 3


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Parallel slices of one volume."""

    slices: tuple[DicomSlice, ...]
    """In ascending position along their normal."""
    grid: Grid
    """i along the rows, j down the columns, k along the normal."""
    depth_mm: NDArray[np.float64]
    """(N,) float64: position of each slice along k, from the first one."""
    even: bool = True
    """Whether the slices coincide with the grid's planes."""
    notices: tuple[str, ...] = ()
    """Irregularities."""

    @property
    def first(self) -> DicomSlice:
        """The first slice, whose attributes represent the stack."""
        return self.slices[0]


@dataclass(slots=True)
class SortedSeries:
    """The stacks of one series, and the problems found."""

    stacks: list[Stack] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    mosaics: int = 0


def is_mosaic(item: DicomSlice) -> bool:
    """Return whether a slice is a Siemens mosaic of many slices."""
    return any("MOSAIC" in text for text in item.texts("ImageType"))


def sort_series(slices: Iterable[DicomSlice]) -> SortedSeries:
    """Sort the slices of one series into stacks."""
    result = SortedSeries()
    usable: list[DicomSlice] = []
    for item in slices:
        if is_mosaic(item):
            result.mosaics += 1
            continue
        problem = geometry_problem(item)
        if problem:
            result.problems.append(problem)
        else:
            usable.append(item)
    for group in (part for g in _group_by_geometry(usable) for part in _acquisitions(g)):
        try:
            parts = split_volumes(_by_position(group))
        except GeometryError as error:
            result.problems.append(error.found)
            continue
        for volume, notices in parts:
            try:
                result.stacks.append(_stack(volume, notices))
            except GeometryError as error:
                result.problems.append(error.found)
    result.stacks.sort(key=lambda s: -len(s.slices))  # stable: the earlier volume stays first
    if len(result.stacks) > 1:
        result.problems.extend(_differences(result.stacks))
    return result


def geometry_problem(item: DicomSlice) -> str | None:
    """Return what is wrong with a slice's geometry, or None."""
    position = item.numbers("ImagePositionPatient", 3)
    orientation = item.numbers("ImageOrientationPatient", 6)
    spacing = item.numbers("PixelSpacing", 2)
    if position is None:
        return "no usable ImagePositionPatient (three numbers): its geometry is unknown"
    if orientation is None:
        return "no usable ImageOrientationPatient (six numbers): its geometry is unknown"
    row, column = orientation[:3], orientation[3:]
    lengths = (float(row @ row), float(column @ column))
    if max(abs(lengths[0] - 1.0), abs(lengths[1] - 1.0), abs(float(row @ column))) > 0.02:
        return "an ImageOrientationPatient that is not a pair of perpendicular unit vectors"
    if spacing is None or (spacing <= 0).any():
        return "no usable PixelSpacing (two lengths above zero): its geometry is unknown"
    return None


def _require_numbers(item: DicomSlice, keyword: str, count: int) -> NDArray[np.float64]:
    numbers = item.numbers(keyword, count)
    if numbers is None:  # excluded by `geometry_problem`
        raise ValueError(keyword)
    return numbers


def _group_by_geometry(slices: Iterable[DicomSlice]) -> list[list[DicomSlice]]:
    """Group slices by what all of one volume share, in the order of their numbers.

    Measures are compared with those of a group's first slice: scanners and archives round them
    differently from slice to slice, and rounded again they may fall on two sides of a boundary.
    """
    by_key: dict[tuple[str, ...], list[tuple[NDArray[np.float64], list[DicomSlice]]]]
    by_key = defaultdict(list)
    groups: list[list[DicomSlice]] = []
    for item in sorted(slices, key=number_of):
        candidates, measures = by_key[_exact_key(item)], _measures(item)
        matching = (
            group
            for reference, group in candidates
            if (np.abs(reference - measures) <= ROUNDING).all()
        )
        group = next(matching, None)
        if group is None:
            group = []
            groups.append(group)
            candidates.append((measures, group))
        group.append(item)
    return groups


def _acquisitions(group: list[DicomSlice]) -> list[list[DicomSlice]]:
    """Return the acquisitions of a group if each is complete by itself and they interleave.

    A second acquisition a little further would otherwise fill the gaps of the first. If one of them
    has all positions, they are left to `split_volumes`.
    """
    runs = grouped(group, "AcquisitionNumber")
    first = group[0]
    spacing_mm = first.number("SpacingBetweenSlices") or first.number("SliceThickness")
    if len(runs) < 2 or not spacing_mm or min(map(len, runs.values())) < _MIN_ACQUISITION:
        return [group]
    normal = _normal(first)
    depths = [
        np.sort([_require_numbers(s, "ImagePositionPatient", 3) @ normal for s in run])
        for run in runs.values()
    ]
    for depth in depths:
        gaps = np.diff(depth)
        if gaps.min() <= 0.5 * gaps.max() or gaps.max() > _MAX_STEP * spacing_mm:
            return [group]
    interleaved = max(d[0] for d in depths) < min(d[-1] for d in depths)
    positions = [frozenset(np.round(depth, 1).tolist()) for depth in depths]
    one_has_all = frozenset().union(*positions) in positions
    return list(runs.values()) if interleaved and not one_has_all else [group]


def repetitions(stacks: list[Stack]) -> list[tuple[int, int]]:
    """Return for each volume its index among those of its kind and position, and their number."""
    keys = [
        (
            component(stack.first),
            *map(stack.first.texts, ("ImageType", "FrameType", "StackID")),
            *np.round(_measures(stack.first), 1),
            stack.grid.shape,
            *np.round(stack.grid.affine[:3, 3], 1),
        )
        for stack in stacks
    ]
    return [(keys[:index].count(key), keys.count(key)) for index, key in enumerate(keys)]


def _exact_key(item: DicomSlice) -> tuple[str, ...]:
    """Return the attributes that are equal in all slices of one volume."""
    exact = (*_SERIES_KEYWORDS, "Rows", "Columns", "EchoNumbers")
    return (*map(item.text, exact), component(item))


def _measures(item: DicomSlice) -> NDArray[np.float64]:
    """Return (9,) orientation, pixel spacing in mm and echo time in ms, 0 without one."""
    te = item.number("EffectiveEchoTime") or item.number("EchoTime") or 0.0
    geometry = (("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    return np.concatenate([*(_require_numbers(item, *field) for field in geometry), [te]])


def _normal(item: DicomSlice) -> NDArray[np.float64]:
    orientation = _require_numbers(item, "ImageOrientationPatient", 6)
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal))


def _by_position(group: list[DicomSlice]) -> list[list[DicomSlice]]:
    """Return slices with common geometry by their position along the normal.

    Positions that are rounded differently from volume to volume are one position.
    """
    normal = _normal(group[0])
    thickness_mm = group[0].number("SliceThickness") or np.inf
    tolerance_mm = max(0.01, min(EVEN_MM, thickness_mm / 5))
    depth = np.array([_require_numbers(s, "ImagePositionPatient", 3) @ normal for s in group])
    positions: list[list[DicomSlice]] = []
    last_depth = -np.inf
    for index in np.argsort(depth, kind="stable"):
        if depth[index] - last_depth > tolerance_mm:
            positions.append([])
            last_depth = float(depth[index])
        positions[-1].append(group[index])
    return positions


def _stack(slices: list[DicomSlice], notices: list[str]) -> Stack:
    """Build the grid of ordered slices and check their spacing."""
    first = slices[0]
    normal = _normal(first)
    positions = np.array([_require_numbers(s, "ImagePositionPatient", 3) for s in slices])
    depth = (positions - positions[0]) @ normal
    _check_in_line(positions, depth, first)
    count, step_mm, irregularity = _planes(depth, first)
    step = (positions[-1] - positions[0]) / (count - 1) if count > 1 else normal * step_mm
    affine = _affine(first, step)
    rows = int(_require_numbers(first, "Rows", 1)[0])
    columns = int(_require_numbers(first, "Columns", 1)[0])
    grid = Grid((columns, rows, count), affine, first.text("FrameOfReferenceUID") or None)
    notices = [
        *notices,
        *_scale_notices(slices),
        *_lossy_notices(slices),
        *([irregularity] if irregularity else []),
    ]
    return Stack(tuple(slices), grid, depth, irregularity is None, tuple(notices))


def _scale_notices(slices: list[DicomSlice]) -> tuple[str, ...]:
    """Return a notice if the maker's scale differs between slices, which no standard tag says."""
    scales = [_philips_scale(item) for item in slices]
    effective = [
        scale * (item.number("RescaleSlope") or 1.0)
        for scale, item in zip(scales, slices, strict=True)
        if scale
    ]
    if not effective or max(effective) <= (1 + SCALE_TOLERANCE) * min(effective):
        return ()
    return (
        "its slices have different private scale factors (Philips), up to "
        f"{max(effective) / min(effective):.1f} times: intensities may differ between slices",
    )


def _lossy_notices(slices: list[DicomSlice]) -> tuple[str, ...]:
    """Return a notice if any slice was ever compressed with a loss, as its header states."""
    if all(item.text("LossyImageCompression") != "01" for item in slices):
        return ()
    return (
        "its images were lossily compressed (Lossy Image Compression): fine detail and "
        "intensities may differ from those acquired",
    )


def _philips_scale(item: DicomSlice) -> float | None:
    """Return Philips' private scale; None if it is absent or not a positive number."""
    raw = item.private(PHILIPS_SCALE)
    try:
        is_raw = isinstance(raw, bytes) and len(raw) == _FLOAT.size  # of implicit VR
        value = None if raw is None else float(_FLOAT.unpack(raw)[0] if is_raw else raw)
    except (TypeError, ValueError):
        return None
    return value if value is not None and 0 < value < np.inf else None


def _check_in_line(
    positions: NDArray[np.float64], depth: NDArray[np.float64], first: DicomSlice
) -> None:
    """Refuse slices that are shifted within their plane: one affine cannot hold them.

    A tilted gantry shifts each slice as much as the one before, which the affine's step holds.
    """
    if depth[-1] <= 0:
        return
    on_line = positions[0] + np.outer(depth / depth[-1], positions[-1] - positions[0])
    shift_mm = float(np.linalg.norm(positions - on_line, axis=1).max())
    pixel_mm = float(_require_numbers(first, "PixelSpacing", 2).min())
    if shift_mm > max(EVEN_MM, MAX_OFFSET_VOX * pixel_mm):
        raise GeometryError(
            found=f"slices that are shifted in-plane by up to {shift_mm:.1f} mm",
            expected="slices stacked above each other, or tilted evenly",
            next_step="Export the series again, with each volume as a separate series",
        )


def _planes(depth: NDArray[np.float64], first: DicomSlice) -> tuple[int, float, str | None]:
    """Return the number of evenly spaced planes, their distance in mm, and any irregularity."""
    if depth.size < 2:
        return 1, first.number("SliceThickness") or 1.0, None
    gaps = np.diff(depth)
    median_gap = float(np.median(gaps))
    mean_gap = depth[-1] / (depth.size - 1)
    tolerance = max(EVEN_FRACTION * mean_gap, EVEN_MM)
    if float(np.abs(depth - mean_gap * np.arange(depth.size)).max()) <= tolerance:
        return depth.size, mean_gap, None
    steps = gaps / median_gap
    is_whole = float(np.abs(steps - np.rint(steps)).max()) <= 0.1 and steps.min() > 0.5
    if is_whole:
        count = round(float(depth[-1]) / median_gap) + 1
        irregularity = (
            f"{count - depth.size} slice(s) missing: gaps of up to {gaps.max():.1f} mm, "
            f"slice spacing {median_gap:.1f} mm"
        )
        return count, median_gap, irregularity
    irregularity = f"uneven slice spacing: distances of {gaps.min():.1f} to {gaps.max():.1f} mm"
    return depth.size, mean_gap, irregularity


def _affine(first: DicomSlice, step_lps_mm: NDArray[np.float64]) -> Affine:
    fields = (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    lps = np.eye(4)
    lps[:3, (0, 1, 3)] = plane_matrix(*(_require_numbers(first, *field) for field in fields))
    lps[:3, 2] = step_lps_mm
    return ras_from_lps(lps)


def gap_problem(stack: Stack) -> str | None:
    """Return why an uneven stack cannot be interpolated, or None."""
    if stack.even:
        return None
    spacing = float(stack.grid.spacing_mm[2])
    missing_fraction = 1.0 - len(stack.slices) / stack.grid.shape[2]
    largest_gap = float(np.diff(stack.depth_mm).max()) / spacing
    if missing_fraction > MAX_MISSING_FRACTION or largest_gap > MAX_GAP_SLICES + 0.5:
        return stack.notices[-1]
    return None


def _differences(stacks: list[Stack]) -> list[str]:
    """Describe how the stacks of one series differ."""
    reference = stacks[0]
    notices = []
    for other in stacks[1:]:
        if other.grid.shape[:2] != reference.grid.shape[:2]:
            difference = "image size (rows and columns differ)"
        elif not np.allclose(_normal(reference.first), _normal(other.first), atol=1e-3):
            difference = "orientation (their planes are not parallel)"
        elif not np.allclose(reference.grid.spacing_mm[:2], other.grid.spacing_mm[:2], atol=1e-3):
            difference = "pixel spacing"
        elif any(other.first.text(k) != reference.first.text(k) for k in _SERIES_KEYWORDS):
            difference = "series or frame of reference (two series have one Series Instance UID)"
        else:
            difference = "echo, component or time point"
        notices.append(f"{len(other.slices)} image(s) with a different {difference} were separated")
    return list(dict.fromkeys(notices))


def acquisition(item: DicomSlice) -> AcquisitionParameters:
    """Read acquisition parameters of a slice from classic or enhanced attributes."""
    agent = item.text("ContrastBolusAgent")
    if not agent and (agents := item.readable("ContrastBolusAgentSequence")):
        agent = DicomSlice(item.path, agents[0]).text("CodeMeaning") or "agent"
    if item.text("ContrastBolusAgentAdministered").upper() == "NO":  # of this frame
        agent = ""
    planar = ("EP",) if item.text("EchoPlanarPulseSequence") == "YES" else ()
    echoes = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}  # of Enhanced MR
    echo = echoes.get(item.text("EchoPulseSequence"), ())
    times = (*item.all_numbers("InversionTime"), *item.all_numbers("InversionTimes"), None)
    return AcquisitionParameters(
        description=item.text("SeriesDescription"),
        protocol=item.text("ProtocolName"),
        scanning_sequence=(*item.texts("ScanningSequence"), *planar, *echo),
        te_ms=item.number("EffectiveEchoTime") or item.number("EchoTime"),
        tr_ms=item.number("RepetitionTime"),
        ti_ms=times[0],
        agent=agent,
    )
