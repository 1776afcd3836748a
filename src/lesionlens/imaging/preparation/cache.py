"""Cache of registrations and brain masks, keyed by image content.

Files are in the user's cache folder, never beside the study, and contain no names: the key is a
hash of voxels, grids and method version. If the cache cannot be read or written, values are
computed again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.files import array_cache, user_folders
from lesionlens.base.geometry import Affine

logger = logging.getLogger(__name__)
T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]

_KEY = "key"
"""Name of the array that holds an entry's own key, so that a renamed entry is recognised."""
METHOD = "7"
"""Method version: increase it when registration or brain extraction changes."""
MAX_ENTRIES = 400
"""Maximum number of entries; the oldest are deleted first. The largest, a brain mask, takes about
30 kB.
"""


@dataclass(frozen=True, slots=True)
class ArrayForm(Generic[T]):
    """How a type of value is converted to and from arrays."""

    names: frozenset[str]
    """Names of the required arrays."""
    read: Callable[[Arrays], T]
    write: Callable[[T], Arrays]


def folder() -> Path:
    """Return the folder of prepared studies in the user's cache."""
    return user_folders.cache() / "prepared"


def digest_of(values: NDArray[Any]) -> str:
    """Return a hash of an array's shape and voxels, in hexadecimal."""
    digest = hashlib.blake2b(f"{values.dtype}{values.shape}".encode(), digest_size=20)
    digest.update(np.ascontiguousarray(values.T).data)
    return digest.hexdigest()


def key_of(volumes: Mapping[str, tuple[str, Affine]], options: str) -> str:
    """Return a hash of voxels, grids and options, in hexadecimal.

    Parameters
    ----------
    volumes : mapping of str to (str, affine)
        `digest_of` the voxels and their (4, 4) float64 affine, by sequence.
    options : str
        Everything else the result depends on.
    """
    digest = hashlib.blake2b(f"{METHOD}|{options}".encode(), digest_size=20)
    for name in sorted(volumes):
        voxels, affine = volumes[name]
        digest.update(f"{name}|{voxels}".encode())
        digest.update(np.ascontiguousarray(affine, dtype=np.float64).tobytes())
    return digest.hexdigest()


def save(key: str, arrays: Arrays) -> None:
    """Store arrays under a key, atomically."""
    try:
        entry = {**arrays, _KEY: np.array(key)}
        array_cache.write(folder() / f"{key}{array_cache.SUFFIX}", entry)
    except OSError:
        logger.warning("the cache could not be written; the next run takes as long as this one")
    _delete_oldest()


def _delete_oldest() -> None:
    """Delete entries beyond the maximum; other processes may do so at the same time."""
    entries: list[tuple[float, Path]] = []
    for path in folder().glob(f"[!.]*{array_cache.SUFFIX}"):
        with suppress(OSError):
            entries.append((path.stat().st_mtime, path))
    for _, path in sorted(entries, reverse=True)[MAX_ENTRIES:]:
        with suppress(OSError):
            path.unlink()


def recall(key: str, form: ArrayForm[T]) -> T | None:
    """Return the value of a key; None if it is missing, damaged, incomplete or of another key."""
    path = folder() / f"{key}{array_cache.SUFFIX}"
    arrays = array_cache.read(path, form.names | {_KEY})
    if arrays is None or arrays[_KEY].tolist() != key:
        return None
    with suppress(OSError):
        os.utime(path)
    return form.read(arrays)


def cached(key: str | None, compute: Callable[[], T], form: ArrayForm[T]) -> T:
    """Return the cached value of a key, else compute and store it; no key disables the cache."""
    stored = None if key is None else recall(key, form)
    if stored is not None:
        return stored
    value = compute()
    if key is not None and value is not None:
        save(key, form.write(value))
    return value
