"""Cache files of numpy arrays, with a checksum that is verified before reading.

A file consists of a header line, the SHA-256 of the payload, and a NumPy archive. A file that is
empty, truncated, altered, unreadable or of another version is treated as missing and is computed
again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.files.atomic_file import write_atomically

logger = logging.getLogger(__name__)

SUFFIX = ".kept"
_MAGIC = b"lesionlens/kept/1\n"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size
_MAX_BYTES = 2 * 2**30


def write(path: Path, arrays: Mapping[str, NDArray[Any]], *, packed: bool = True) -> None:
    """Write arrays to a file atomically; `packed` compresses them."""
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    payload = buffer.getvalue()
    write_atomically(path, _MAGIC + hashlib.sha256(payload).digest() + payload)


def read(path: Path, names: Collection[str] = ()) -> Mapping[str, NDArray[Any]] | None:
    """Return a file's arrays; None if it is missing, damaged, or lacks one of `names`."""
    payload = _body(path)
    if payload is None:
        return None
    with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays if set(names) <= set(arrays) else None


def is_whole(path: Path) -> bool:
    """Return whether a file exists and its checksum is right."""
    return _body(path) is not None


def _body(path: Path) -> bytes | None:
    try:
        if not path.is_file():
            return None
        content = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    except OSError:
        content = b""
    head, payload = content[:_HEAD], content[_HEAD:]
    if head == _MAGIC + hashlib.sha256(payload).digest():
        return payload
    logger.warning("a damaged entry of the cache is computed again")
    return None
