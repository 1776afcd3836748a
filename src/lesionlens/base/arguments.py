"""Validation of arguments: of public Python calls, and of folders that commands are given."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from lesionlens.base.errors import ConfigError, UnusableInputError

K = TypeVar("K", bound=StrEnum)
_MAX_LENGTH = 60


def path_of(value: object, label: str) -> Path:
    """Return a path that a caller named.

    Parameters
    ----------
    label : str
        What it should lead to, such as "the folder for the result".

    Raises
    ------
    UnusableInputError
        It is empty, which would mean the working folder, or no path that the system can hold.

    Examples
    --------
    >>> path_of("out/demo", "the folder for the result").name
    'demo'
    """
    name = os.fspath(value) if isinstance(value, os.PathLike) else value
    problem = ""
    if not isinstance(name, str) or not name.strip():  # bytes, too: they mix with no other path
        problem = "is no path"
    else:
        try:
            os.lstat(name)
        except FileNotFoundError:
            pass
        except (ValueError, OSError) as error:  # a null character, a name that is too long
            if isinstance(error, ValueError) or len(name) > 255:
                problem = "cannot be a path"
    if problem:
        raise UnusableInputError(
            f"{brief(value)}, {problem}: {label} is needed.", hint="'.' is the working folder."
        )
    return Path(str(name))


def check_folder(folder: Path, expected: str) -> None:
    """Refuse a path that is not a folder; `expected` says what the folder should contain."""
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder.name!r}; {expected} is needed.")


def member_of(kind: type[K], value: Any, label: str) -> K:
    """Return the member of a closed set that a caller named, or raise UnusableInputError."""
    try:
        return kind(value)
    except ValueError as error:
        raise UnusableInputError(
            f"{brief(value)}, is not {label}; choose one of: {', '.join(kind)}."
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
    shortened = text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
    kind = type(value).__name__
    return f"{shortened}, {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
