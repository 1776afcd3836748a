"""Record which files of a folder LesionLens wrote, so that no other is overwritten.

A result lists its files in `run.json`; other outputs have a list of their own, such as
`cohort.files.json`. Names alone do not suffice: a user's own file is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.access import new_folder
from lesionlens.base.files.atomic_file import encoded, write_atomically, write_together
from lesionlens.base.files.bounded_read import read_object
from lesionlens.base.files.folder_lock import folder_lock
from lesionlens.base.provenance import sha256_of
from lesionlens.base.text import abbreviated_list

SCHEMA = "lesionlens/files/1"
OwnedFiles = Mapping[str, str | None]
"""Files written by LesionLens, by their path below a folder (with `/`), and their SHA-256; None if
they may have changed since.
"""
_MAX_LISTED = 3


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return path and SHA-256 of every file below a folder, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [{"file": p.relative_to(folder).as_posix(), "sha256": sha256_of(p)} for p in files]


def listed(folder: Path, name: str) -> dict[str, str | None]:
    """Return the files that a list in a folder names, the list itself included.

    Parameters
    ----------
    name : str
        File name of the list: JSON with a LesionLens schema and `files`.
    """
    content = read_object(folder / name)
    if not str(content.get("schema", "")).startswith("lesionlens/"):
        return {}
    return {**rows_in(content), name: None}


def rows_in(content: Mapping[str, Any]) -> dict[str, str | None]:
    """Return names and digests under `files`, without invalid rows and paths outside the folder."""
    rows = content.get("files")
    return {
        str(row["file"]): None if row["sha256"] is None else str(row["sha256"])
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and "sha256" in row and is_inside(row.get("file"))
    }


def is_inside(name: object) -> bool:
    r"""Return whether a path from a file stays below the folder, judged by its text.

    Examples
    --------
    >>> [is_inside(n) for n in ("dicom/seg.dcm", "../x", "/etc/x", "a\\b", "C:x", "", 3)]
    [True, False, False, False, False, False, False]
    """
    if not isinstance(name, str) or not name or set(name) & set("\\:\0"):
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.as_posix() == name != "."


def write_list(folder: Path, names: Iterable[str], name: str) -> None:
    """Write the list of a folder's files with their SHA-256."""
    write_atomically(folder / name, _list_of({key: sha256_of(folder / key) for key in names}, name))


def _list_of(digests: OwnedFiles, name: str) -> str:
    """Return the content of the list of this name."""
    rows = [{"file": key, "sha256": sha} for key, sha in sorted(digests.items()) if key != name]
    return json.dumps({"schema": SCHEMA, "files": rows}, indent=1) + "\n"


def write_listed(folder: Path, contents: Mapping[str, str | bytes], name: str) -> tuple[Path, ...]:
    """Write LesionLens files into a shared folder, together (`write_together`); return them.

    Two processes that write into one folder wait for each other, so that its files are of one.

    Parameters
    ----------
    folder : Path
        Created if missing.
    name : str
        File name of the list; it is replaced first, so that an interruption leaves no file
        unlisted, and last, when the digests are those of the files.

    Raises
    ------
    UnusableInputError
        A foreign file has one of the names, or a listed one was edited since.
    """
    digests = {key: hashlib.sha256(encoded(text)).hexdigest() for key, text in contents.items()}
    with new_folder(folder), folder_lock(folder):
        own_files = listed(folder, name)
        check_free(folder, (*contents, name), own_files)
        before, after = ({**own_files, **rows} for rows in (dict.fromkeys(contents), digests))
        write_together(
            [
                (folder / name, _list_of(before, name)),
                *((folder / key, content) for key, content in contents.items()),
                (folder / name, _list_of(after, name)),
            ]
        )
    return tuple(folder / key for key in contents)


def claim_names(folder: Path, names: Collection[str], name: str) -> None:
    """List names before their files are written, unless foreign files have them.

    Raises
    ------
    UnusableInputError
        A foreign file has one of the names, or a listed one was edited since.
    """
    own_files = listed(folder, name)
    check_free(folder, (*names, name), own_files)
    rows = {**own_files, **dict.fromkeys(names)}
    write_atomically(folder / name, _list_of(rows, name))


def check_free(folder: Path, names: Iterable[str], owned: OwnedFiles) -> None:
    """Refuse to overwrite existing files that no list names.

    Parameters
    ----------
    folder : Path
        May be missing.
    names : iterable of str
        Names about to be written, with forward slashes.

    Raises
    ------
    UnusableInputError
        A foreign file, or one that was changed since it was written, has such a name.
    """
    foreign, changed = [], []
    for name in names:
        path = folder / name
        if path.is_symlink() or (path.exists() and name not in owned):
            foreign.append(name)
        elif path.is_file() and (sha := owned[name]) is not None and sha256_of(path) != sha:
            changed.append(name)
    if foreign:
        raise _refused(
            f"not of an earlier result: {abbreviated_list(sorted(foreign), _MAX_LISTED)}", folder
        )
    if changed:
        listing = abbreviated_list(sorted(changed), _MAX_LISTED)
        raise _refused(f"changed since the earlier result was written: {listing}", folder)


def _refused(what: str, folder: Path) -> UnusableInputError:
    return UnusableInputError(
        found=f"files in {folder.name!r} that have names of the output and are {what}",
        expected="a folder without them: only what an earlier result lists as its own is replaced",
        next_step="Move them away, or choose another folder; nothing was changed",
    )
