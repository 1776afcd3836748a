"""Write an output folder atomically: it is complete or unchanged.

Files are written into a hidden folder on the same file system. When all are complete, they replace
the earlier ones: by an exchange of folders if the system supports it, else one by one with a
journal from which the next start recovers. Foreign files in the folder are kept; if one of them has
a name that is to be written, nothing is written.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from lesionlens.base.errors import ResourceError, UnusableInputError, is_full_disk, root_os_error
from lesionlens.base.files import access
from lesionlens.base.files.atomic_file import flush
from lesionlens.base.files.exchange import (
    can_exchange,
    exchange,
    foreign_files,
    hard_link,
    move_late_files,
)
from lesionlens.base.files.folder_lock import folder_lock
from lesionlens.base.files.journal import (
    WorkFolder,
    exists_unlinked,
    files_in,
    recover,
    work_folder,
)
from lesionlens.base.files.manifest import OwnedFiles, check_free
from lesionlens.base.process import interrupts


def check_target(target: Path) -> None:
    """Refuse a path that cannot become an output folder, and recover from an interrupted write.

    Raises
    ------
    UnusableInputError
        The path, or a parent of it, is a file or not writable, or the name is invalid.
    """
    try:
        is_dangling = _leads_nowhere(target)
        nearest = next(p for p in (target, *target.absolute().parents) if p.exists())
        is_folder, is_writable = nearest.is_dir(), os.access(nearest, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unusable(f"an output folder that cannot be looked up ({reason})") from error
    if not is_folder:
        raise _unusable(f"a file where the output folder should be: {nearest.name}")
    if is_dangling:
        raise _unusable(f"a link that leads nowhere: {target.name}")
    if not is_writable:
        raise _unusable(f"no permission to write into {nearest.name or nearest}")
    recover(target)


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
        next_step="Choose another folder",
    )


@contextmanager
def staged(
    target: Path, *, own_files: Callable[[Path], OwnedFiles] | None = None, shared: bool = False
) -> Iterator[Path]:
    """Yield a folder to write into; on a clean exit its content replaces that of `target`.

    Parameters
    ----------
    target : Path
        The output folder; created if missing.
    own_files : callable
        Returns the files of the target that LesionLens wrote, none by default: they are replaced
        or, if the staged folder lacks them, removed, so that two results never mix. All others
        stay. Called while no other process replaces anything beside the target.
    shared : bool
        Whether other processes may write into the target concurrently: files are then moved one by
        one, and the folder itself is kept.

    Yields
    ------
    Path
        An empty folder on the same file system.

    Raises
    ------
    UnusableInputError
        The target is, or is below, a file, or is not writable; or a foreign file has a name that is
        to be written.
    ResourceError
        The disk is full or the system refuses.

    Notes
    -----
    On the main thread interrupts are ignored during the replacement (milliseconds).
    """
    check_target(target)
    folder = target.resolve()
    try:
        with access.new_folder(folder if shared else folder.parent):
            whole = not folder.exists() or (not shared and can_exchange(folder))
            with work_folder(folder.parent if whole else folder, folder) as work:
                yield work.new
                for path in (work.new, *work.new.rglob("*")):
                    access.restrict(path)
                with folder_lock(folder.parent):
                    owned = own_files(folder) if own_files else {}
                    files, obsolete = _plan(work, folder, owned)
                    if owned:  # whose content a power cut must not lose
                        _flush(work.new / name for name in files)
                    with _uninterrupted():
                        _commit(work, folder, files, obsolete, whole=whole)
    except OSError as error:
        raise _as_user_error(error, target) from error


def _flush(files: Iterable[Path]) -> None:
    for file in files:
        if not file.is_symlink():
            flush(file)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore interrupts (SIGINT, SIGTERM, SIGHUP) in the block; only on the main thread.

    Handlers that Python did not install, as of a program that embeds it, cannot be restored: such
    signals stay with them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    installed = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    handlers = {number: handler for number, handler in installed.items() if handler is not None}
    for number in handlers:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _plan(work: WorkFolder, target: Path, owned: OwnedFiles) -> tuple[list[str], list[str]]:
    """Return the names to write and the listed names to remove; raises if that is not possible."""
    files = sorted(map(Path, files_in(work.new)))
    for name in files:
        _check_replaceable(target, name)
    obsolete = [name for name in owned if exists_unlinked(target, name)]
    names = [name.as_posix() for name in files]
    check_free(target, dict.fromkeys((*names, *obsolete)), owned)
    return names, obsolete


def _commit(
    work: WorkFolder, target: Path, files: list[str], obsolete: list[str], *, whole: bool
) -> None:
    """Move the new files to the target: all of them, or none."""
    if not target.exists():
        work.new.rename(target)
    elif not (whole and _exchanged(work, target, {*files, *obsolete})):
        _swap(work, target, obsolete, files)
        for folder in {Path(name).parent for name in obsolete} - {Path()}:
            with suppress(OSError):  # not empty: it holds the new result or a user's file
                (target / folder).rmdir()


def _check_replaceable(target: Path, name: Path) -> None:
    """Refuse to replace a folder by a file, or to write into a file or through a foreign link."""
    for parent in name.parents:
        if (target / parent).is_symlink():
            raise _unusable(f"a link named {parent} in the output folder")
        if (target / parent).exists() and not (target / parent).is_dir():
            raise _unusable(f"a file named {parent} in the output folder")
    path = target / name
    if path.is_dir() and not path.is_symlink():
        raise _unusable(f"a folder named {name} in the output folder")


def _exchanged(work: WorkFolder, target: Path, own_names: set[str]) -> bool:
    """Exchange the whole folder; False, with nothing changed, if that is not possible."""
    foreign = foreign_files(target, own_names)
    if foreign is None:
        return False
    foreign = [name for name in foreign if _has_foreign_content(target, name, own_names)]
    replacement = work.folder / "whole"
    if not (
        hard_link(work.new, replacement)
        and hard_link(target, replacement, foreign)
        and exchange(replacement, target)
    ):
        return False
    move_late_files(replacement, target, own_names)
    return True


def _has_foreign_content(target: Path, name: Path, own_names: set[str]) -> bool:
    """Return whether a name is a folder that contains foreign files."""
    path = target / name
    if path.is_symlink() or not path.is_dir():
        return True
    contained = {(name / file).as_posix() for file in files_in(path)}
    return not contained or not contained <= own_names


def _swap(work: WorkFolder, target: Path, obsolete: list[str], files: list[str]) -> None:
    """Move earlier entries out and new files in; on any failure everything is moved back."""
    folders = {parent for name in files for parent in Path(name).parents}
    created = sorted(f.as_posix() for f in folders if not (target / f).exists())
    work.begin(files, created)
    undo: list[Callable[[], object]] = []
    try:
        for name in dict.fromkeys((*obsolete, *files)):
            path, backup = target / name, work.old / name
            if os.path.lexists(path):
                backup.parent.mkdir(parents=True, exist_ok=True)
                path.rename(backup)
                undo.append(partial(backup.rename, path))
        for folder in created:
            (target / folder).mkdir()
            access.restrict(target / folder)
            undo.append((target / folder).rmdir)
        for name in files:
            (work.new / name).rename(target / name)
            undo.append(partial((target / name).rename, work.new / name))
        work.end()
    except BaseException:
        for step in reversed(undo):
            step()
        raise


def _as_user_error(error: OSError, target: Path) -> ResourceError | UnusableInputError:
    error = root_os_error(error)
    if is_full_disk(error):
        return ResourceError(
            found="a full disk while writing the result",
            expected=f"free space in {target.name}",
            next_step="Free some space or choose another folder; nothing was changed",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _unusable(f"no permission to write into {target.name}")
    return ResourceError(
        found=f"the system's refusal to write the result ({error.strerror or error})",
        expected="a folder that can be written",
        next_step="Choose another folder",
    )
