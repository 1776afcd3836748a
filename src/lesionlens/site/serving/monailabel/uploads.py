"""Temporary uploads of MONAI Label clients, in a private folder."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lesionlens.base.errors import FullError, GoneError, UnusableInputError
from lesionlens.base.files.safe_paths import inside, safe_name
from lesionlens.base.files.scratch import ScratchFolder, remove_abandoned
from lesionlens.site.serving.monailabel.images import suffix_of

MAX_UPLOADS_EACH = 16
"""Maximum number of uploads per key."""
_CHUNK_BYTES = 2**20
_EXPIRY_S = 3600


@dataclass
class Upload:
    """One upload with its expiry time."""

    folder: Path
    image: Path
    expiry_s: int
    size_bytes: int = 0
    created: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    last_used: float = field(default_factory=time.monotonic)
    """Last use, by the monotonic clock."""
    requests: int = 0
    """Number of requests that need the image, queued or running."""

    def info(self, name: str) -> dict[str, Any]:
        """Return the session data of MONAI Label's API, without the path."""
        return {
            "name": name,
            "path": "",
            "image": self.image.name,
            "meta": {},
            "create_ts": int(self.created),
            "last_access_ts": int(self.created + self.last_used - self.started),
            "expiry": self.expiry_s,
        }


class Uploads:
    """All uploads, below one private folder that is removed with the server.

    Parameters
    ----------
    max_bytes : int
        Disk space for all uploads.
    on_removed : callable
        Receives each upload that was removed or has expired.
    """

    def __init__(
        self, max_bytes: int, on_removed: Callable[[Upload], None] = lambda _: None
    ) -> None:
        remove_abandoned()
        self._max_bytes, self._on_removed = max_bytes, on_removed
        self._root: ScratchFolder | None = None
        self._uploads: dict[str, tuple[str, Upload]] = {}
        self._lock = threading.Lock()

    def add(
        self, owner: str, files: list[tuple[str, BinaryIO]], expiry_s: int
    ) -> tuple[str, Upload]:
        """Store an upload; several files form one image.

        Raises
        ------
        FullError
            The key has too many uploads, or there is no space for another.
        UnusableInputError
            A file name is invalid or duplicate.
        """
        self.expire()
        name = secrets.token_urlsafe(18)
        size = sum(_size(content) for _, content in files)
        expiry = min(expiry_s, _EXPIRY_S) if expiry_s > 0 else _EXPIRY_S
        with self._lock:
            self._check_capacity(owner, size)
            self._root = self._root or ScratchFolder()
            folder = self._root.path / name
            upload = Upload(folder, folder, expiry, size)
            self._uploads[name] = (owner, upload)
        try:
            upload.image = _write_files(upload.folder, files)
        except BaseException:
            self.remove(owner, name)
            raise
        return name, upload

    def _check_capacity(self, owner: str, size: int) -> None:
        n_owned = sum(upload_owner == owner for upload_owner, _ in self._uploads.values())
        used_bytes = sum(upload.size_bytes for _, upload in self._uploads.values())
        if n_owned >= MAX_UPLOADS_EACH or used_bytes + size > self._max_bytes:
            raise FullError(
                found=f"{n_owned} images of this key and {used_bytes / 2**20:.0f} MB of all keys",
                expected=f"at most {MAX_UPLOADS_EACH} and {self._max_bytes / 2**20:.0f} MB",
                next_step="End a session that is no longer needed (DELETE), or wait",
            )

    def find(self, owner: str, name: str) -> Upload:
        """Return an upload.

        Raises
        ------
        GoneError
            The upload does not exist, or has expired.
        """
        self.expire()
        with self._lock:
            upload_owner, upload = self._uploads.get(name, ("", None))
            if upload is None or upload_owner != owner:
                raise GoneError("session")
            upload.last_used = time.monotonic()
            return upload

    @contextmanager
    def in_use(self, owner: str, name: str) -> Iterator[Upload]:
        """Keep an upload while a request waits or is executed, however long; raises as `find`.

        One that is removed meanwhile is deleted afterwards: half a series could pass for a whole.
        """
        upload = self.find(owner, name)
        with self._lock:
            upload.requests += 1
        try:
            yield upload
        finally:
            with self._lock:
                upload.requests -= 1
                upload.last_used = time.monotonic()
                is_removed = not upload.requests and name not in self._uploads
            if is_removed:
                self._delete(upload)

    def remove(self, owner: str, name: str) -> Upload:
        """Remove an upload now, or as soon as no request needs it."""
        upload = self.find(owner, name)
        with self._lock:
            self._uploads.pop(name, None)
            is_needed = upload.requests > 0
        if not is_needed:
            self._delete(upload)
        return upload

    def expire(self) -> None:
        """Remove expired uploads."""
        now = time.monotonic()
        with self._lock:
            idle = ((name, u) for name, (_, u) in self._uploads.items() if not u.requests)
            expired = [name for name, u in idle if now - u.last_used > u.expiry_s]
            removed = [self._uploads.pop(name)[1] for name in expired]
        for upload in removed:
            self._delete(upload)

    def _delete(self, upload: Upload) -> None:
        shutil.rmtree(upload.folder, ignore_errors=True)
        self._on_removed(upload)

    def end(self) -> None:
        """Remove all uploads."""
        with self._lock:
            self._uploads.clear()
            root, self._root = self._root, None
        if root is not None:
            root.remove()


def _size(content: BinaryIO) -> int:
    end = content.seek(0, os.SEEK_END)
    content.seek(0)
    return end


def _write_files(folder: Path, files: list[tuple[str, BinaryIO]]) -> Path:
    folder.mkdir(mode=0o700)
    for file_name, content in files:
        stored_name = _single_file_name(file_name) if len(files) == 1 else safe_name(file_name)
        try:
            with inside(folder, stored_name).open("xb") as file:
                shutil.copyfileobj(content, file, _CHUNK_BYTES)
        except FileExistsError:
            raise UnusableInputError(
                found=f"two files named {stored_name!r:.80}",
                expected="different names",
                next_step="Rename one, or send the study's folder as a zip archive",
            ) from None
    return folder if len(files) > 1 else next(folder.iterdir())


def _single_file_name(file_name: str) -> str:
    """Return the name for a single file: its own, which may contain the sequence, if valid."""
    suffix = suffix_of(file_name)
    try:
        return safe_name(file_name)
    except UnusableInputError:
        return f"image{suffix}"
