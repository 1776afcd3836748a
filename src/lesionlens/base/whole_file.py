"""One file that is replaced whole: written aside, flushed to the disk, moved into its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lesionlens.base import access
from lesionlens.base.errors import ResourceError


@contextmanager
def whole_file(place: Path) -> Iterator[Path]:
    """Give a path to write to; on a clean exit the file takes its place, else it goes away.

    Yields
    ------
    Path
        In the same folder, which is made; its name ends as `place` does and begins with a dot.
    """
    access.make_folder(place.parent)
    aside = place.with_name(f".new.{os.getpid()}.{place.name}")
    try:
        yield aside
        access.restrict(aside)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(place: Path, content: str | bytes) -> None:
    """Replace a file by this content, completely or not at all; text is written as UTF-8."""
    with whole_file(place) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def unwritten(what: str, place: Path, error: Exception) -> ResourceError:
    """Return the error of a file that could not be written while the earlier one is intact."""
    return ResourceError(
        found=f"{what} that could not be written ({getattr(error, 'strerror', None) or error})",
        expected=f"room and permission to write {place.name}",
        next_step="Free some space and start again; what was there before is intact",
    )
