"""Let one process at a time replace the content of a folder, or hold a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lesionlens.base.errors import UnusableInputError


def lock_now(path: Path) -> int | None:
    """Lock a folder or file until the returned descriptor is closed or the process ends.

    None if another descriptor holds the lock, or if the system or the disk cannot lock folders.
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
    """Whether any descriptor, also of this process, holds the lock of a file.

    False where the system or the disk has no such locks.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    with suppress(OSError), path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def folder_lock(folder: Path, *, busy: str | None = None) -> Iterator[None]:
    """Hold the lock of a folder, after waiting for the process that holds it.

    The lock is the folder itself, so that no file is left behind, and ends with the process. Where
    the system or the disk locks no folders (Windows, some network shares) nothing is held.

    Parameters
    ----------
    folder : Path
        Not one that is itself replaced: the parent of an output folder.
    busy : str or None
        What is found if another process holds the lock, which is then refused; None to wait.

    Raises
    ------
    UnusableInputError
        Another process holds the lock, and `busy` is given.
    """
    if sys.platform == "win32":
        yield
    else:
        import fcntl

        lock = None
        try:
            with suppress(OSError):
                lock = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
                except BlockingIOError as error:
                    raise UnusableInputError(
                        found=busy or "",
                        expected="one process at a time per output folder",
                        next_step="Wait until it ends, stop it, or choose another output folder",
                    ) from error
            yield
        finally:
            if lock is not None:
                os.close(lock)
