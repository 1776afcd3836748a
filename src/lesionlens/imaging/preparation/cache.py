"""Keep what preparation had to search for (movements, brain mask) by the content it was found in.

Files lie in the user's own cache folder, never beside the study, and hold no name: the key is a
hash of voxels, grids and the version of the method. A cache that cannot be read or written costs
time, never a result.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import user_folders
from lesionlens.base.geometry import Affine

logger = logging.getLogger(__name__)

METHOD = "4"
"""Counts up when registration or brain extraction changes, so that old entries are not met."""
KEPT = 400
"""Entries; the oldest go first. The largest, a brain mask, takes about 30 kB."""
_ZIPPED = zipfile.ZIP_DEFLATED
_UNREADABLE = (OSError, ValueError, KeyError, zipfile.BadZipFile)


def folder() -> Path:
    """Return the folder of prepared studies in the user's cache."""
    return user_folders.cache() / "prepared"


def key_of(volumes: Mapping[str, tuple[NDArray[np.float32], Affine]], options: str) -> str:
    """Return a hash of the voxels, their grids and the options, as hexadecimal text.

    Parameters
    ----------
    volumes : mapping of str to (voxels, affine)
        (I, J, K) float32 and (4, 4) float64 by sequence.
    options : str
        What else the result depends on.
    """
    digest = hashlib.blake2b(f"{METHOD}|{options}".encode(), digest_size=20)
    for name in sorted(volumes):
        values, affine = volumes[name]
        digest.update(f"{name}|{values.shape}".encode())
        digest.update(np.ascontiguousarray(affine, dtype=np.float64).tobytes())
        digest.update(np.ascontiguousarray(values.T).data)
    return digest.hexdigest()


def load(key: str) -> Mapping[str, NDArray[Any]] | None:
    """Return the arrays kept under a key, or None where there are none that can be read."""
    path = folder() / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        os.utime(path)
    except FileNotFoundError:
        return None
    except _UNREADABLE:
        logger.warning("an entry of the cache could not be read and is made anew")
        return None
    return arrays


def save(key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep arrays; written aside and moved in, so that no half of an entry is ever met."""
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(suffix=".part", dir=place)
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", _ZIPPED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        Path(aside).replace(place / f"{key}.npz")
        _drop_old(place)
    except OSError:
        logger.warning("the cache could not be written; the next run takes as long as this one")


def _drop_old(place: Path) -> None:
    entries = sorted(place.glob("*.npz"), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in entries[KEPT:]:
        old.unlink(missing_ok=True)
