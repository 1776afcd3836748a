"""Kill a process at its n-th act on files, for every n; run apart, as it forks and is not traced.

    python killed.py FOLDER exchange|journal|'no locks'

Prints a line of JSON for each n: what the folder was when the process was gone, and what it was
after the next start, which is killed at each of its own acts too.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from lesionlens.base.files import staging
from lesionlens.base.files.journal import PREFIX, recover

OURS = {"a.txt": None, "b.txt": None, "dicom/seg.dcm": None, "edits/1.txt": None}
NEW = ("a.txt", "c.txt", "dicom/seg.dcm", "new/n.txt")
OTHERS = ("mine.txt", "dicom/mine.txt", "deep/er/mine.txt")
ACTS = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "open", "os.scandir")


def fill(folder: Path) -> None:
    shutil.rmtree(folder.parent, ignore_errors=True)
    for name in (*OURS, *OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old" if name in OURS else "mine")


def swap(folder: Path) -> None:
    with staging.staged(folder, own_files=lambda _: OURS) as aside:
        for name in NEW:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_text("new")


def state(folder: Path) -> str:
    found = {
        p.relative_to(folder).as_posix(): p.read_text()
        for p in folder.rglob("*")
        if p.is_file() and not any(part.startswith(PREFIX) for part in p.parts)
    }
    others = {name: found.pop(name, None) for name in OTHERS}
    if set(others.values()) != {"mine"}:
        return f"files of others are gone: {others}"
    if found == dict.fromkeys(OURS, "old"):
        return "old"
    return "new" if found == dict.fromkeys(NEW, "new") else f"mixed: {found}"


def refuse_lock(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def killed_at(number: int, act: Callable[[Path], None], folder: Path) -> bool:
    """Let a child do it and die before its n-th act; False where it had fewer to do."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = [number]

    def count(event: str, _: object) -> None:
        if event in ACTS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    act(folder)
    os._exit(0)


def main(scratch: Path, way: str) -> None:
    if way != "exchange":
        staging.can_exchange = lambda _: False
    if way == "no locks":
        fcntl.flock = refuse_lock
    folder, number, going = scratch / "home" / "out", 0, True
    while going:
        fill(folder)
        going = killed_at(number, swap, folder)
        at_once, again = state(folder), 0
        while killed_at(again, recover, folder):
            again += 3
        recover(folder)
        left = [p.name for p in folder.parent.rglob(f"{PREFIX}*")]
        row = {"number": number, "at_once": at_once, "after": state(folder), "left": left}
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
