"""Put a new folder in place of an earlier one, in one step of the system.

Linux exchanges two folders at once (`renameat2`); whoever looks, and whatever is killed, meets the
earlier folder or the new one. Files of others come along as second names of the same file (hard
links), so that they are in both until the earlier folder goes.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

_SYSTEM: str = sys.platform
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_MOST_OTHERS = 2000  # files of others that are linked; where there are more, a journal is quicker


@cache
def _renameat2() -> Any:
    """Return the C library's function, or None if it has none."""
    if _SYSTEM != "linux":
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False if the system cannot, and neither did."""
    function = _renameat2()
    if function is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(function(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def can_exchange(target: Path) -> bool:
    """Whether a folder may be replaced by another one, as far as can be seen beforehand.

    Not where it is the working folder of this process, and so perhaps of the shell that started
    it: that would be left in a folder that is gone.
    """
    parent = target.parent
    if _renameat2() is None or not os.access(parent, os.W_OK | os.X_OK):
        return False
    try:
        here = Path.cwd().resolve()
        same_disk = parent.stat().st_dev == target.stat().st_dev
    except OSError:
        return False
    return same_disk and target not in (here, *here.parents) and not os.path.ismount(target)


def others_in(target: Path, ours: Collection[str]) -> list[Path] | None:
    """Return what lies in a folder and is not ours, relative; None if it is too much."""
    found = []
    for path in target.rglob("*"):
        name = path.relative_to(target)
        if name.as_posix() not in ours:
            found.append(name)
            if len(found) > _MOST_OTHERS:
                return None
    return found


def bring(source: Path, new: Path, names: Iterable[Path] | None = None) -> bool:
    """Link files into a new folder; False if the disk or a right forbids it.

    Parameters
    ----------
    source, new : Path
        Where they are, and the folder that gets them with the permissions of the first.
    names : iterable of Path
        Files and folders, relative, a folder before what it holds; None for all.
    """
    folders = [Path()]
    try:
        new.mkdir(exist_ok=True)
        for name in (p.relative_to(source) for p in source.rglob("*")) if names is None else names:
            path, place = source / name, new / name
            if path.is_dir() and not path.is_symlink():
                if os.path.ismount(path):
                    return False
                place.mkdir(parents=True, exist_ok=True)
                folders.append(name)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, place, follow_symlinks=False)
        for name in reversed(folders):
            shutil.copystat(source / name, new / name)
    except OSError:
        return False
    return True


def bring_late(old: Path, target: Path, ours: Collection[str]) -> None:
    """Move what others wrote into the earlier folder while it was exchanged to where it is now."""
    for name in others_in(old, ours) or ():
        source, place = old / name, target / name
        if source.is_dir() and not source.is_symlink():
            continue
        if not os.path.lexists(place) or not os.path.samestat(source.lstat(), place.lstat()):
            place.parent.mkdir(parents=True, exist_ok=True)
            source.replace(place)
