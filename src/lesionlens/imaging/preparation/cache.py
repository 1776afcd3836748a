"""Keep what preparation had to search for (movements, brain mask) by the content it was found in.

Files lie in the user's own cache folder, never beside the study, and hold no name: the key is a
hash of voxels, grids and the version of the method. A cache that cannot be read or written costs
time, never a result.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import array_cache, user_folders
from lesionlens.base.geometry import Affine

logger = logging.getLogger(__name__)
T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]

METHOD = "5"
"""Counts up when registration or brain extraction changes, so that old entries are not met."""
KEPT = 400
"""Entries; the oldest go first. The largest, a brain mask, takes about 30 kB."""


@dataclass(frozen=True, slots=True)
class ArrayForm(Generic[T]):
    """How a kind of value is kept as arrays."""

    names: frozenset[str]
    """Of the arrays, all of which must be there."""
    read: Callable[[Arrays], T]
    write: Callable[[T], Arrays]


def folder() -> Path:
    """Return the folder of prepared studies in the user's cache."""
    return user_folders.cache() / "prepared"


def digest_of(values: NDArray[Any]) -> str:
    """Return a hash of an array's shape and voxels, as hexadecimal text."""
    digest = hashlib.blake2b(f"{values.dtype}{values.shape}".encode(), digest_size=20)
    digest.update(np.ascontiguousarray(values.T).data)
    return digest.hexdigest()


def key_of(volumes: Mapping[str, tuple[str, Affine]], options: str) -> str:
    """Return a hash of voxels, their grids and the options, as hexadecimal text.

    Parameters
    ----------
    volumes : mapping of str to (str, affine)
        `digest_of` the voxels and (4, 4) float64, by sequence.
    options : str
        What else the result depends on.
    """
    digest = hashlib.blake2b(f"{METHOD}|{options}".encode(), digest_size=20)
    for name in sorted(volumes):
        voxels, affine = volumes[name]
        digest.update(f"{name}|{voxels}".encode())
        digest.update(np.ascontiguousarray(affine, dtype=np.float64).tobytes())
    return digest.hexdigest()


def load(key: str, names: Collection[str] = ()) -> Arrays | None:
    """Return the arrays kept under a key; None if there are none, or not whole with `names`."""
    path = folder() / f"{key}{array_cache.SUFFIX}"
    arrays = array_cache.read(path, names)
    if arrays is not None:
        with suppress(OSError):
            os.utime(path)
    return arrays


def save(key: str, arrays: Arrays) -> None:
    """Keep arrays; written aside and moved in, so that no half of an entry is ever met."""
    try:
        array_cache.write(folder() / f"{key}{array_cache.SUFFIX}", arrays)
        _drop_old(folder())
    except OSError:
        logger.warning("the cache could not be written; the next run takes as long as this one")


def recall(key: str, form: ArrayForm[T]) -> T | None:
    """Return what is kept under a key; None if nothing is, or not all of it."""
    kept = load(key, form.names)
    return None if kept is None else form.read(kept)


def cached(key: str | None, compute: Callable[[], T], form: ArrayForm[T]) -> T:
    """Return what is kept under a key, else compute and keep it; without a key, compute."""
    known = None if key is None else recall(key, form)
    if known is not None:
        return known
    found = compute()
    if key is not None and found is not None:
        save(key, form.write(found))
    return found


def _drop_old(place: Path) -> None:
    entries = place.glob(f"*{array_cache.SUFFIX}")
    for old in sorted(entries, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT:]:
        old.unlink(missing_ok=True)
