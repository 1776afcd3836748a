"""Decode and rescale the pixels of a volume, in any transfer syntax that pydicom decodes."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import pixel_array
from pydicom.pixels.utils import get_expected_length

from lesionlens.base.errors import ReadError, replaced, unreadable
from lesionlens.base.geometry import Floats
from lesionlens.base.scan_limits import MAX_VOXELS, check_size
from lesionlens.imaging.reading.dicom.files import DAMAGED, Frame, is_of, read_dicom, read_meta
from lesionlens.imaging.reading.dicom.series import Volume


def load(volume: Volume) -> Floats:
    """Read the voxels of a volume.

    Returns
    -------
    (I, J, K) float32
        Columns, rows, slices; stored value times Rescale Slope plus Intercept. Where Philips'
        private scale differs between slices, so that these values cannot be compared, in the
        scanner's own floating-point unit.

    Raises
    ------
    ReadError
        A file holds another image by now, or its pixels are missing, cut short, contradict the
        header, or have a transfer syntax without a decoder.
    """
    columns, rows, count = volume.grid.shape
    check_size(volume.grid.shape, "a DICOM series")
    voxels = np.empty((count, rows, columns), dtype=np.float32)
    scales = _scales(volume)
    by_file: dict[Path, list[int]] = {}
    for index, frame in enumerate(volume.frames):
        by_file.setdefault(frame.path, []).append(index)
    for path, indices in by_file.items():  # one file's pixels in memory at a time
        pixels = _stored(path, volume.frames[indices[0]])
        for index in indices:
            plane = _plane(pixels, volume.frames[index], rows, columns)
            if plane.shape != (rows, columns):
                raise _undecodable(path, f"an image of {plane.shape}, not {(rows, columns)}")
            slope, intercept = scales[index]
            voxels[index] = plane
            if slope != 1.0:
                voxels[index] *= np.float32(slope)
            if intercept:
                voxels[index] += np.float32(intercept)
    return voxels.transpose(2, 1, 0)


def _plane(pixels: NDArray[Any], frame: Frame, rows: int, columns: int) -> NDArray[Any]:
    if frame.tile is not None:
        row, column = divmod(frame.tile, max(pixels.shape[1] // columns, 1))
        top, left = row * rows, column * columns
        return pixels[top : top + rows, left : left + columns]
    return pixels[(frame.number or 1) - 1] if pixels.ndim == 3 else pixels


def _scales(volume: Volume) -> list[tuple[float, float]]:
    """Return slope and intercept of each frame."""
    scales, own = [], []
    for frame in volume.frames:
        slope, raw = frame.number_of("RescaleSlope"), frame.values.get("PhilipsScale")
        slope = 1.0 if slope is None else slope
        scales.append((slope, frame.number_of("RescaleIntercept") or 0.0))
        known = isinstance(raw, bytes) and len(raw) == 4
        own.append(struct.unpack("<f", raw or b"")[0] * slope if known else 0.0)
    if not 0 < min(own) * 1.01 < max(own) < np.inf:
        return scales
    return [(slope / s, intercept / s) for (slope, intercept), s in zip(scales, own, strict=True)]


def _stored(path: Path, opened: Frame) -> NDArray[Any]:
    """Return the stored values of a file: (rows, columns) or (frames, rows, columns).

    Bytes behind the pixels are ignored and bits above Bits Stored masked (PS3.5, 8.1.1).
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            data = read_dicom(path)
            if not is_of(opened.uid, data) or _is_moved(opened, data):
                raise replaced(path.name)
            if (contradiction := _contradiction(data)) is not None:
                raise _undecodable(path, contradiction)
            pixels = np.asarray(pixel_array(data, allow_excess_frames=False))
            return _without_padding(pixels, data.get("PixelPaddingValue"))
    except ReadError:
        raise
    except MemoryError as error:
        raise _undecodable(path, "more pixels than fit into memory") from error
    except (*DAMAGED, OSError, RuntimeError, IndexError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not a decoder's
            raise unreadable(error, path.name) from error
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise _undecodable(path, reason) from error


def _is_moved(opened: Frame, data: pydicom.Dataset) -> bool:
    """Return whether the header of a single-frame image now places it elsewhere."""
    keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    return (opened.number, opened.tile) == (None, None) and any(
        str(opened.values.get(name)) != str(data.get(name)) for name in keywords
    )


def _contradiction(data: pydicom.Dataset) -> str | None:
    """Return how the stored bytes contradict the header, or None."""
    frames = float(data.get("NumberOfFrames") or 1)
    if float(data.get("Rows") or 0) * float(data.get("Columns") or 0) * frames > MAX_VOXELS:
        return f"its header declares more than {MAX_VOXELS // 10**6} million pixels"
    stored = data.get("PixelData")
    if not isinstance(stored, bytes) or data.file_meta.TransferSyntaxUID.is_encapsulated:
        return None  # which pydicom checks
    expected = get_expected_length(data, unit="bytes")
    if len(stored) != expected and stored.startswith(b"\xfe\xff\x00\xe0"):
        return "compressed (encapsulated) pixels under an uncompressed transfer syntax"
    if expected <= len(stored) < expected * (frames + 1) / frames:
        return None
    return f"its length is {len(stored)} bytes, but its header declares {expected}"


def _without_padding(pixels: NDArray[Any], declared: object) -> NDArray[Any]:
    """Replace declared padding below or above all other pixels, which interpolation would mix in.

    It becomes zero, or the value nearest to it. Some scanners write a negative value under the VR
    of unsigned numbers: 63536 for -2000.
    """
    if not isinstance(declared, int) or not declared or pixels.dtype.kind not in "iu":
        return pixels
    value = np.array([declared]).astype(pixels.dtype)[0]
    padding = pixels == value
    others = pixels[~padding]
    if not padding.any() or not others.size or others.min() < value < others.max():
        return pixels
    return np.where(padding, np.clip(0, others.min(), others.max()).astype(pixels.dtype), pixels)


def _undecodable(path: Path, reason: str) -> ReadError:
    try:
        syntax = str(read_meta(path).TransferSyntaxUID.name)
    except (*DAMAGED, OSError):
        syntax = "transfer syntax unknown"
    return ReadError(
        f"The pixels of {path.name!r} cannot be decoded ({syntax}): {reason}.",
        hint="Export the series again, uncompressed (Explicit VR Little Endian) if you can.",
    )
