"""What a killed process left of an output folder, put in order by the next one.

While a result is written, a hidden folder `.lesionlens-…` lies in or beside its place: `lock` is
held by the process that works there, `journal.json` says what it moves where, and `done` that all
of it was moved. Whoever next reads or writes the place moves everything back, or cleans up.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.bounded_read import read_object
from lesionlens.base.manifest import is_inside

PREFIX = ".lesionlens-"
_LOCK, _JOURNAL, _DONE = "lock", "journal.json", "done"


@dataclass(frozen=True, slots=True)
class Work:
    """A hidden folder of one process: `new` is filled, `old` keeps what gives way."""

    folder: Path

    @property
    def new(self) -> Path:
        """What takes its place, complete."""
        return self.folder / "new"

    @property
    def old(self) -> Path:
        """What was there before, while files are moved one by one."""
        return self.folder / "old"

    def begin(self, files: Sequence[str], made: Sequence[str]) -> None:
        """Note what is to be moved in, and which folders are made for it, before anything moves."""
        place = self.folder / _JOURNAL
        with place.open("w", encoding="utf-8") as file:
            json.dump({"files": list(files), "made": list(made)}, file)
            file.flush()
            os.fsync(file.fileno())

    def end(self) -> None:
        """Note that everything was moved: from now on the new result is the one that counts."""
        (self.folder / _DONE).touch()

    def remove(self) -> None:
        """Remove it, in an order that a kill may end anywhere; not what is to be moved back."""
        journal = self.folder / _JOURNAL
        if journal.exists() and not (self.folder / _DONE).exists() and _files_in(self.old):
            return
        shutil.rmtree(self.old, ignore_errors=True)
        journal.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def work_in(home: Path, target: Path) -> Iterator[Work]:
    """Give a hidden folder for one target, locked until the block ends; it is removed then."""
    work = Work(home / f"{_prefix_of(target)}{uuid.uuid4().hex[:12]}")
    work.new.mkdir(parents=True)
    for folder in (work.folder, work.new):
        folder.chmod(0o700)
    lock = os.open(work.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with suppress(OSError):  # a disk without locks
            _take(lock)
        yield work
    finally:
        _close(lock, work)


def _take(lock: int) -> None:
    """Lock an open file; the system lets go of it with the process, however that ends."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        os.lseek(lock, 0, os.SEEK_SET)
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl  # noqa: PLC0415

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _close(lock: int, work: Work) -> None:
    """Remove a hidden folder and let go of its lock: before that, where an open file stays."""
    if sys.platform == "win32":
        os.close(lock)
        work.remove()
    else:
        work.remove()
        os.close(lock)


def restore(target: Path) -> None:
    """Put a folder in order in which a process was killed while it wrote a result there.

    What was moved half way goes back; what was moved whole stays. Does nothing if no process
    was killed, if one is at work, or where the folder may not be written.
    """
    with suppress(OSError):
        target = target.resolve()
        for work in (*_left_in(target, PREFIX), *_left_in(target.parent, _prefix_of(target))):
            _in_order(work, target)


def _prefix_of(target: Path) -> str:
    """Return how the names of hidden folders begin that lie beside a target and belong to it."""
    return f"{PREFIX}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}-"


def _left_in(folder: Path, prefix: str) -> list[Work]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [
            Work(Path(entry.path))
            for entry in entries
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
        ]


def _in_order(work: Work, target: Path) -> None:
    """Undo or finish what was begun, unless its process is alive."""
    try:
        lock = os.open(work.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return
    try:
        _take(lock)
        if not (work.folder / _DONE).exists():
            _undo(work, target)
    except OSError:  # at work, or not ours to write
        os.close(lock)
        return
    _close(lock, work)


def _undo(work: Work, target: Path) -> None:
    """Move back what gave way, and take out what came; any part of it may be done already."""
    noted = read_object(work.folder / _JOURNAL)
    files, made = (
        [name for name in noted.get(key) or () if is_inside(name)] for key in ("files", "made")
    )
    kept, coming = _files_in(work.old), _files_in(work.new)
    if not noted and not coming:
        return  # of a release without a journal, which had finished
    for name in {*files, *kept} - coming:
        if os.path.lexists(target / name) and _is_plain(target, name):
            _move(target / name, work.new / name)
    for name in kept:
        if _is_plain(target, name):
            _move(work.old / name, target / name)
    for name in sorted(made, reverse=True):
        with suppress(OSError):  # not empty: somebody put a file there
            (target / name).rmdir()


def _files_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def _move(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    source.replace(place)


def _is_plain(target: Path, name: str) -> bool:
    """Whether no link leads from a name's folders to elsewhere."""
    return not any((target / p).is_symlink() for p in Path(name).parents)
