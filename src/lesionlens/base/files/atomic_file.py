"""Replace a file atomically: write a temporary file, flush it, rename it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lesionlens.base.errors import ResourceError, is_full_disk
from lesionlens.base.files import access
from lesionlens.base.text import encodable

_MAX_LETTERS = 50  # of a name, each of up to 4 bytes: most disks allow 255 in all
_ABANDONED_AFTER_S = 86_400  # a day: far longer than any file takes to write


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on a clean exit it replaces the file, otherwise it is deleted.

    Yields
    ------
    Path
        Of an empty file in the same folder, which is created, and deleted if the block fails and
        nothing else is in it. Others may not read the file while it is written. Its name begins
        with a dot, keeps the extension and is used once: threads, and containers whose processes
        have equal numbers, may write the same file. Those that killed processes left in the folder
        are deleted after a day.
    """
    temporary = path.with_name(f".new.{uuid.uuid4().hex[:12]}.{path.name[-_MAX_LETTERS:]}")
    with access.new_folder(path.parent):
        try:
            temporary.touch(0o600)
            _delete_abandoned(path.parent, now=temporary.stat().st_mtime)
            yield temporary
            access.restrict(temporary)
            flush(temporary)
            temporary.replace(path)
        except OSError as error:
            if error.filename is None and is_full_disk(error):  # a failed write names no file
                error.filename = str(path)
            raise
        finally:
            temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file's content is on the disk.

    A power cut may leave a file empty that was renamed before.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _delete_abandoned(folder: Path, *, now: float) -> None:
    """Delete temporary files that were abandoned a day ago by killed processes.

    `now` is the time of a new file in the folder: the clock of a file server may be wrong.
    """
    oldest = now - _ABANDONED_AFTER_S
    for temporary in folder.glob(f".new.{'[0-9a-f]' * 12}.*"):
        with suppress(OSError):  # deleted by another process, or owned by another user
            if temporary.lstat().st_mtime < oldest:
                temporary.unlink()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content atomically; text is written as UTF-8 (`base.text.encodable`)."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(encoded(content))


def encoded(content: str | bytes) -> bytes:
    """Return the bytes that are written."""
    return encodable(content).encode() if isinstance(content, str) else content


def write_together(contents: Sequence[tuple[Path, str | bytes]]) -> None:
    """Replace several files, each atomically, and none of them before all are on the disk.

    A full disk leaves all earlier files. They are replaced in order, one directly after another;
    a file that is listed twice holds its second content at the end.
    """
    with ExitStack() as replacements:
        for path, content in reversed(contents):  # an exit stack replaces the last first
            temporary = replacements.enter_context(atomic_file(path))
            with temporary.open("wb") as file:
                file.write(encoded(content))
                file.flush()
                os.fsync(file.fileno())


def write_error(what: str, path: Path, error: Exception) -> ResourceError:
    """Return the error for a file that could not be written while the earlier one is intact."""
    return ResourceError(
        found=f"{what} that could not be written ({getattr(error, 'strerror', None) or error})",
        expected=f"free space and permission to write {path.name}",
        next_step="Free some space and start again; any earlier file is unchanged",
    )
