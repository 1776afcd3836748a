"""Deflated DICOM files: how much they unfold to is bounded before they are read.

pydicom inflates such a file at once, also where its header alone is wanted: a file of 5 MB could
take 5 GB.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

MOST_BYTES = 512 * 2**20
"""That a deflated file may unfold to; the largest multi-frame MR objects have half of it."""
_UID = str(DeflatedExplicitVRLittleEndian).encode()
_META_LENGTH_AT, _META_AT, _STEP = 140, 144, 2**20


class TooLargeError(ValueError):
    """A deflated file that unfolds to more than `MOST_BYTES`."""


def read_dicom(path: Path, **how: Any) -> Any:
    """Read a file with pydicom, as `pydicom.dcmread` does, unless it unfolds to too much.

    Raises
    ------
    TooLargeError
        It does.
    """
    check_inflated(path)
    return pydicom.dcmread(path, **how)


def check_inflated(path: Path) -> None:
    """Refuse a deflated file that unfolds to too much, or whose stream is damaged.

    Raises
    ------
    TooLargeError
        More than `MOST_BYTES`.
    ValueError
        It cannot be inflated.
    """
    with path.open("rb") as stream:
        head = stream.read(4096)
        if head[128:132] != b"DICM" or _UID not in head:
            return
        stream.seek(_META_AT + struct.unpack_from("<I", head, _META_LENGTH_AT)[0])
        if _unfolded(stream) > MOST_BYTES:
            raise TooLargeError(f"unfolds to more than {MOST_BYTES // 10**6} MB")


def _unfolded(stream: BinaryIO) -> int:
    """Return how many bytes a deflated stream unfolds to, at most a step beyond the bound."""
    inflater, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        while count <= MOST_BYTES and not inflater.eof:
            part = inflater.unconsumed_tail or stream.read(_STEP)
            if not part:
                break
            count += len(inflater.decompress(part, _STEP))
    except zlib.error as error:
        raise ValueError(f"a damaged deflated stream ({error})") from error
    return count
