"""Open SQLite files from untrusted folders with size limits and readable errors."""

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
from lesionlens.base.files.file_model import first_problem

MAX_BYTES = 2**30
"""Upper limit of a database file; ten thousand reviewed studies take a tenth of it."""
MAX_CELL_BYTES = 16 * 2**20
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_DAMAGE = (sqlite3.Error, ValueError, TypeError, AttributeError, LookupError)


def open_database(
    folder: Path, name: str, timeout_s: float, *, reading: bool = False
) -> sqlite3.Connection:
    """Open a database, creating it and its folder if missing.

    Parameters
    ----------
    folder : Path
        On a disk of this machine.
    timeout_s : float
        How long to wait for another process's lock.
    reading : bool
        Whether a database that this user may not write is opened as well, for reading only.

    Raises
    ------
    ReadError
        Not a regular file, or larger than `MAX_BYTES`.
    ResourceError
        The folder cannot be written, or the database may not be.
    """
    path = folder / name
    read_only = reading and path.exists() and not may_write(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        if not is_new and not stat.S_ISREG(path.stat().st_mode):
            raise _unreadable(folder, name, "it is not a regular file")
        if not is_new and not os.access(path, os.R_OK if read_only else os.R_OK | os.W_OK):
            raise _not_permitted(folder, name, "read" if reading else "read and write")
        if not is_new and path.stat().st_size > MAX_BYTES:
            raise _unreadable(folder, name, f"it is larger than {MAX_BYTES // 2**20} MiB")
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

    If it has no write-ahead log, no process has it open for writing, and SQLite cannot create one
    in a folder that it may not write: the file is then opened as immutable.
    """
    is_immutable = not path.with_name(f"{path.name}-wal").exists() and _is_write_ahead(path)
    options = "mode=ro&immutable=1" if is_immutable else "mode=ro"
    return f"{path.resolve().as_uri()}?{options}"


def _is_write_ahead(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(20)[18:] == b"\x02\x02"


@contextmanager
def database_errors(folder: Path, name: str) -> Iterator[None]:
    """Translate SQLite errors within the block into LesionLens errors.

    Raises
    ------
    ReadError
        The database is damaged, or has content that LesionLens did not write.
    ResourceError
        It cannot be written.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _unwritable(folder, error) from error
    except _DAMAGE as error:
        raise _unreadable(folder, name, first_problem(error)) from error


def _not_permitted(folder: Path, name: str, use: str) -> ResourceError:
    disk = "" if use == "read" else ", on a disk that is not mounted read-only"
    return ResourceError(
        found=f"a {name} in {folder.name!r} that you may not {use}",
        expected=f"permission to {use} it{disk}",
        next_step="Ask its owner for permission, or choose another folder",
    )


def locks_files(folder: Path) -> bool:
    """Return whether the disk of a folder supports file locks, which SQLite needs.

    Some disks of clusters do not (Lustre without its option `flock`, NFS without a lock manager);
    SQLite then reports a busy file, or one that cannot be read.
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
            found=f"that {folder.name!r} is on a disk that supports no file locks",
            expected="a disk of this machine, or a network share that is mounted with file locks",
            next_step="Choose a folder on another disk, or have this one mounted with file locks",
        )
    return ResourceError(
        found=f"that {folder.name!r} cannot be written ({error})",
        expected="a writable folder with free space on a disk of this machine",
        next_step="Free some space, or choose another folder",
    )


def _unreadable(folder: Path, name: str, why: str) -> ReadError:
    return ReadError(
        found=f"a {name} in {folder.name!r} that cannot be read ({why})",
        expected="the one that LesionLens wrote",
        next_step="Move it away, restore it from a backup, or choose another folder",
    )
