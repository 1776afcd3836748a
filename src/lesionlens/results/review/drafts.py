"""Autosaved draft of an outline that is being edited, to survive a crash.

One file contains the outline on the working grid. The window that draws it holds its lock, which
ends with the process. It is deleted when the edit is saved or discarded; a file that no window
holds belongs to an interrupted edit.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
import os
import sys
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from lesionlens.base.errors import ResourceError
from lesionlens.base.geometry import bounding_box
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import frozen
from lesionlens.base.records.followup import compared_uids, own_uids
from lesionlens.base.records.prompts import PromptRound
from lesionlens.base.storage import write_atomically
from lesionlens.results.review import store

logger = logging.getLogger(__name__)

_KEYS = frozenset(
    {"uid", "corner", "drawn", "shape", "affine", "assisted", "prompts", "by_hand", "changed"}
)
_NO_VOXELS = np.zeros(0, bool)
_PROMPTS = TypeAdapter(tuple[PromptRound, ...])


@dataclass(frozen=True, eq=False)
class OutlineDraft:
    """An outline that is being edited."""

    tracking_uid: str
    """UID of the candidate, or a new one."""
    drawn: NDArray[np.uint8]
    """(I, J, K) uint8: its labels on the working grid."""
    assisted: bool = False
    """Whether a program made part of it."""
    prompts: tuple[PromptRound, ...] = ()
    """Prompts used for it, oldest first."""
    by_hand: NDArray[np.bool_] | None = None
    """(I, J, K): voxels that a brush painted or erased; None if unknown."""
    changed: NDArray[np.bool_] | None = None
    """(I, J, K): voxels that differ from the outline when the edit began; None if unknown."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "drawn", frozen(self.drawn))

    def continued_from(self, current: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the labels of the candidate now with the changes of this edit, as a new array.

        Another window may have changed its outline since the edit began.
        """
        changed = True if self.changed is None else self.changed
        return np.where(changed, self.drawn, current)


def lock_now(path: Path) -> int | None:
    """Lock a file until the returned descriptor is closed or the process ends.

    None if another descriptor holds the lock, or if the system or the disk has no such locks.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = None
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    if descriptor is not None:
        os.close(descriptor)
    return None


def is_locked(path: Path) -> bool:
    """Whether any descriptor, also of this process, holds the lock of a file."""
    if sys.platform == "win32":
        return False
    import fcntl

    with suppress(OSError), path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def interrupted_draft(analysis: Analysis, reader: str | None = None) -> Path | None:
    """Return a reader's latest draft of this study that no window holds; None if there is none."""
    found = []
    for path in _drafts_of(analysis, reader):
        with suppress(OSError):
            if not is_locked(path):
                found.append((path.stat().st_mtime_ns, path))
    return max(found)[1] if found else None


def is_drawn_elsewhere(analysis: Analysis, reader: str | None) -> bool:
    """Whether another window of this reader draws an outline of this study."""
    return any(is_locked(path) for path in _drafts_of(analysis, reader))


def free_path(analysis: Analysis, reader: str | None = None) -> Path:
    """Return the path of a new draft, which replaces no other."""
    path = _draft_path(analysis, reader)
    numbered = (path.with_suffix(f".{number}.npz") for number in itertools.count(1))
    return next(free for free in itertools.chain([path], numbered) if not free.exists())


def write_draft(analysis: Analysis, draft: OutlineDraft, path: Path) -> None:
    """Write a draft atomically.

    Raises
    ------
    ResourceError
        Not writable; the earlier draft is unchanged.
    """
    box = bounding_box(draft.drawn > 0)
    labels = np.zeros((0, 0, 0), np.uint8) if box is None else draft.drawn[box]
    corner = (0, 0, 0) if box is None else tuple(int(side.start) for side in box)
    buffer, uids = io.BytesIO(), own_uids(analysis.followup)
    np.savez_compressed(
        buffer,
        uid=np.array(uids.get(draft.tracking_uid, draft.tracking_uid)),
        corner=np.array(corner),
        drawn=labels,
        shape=np.array(draft.drawn.shape),
        affine=analysis.prepared.working.affine,
        assisted=np.array(draft.assisted),
        prompts=np.frombuffer(_PROMPTS.dump_json(draft.prompts, by_alias=True), np.uint8),
        by_hand=np.packbits(_NO_VOXELS if draft.by_hand is None else draft.by_hand),
        changed=np.packbits(_NO_VOXELS if draft.changed is None else draft.changed),
    )
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise ResourceError(
            found=f"that strokes cannot be saved ({error.strerror or error})",
            expected="free space and permission in your own data folder",
            next_step="Free some space, then press Done; nothing was lost yet",
        ) from error


def read_draft(analysis: Analysis, path: Path | None) -> OutlineDraft | None:
    """Read a draft; None if there is none on these voxels."""
    if path is None:
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in _KEYS}
        return _draft(arrays, analysis)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        logger.warning("strokes that were interrupted cannot be read and are not shown")
        return None


def _draft(arrays: dict[str, NDArray[Any]], analysis: Analysis) -> OutlineDraft | None:
    working, part = analysis.prepared.working, arrays["drawn"]
    same_shape = tuple(arrays["shape"].tolist()) == working.shape
    if not same_shape or not np.allclose(arrays["affine"], working.affine, atol=1e-3):
        logger.warning("strokes that were interrupted lie on other voxels and are not shown")
        return None
    drawn = np.zeros(working.shape, np.uint8)
    axes = zip(arrays["corner"].tolist(), part.shape, strict=True)
    i, j, k = (slice(int(start), int(start) + size) for start, size in axes)
    drawn[i, j, k] = part
    uid, prompts = str(arrays["uid"]), _PROMPTS.validate_json(arrays["prompts"].tobytes())
    uid = compared_uids(analysis.followup).get(uid, uid)
    by_hand, changed = (_mask(arrays[name], drawn.shape) for name in ("by_hand", "changed"))
    return OutlineDraft(uid, drawn, bool(arrays["assisted"]), prompts, by_hand, changed)


def _mask(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return a stored mask; None if it was not stored."""
    bits = np.unpackbits(packed, count=math.prod(shape) if packed.size else 0)
    return bits.astype(bool).reshape(shape) if bits.size else None


def delete_draft(path: Path) -> None:
    """Delete a draft after its edit was saved or discarded."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("stored strokes cannot be removed: %s", error.strerror)


def _drafts_of(analysis: Analysis, reader: str | None) -> list[Path]:
    """Return the paths that a reader's drafts have or may have."""
    path = _draft_path(analysis, reader)
    return [path, *path.parent.glob(f"{path.stem}.*.npz")]


def _draft_path(analysis: Analysis, reader: str | None) -> Path:
    key = store.analysis_key(analysis.run, reader)
    return store.sessions_folder() / f"{key}.draft.npz"
