"""Replace an output folder by a new one in a single system call.

Linux exchanges two folders atomically (`renameat2`): any reader, and any killed process, sees
either the earlier folder or the new one. Foreign files are hard-linked into the new folder, so that
they are in both until the earlier folder is deleted.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import sys
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

_SYSTEM: str = sys.platform
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_MAX_FOREIGN_FILES = 2000  # most foreign files to hard-link; beyond that, a journal is faster


@cache
def _renameat2() -> Any:
    """Return the C library's `renameat2`, or None if it has none."""
    if _SYSTEM != "linux":
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False, with nothing changed, if the system cannot."""
    function = _renameat2()
    if function is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(function(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def can_exchange(target: Path) -> bool:
    """Return whether a folder can probably be replaced by another one.

    False for the working folder of this process: the shell that started it would be left in a
    deleted folder. False also if a new folder would have another owner or group, as in a folder
    that a group shares.
    """
    parent = target.parent
    if _renameat2() is None or not os.access(parent, os.W_OK | os.X_OK):
        return False
    try:
        working_folder = Path.cwd().resolve()
        above, present = parent.stat(), target.stat()
    except OSError:
        return False
    group = above.st_gid if above.st_mode & stat.S_ISGID else os.getegid()
    return (
        above.st_dev == present.st_dev
        and (present.st_uid, present.st_gid) == (os.geteuid(), group)
        and target not in (working_folder, *working_folder.parents)
        and not os.path.ismount(target)
    )


def foreign_files(target: Path, own_names: Collection[str]) -> list[Path] | None:
    """Return relative paths of foreign files in a folder; None if there are too many."""
    foreign = []
    for path in target.rglob("*"):
        name = path.relative_to(target)
        if name.as_posix() not in own_names:
            foreign.append(name)
            if len(foreign) > _MAX_FOREIGN_FILES:
                return None
    return foreign


def hard_link(source: Path, new: Path, names: Iterable[Path] | None = None) -> bool:
    """Hard-link files into a new folder; False if the disk or a permission forbids it.

    Parameters
    ----------
    source, new : Path
        Where the files are, and the folder that receives them with the permissions of `source`.
    names : iterable of Path
        Relative files and folders, each folder before its content; None for all.
    """
    folders = [Path()]
    try:
        new.mkdir(exist_ok=True)
        for name in (p.relative_to(source) for p in source.rglob("*")) if names is None else names:
            path, link = source / name, new / name
            if path.is_dir() and not path.is_symlink():
                if os.path.ismount(path):
                    return False
                link.mkdir(parents=True, exist_ok=True)
                folders.append(name)
            else:
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, link, follow_symlinks=False)
        for name in reversed(folders):
            shutil.copystat(source / name, new / name)
    except OSError:
        return False
    return True


def move_late_files(old: Path, target: Path, own_names: Collection[str]) -> None:
    """Move files written into the earlier folder during the exchange to the target."""
    for name in foreign_files(old, own_names) or ():
        source, destination = old / name, target / name
        if source.is_dir() and not source.is_symlink():
            continue
        if not os.path.lexists(destination) or not os.path.samestat(
            source.lstat(), destination.lstat()
        ):
            destination.parent.mkdir(parents=True, exist_ok=True)
            source.replace(destination)
