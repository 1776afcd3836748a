"""Write files and folders completely or not at all.

`replaced_folder(out)` yields a folder to fill; on a clean exit it takes the place of `out`, where
files stay that the `run.json` of the earlier result does not list. The new folder lies beside, and
two renames replace the old one; a folder that cannot be renamed (a mount point, the working folder)
receives the entries one by one, `run.json` last. Whoever reads a folder calls `finish(out)` first:
it completes or undoes what a killed process left. `write_listed` is for tables in shared folders.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from lesionlens.base.errors import ResourceError, UnusableInputError, root_os_error
from lesionlens.base.files import quarantine_damaged, read_object
from lesionlens.base.provenance import sha256_of
from lesionlens.base.text import abbreviated_list, encodable

logger = logging.getLogger(__name__)

RUN = "run.json"
NEW, OLD, READY, LOCK = (f".lesionlens-{name}" for name in ("new", "old", "ready", "lock"))
_CHANGED_LATER = ("review.json", "sent.json")  # listed, and changed by us after the list
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f".{out.name}{suffix}")


def write_error(what: str, path: Path, error: OSError) -> ResourceError:
    """Return the error for what could not be written; the earlier file or folder is unchanged."""
    reason = root_os_error(error).strerror or error
    return ResourceError(f"Cannot write {what} to {path.name!r}: {reason}.")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same extension; on a clean exit it replaces the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".new.{uuid.uuid4().hex[:12]}.{path.name[-50:]}")
    try:
        temporary.touch()
        yield temporary
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content atomically; text is written as UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(encodable(content).encode() if isinstance(content, str) else content)


def store_json(
    path: Path,
    content: object,
    what: str,
    is_whole: Callable[[Any], bool] = lambda found: isinstance(found, dict),
) -> None:
    """Replace a JSON file that LesionLens can do without; a failure is only logged.

    A file whose content `is_whole` does not accept is renamed, not replaced.
    """
    try:
        if quarantine_damaged(path, is_whole):
            logger.warning("%s: the file was damaged and is kept under another name", what)
        write_atomically(path, json.dumps(content, indent=1))
    except OSError as error:
        logger.warning("%s could not be saved: %s", what, error.strerror)


def flush(path: Path) -> None:
    """Wait until a file is on the disk: a power cut could leave it empty."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def locked(folder: Path, *, timeout: float = -1, busy: str = "") -> Iterator[bool]:
    """Hold the lock of a folder; yield whether its disk has locks.

    Waits `timeout` seconds for another process (-1: as long as it takes) and then raises `Timeout`;
    with `busy` it raises UnusableInputError with this sentence at once.
    """
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    is_parent_writable = os.access(folder.parent, os.W_OK | os.X_OK)
    path = _beside(folder, LOCK) if is_parent_writable else folder / LOCK
    lock = FileLock(path, timeout=0 if busy else timeout, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UnusableInputError(busy, hint="Wait until it ends.") if busy else error from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield lock.is_locked
    finally:
        with suppress(OSError):  # Windows, where filelock removes it
            path.unlink()  # while it is held: whoever waits notices, and makes a new one
        lock.release()


def check_target(out: Path) -> None:
    """Refuse a path that cannot become an output folder; finish an interrupted replacement.

    Raises
    ------
    UnusableInputError
        The path, or a parent of it, is a file, leads nowhere, is not writable or has a bad name.
    """
    problem = ""
    try:
        with suppress(FileNotFoundError):
            _beside(out.absolute(), READY).lstat()  # the longest name that will be needed
        nearest = next(p for p in (out, *out.absolute().parents) if p.exists())
    except (OSError, ValueError) as error:
        problem = f"cannot be a folder: {getattr(error, 'strerror', None) or error}"
    else:
        if out.is_symlink() and not out.exists():
            problem = "is a link that leads nowhere"
        elif not nearest.is_dir():
            problem = f"cannot be a folder: {nearest.name!r} is a file"
        elif not os.access(nearest, os.W_OK | os.X_OK):
            problem = "may not be written: permission denied"
    if problem:
        raise UnusableInputError(f"{str(out)[-60:]!r} {problem}.", hint="Choose another folder.")
    finish(out)


def is_inside(name: object) -> bool:
    r"""Return whether a path from a file stays below its folder, judged by its text.

    Examples
    --------
    >>> [is_inside(n) for n in ("dicom/seg.dcm", "../x", "/etc/x", "a\\b", "C:x", "", 3)]
    [True, False, False, False, False, False, False]
    """
    if not isinstance(name, str) or not name or set(name) & set("\\:\0"):
        return False
    path = PurePosixPath(name)
    is_plain = path.as_posix() == name != "." and max(map(len, path.parts)) < 256
    return is_plain and not path.is_absolute() and ".." not in path.parts


def listed(folder: Path, name: str = RUN) -> dict[str, str]:
    """Return the files that a list in a folder names, and itself, with their SHA-256 or ""."""
    content = read_object(folder / name)
    rows = content.get("files")
    if not isinstance(rows, list) or not str(content.get("schema", "")).startswith("lesionlens/"):
        return {}
    valid = (row for row in rows if isinstance(row, dict) and is_inside(row.get("file")))
    return {**{str(row["file"]): str(row.get("sha256") or "") for row in valid}, name: ""}


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a list: path and SHA-256 of every file below a folder."""
    return [{"file": name, "sha256": sha256_of(folder / name)} for name in _names_in(folder)]


def _names_in(folder: Path) -> list[str]:
    files = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def edited_since(folder: Path, list_name: str = RUN) -> list[str]:
    """Return the listed files that are newer than their list, and whose SHA-256 differs."""
    digests = {n: s for n, s in listed(folder, list_name).items() if s and n not in _CHANGED_LATER}
    written = (folder / list_name).stat().st_mtime_ns if digests else 0
    paths = ((name, folder / name) for name in sorted(digests))
    newer = [n for n, path in paths if path.is_file() and path.stat().st_mtime_ns > written]
    return [name for name in newer if sha256_of(folder / name) != digests[name]]


def check_free(folder: Path, names: Iterable[str], list_name: str = RUN) -> None:
    """Refuse names that files of others have, and listed files that were edited since.

    Raises
    ------
    UnusableInputError
        It names them.
    """
    own = listed(folder, list_name)

    def is_taken(name: str) -> bool:
        parents = (folder / parent for parent in list(PurePosixPath(name).parents)[:-1])
        is_in_way = any(p.is_symlink() or (p.exists() and not p.is_dir()) for p in parents)
        is_other = name not in own or (folder / name).is_dir()
        return is_in_way or (is_other and os.path.lexists(folder / name))

    taken, edited = sorted({*filter(is_taken, names)}), edited_since(folder, list_name)
    for found, what in ((taken, "did not write"), (edited, "wrote and somebody edited since")):
        if found:
            raise UnusableInputError(
                f"{folder.name!r} has files that LesionLens {what}: {abbreviated_list(found, 3)}.",
                hint="Move them away, or choose another folder.",
            )


@contextmanager
def replaced_folder(out: Path, *, reserved: Iterable[str] = ()) -> Iterator[Path]:
    """Yield an empty folder; on a clean exit its content replaces the earlier result in `out`.

    One process at a time fills a folder; the next waits. On any error `out` is unchanged.

    Parameters
    ----------
    reserved : iterable of str
        Names that files of others must not have, beside those that are written.

    Raises
    ------
    UnusableInputError
        From `check_target` or `check_free`.
    ResourceError
        The system refuses, as on a full disk.
    """
    check_target(out)
    target = Path(os.path.realpath(out))
    missing = [p for p in target.parents if not p.exists()]
    try:
        with locked(target):
            _finish(target)
            new = _new_folder(target)
            try:
                yield new
                names = _names_in(new)
                check_free(target, (*names, *reserved))
                for name in names:
                    flush(new / name)
                if new.parent == target:
                    new.rename(target / READY)
                else:
                    if target.exists():
                        target.rename(_beside(target, OLD))
                    new.rename(target)
            finally:
                _finish(target)
    except BaseException as error:
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        if isinstance(error, OSError):
            raise write_error("the result", out, error) from error
        raise


def _new_folder(out: Path) -> Path:
    """Make a folder beside, or inside one that cannot be renamed or would change its owner."""
    new, inside, here = _beside(out, NEW), out / NEW, Path(os.path.realpath(Path.cwd()))
    if os.access(out.parent, os.W_OK | os.X_OK):
        new.mkdir()
        if not out.exists():
            return new
        keys = [(s.st_dev, s.st_uid, s.st_gid) for s in (new.stat(), out.stat())]
        if keys[0] == keys[1] and not os.path.ismount(out) and out not in (here, *here.parents):
            new.chmod(out.stat().st_mode & 0o7777)
            return new
        new.rmdir()
    inside.mkdir()
    return inside


def finish(out: Path) -> None:
    """Complete or undo a replacement that a killed process left; one at work is left alone."""
    out = Path(os.path.realpath(out))
    left = (*(_beside(out, suffix) for suffix in (NEW, OLD, LOCK)), out / NEW, out / READY)
    if any(map(os.path.lexists, left)):
        is_swapped = not out.exists() and _beside(out, OLD).exists()
        with suppress(OSError), locked(out, timeout=5 if is_swapped else 0) as is_locked:
            _finish(out, abandoned=is_locked)


def finish_in(folder: Path) -> None:
    """Finish what was left directly below a folder."""
    for path in folder.glob(f".*{OLD}"):
        finish(path.with_name(path.name[1:].removesuffix(OLD)))


def _finish(out: Path, *, abandoned: bool = True) -> None:
    """Finish under the lock; may itself be killed at any point, and repeated."""
    old, ready = _beside(out, OLD), out / READY
    if old.is_dir() and not out.exists():
        old.rename(out)
    elif old.is_dir():
        _return_others(old, out, listed(old))
        old.rename(_beside(out, NEW))  # what is half deleted must not be taken for others' files
        abandoned = True
    if ready.is_dir():
        _move_in(ready, out)
    for new in (_beside(out, NEW), out / NEW) if abandoned else ():
        shutil.rmtree(new, ignore_errors=True)


def _return_others(old: Path, out: Path, own: Mapping[str, str], below: str = "") -> None:
    """Move to the new folder what others put into the old one."""
    for path in list(old.iterdir()):
        name, target = f"{below}{path.name}", out / path.name
        holds_ours = target.is_dir() or any(n.startswith(f"{name}/") for n in own)
        if path.is_dir() and not path.is_symlink() and holds_ours:
            _return_others(path, target, own, f"{name}/")
        elif name not in own and not os.path.lexists(target):
            out.mkdir(parents=True, exist_ok=True)
            path.rename(target)


def _move_in(ready: Path, out: Path) -> None:
    """Move complete new entries into a folder, `run.json` last."""
    names = _names_in(ready)
    for name in set(listed(out)) - set(listed(ready)) if RUN in names else ():
        folders = [out / folder for folder in list(PurePosixPath(name).parents)[:-1]]
        if not any(folder.is_symlink() for folder in folders):
            (out / name).unlink(missing_ok=True)
            with suppress(OSError):  # not empty: others have files there
                for folder in folders:
                    folder.rmdir()
    for name in sorted(names, key=lambda name: name == RUN):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (ready / name).replace(out / name)
    shutil.rmtree(ready)


def claim(folder: Path, names: Iterable[str], list_name: str) -> None:
    """List names in a shared folder before their files are written; raises as `check_free`."""
    names = tuple(names)
    check_free(folder, (*names, list_name), list_name)
    _write_list(folder, {**listed(folder, list_name), **dict.fromkeys(names, "")}, list_name)


def _write_list(folder: Path, digests: Mapping[str, str], name: str) -> None:
    rows = [{"file": key, "sha256": sha} for key, sha in sorted(digests.items()) if key != name]
    content = {"schema": "lesionlens/files/1", "files": rows}
    write_atomically(folder / name, json.dumps(content, indent=1) + "\n")


def write_listed(
    folder: Path, contents: Mapping[str, str | Path], list_name: str
) -> tuple[Path, ...]:
    """Replace the files that a list in a shared folder names, by texts or by files moved there.

    All are on the disk before the first is replaced. Raises as `check_free`.
    """
    with locked(folder):
        obsolete = set(listed(folder, list_name)) - {*contents, list_name}
        claim(folder, contents, list_name)
        with ExitStack() as replacements:
            for name, content in contents.items():
                temporary = replacements.enter_context(atomic_file(folder / name))
                if isinstance(content, Path):
                    content.replace(temporary)
                else:
                    temporary.write_bytes(encodable(content).encode())
                flush(temporary)
        for name in obsolete:
            (folder / name).unlink(missing_ok=True)
        _write_list(folder, {name: sha256_of(folder / name) for name in contents}, list_name)
    return tuple(folder / name for name in contents)
