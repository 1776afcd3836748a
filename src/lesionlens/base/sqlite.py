"""Open SQLite files from untrusted folders, with size limits and readable errors."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.base.model import first_problem

MAX_BYTES = 2**30
"""Upper limit of a database file; ten thousand reviewed studies take a tenth of it."""
MAX_CELL_BYTES = 16 * 2**20
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


def open_database(
    folder: Path, name: str, timeout_s: float, *, reading: bool = False
) -> sqlite3.Connection:
    """Open a database, creating it and its folder if missing.

    Parameters
    ----------
    timeout_s : float
        How long to wait for another process's lock.
    reading : bool
        Whether a database that this user may not write is opened as well, for reading only.

    Raises
    ------
    ReadError, ResourceError
        Not a regular file, or larger than `MAX_BYTES`; the folder or the file may not be used.
    """
    path = folder / name
    read_only = reading and path.exists() and not may_write(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                raise _unreadable(
                    folder, name, f"no regular file of at most {MAX_BYTES // 2**20} MiB"
                )
            if not os.access(path, os.R_OK if read_only else os.R_OK | os.W_OK):
                raise ResourceError(
                    f"No permission to use {name} in {folder.name!r}.",
                    hint="Ask its owner for permission, or choose another folder.",
                )
        address = _address_for_reading(path) if read_only else path
        connection = sqlite3.connect(address, timeout=timeout_s, uri=read_only)
    except (OSError, sqlite3.OperationalError) as error:
        raise _unwritable(folder, error) from error
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)
    return connection


def may_write(folder: Path, name: str) -> bool:
    """Return whether this user may write a database, and the files that SQLite puts beside it."""
    path = folder / name
    return os.access(folder, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def _address_for_reading(path: Path) -> str:
    """Return the address of a database that is only read.

    Without a write-ahead log no process has it open for writing, and SQLite cannot create one in a
    folder that it may not write: the file is then opened as immutable.
    """
    with path.open("rb") as stream:
        is_write_ahead = stream.read(20)[18:] == b"\x02\x02"
    is_immutable = is_write_ahead and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' * is_immutable}"


@contextmanager
def database_errors(folder: Path, name: str) -> Iterator[None]:
    """Raise ReadError for a damaged database, ResourceError for one that cannot be written."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _unwritable(folder, error) from error
    except (sqlite3.Error, ValueError, TypeError, AttributeError, LookupError) as error:
        raise _unreadable(folder, name, first_problem(error)) from error


def locks_files(folder: Path) -> bool:
    """Return whether the disk of a folder has file locks, which SQLite needs.

    Some disks of clusters have none (Lustre without its option `flock`, NFS without a lock
    manager); SQLite then reports a busy file, or one that cannot be read.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True


def _unwritable(folder: Path, error: Exception) -> ResourceError:
    if isinstance(error, sqlite3.OperationalError) and not locks_files(folder):
        return ResourceError(
            f"{folder.name!r} is on a disk that supports no file locks.",
            hint="Choose a folder on another disk, or have this one mounted with file locks.",
        )
    return ResourceError(
        f"{folder.name!r} cannot be written: {error}.",
        hint="Free some space, or choose another folder.",
    )


def _unreadable(folder: Path, name: str, why: str) -> ReadError:
    return ReadError(
        f"{name} in {folder.name!r} cannot be read: {why}.",
        hint="Restore it from a backup, or choose another folder.",
    )
