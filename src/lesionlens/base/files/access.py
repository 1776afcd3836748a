"""Restrict file permissions to the owner, or as LESIONLENS_UMASK says.

Results and study lists contain patient names. Their files get the mode 0600 and their
folders 0700, whatever the umask of the process is. LESIONLENS_UMASK takes other permissions away
instead: with 027 the group may read, with 022 everybody.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from lesionlens.base.errors import UnusableInputError

logger = logging.getLogger(__name__)

VARIABLE = "LESIONLENS_UMASK"
_OWNER_ALONE = "077"


def umask() -> int:
    """Return the permission bits to remove from new files and folders.

    Raises
    ------
    UnusableInputError
        The variable is not an octal number between 000 and 077.
    """
    text = os.environ.get(VARIABLE, _OWNER_ALONE)
    try:
        value = int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o077:
        raise UnusableInputError(
            found=f"{VARIABLE}={text[:40]!r}",
            expected="an octal number from 000 to 077: 077 for the owner alone, 027 for the group",
            next_step=f"Set it so, or unset {VARIABLE}",
        )
    return value


def restrict(path: Path) -> None:
    """Remove the umask's permissions from a new file or folder; links are not changed."""
    if not path.is_symlink():
        change_mode(path, (0o777 if path.is_dir() else 0o666) & ~umask())


def change_mode(path: Path, mode: int) -> None:
    """Change permissions of what this process created, if the disk stores permissions.

    A share that is mounted for another owner refuses, and FAT and exFAT ignore the change: the
    mount decides who may read it. A folder stays set-group-ID, so that new files get its group.
    """
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        mode |= state.st_mode & stat.S_ISGID
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        _warn_of_disk(state.st_dev)
    else:
        is_wider = path.stat().st_mode & ~mode & 0o077
        if is_wider and sys.platform != "win32":  # Windows has access control lists instead
            _warn_of_disk(state.st_dev)


@cache
def _warn_of_disk(device: int) -> None:
    """Warn once that a disk keeps no permissions."""
    del device
    logger.warning("the disk keeps no permissions: who may read the files depends on its mount")


def make_folder(folder: Path) -> tuple[Path, ...]:
    """Create a folder and its missing parents; return those created, deepest first."""
    created = tuple(p for p in (folder, *folder.parents) if not p.exists())
    for path in reversed(created):
        path.mkdir(exist_ok=True)
        restrict(path)
    return created


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its missing parents; if the block fails, delete those that are empty."""
    created = make_folder(folder)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # of the first that is not empty
            for path in created:
                path.rmdir()
        raise


def copy_files(source: Path, target: Path) -> None:
    """Copy the files below a folder to another one, which is created; without their permissions.

    Files of an installation may be read-only, and so may its folders. The first file that cannot be
    copied raises its OSError.
    """
    for path in sorted(source.rglob("*")):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
