"""Images that clients of MONAI Label sent for a while: in a private folder, gone in the end."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lesionlens.base.errors import GoneError
from lesionlens.site.serving.monailabel.images import safe_name, suffix_of

_EXPIRY_S = 3600
_PREFIX = "lesionlens-serve-"


def own_prefix() -> str:
    """Return how the names of this process's private folders begin."""
    return f"{_PREFIX}{os.getpid()}-"


def sweep() -> None:
    """Remove what servers of this user left that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if process.isdecimal() and _is_own(folder) and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    """Whether this user made it; on Windows, where `os.kill` would end a process, never."""
    own = False
    if sys.platform != "win32":
        own = folder.stat().st_uid == os.getuid()
    return own


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass
class Upload:
    """One image, and until when it is kept."""

    folder: Path
    image: Path
    expiry_s: int
    created: float = field(default_factory=time.time)
    used: float = field(default_factory=time.time)

    def info(self, name: str) -> dict[str, Any]:
        """Return what MONAI Label says of a session; where it lies is nobody's business."""
        return {
            "name": name,
            "path": "",
            "image": self.image.name,
            "meta": {},
            "create_ts": int(self.created),
            "last_access_ts": int(self.used),
            "expiry": self.expiry_s,
        }


class Uploads:
    """All of them, below one folder that only this user reads; removed with the server."""

    def __init__(self) -> None:
        sweep()
        self._root: Path | None = None
        self._all: dict[str, tuple[str, Upload]] = {}
        self._lock = threading.Lock()

    def add(self, owner: str, files: list[tuple[str, bytes]], expiry_s: int) -> tuple[str, Upload]:
        """Keep an image; several files are together one."""
        self.expire()
        name = secrets.token_urlsafe(18)
        with self._lock:
            self._root = self._root or Path(tempfile.mkdtemp(prefix=own_prefix()))
            folder = self._root / name
        folder.mkdir(mode=0o700)
        for file_name, content in files:
            plain = Path(file_name).name
            if len(files) == 1:
                plain = f"image{suffix_of(plain)}"
            (folder / safe_name(plain)).write_bytes(content)
        image = folder if len(files) > 1 else next(folder.iterdir())
        expiry = min(expiry_s, _EXPIRY_S) if expiry_s > 0 else _EXPIRY_S
        upload = Upload(folder, image, expiry)
        with self._lock:
            self._all[name] = (owner, upload)
        return name, upload

    def find(self, owner: str, name: str) -> Upload:
        """Return one that is kept.

        Raises
        ------
        GoneError
            It is not, or no longer.
        """
        self.expire()
        with self._lock:
            mine, upload = self._all.get(name, ("", None))
            if upload is None or mine != owner:
                raise GoneError("session")
            upload.used = time.time()
            return upload

    def remove(self, owner: str, name: str) -> Upload:
        """Remove one now."""
        upload = self.find(owner, name)
        with self._lock:
            self._all.pop(name, None)
        shutil.rmtree(upload.folder, ignore_errors=True)
        return upload

    def expire(self) -> None:
        """Remove those that nobody asked about for too long."""
        now = time.time()
        with self._lock:
            late = [n for n, (_, u) in self._all.items() if now - u.used > u.expiry_s]
            gone = [self._all.pop(name)[1] for name in late]
        for upload in gone:
            shutil.rmtree(upload.folder, ignore_errors=True)

    def end(self) -> None:
        """Remove all of them."""
        with self._lock:
            self._all.clear()
            root, self._root = self._root, None
        if root is not None:
            shutil.rmtree(root, ignore_errors=True)
