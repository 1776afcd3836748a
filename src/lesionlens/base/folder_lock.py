"""Let one process at a time replace what lies in a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, after waiting for the process that holds it.

    The lock is the folder itself, so that no file is left behind, and ends with the process. Where
    the system or the disk locks no folders (Windows, some network shares) nothing is held.

    Parameters
    ----------
    folder : Path
        Not one that is itself replaced: the parent of an output folder.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl  # noqa: PLC0415

    lock = None
    try:
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        if lock is not None:
            os.close(lock)
