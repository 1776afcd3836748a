"""Write aside, swap in whole: an output folder is complete or untouched.

Files are written into a hidden folder on the same file system; only when all of them are there do
they replace the earlier ones: by an exchange of the folders where the system has one,
else one by one with a journal, which the next start goes by. Files of others in the folder stay,
and if one has a name of ours, nothing is written.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from lesionlens.base import access
from lesionlens.base.errors import ResourceError, UnusableInputError, is_full_disk
from lesionlens.base.exchange import bring, bring_late, can_exchange, exchange, others_in
from lesionlens.base.journal import Work, restore, work_in
from lesionlens.base.manifest import Owned, check_free

_CHOOSE, _CHOOSE_IN_WINDOW = "Choose another folder with --out", "Choose another folder"


def check_target(target: Path) -> None:
    """Refuse a target that cannot become an output folder, and restore what a kill left there.

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
    restore(target)


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


def _nothing(target: Path) -> Owned:
    del target
    return {}


@contextmanager
def staged(
    target: Path, *, ours: Callable[[Path], Owned] = _nothing, shared: bool = False
) -> Iterator[Path]:
    """Give a folder to write into; on a clean exit its content takes its place in `target`.

    Parameters
    ----------
    target : Path
        The output folder; made if missing.
    ours : callable
        Returns which files of the target are ours, none by default: they are replaced, and go away
        where the staged folder lacks them, so that two results never mix. All others stay.
    shared : bool
        Whether other processes may write into the target meanwhile: its files are then moved one
        by one, and the folder itself stays.

    Yields
    ------
    Path
        An empty folder on the same file system.

    Raises
    ------
    UnusableInputError
        The target is, or lies below, a file, or may not be written; or a file there that is not
        ours has a name that is written.
    ResourceError
        The disk is full or the system refuses.

    Notes
    -----
    On the main thread SIGINT and SIGTERM are ignored while files change places (milliseconds):
    an interrupt comes before that and changes nothing, or too late.
    """
    check_target(target)
    place = target.resolve()
    made: tuple[Path, ...] = ()
    try:
        made = access.make_folder(place if shared else place.parent)
        whole = not place.exists() or (not shared and can_exchange(place))
        with work_in(place.parent if whole else place, place) as work:
            yield work.new
            access.restrict_tree(work.new)
            files, gone = _planned(work, place, ours(place))
            with _uninterrupted():
                _commit(work, place, files, gone, whole=whole)
    except OSError as error:
        _remove(made)
        raise _explained(error, target) from error
    except BaseException:
        _remove(made)
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


def _planned(work: Work, target: Path, owned: Owned) -> tuple[list[str], list[str]]:
    """Return the names that are written and those of ours that give way; checks that they may."""
    files = sorted(p.relative_to(work.new) for p in work.new.rglob("*") if not p.is_dir())
    for name in files:
        _check_place(target, name)
    gone = [name for name in owned if _is_there(target, name)]
    names = [name.as_posix() for name in files]
    check_free(target, dict.fromkeys((*names, *gone)), owned)
    return names, gone


def _commit(work: Work, target: Path, files: list[str], gone: list[str], *, whole: bool) -> None:
    """Bring the new files to their place: all of them, or none."""
    if not target.exists():
        work.new.rename(target)
    elif not (whole and _exchanged(work, target, {*files, *gone})):
        _swap(work, target, gone, files)
        for folder in {Path(name).parent for name in gone} - {Path()}:
            with suppress(OSError):  # not empty: it holds the new result or a user's file
                (target / folder).rmdir()


def _is_there(target: Path, name: str) -> bool:
    """Whether a LesionLens file is there, not by way of a link."""
    return os.path.lexists(target / name) and not any(
        (target / parent).is_symlink() for parent in Path(name).parents
    )


def _check_place(target: Path, name: Path) -> None:
    """Refuse to put a file over a folder, into a file, or through a link of somebody else."""
    for parent in name.parents:
        if (target / parent).is_symlink():
            raise _unusable(f"a link named {parent} in the output folder")
        if (target / parent).exists() and not (target / parent).is_dir():
            raise _unusable(f"a file named {parent} in the output folder")
    place = target / name
    if place.is_dir() and not place.is_symlink():
        raise _unusable(f"a folder named {name} in the output folder")


def _exchanged(work: Work, target: Path, ours: set[str]) -> bool:
    """Exchange the whole folder; False, with nothing changed, if that cannot be done."""
    others = others_in(target, ours)
    if others is None:
        return False
    others = [name for name in others if _holds_others(target, name, ours)]
    aside = work.folder / "whole"
    if not (bring(work.new, aside) and bring(target, aside, others) and exchange(aside, target)):
        return False
    bring_late(aside, target, ours)
    return True


def _holds_others(target: Path, name: Path, ours: set[str]) -> bool:
    """Whether this is no folder that only our files are in."""
    path = target / name
    if path.is_symlink() or not path.is_dir():
        return True
    within = [p.relative_to(target).as_posix() for p in path.rglob("*") if not p.is_dir()]
    return not within or not set(within) <= ours


def _swap(work: Work, target: Path, gone: list[str], files: list[str]) -> None:
    """Move earlier entries out and new files in; on any failure everything moves back."""
    folders = {parent for name in files for parent in Path(name).parents}
    made = sorted(f.as_posix() for f in folders if not (target / f).exists())
    work.begin(files, made)
    undo: list[Callable[[], object]] = []
    try:
        for name in dict.fromkeys((*gone, *files)):
            place, kept = target / name, work.old / name
            if os.path.lexists(place):
                kept.parent.mkdir(parents=True, exist_ok=True)
                place.rename(kept)
                undo.append(partial(kept.rename, place))
        for folder in made:
            (target / folder).mkdir()
            access.restrict(target / folder)
            undo.append((target / folder).rmdir)
        for name in files:
            (work.new / name).rename(target / name)
            undo.append(partial((target / name).rename, work.new / name))
        work.end()
    except BaseException:
        for act in reversed(undo):
            act()
        raise


def _remove(made: tuple[Path, ...]) -> None:
    """Remove the parents that were made, deepest first."""
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
