"""The state of a file, by which a replacement is noticed."""

from __future__ import annotations

from pathlib import Path

FileState = tuple[int, int]
"""Size in bytes and time of modification in ns."""


def file_state(path: Path) -> FileState:
    """Return the state of a file.

    Raises
    ------
    OSError
        The system refuses it, as when the file is gone.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns
