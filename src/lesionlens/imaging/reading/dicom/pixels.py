"""Decode and rescale the pixels of a stack, in any transfer syntax that pydicom supports."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from lesionlens.base.errors import ReadError, replaced, unreadable
from lesionlens.base.geometry import Floats
from lesionlens.base.scan_limits import MAX_VOXELS, check_size
from lesionlens.imaging.reading.dicom.bounded import DAMAGED, is_of, read_dicom, read_meta
from lesionlens.imaging.reading.dicom.scan import DicomSlice
from lesionlens.imaging.reading.dicom.series import Stack

_UNDECODABLE = (*DAMAGED, OSError, RuntimeError, IndexError)

_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


def load_stack(stack: Stack) -> Floats:
    """Read the voxels of a stack in scanner units.

    Parameters
    ----------
    stack : Stack
        Single-frame files, or frames of a multi-frame file.

    Returns
    -------
    (I, J, K) float32
        Columns, rows, slices; stored value times RescaleSlope plus RescaleIntercept. Slices that
        are missing or uneven are interpolated linearly along k.

    Raises
    ------
    ReadError
        A file whose pixels are missing, cut short, or in a transfer syntax without a decoder.
    """
    columns, rows, planes = stack.grid.shape
    check_size((columns, rows, max(planes, len(stack.slices))), "a DICOM series")
    volume = np.empty((len(stack.slices), rows, columns), dtype=np.float32)
    by_file: dict[Path, list[tuple[int, DicomSlice]]] = {}
    for index, item in enumerate(stack.slices):
        by_file.setdefault(item.path, []).append((index, item))
    for path, slices in by_file.items():
        _fill(volume, decode(path, slices[0][1]), slices)
    if not stack.even:
        volume = _evenly_spaced(volume, stack.depth_mm, planes)
    return volume.transpose(2, 1, 0)


def _fill(volume: Floats, pixels: NDArray[Any], items: Iterable[tuple[int, DicomSlice]]) -> None:
    """Copy one file's frames into the volume; only one file's pixels are in memory at a time."""
    for index, item in items:
        plane = pixels if item.frame is None or pixels.ndim == 2 else pixels[item.frame]
        volume[index] = _rescaled(plane, item, (volume.shape[1], volume.shape[2]))


def decode(path: Path, opened: DicomSlice) -> NDArray[Any]:
    """Return the stored pixel values of a file: (rows, columns) or (frames, rows, columns).

    Padding that the header declares is replaced by zero, or by the value nearest to it.

    Parameters
    ----------
    opened : DicomSlice
        The image, or a frame of it, as it was when the study was opened.

    Raises
    ------
    ReadError
        The file now contains another image, or the same one in another position or orientation; it
        cannot be opened, as when it was deleted; or its pixels are missing, contradict the header
        in length or encoding, or have a transfer syntax without a decoder.
    """
    try:
        data = read_dicom(path, force=True)
        if not is_of(opened.uid, data) or _is_moved(opened, data):
            raise replaced(path.name)
        contradiction = _size_problem(data) or _contradiction(data) or _bits_beyond(data)
        if contradiction:
            raise _undecodable(path, contradiction)
        return _without_padding(np.asarray(data.pixel_array), data)
    except ReadError:
        raise
    except MemoryError as error:
        raise _undecodable(path, "more pixels than fit into memory") from error
    except _UNDECODABLE as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not a decoder's
            raise unreadable(error, path.name) from error
        text = " ".join(str(error).split())
        raise _undecodable(path, text[:160] or type(error).__name__) from error


def _is_moved(opened: DicomSlice, data: pydicom.Dataset) -> bool:
    """Return whether the header now places the image elsewhere; frames are not distinguished."""
    keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    return any(str(opened.header.get(name)) != str(data.get(name)) for name in keywords)


def _without_padding(pixels: NDArray[Any], data: pydicom.Dataset) -> NDArray[Any]:
    """Replace declared padding below or above all other pixels, which interpolation would mix in.

    Some scanners write a negative value under the VR of unsigned numbers: 63536 for -2000.
    """
    declared = (data.get("PixelPaddingValue"), data.get("PixelPaddingRangeLimit"))
    limits = [int(value) for value in declared if isinstance(value, int)]
    if not limits or not any(limits) or pixels.dtype.kind not in "iu":
        return pixels
    low, high = sorted(np.array(limits).astype(pixels.dtype)[[0, -1]])
    padding = (pixels >= low) & (pixels <= high)
    others = pixels[~padding]
    if not padding.any() or (others.size and others.min() < low and others.max() > high):
        return pixels
    zero = np.clip(0, others.min(), others.max()) if others.size else 0
    return np.where(padding, pixels.dtype.type(zero), pixels)


def _size_problem(data: pydicom.Dataset) -> str | None:
    """Return why a header declares too many pixels, or None."""
    count = float(data.get("Rows") or 0) * float(data.get("Columns") or 0)
    if count * float(data.get("NumberOfFrames") or 1) <= MAX_VOXELS:
        return None
    return f"its header declares more than {MAX_VOXELS // 10**6} million pixels"


def _contradiction(data: pydicom.Dataset) -> str | None:
    """Return how the stored bytes contradict the header, or None."""
    stored = data.get("PixelData")
    if not isinstance(stored, bytes):
        return None  # missing, or float pixels, which pydicom checks itself
    encapsulated = _is_encapsulated(stored)
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        return None if encapsulated else "uncompressed pixels under a compressed transfer syntax"
    if encapsulated:
        return "compressed (encapsulated) pixels under an uncompressed transfer syntax"
    expected = get_expected_length(data, unit="bytes")
    if len(stored) in (expected, expected + expected % 2):
        return None
    return f"its length is {len(stored)} bytes, but its header declares {expected}"


def _bits_beyond(data: pydicom.Dataset) -> str | None:
    """Return that pixels need more bits than declared, which decoding would cut off.

    Bits above may hold overlays (retired), and negative numbers need not be extended to them.
    Compressed streams state their bits themselves, except RLE.
    """
    stored, syntax = data.get("PixelData"), data.file_meta.TransferSyntaxUID
    if not isinstance(stored, bytes) or (syntax.is_encapsulated and syntax != RLELossless):
        return None
    bits, allocated = int(data.BitsStored), int(data.BitsAllocated)
    overlays = any(
        0x6000 <= tag.group < 0x6020 and tag.element == 0x0102 and data[tag].value
        for tag in data.keys()  # noqa: SIM118  iterating the data set would decode its values
    )
    if bits >= allocated or allocated != 16 or overlays:
        return None
    if syntax == RLELossless:
        values, _ = get_decoder(RLELossless).as_array(data, correct_unused_bits=False)
    else:
        values = np.frombuffer(stored, ">u2" if syntax == ExplicitVRBigEndian else "<u2")
    values = values.astype(np.int16 if data.PixelRepresentation else np.uint16, copy=False)
    limit = 2 ** (bits - 1) if data.PixelRepresentation else 2**bits
    is_extended = not data.PixelRepresentation or bool(((values < 0) & (values >= -limit)).any())
    if not (is_extended and (values >= limit).any()):
        return None
    return f"pixels up to {values.max()}, but its header declares {bits} stored bits"


def _is_encapsulated(stored: bytes) -> bool:
    """Return whether bytes are a complete sequence of items, as compressed frames have."""
    offset = 0
    while stored[offset : offset + 4] == _ITEM and offset + 8 <= len(stored):
        offset += 8 + struct.unpack_from("<I", stored, offset + 4)[0]
    remainder = stored[offset:]
    return offset > 0 and (not remainder.strip(b"\0") or remainder[:4] == _SEQUENCE_END)


def _undecodable(path: Path, reason: str) -> ReadError:
    return ReadError(
        found=f"pixel data that cannot be decoded in {path.name!r} ({syntax_of(path)}): {reason}",
        expected="complete pixel data in a transfer syntax that can be decoded",
        next_step="Export the series again, uncompressed (Explicit VR Little Endian) if you can",
    )


def syntax_of(path: Path) -> str:
    """Return a file's transfer syntax in words."""
    try:
        uid = read_meta(path).get("TransferSyntaxUID")
    except _UNDECODABLE:
        return "transfer syntax unknown"
    return f"transfer syntax {uid.name}" if uid else "transfer syntax not named"


def _rescaled(plane: NDArray[Any], item: DicomSlice, shape: tuple[int, int]) -> Floats:
    if plane.shape != shape:
        raise ReadError(
            found=f"pixel data of size {plane.shape}, not {shape}, in {item.path.name!r}",
            expected="as many rows and columns as in the header",
            next_step="Export the series again",
        )
    slope, intercept = item.number("RescaleSlope"), item.number("RescaleIntercept")
    values = plane.astype(np.float32)
    if slope is not None and slope != 1.0:
        values *= np.float32(slope)
    if intercept:
        values += np.float32(intercept)
    return values


def _evenly_spaced(slices: Floats, depth_mm: NDArray[np.float64], planes: int) -> Floats:
    """Interpolate (N, rows, columns) slices at uneven depths to evenly spaced planes."""
    target_mm = np.linspace(0.0, depth_mm[-1], planes)
    upper = np.clip(np.searchsorted(depth_mm, target_mm), 1, depth_mm.size - 1)
    span = depth_mm[upper] - depth_mm[upper - 1]
    weight = ((target_mm - depth_mm[upper - 1]) / span).astype(np.float32)[:, None, None]
    return np.asarray(slices[upper - 1] * (1 - weight) + slices[upper] * weight)
