"""Open untrusted DICOM files with bounded memory and time.

pydicom trusts a file's declarations: it allocates the declared length of an element, inflates a
deflated file completely (5 MB may become 5 GB), and creates an object for every item of a sequence.
All of these are limited here, for headers and pixels.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lesionlens.base.errors import ReadError
from lesionlens.base.files.bounded_read import open_regular

MAX_BYTES = 512 * 2**20
"""Inflated size limit; the largest multi-frame MR objects have half of it."""
MAX_VALUE_BYTES = 16 * 2**20
"""Size limit of one value in the header of a deflated file."""
MAX_READS = 2_000_000
"""Limit of elements and items per file; a multi-frame object has about a hundred per frame."""
DAMAGED = (
    InvalidDicomError, EOFError, ValueError, KeyError, AttributeError, TypeError,
    NotImplementedError, MemoryError, OverflowError, RecursionError, BytesLengthException,
    struct.error, ReadError,
)  # fmt: skip
"""Exceptions raised for an invalid DICOM file, here or when a value is decoded.

Any other OSError comes from the system: the file is missing or not readable.
"""
_DEFLATED = str(DeflatedExplicitVRLittleEndian).encode()
_UNCOMPRESSED = str(ExplicitVRLittleEndian).encode().ljust(len(_DEFLATED), b"\0")
_META_LENGTH_OFFSET, _META_OFFSET, _CHUNK_BYTES = 140, 144, 2**20


class TooLargeError(ValueError):
    """A file that inflates to too much, or has too many elements or too large a value."""


def read_dicom(path: Path, **options: Any) -> Any:
    """Read a file like `pydicom.dcmread`, within limits.

    Raises
    ------
    TooLargeError
        It inflates to too much, or has too many elements or too large a value.
    ReadError
        Not a regular file.
    Those of `DAMAGED`, OSError
        Not readable.
    """
    with open_regular(path) as file, _truncation_as_value_error():
        inflated = _inflate(file)
        is_deflated_header = inflated is not None and options.get("stop_before_pixels")
        max_value_bytes = MAX_VALUE_BYTES if is_deflated_header else None
        data = pydicom.dcmread(_BoundedStream(inflated or file, max_value_bytes), **options)
    if inflated is not None:
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    elif "TransferSyntaxUID" not in data.file_meta:
        data.file_meta.TransferSyntaxUID = _syntax_as_read(data)
    data.buffer, data.filename = None, str(path)  # would keep the whole stream otherwise
    return data


@contextmanager
def quiet_header(path: Path, **options: Any) -> Iterator[Any]:
    """Read a header without pixels, and ignore pydicom's warnings about its values.

    Values are decoded when they are first accessed, which must be within the block. Options and
    errors are those of `read_dicom`.
    """
    with warnings.catch_warnings(action="ignore"):
        yield read_dicom(path, stop_before_pixels=True, **options)


def is_of(uid: str | None, header: Any) -> bool:
    """Return whether a header belongs to the image with a UID: files may be replaced by others.

    Parameters
    ----------
    uid : str or None
        SOP Instance UID when the study was opened; True if there was none.
    """
    return not uid or str(header.get("SOPInstanceUID") or "").strip() == uid


def _syntax_as_read(data: Any) -> Any:
    """Return the uncompressed transfer syntax in which a data set without meta header was read."""
    implicit, little_endian = data.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def read_meta(path: Path) -> Any:
    """Read only a file's meta header (group 0002).

    Raises
    ------
    Those of `DAMAGED`, OSError
        No readable meta header.
    """
    with open_regular(path), warnings.catch_warnings(action="ignore"), _truncation_as_value_error():
        return pydicom.filereader.read_file_meta_info(path)


@contextmanager
def _truncation_as_value_error() -> Iterator[None]:
    """Distinguish pydicom's OSError for a truncated stream from the system's."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise ValueError(str(error)) from error
        raise


class _BoundedStream:
    """A stream with limits on the number and size of reads."""

    def __init__(self, stream: BinaryIO, max_value_bytes: int | None) -> None:
        self._stream, self._max_value_bytes, self._reads = stream, max_value_bytes, 0
        self._size = stream.seek(0, 2)
        stream.seek(0)
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, count: int = -1) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS:
            raise TooLargeError(f"holds more than {MAX_READS // 10**6} million elements")
        if self._max_value_bytes is not None and count > self._max_value_bytes:
            raise TooLargeError(f"holds a value of more than {self._max_value_bytes // 10**6} MB")
        if count > _CHUNK_BYTES:  # a false claim of gigabytes would be allocated
            count = min(count, max(0, self._size - self._stream.tell()))
        return self._stream.read(count)


def _inflate(file: BinaryIO) -> BinaryIO | None:
    """Return the inflated content of a deflated file; None if it is not deflated."""
    head = file.read(4096)
    if head[128:132] != b"DICM" or _DEFLATED not in head:
        return None
    data_start = _META_OFFSET + struct.unpack_from("<I", head, _META_LENGTH_OFFSET)[0]
    file.seek(data_start)
    if sum(map(len, _inflated_chunks(file))) > MAX_BYTES:  # before it is held in memory
        raise TooLargeError(f"unfolds to more than {MAX_BYTES // 10**6} MB")
    file.seek(0)
    inflated = BytesIO(file.read(min(data_start, MAX_BYTES)).replace(_DEFLATED, _UNCOMPRESSED, 1))
    inflated.seek(0, 2)
    inflated.writelines(_inflated_chunks(file))
    return inflated


def _inflated_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the inflated content in chunks, at most one chunk beyond the limit."""
    inflater, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        while count <= MAX_BYTES and not inflater.eof:
            compressed = inflater.unconsumed_tail or file.read(_CHUNK_BYTES)
            if not compressed:
                return
            chunk = inflater.decompress(compressed, _CHUNK_BYTES)
            count += len(chunk)
            yield chunk
    except zlib.error as error:
        raise ValueError(f"a damaged deflated stream ({error})") from error
