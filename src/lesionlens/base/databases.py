"""Open SQLite files from untrusted folders with size limits and readable errors."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lesionlens.base import access
from lesionlens.base.errors import ReadError, ResourceError

MAX_BYTES = 2**30
"""Upper limit of a database file; ten thousand reviewed studies take a tenth of it."""
MAX_CELL_BYTES = 16 * 2**20
_DAMAGE = (sqlite3.Error, ValueError, TypeError, AttributeError, LookupError)


def open_database(folder: Path, name: str, timeout_s: float) -> sqlite3.Connection:
    """Open a database, creating it and its folder (owner only) if missing.

    Parameters
    ----------
    folder : Path
        On a disk of this machine.
    name : str
        File name.
    timeout_s : float
        How long to wait for another process's lock.

    Raises
    ------
    ReadError
        Not a regular file, or larger than `MAX_BYTES`.
    ResourceError
        The folder cannot be written.
    """
    place = folder / name
    try:
        access.make_folder(folder)
        new = not place.exists()
        if not new and not stat.S_ISREG(place.stat().st_mode):
            raise _unreadable(folder, name, "it is not a regular file")
        if not new and not os.access(place, os.R_OK | os.W_OK):
            raise _unreadable(folder, name, "you may not read and write it")
        if not new and place.stat().st_size > MAX_BYTES:
            raise _unreadable(folder, name, f"it is larger than {MAX_BYTES // 2**20} MiB")
        connection = sqlite3.connect(place, timeout=timeout_s)
        if new:
            access.restrict(place)
    except (OSError, sqlite3.OperationalError) as error:
        raise _unwritable(folder, error) from error
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)
    return connection


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
        raise _unreadable(folder, name, str(error)) from error


def _unwritable(folder: Path, error: Exception) -> ResourceError:
    return ResourceError(
        found=f"that {folder.name!r} cannot be written ({error})",
        expected="a folder on a disk of this machine, with room, that you may write",
        next_step="Free some space, or choose another folder",
    )


def _unreadable(folder: Path, name: str, why: str) -> ReadError:
    return ReadError(
        found=f"a {name} in {folder.name!r} that cannot be read ({why})",
        expected="the one that LesionLens wrote",
        next_step="Move it away, restore it from a backup, or choose another folder",
    )
