"""Validation of arguments: of public Python calls, and of folders that commands are given."""

from __future__ import annotations

import errno
import os
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from lesionlens.base.errors import ConfigError, UnusableInputError

K = TypeVar("K", bound=StrEnum)


def path_of(value: object, label: str) -> Path:
    """Return a path that a caller named.

    Parameters
    ----------
    label : str
        Description of what it should lead to, such as "the folder for the result".

    Raises
    ------
    UnusableInputError
        It is empty, which would mean the working folder, no path at all, or a name that the
        system cannot hold.

    Examples
    --------
    >>> path_of("out/demo", "the folder for the result").name
    'demo'
    """
    name = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(name, str):  # bytes, too: a path of them mixes with no other
        raise _no_path(f"{brief(value)} instead of a path", label)
    path = Path(name)
    if not name.strip():
        raise _no_path("an empty name of a file or folder", label)
    if "\0" in name:
        raise _no_path("a path with a null character", label)
    try:
        path.lstat()
    except UnicodeEncodeError as error:
        raise _no_path(f"{brief(name)}, with characters that no file name has", label) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _no_path(
                f"a name that is too long for this system: {name[:_MAX_MESSAGE_LENGTH]!r}…",
                label,
            ) from error
    return path


def check_folder(folder: Path, expected: str) -> None:
    """Refuse a path that is not a folder; `expected` says what the folder should contain.

    Raises
    ------
    ConfigError
        There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(
            found=f"no folder {folder.name!r}", expected=expected, next_step="Check the path"
        )


def member_of(kind: type[K], value: Any, label: str) -> K:
    """Return the member of a closed set that a caller named.

    Raises
    ------
    UnusableInputError
        There is no such member.
    """
    try:
        return kind(value)
    except ValueError as error:
        raise UnusableInputError(
            found=f"{brief(value)} as {label}",
            expected=f"one of {', '.join(kind)}",
            next_step="Name one of them",
        ) from error


def brief(value: object) -> str:
    """Return an argument and its class for a message, on one short line.

    Examples
    --------
    >>> brief("study"), brief(None), brief([1])
    ("'study', a str", 'None', '[1], a list')
    """
    if value is None:
        return "None"
    text = " ".join(repr(value).split())
    shortened = text if len(text) <= _MAX_MESSAGE_LENGTH else f"{text[:_MAX_MESSAGE_LENGTH]}…"
    kind = type(value).__name__
    return f"{shortened}, {'an' if kind[0] in 'aeiou' else 'a'} {kind}"


_MAX_MESSAGE_LENGTH = 60


def _no_path(found: str, label: str) -> UnusableInputError:
    return UnusableInputError(
        found=found, expected=label, next_step="Name it; '.' is the working folder"
    )
