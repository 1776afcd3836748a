"""Write aside, swap in whole: an output folder is complete or untouched.

Files are written into a hidden folder on the same file system; only when all of them are there do
they take the place of the earlier ones. Files of others in the folder stay.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from lesionlens.base.errors import ResourceError, UnusableInputError, is_full_disk

_CHOOSE, _CHOOSE_IN_WINDOW = "Choose another folder with --out", "Choose another folder"


def check_target(target: Path) -> None:
    """Refuse a target that cannot become an output folder; writes nothing.

    Raises
    ------
    UnusableInputError
        The path, or a parent of it, is a file or may not be written, or the name is impossible.
    """
    try:
        dangling = _leads_nowhere(target)
        nearest = next(p for p in (target, *target.absolute().parents) if p.exists())
        folder, writable = nearest.is_dir(), os.access(nearest, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unusable(f"an output folder that cannot be looked up ({reason})") from error
    if not folder:
        raise _unusable(f"a file where the output folder should be: {nearest.name}")
    if dangling:
        raise _unusable(f"a link that leads nowhere: {target.name}")
    if not writable:
        raise _unusable(f"no permission to write into {nearest.name or nearest}")


def _leads_nowhere(target: Path) -> bool:
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not target.exists()


def _unusable(found: str) -> UnusableInputError:
    return UnusableInputError(
        found=found,
        expected="a folder that you may write, or a free name",
        next_step=_CHOOSE,
        in_window=_CHOOSE_IN_WINDOW,
    )


@contextmanager
def staged(target: Path, *, ours: Collection[str] = ()) -> Iterator[Path]:
    """Give a folder to write into; on a clean exit its content takes its place in `target`.

    Parameters
    ----------
    target : Path
        The output folder; made if it is not there. An earlier file of the same name is replaced.
    ours : collection of str
        Paths below the target that belong to a result, with forward slashes; a folder is meant
        whole. One that the staged folder lacks goes away, so that two results never mix.

    Yields
    ------
    Path
        An empty folder on the same file system.

    Raises
    ------
    UnusableInputError
        The target is, or lies below, a file, or may not be written.
    ResourceError
        The disk is full or the system refuses.

    Notes
    -----
    On the main thread SIGINT and SIGTERM are ignored while files change places (milliseconds):
    an interrupt comes before that and changes nothing, or too late.
    """
    check_target(target)
    made = [p for p in target.absolute().parents if not p.exists()]
    home = target if target.is_dir() else target.absolute().parent
    work = home / f".lesionlens-{uuid.uuid4().hex[:12]}"
    try:
        new = work / "new"
        new.mkdir(parents=True)
        yield new
        with _uninterrupted():
            _commit(work, target, ours)
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        _remove(work, made)
        raise _explained(error, target) from error
    except BaseException:
        _remove(work, made)
        raise


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore requests to stop; does nothing outside the main thread, which alone gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in held:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _commit(work: Path, target: Path, ours: Collection[str]) -> None:
    new = work / "new"
    if not target.exists():
        new.rename(target)
        return
    files = sorted(p.relative_to(new) for p in new.rglob("*") if p.is_symlink() or not p.is_dir())
    for name in files:
        _check_place(target, name)
    _swap(work, target, [Path(name) for name in sorted(ours)], files)
    for name in {Path(name).parent for name in ours} - {Path()}:
        with suppress(OSError):  # not empty: it holds the new result or a user's file
            (target / name).rmdir()


def _check_place(target: Path, name: Path) -> None:
    """Refuse to put a file over a folder, or into a file, of somebody else."""
    for parent in name.parents:
        if (target / parent).exists() and not (target / parent).is_dir():
            raise _unusable(f"a file named {parent} in the output folder")
    place = target / name
    if place.is_dir() and not place.is_symlink():
        raise _unusable(f"a folder named {name} in the output folder")


def _swap(work: Path, target: Path, gone: list[Path], files: list[Path]) -> None:
    """Move earlier entries out and new files in; on any failure everything moves back."""
    undo: list[Callable[[], object]] = []
    try:
        for name in (*gone, *files):
            place, kept = target / name, work / "old" / name
            if os.path.lexists(place):
                kept.parent.mkdir(parents=True, exist_ok=True)
                place.rename(kept)
                undo.append(partial(kept.rename, place))
        for name in files:
            place = target / name
            for folder in reversed([p for p in place.parents if not p.exists()]):
                folder.mkdir()
                undo.append(folder.rmdir)
            (work / "new" / name).rename(place)
            undo.append(partial(place.rename, work / "new" / name))
    except BaseException:
        for act in reversed(undo):
            act()
        raise


def _remove(work: Path, made: list[Path]) -> None:
    """Remove the hidden folder, then the parents that were made for it, deepest first."""
    shutil.rmtree(work, ignore_errors=True)
    for folder in made:
        try:
            folder.rmdir()
        except OSError:
            return


def _explained(error: OSError, target: Path) -> ResourceError | UnusableInputError:
    if is_full_disk(error):
        return ResourceError(
            found="a full disk while writing the result",
            expected=f"room in {target.name}",
            next_step="Free some space or choose another folder with --out; nothing was changed",
            in_window="Free some space or choose another folder; nothing was changed",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _unusable(f"no permission to write into {target.name}")
    return ResourceError(
        found=f"the system's refusal to write the result ({error.strerror or error})",
        expected="a folder that can be written",
        next_step=_CHOOSE,
        in_window=_CHOOSE_IN_WINDOW,
    )
