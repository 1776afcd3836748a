"""Recover an output folder after the process that was writing it was killed.

While a result is written, there is a hidden folder `.lesionlens-…` in or beside the output folder:
`lock` is held by the writing process, which it names on a disk without locks, `journal.json` lists
its moves, and `done` marks that all are complete. The next process that reads or writes the folder
rolls an incomplete move back, or cleans up after a complete one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.files.access import change_mode
from lesionlens.base.files.bounded_read import read_object
from lesionlens.base.files.manifest import is_inside
from lesionlens.base.files.safe_paths import resolved

PREFIX = ".lesionlens-"
_LOCK, _JOURNAL, _DONE = "lock", "journal.json", "done"


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The hidden working folder of one process: `new` is filled, `old` keeps replaced files."""

    folder: Path

    @property
    def new(self) -> Path:
        """The complete new content."""
        return self.folder / "new"

    @property
    def old(self) -> Path:
        """The replaced files, while files are moved one by one."""
        return self.folder / "old"

    def begin(self, files: Sequence[str], made: Sequence[str]) -> None:
        """Record the planned moves and new folders in the journal, before anything is moved."""
        path = self.folder / _JOURNAL
        with path.open("w", encoding="utf-8") as file:
            json.dump({"files": list(files), "made": list(made)}, file)
            file.flush()
            os.fsync(file.fileno())

    def end(self) -> None:
        """Mark all moves as complete: from now on the new result is valid."""
        (self.folder / _DONE).touch()

    def remove(self) -> None:
        """Remove the folder, except files to be moved back; safe to interrupt at any step."""
        journal = self.folder / _JOURNAL
        if journal.exists() and not (self.folder / _DONE).exists() and files_in(self.old):
            return
        shutil.rmtree(self.old, ignore_errors=True)
        journal.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def work_folder(home: Path, target: Path) -> Iterator[WorkFolder]:
    """Yield a locked hidden folder for one target; it is removed when the block ends."""
    work, lock = _locked_work_folder(home, target)
    try:
        yield work
    finally:
        _remove_and_unlock(lock, work)


def _locked_work_folder(home: Path, target: Path) -> tuple[WorkFolder, int]:
    """Make a hidden folder; another one if a process recovers it before it is locked."""
    for _ in range(10):
        work = WorkFolder(home / f"{_prefix_of(target)}{uuid.uuid4().hex[:12]}")
        try:
            lock = _make_and_lock(work)
        except FileNotFoundError:
            continue
        except BaseException:
            shutil.rmtree(work.folder, ignore_errors=True)
            raise
        if lock is not None:
            return work, lock
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), home.name)


def _make_and_lock(work: WorkFolder) -> int | None:
    """Make a hidden folder and return its lock; None if another process has recovered it."""
    work.new.mkdir(parents=True)
    for folder in (work.folder, work.new):
        change_mode(folder, 0o700)
    own = _identity(os.getpid())
    lock = os.open(work.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    is_recovered = False
    try:
        _lock(lock)
    except BlockingIOError:
        is_recovered = True
    except OSError:  # a disk without locks: recovery asks whether the process is alive
        os.write(lock, own)
    if not is_recovered and work.new.is_dir():
        return lock
    os.close(lock)
    return None


def _lock(lock: int) -> None:
    """Lock an open file; the system releases the lock when the process ends."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(lock, 0, os.SEEK_SET)
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_and_unlock(lock: int, work: WorkFolder) -> None:
    """Remove a hidden folder and release its lock.

    It is emptied while it is locked, so that nobody recovers half of it. Windows removes no file
    that is open; NFS and FUSE keep one, and its folder, until it is closed.
    """
    if sys.platform != "win32":
        work.remove()
    os.close(lock)
    work.remove()


def recover(target: Path) -> None:
    """Recover a folder in which a process was killed while writing a result.

    Incomplete moves are rolled back; complete ones stay. The two folders above are recovered too: a
    result may be part of one, such as a BIDS dataset. Does nothing if no process was killed, if one
    is still writing, or if the folder is not writable.
    """
    with suppress(OSError):
        target = resolved(target)
        for work in (
            *_work_folders_in(target, PREFIX),
            *_work_folders_in(target.parent, _prefix_of(target)),
        ):
            _recover_work_folder(work, target)
        for folder in target.parents[:2]:
            for work in _work_folders_in(folder, _prefix_of(folder)):
                _recover_work_folder(work, folder)


def _prefix_of(target: Path) -> str:
    """Return the name prefix of hidden folders beside a target that belong to it."""
    return f"{PREFIX}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}-"


def _work_folders_in(folder: Path, prefix: str) -> list[WorkFolder]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [
            WorkFolder(Path(entry.path))
            for entry in entries
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
        ]


def _recover_work_folder(work: WorkFolder, target: Path) -> None:
    """Roll back or complete a working folder, unless its process is alive."""
    try:
        lock = os.open(work.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return
    try:
        _lock_or_succeed(lock)
        if not (work.folder / _DONE).exists():
            _undo(work, target)
    except OSError:  # at work, or not writable
        os.close(lock)
        return
    _remove_and_unlock(lock, work)


def _lock_or_succeed(lock: int) -> None:
    """Lock the lock file of a process that may be dead; on a disk without locks, take its place.

    Raises
    ------
    BlockingIOError
        The process is alive, or of another machine.
    """
    try:
        _lock(lock)
    except BlockingIOError:
        raise
    except OSError as error:
        writer = os.read(lock, 300)  # empty before it is at work, and if this file was removed
        host, _, process = writer.partition(b"\n")
        pid = process.split(b" ")[0]
        is_known = host == _host() and pid.isdigit()
        if writer and not (is_known and _identity(int(pid)) != writer):
            raise BlockingIOError(error.errno, error.strerror) from error
        own = _identity(os.getpid())
        os.lseek(lock, 0, os.SEEK_SET)
        os.truncate(lock, os.write(lock, own))


def _host() -> bytes:
    return platform.node().encode()


def _identity(pid: int) -> bytes:
    """Return host, number and start of a process, which tell whether it is the one that wrote them.

    A number alone is given again, in a restarted container to the same program. Of a process that
    is gone the host alone is left.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return _host()
    except OSError:
        pass
    started = ""
    with suppress(OSError, IndexError):  # Linux: clock ticks after the machine's start
        started = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    return _host() + f"\n{pid} {started}".encode()


def _undo(work: WorkFolder, target: Path) -> None:
    """Move replaced files back and remove new ones; safe to repeat after an interruption."""
    journal = read_object(work.folder / _JOURNAL)
    files, new_folders = (
        [name for name in journal.get(key) or () if is_inside(name)] for key in ("files", "made")
    )
    old_files, new_files = files_in(work.old), files_in(work.new)
    for name in {*files, *old_files} - new_files:
        if exists_unlinked(target, name):
            _move(target / name, work.new / name)
    for name in old_files:
        if _is_plain(target, name):
            _move(work.old / name, target / name)
    for name in sorted(new_folders, reverse=True):
        with suppress(OSError):  # not empty: somebody put a file there
            (target / name).rmdir()


def files_in(folder: Path) -> set[str]:
    """Return the relative paths of all files below a folder, and of links that lead nowhere."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def _move(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source.replace(path)


def _is_plain(target: Path, name: str) -> bool:
    """Return whether no parent folder of a name is a link."""
    return not any((target / p).is_symlink() for p in Path(name).parents)


def exists_unlinked(target: Path, name: str) -> bool:
    """Return whether a file, or a link in its place, is in a folder and not reached by a link."""
    return os.path.lexists(target / name) and _is_plain(target, name)
