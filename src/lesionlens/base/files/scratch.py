"""Temporary folders for patient data, which do not outlive a killed process for long."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from lesionlens.base.files.folder_lock import lock_now

PREFIX = "lesionlens-scratch-"
"""How their names begin, in the system's temporary folder."""
_UNLOCKED_S = 60.0
"""Seconds that a folder may be without its lock: it is made first, then locked."""


class ScratchFolder:
    """A private folder in the system's temporary folder; a context manager gives its path.

    It is removed at the end. Each is locked while its process runs, so that those that killed
    processes of this user left are removed whenever another one is created. On Windows, and on
    disks that cannot lock folders, they remain.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self._root = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = lock_now(self._root)
        self.path = self._root / "files"  # not locked, so that results can be staged in it
        self.path.mkdir(mode=0o700)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove it with all that it holds."""
        shutil.rmtree(self._root, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned() -> None:
    """Remove the scratch folders that killed processes of this user left."""
    if sys.platform != "win32":
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):
                status = folder.lstat()
                is_own_folder = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
                age_s = abs(time.time() - status.st_ctime)  # the clock may have been set back
                if is_own_folder and age_s > _UNLOCKED_S:
                    _remove_unless_locked(folder)


def _remove_unless_locked(folder: Path) -> None:
    lock = lock_now(folder)
    if lock is not None:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
