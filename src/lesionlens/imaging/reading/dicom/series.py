"""Sort slices into volumes: group by series and geometry, order along the normal, build a grid.

Rules for imperfect series (see the documentation):

- A series is split by size, orientation, pixel spacing, echo and image component, by frame of
  reference, number and description (two series under one UID), and if every position occurs
  several times (time points, contrast phases, stacks).
- Slices are ordered by their position along the normal; names and numbers are ignored.
- Of two images at one position that of the complete volume is kept, else the lower instance
  number, with a notice. Where all are there several times and nothing says which belong together,
  they are refused.
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
from lesionlens.base.geometry import Affine, ras_from_lps
from lesionlens.base.grid import Grid
from lesionlens.imaging.reading.dicom.scan import PHILIPS_SCALE, DicomSlice
from lesionlens.imaging.reading.dicom.shared_positions import component, number_of, split_volumes
from lesionlens.imaging.reading.sequences import AcquisitionParameters

EVEN_SHARE, EVEN_MM = 0.05, 0.1
SAME_SCALE = 0.01
ROUNDING = np.array([1e-3] * 8 + [0.05])
"""Maximum difference within a volume of the direction cosines, the pixel spacing in mm, and the
echo time in ms.
"""
_FLOAT = struct.Struct("<f")
_OF_ONE_SERIES = ("FrameOfReferenceUID", "SeriesNumber", "SeriesDescription")
"""Attributes that differ only if two series have one Series Instance UID by mistake."""
IN_LINE_PIXELS = 0.5
"""Tolerance for where slices begin within their plane, pixels."""
MAX_MISSING_SHARE, MAX_GAP_SLICES = 0.1, 3


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Parallel slices of one volume in order along their normal.

    Parameters
    ----------
    slices : tuple of DicomSlice
        In ascending position.
    grid : Grid
        i along the rows, j down the columns, k along the normal.
    depth_mm : (N,) float64
        Position of each slice along k, from the first one.
    even : bool
        Whether the slices coincide with the grid's planes.
    notices : tuple of str
        Irregularities.
    """

    slices: tuple[DicomSlice, ...]
    grid: Grid
    depth_mm: NDArray[np.float64]
    even: bool = True
    notices: tuple[str, ...] = ()

    @property
    def first(self) -> DicomSlice:
        """The first slice, whose attributes represent the stack."""
        return self.slices[0]


@dataclass(slots=True)
class Sorted:
    """The stacks of one series, and the problems found."""

    stacks: list[Stack] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    mosaics: int = 0


def is_mosaic(item: DicomSlice) -> bool:
    """Return whether a slice is a Siemens mosaic of many slices."""
    return any("MOSAIC" in text for text in item.texts("ImageType"))


def sort_series(slices: Iterable[DicomSlice]) -> Sorted:
    """Sort the slices of one series into stacks.

    Parameters
    ----------
    slices : iterable of Slice
        Slices with one Series Instance UID, in any order.
    """
    out = Sorted()
    placed: list[DicomSlice] = []
    for item in slices:
        if is_mosaic(item):
            out.mosaics += 1
            continue
        wrong = geometry_problem(item)
        if wrong:
            out.problems.append(wrong)
        else:
            placed.append(item)
    for group in _groups(placed):
        try:
            parts = split_volumes(_places(group))
        except GeometryError as error:
            out.problems.append(error.found)
            continue
        for volume, notices in parts:
            try:
                out.stacks.append(_stack(volume, notices))
            except GeometryError as error:
                out.problems.append(error.found)
    out.stacks.sort(key=lambda s: -len(s.slices))  # stable: the earlier volume stays first
    if len(out.stacks) > 1:
        out.problems.extend(_differences(out.stacks))
    return out


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
        return "an ImageOrientationPatient that is no pair of unit directions at right angles"
    if spacing is None or (spacing <= 0).any():
        return "no usable PixelSpacing (two lengths above zero): its geometry is unknown"
    return None


def _needed(item: DicomSlice, keyword: str, count: int) -> NDArray[np.float64]:
    found = item.numbers(keyword, count)
    if found is None:  # excluded by `geometry_problem`
        raise ValueError(keyword)
    return found


def _groups(slices: Iterable[DicomSlice]) -> list[list[DicomSlice]]:
    """Group slices by what all of one volume share, in the order of their numbers.

    Measures are compared with those of a group's first slice: scanners and archives round them
    differently from slice to slice, and rounded again they may fall on two sides of a boundary.
    """
    alike: dict[tuple[str, ...], list[tuple[NDArray[np.float64], list[DicomSlice]]]]
    alike = defaultdict(list)
    groups: list[list[DicomSlice]] = []
    for item in sorted(slices, key=number_of):
        found, measures = alike[_key(item)], _measures(item)
        near = (group for first, group in found if (np.abs(first - measures) <= ROUNDING).all())
        group = next(near, None)
        if group is None:
            group = []
            groups.append(group)
            found.append((measures, group))
        group.append(item)
    return groups


def _key(item: DicomSlice) -> tuple[str, ...]:
    """Return the attributes that are equal in all slices of one volume."""
    exact = (*_OF_ONE_SERIES, "Rows", "Columns", "EchoNumbers")
    return (*map(item.text, exact), component(item))


def _measures(item: DicomSlice) -> NDArray[np.float64]:
    """Return (9,) orientation, pixel spacing in mm and echo time in ms, 0 without one."""
    te = item.number("EffectiveEchoTime") or item.number("EchoTime") or 0.0
    geometry = (("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    return np.concatenate([*(_needed(item, *each) for each in geometry), [te]])


def _normal(item: DicomSlice) -> NDArray[np.float64]:
    orientation = _needed(item, "ImageOrientationPatient", 6)
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal))


def _places(group: list[DicomSlice]) -> list[list[DicomSlice]]:
    """Return slices with common geometry by their position along the normal."""
    normal = _normal(group[0])
    depth = np.array([_needed(s, "ImagePositionPatient", 3) @ normal for s in group])
    places: list[list[DicomSlice]] = []
    last = -np.inf
    for index in np.argsort(depth, kind="stable"):
        if depth[index] - last > 0.01:
            places.append([])
            last = float(depth[index])
        places[-1].append(group[index])
    return places


def _stack(slices: list[DicomSlice], notices: list[str]) -> Stack:
    """Build the grid of ordered slices and check their spacing."""
    first = slices[0]
    normal = _normal(first)
    positions = np.array([_needed(s, "ImagePositionPatient", 3) for s in slices])
    depth = (positions - positions[0]) @ normal
    _check_in_line(positions, depth, first)
    count, step_mm, odd = _planes(depth, first)
    step = (positions[-1] - positions[0]) / (count - 1) if count > 1 else normal * step_mm
    affine = _affine(first, step)
    rows, columns = int(_needed(first, "Rows", 1)[0]), int(_needed(first, "Columns", 1)[0])
    grid = Grid((columns, rows, count), affine, first.text("FrameOfReferenceUID") or None)
    notices = [*notices, *_scales(slices), *_losses(slices), *([odd] if odd else [])]
    return Stack(tuple(slices), grid, depth, odd is None, tuple(notices))


def _scales(slices: list[DicomSlice]) -> tuple[str, ...]:
    """Return a notice if the maker's scale differs between slices, which no standard tag says."""
    scales = [_philips_scale(item) for item in slices]
    known = [
        scale * (item.number("RescaleSlope") or 1.0)
        for scale, item in zip(scales, slices, strict=True)
        if scale
    ]
    if not known or max(known) <= (1 + SAME_SCALE) * min(known):
        return ()
    return (
        "its slices have different private scale factors (Philips), up to "
        f"{max(known) / min(known):.1f} times: intensities may differ between slices",
    )


def _losses(slices: list[DicomSlice]) -> tuple[str, ...]:
    """Return a notice if any slice was ever compressed with a loss, as its header states."""
    if all(item.text("LossyImageCompression") != "01" for item in slices):
        return ()
    return (
        "its images were compressed with a loss (Lossy Image Compression): fine detail and "
        "intensities may differ from those acquired",
    )


def _philips_scale(item: DicomSlice) -> float | None:
    """Return Philips' private scale; None if it is absent or no positive number."""
    raw = item.private(PHILIPS_SCALE)
    try:
        coded = isinstance(raw, bytes) and len(raw) == _FLOAT.size  # of implicit VR
        value = None if raw is None else float(_FLOAT.unpack(raw)[0] if coded else raw)
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
    if shift_mm > max(EVEN_MM, IN_LINE_PIXELS * float(_needed(first, "PixelSpacing", 2).min())):
        raise GeometryError(
            found=f"slices that are shifted within their plane, by up to {shift_mm:.1f} mm",
            expected="slices above each other, or tilted evenly",
            next_step="Export the series again, each volume of it as a series of its own",
        )


def _planes(depth: NDArray[np.float64], first: DicomSlice) -> tuple[int, float, str | None]:
    """Return the number of evenly spaced planes, their distance in mm, and any irregularity."""
    if depth.size < 2:
        return 1, first.number("SliceThickness") or 1.0, None
    gaps = np.diff(depth)
    usual = float(np.median(gaps))
    even = depth[-1] / (depth.size - 1)
    allowed = max(EVEN_SHARE * even, EVEN_MM)
    if float(np.abs(depth - even * np.arange(depth.size)).max()) <= allowed:
        return depth.size, even, None
    steps = gaps / usual
    if float(np.abs(steps - np.rint(steps)).max()) <= 0.1:
        count = round(float(depth[-1]) / usual) + 1
        words = (
            f"{count - depth.size} slice(s) missing: gaps of up to {gaps.max():.1f} mm, "
            f"slice spacing {usual:.1f} mm"
        )
        return count, usual, words
    words = f"uneven slice spacing: distances of {gaps.min():.1f} to {gaps.max():.1f} mm"
    return depth.size, even, words


def _affine(first: DicomSlice, step_lps_mm: NDArray[np.float64]) -> Affine:
    orientation = _needed(first, "ImageOrientationPatient", 6)
    spacing = _needed(first, "PixelSpacing", 2)
    lps = np.eye(4)
    lps[:3, 0] = orientation[:3] * spacing[1]
    lps[:3, 1] = orientation[3:] * spacing[0]
    lps[:3, 2] = step_lps_mm
    lps[:3, 3] = _needed(first, "ImagePositionPatient", 3)
    return ras_from_lps(lps)


def gap_problem(stack: Stack) -> str | None:
    """Return why an uneven stack cannot be interpolated, or None."""
    if stack.even:
        return None
    spacing = float(stack.grid.spacing_mm[2])
    lacking = 1.0 - len(stack.slices) / stack.grid.shape[2]
    widest = float(np.diff(stack.depth_mm).max()) / spacing
    if lacking > MAX_MISSING_SHARE or widest > MAX_GAP_SLICES + 0.5:
        return stack.notices[-1]
    return None


def _differences(stacks: list[Stack]) -> list[str]:
    """Describe how the stacks of one series differ."""
    one = stacks[0]
    notices = []
    for other in stacks[1:]:
        if other.grid.shape[:2] != one.grid.shape[:2]:
            sizes = "image size (rows and columns differ)"
        elif not np.allclose(_normal(one.first), _normal(other.first), atol=1e-3):
            sizes = "orientation (their planes are not parallel)"
        elif not np.allclose(one.grid.spacing_mm[:2], other.grid.spacing_mm[:2], atol=1e-3):
            sizes = "pixel spacing"
        elif any(other.first.text(k) != one.first.text(k) for k in _OF_ONE_SERIES):
            sizes = "series or frame of reference (two series have one Series Instance UID)"
        else:
            sizes = "echo, component or time point"
        notices.append(f"{len(other.slices)} image(s) of another {sizes} were set apart")
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
        scanning=(*item.texts("ScanningSequence"), *planar, *echo),
        te_ms=item.number("EffectiveEchoTime") or item.number("EchoTime"),
        tr_ms=item.number("RepetitionTime"),
        ti_ms=times[0],
        agent=agent,
    )
