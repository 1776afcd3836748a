"""Write aside, swap in whole: an output folder is complete or untouched.

Files are written into a hidden sibling folder on the same file system; only when all of them are
there do they take the place of the earlier ones. Files of others in the folder stay.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lesionlens.base.errors import ResourceError, UnusableInputError


def _first_existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def check_target(target: Path) -> None:
    """Refuse a target that cannot become an output folder; writes nothing.

    Raises
    ------
    UnusableInputError
        The path, or a parent of it, is a file.
    """
    nearest = _first_existing(target)
    if not nearest.is_dir():
        raise UnusableInputError(
            found=f"a file where the output folder should be: {nearest.name}",
            expected="a folder, or a name that is free",
            next_step="Choose another folder with --out",
        )


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a folder to write into; on a clean exit its content takes its place in `target`.

    Parameters
    ----------
    target : Path
        The output folder; made if it is not there. An earlier file of the same name is replaced;
        a folder of ours (`dicom`) is replaced whole.

    Yields
    ------
    Path
        An empty folder on the same file system.

    Raises
    ------
    UnusableInputError
        The target is, or lies below, a file.
    ResourceError
        The disk is full or the folder may not be written.
    """
    check_target(target)
    made = [p for p in (target, *target.parents) if not p.exists()]
    aside: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".lesionlens-", dir=target.parent))
        yield aside
        _swap_in(aside, target)
    except OSError as error:
        _remove(made, aside)
        raise _explained(error, target) from error
    except BaseException:
        _remove(made, aside)
        raise
    _remove([], aside)


def _swap_in(aside: Path, target: Path) -> None:
    """Move each staged entry over its namesake, keeping the old ones until all have moved."""
    target.mkdir(exist_ok=True)
    old = Path(tempfile.mkdtemp(prefix=".lesionlens-old-", dir=target.parent))
    moved: list[str] = []
    try:
        for entry in sorted(aside.iterdir()):
            place = target / entry.name
            if place.exists() or place.is_symlink():
                place.rename(old / entry.name)
            moved.append(entry.name)
            entry.rename(place)
    except BaseException:
        for name in moved:
            _discard(target / name)
        for entry in old.iterdir():
            entry.rename(target / entry.name)
        shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove(made: list[Path], aside: Path | None) -> None:
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
    for folder in made:
        try:
            folder.rmdir()
        except OSError:
            return


def _explained(error: OSError, target: Path) -> ResourceError | UnusableInputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            found="a full disk while writing the result",
            expected=f"room in {target.name}",
            next_step="Free some space or choose another folder with --out; nothing was changed",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UnusableInputError(
            found=f"no permission to write into {target.name}",
            expected="a folder that you may write",
            next_step="Choose another folder with --out",
        )
    return ResourceError(
        found=f"the system's refusal to write the result ({error.strerror or error})",
        expected="a folder that can be written",
        next_step="Choose another folder with --out",
    )
