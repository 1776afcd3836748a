"""Kill a process at its n-th act on files, for every n; run apart, as it forks and is not traced.

    python killed.py FOLDER renamed|'moved in'|'no locks' [STEP]

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

from lesionlens.base import storage

OURS = ("a.txt", "b.txt", "dicom/seg.dcm", "edits/1.txt")
NEW = ("a.txt", "c.txt", "dicom/seg.dcm", "new/n.txt")
OTHERS = ("mine.txt", "dicom/mine.txt", "deep/er/mine.txt")
ACTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "open", "os.scandir")


def write(folder: Path, names: tuple[str, ...], text: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if text != "mine":
        rows = [{"file": name} for name in names]
        run = {"schema": "lesionlens/run/1", "text": text, "files": rows}
        (folder / storage.RUN).write_text(json.dumps(run))


def fill(folder: Path) -> None:
    shutil.rmtree(folder.parent, ignore_errors=True)
    write(folder, OURS, "old")
    write(folder, OTHERS, "mine")


def swap(folder: Path) -> None:
    with storage.replaced_folder(folder) as new:
        write(new, NEW, "new")


def state(folder: Path) -> str:
    """old or new; gone between two renames; mixed while entries are moved in."""
    if not folder.exists():
        return "gone"
    found = {
        name: (folder / name).read_text()
        for name in (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        if not name.startswith(".lesionlens")
    }
    run = json.loads(found.pop(storage.RUN, '{"text": null}'))["text"]
    others = {name: found.pop(name, None) for name in OTHERS}
    if (run, found) in (("old", dict.fromkeys(OURS, "old")), ("new", dict.fromkeys(NEW, "new"))):
        return run if set(others.values()) == {"mine"} else f"files of others are gone: {others}"
    return f"mixed: {run} {found}"


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


def main(scratch: Path, way: str, step: int) -> None:
    if way == "moved in":
        os.path.ismount = lambda _: True
    if way == "no locks":
        fcntl.flock = refuse_lock
    folder, number, going = scratch / "home" / "out", 0, True
    while going:
        fill(folder)
        going = killed_at(number, swap, folder)
        at_once, again = state(folder), 0
        while killed_at(again, storage.finish, folder):
            again += 3
        storage.finish(folder)
        storage.check_target(folder)
        left = [p.name for p in folder.parent.rglob(".*lesionlens*")]
        row = {"number": number, "at_once": at_once, "after": state(folder), "left": left}
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
        number += step


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)
