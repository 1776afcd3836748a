"""Assign slices that share positions to volumes: time points, phases, stacks of one object.

The order of frames in a multi-frame object means nothing, and the numbers of two acquisitions may
run in opposite directions. Images are therefore assigned by attributes that one volume shares;
numbers decide only where the volumes are numbered alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from lesionlens.base.errors import GeometryError
from lesionlens.imaging.reading.dicom.scan import GE_COMPONENT, DicomSlice, same_image

_VOLUME_KEYWORDS = (
    "TemporalPositionIndex", "TemporalPositionIdentifier", "StackID", "FrameType", "ImageType",
    "ContrastBolusAgentAdministered", "ContrastBolusAgent", "FrameAcquisitionNumber",
    "AcquisitionNumber", "TriggerTime", "FrameReferenceDateTime", "FrameAcquisitionDateTime",
    "AcquisitionDateTime", "AcquisitionTime",
)  # fmt: skip
"""Attributes that images of one volume share, the most specific first."""
_MAX_DIMENSIONS = 8
_GE_COMPONENTS = {"0": "M", "1": "P", "2": "R", "3": "I"}
_COMPONENTS = {"PHASE": "P", "PHASE MAP": "P", "REAL": "R", "IMAGINARY": "I"}


def component(item: DicomSlice) -> str:
    """Return M, P, R or I: magnitude, phase, real, imaginary; GE uses a private element."""
    letters = {_ge_component(item)}
    for text in (
        *item.texts("ImageType")[2:],
        *item.texts("FrameType")[2:],
        *item.texts("ComplexImageComponent"),
    ):
        letter = text.split("_")[0]  # Philips: P_FFE
        letters.add(_COMPONENTS.get(text.replace("_", " "), letter))
    return next((letter for letter in "PRI" if letter in letters), "M")


def _ge_component(item: DicomSlice) -> str:
    value = item.private(GE_COMPONENT)
    if isinstance(value, bytes):  # of implicit VR
        value = int.from_bytes(value[:2], "little")
    return _GE_COMPONENTS.get(str(value).strip("[]' ").split(",")[0], "M")


def number_of(item: DicomSlice) -> tuple[float, float]:
    """Return instance number and frame, which order the images of a series."""
    return item.number("InstanceNumber") or 0.0, float(item.frame or 0)


class SplitVolume(NamedTuple):
    """Slices of one volume, each position once, with notices."""

    slices: list[DicomSlice]
    notices: list[str]


def split_volumes(positions: list[list[DicomSlice]]) -> list[SplitVolume]:
    """Split slices into volumes with each position once.

    Parameters
    ----------
    positions : list of list of DicomSlice
        The images at each position, positions in ascending order.

    Raises
    ------
    GeometryError
        All positions are there several times, and neither headers nor numbers say which images
        belong together.
    """
    counts = {len(images) for images in positions}
    if counts == {1}:
        return [SplitVolume([images[0] for images in positions], [])]
    if len(counts) == 1 and len(positions) > 1:
        parts = _separate_volumes(positions)
        are_copies = (
            item.frame is None and same_image(p[0], item) for p in positions for item in p
        )
        if parts is None and all(are_copies):
            notice = (
                f"its images occur {len(positions[0])} times with identical pixels but different "
                "SOP Instance UIDs; one of each was kept"
            )
            return [SplitVolume([images[0] for images in positions], [notice])]
        if parts is None:
            raise GeometryError(
                found=f"{len(positions[0])} images at each slice position, and no header that says "
                "which of them belong to one volume",
                expected="a time point, stack or acquisition number for each image",
                next_step="Export the series again, with each volume as a separate series",
            )
        notice = f"its {len(parts)} volumes (time points or phases) were separated"
        return [SplitVolume(part, [notice]) for part in parts]
    count = sum(len(images) > 1 for images in positions)
    complete = _complete_volume(positions)
    if complete is not None:
        notice = (
            f"{count} slice position(s) occur twice (duplicate images at the same position); the "
            "images of the complete volume were kept"
        )
        return [SplitVolume(complete, [notice])]
    notice = (
        f"{count} slice position(s) occur twice (duplicate images at the same position); the "
        "image with the lower number, or else from the first file, was kept"
    )
    return [SplitVolume([min(images, key=number_of) for images in positions], [notice])]


def _separate_volumes(positions: list[list[DicomSlice]]) -> list[list[DicomSlice]] | None:
    """Return the volumes of positions with as many images each; None if images are ambiguous."""
    if len(positions[0]) == 1:
        return [[images[0] for images in positions]]
    for parts in _partitions(positions):
        counts = [{len(images) for images in part} for part in parts]
        if all(len(sizes) == 1 for sizes in counts):
            split = [_separate_volumes(part) for part in parts]
            if all(volumes is not None for volumes in split):
                return [volume for volumes in split if volumes is not None for volume in volumes]
    return _by_number(positions)


def _complete_volume(positions: list[list[DicomSlice]]) -> list[DicomSlice] | None:
    """Return the volume that has one image at each position, if an attribute distinguishes it.

    Otherwise the first or the last numbers, as for an acquisition that was stopped and repeated.
    """
    for parts in _partitions(positions):
        for part in parts:
            if all(len(images) == 1 for images in part):
                return [images[0] for images in part]
    place = {id(item): index for index, images in enumerate(positions) for item in images}
    ordered = sorted((item for images in positions for item in images), key=number_of)
    count = len(positions)
    if count == 1:
        return None
    for run, before, after in (
        (ordered[:count], ordered[count - 1], ordered[count]),
        (ordered[-count:], ordered[-count - 1], ordered[-count]),
    ):
        is_complete = len({place[id(item)] for item in run}) == count
        if is_complete and number_of(before) < number_of(after):
            return sorted(run, key=lambda item: place[id(item)])
    return None


def _partitions(positions: list[list[DicomSlice]]) -> Iterator[list[list[list[DicomSlice]]]]:
    """Yield the images split by each attribute that differs among them, ordered by its values."""
    for attribute in _attributes():
        values = {id(item): attribute(item) for images in positions for item in images}
        if len(set(values.values())) < 2:
            continue
        first_numbers: dict[str, tuple[float, float]] = {}
        for item in (item for images in positions for item in images):
            value = values[id(item)]
            first_numbers[value] = min(first_numbers.get(value, number_of(item)), number_of(item))
        yield [
            [[item for item in images if values[id(item)] == value] for images in positions]
            for value in sorted(
                first_numbers, key=lambda value: (_as_number(value), first_numbers[value], value)
            )
        ]


def _attributes() -> Iterator[Callable[[DicomSlice], str]]:
    """Yield functions that return an attribute of a slice, the most specific attribute first."""
    yield from (partial(_attribute, keyword) for keyword in _VOLUME_KEYWORDS)
    yield lambda item: "" if item.frame is None else str(item.path)
    yield from (partial(_dimension, axis) for axis in range(_MAX_DIMENSIONS))


def _attribute(keyword: str, item: DicomSlice) -> str:
    return "\\".join(item.texts(keyword))


def _dimension(axis: int, item: DicomSlice) -> str:
    return "".join(item.texts("DimensionIndexValues")[axis : axis + 1])


def _as_number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def _by_number(positions: list[list[DicomSlice]]) -> list[list[DicomSlice]] | None:
    """Return volumes by the order of numbers, if they differ and volumes are numbered alike."""
    ordered = [sorted(images, key=number_of) for images in positions]
    by_frame = len({number_of(item)[0] for images in positions for item in images}) == 1

    def number(item: DicomSlice) -> float:
        instance, frame = number_of(item)
        return frame if by_frame else instance

    steps = {tuple(number(item) - number(images[0]) for item in images) for images in ordered}
    if len(steps) > 1 or any(len(set(numbers)) < len(numbers) for numbers in steps):
        return None
    return [list(part) for part in zip(*ordered, strict=True)]
