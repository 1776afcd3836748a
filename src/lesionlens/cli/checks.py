"""Checks of command-line arguments shared by several commands."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lesionlens.base.arguments import path_of
from lesionlens.base.errors import ReadError, UnusableInputError, os_reason
from lesionlens.base.files import absolute, open_regular
from lesionlens.cli.console import plain

_SCANNED_BYTES = 2**16


def check_file(file: Path | None, *signatures: bytes) -> None:
    """Refuse an output file that cannot be written or is a foreign file; None is accepted.

    Parameters
    ----------
    file : Path or None
        Replaced later, if it exists.
    signatures : bytes
        One of them is in the first or last 64 KiB of every file that the command itself writes, and
        in no file of another kind.

    Raises
    ------
    UnusableInputError
        The file is a folder, its folder does not exist or is not writable, or it exists and another
        program wrote it.
    """
    if file is None:
        return
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise UnusableInputError(
            f"{file.name!r} is a folder, or its folder does not exist.",
            hint="Create the folder first, or choose another.",
        )
    if not os.access(file.absolute().parent, os.W_OK | os.X_OK):
        raise UnusableInputError(
            f"No permission to write {file.name!r} there.",
            hint="Choose another folder.",
        )
    if os.path.lexists(file) and not _has_signature(file, signatures):
        raise UnusableInputError(
            f"{file.name!r} exists, and this command did not write it.",
            hint="Choose another name, or move that file.",
        )


def _has_signature(file: Path, signatures: Iterable[bytes]) -> bool:
    """Return whether a regular file begins or ends with a text that contains one of the marks."""
    try:
        with open_regular(file) as stream:
            head = stream.read(_SCANNED_BYTES)
            stream.seek(max(stream.seek(0, os.SEEK_END) - _SCANNED_BYTES, 0))
            ends = (head, stream.read())
            return any(signature in end for signature in signatures for end in ends)
    except (OSError, ReadError):
        return False


def check_working_folder() -> None:
    """Refuse to start in a working folder that was deleted: relative paths and torch need one.

    Raises
    ------
    UnusableInputError
        The folder does not exist any more, or a folder above it cannot be read.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise UnusableInputError(
            f"The current folder cannot be found: {os_reason(error)}.",
            hint="Change to another folder (cd) and repeat the command.",
        ) from error


def check_used(needed: str, is_given: object, dependent: Mapping[str, object]) -> None:
    """Refuse options that would have no effect, because another one is missing.

    Parameters
    ----------
    needed : str
        The other option in words.
    is_given : object
        Its value; None or False if it is missing.
    dependent : mapping of str to object
        Values of the options that need it, by name.

    Raises
    ------
    UnusableInputError
        One of them is given without it; the message names both.
    """
    if is_given not in (None, False):
        return
    for option, value in dependent.items():
        if value is not None and value is not False and value != "":  # 0 is a value
            raise UnusableInputError(
                f"{option} has no effect without {needed}.",
                hint=f"Add {needed}, or leave out {option}.",
            )


def check_without(other: str, dependent: Mapping[str, object]) -> None:
    """Refuse options that would have no effect, because another one is given.

    Parameters
    ----------
    other : str
        The other option.
    dependent : mapping of str to object
        Values of the options that it makes void, by name; None if one is missing.

    Raises
    ------
    UnusableInputError
        One of them is given; the message names both.
    """
    for option, value in dependent.items():
        if value is not None:
            raise UnusableInputError(
                f"{option} has no effect with {other}.",
                hint=f"Leave out {option}.",
            )


def check_readable(arguments: Iterable[object]) -> None:
    """Refuse existing paths among the arguments that cannot be read, and impossible names.

    Raises
    ------
    UnusableInputError
        A path is not readable, or its name too long; the message names it.
    """
    for path in (value for value in arguments if isinstance(value, Path)):
        path_of(path, "an existing file or folder, or a name that can be created")
        if os.access(path, os.F_OK) and not os.access(path, os.R_OK):
            raise UnusableInputError(
                f"No permission to read {path.name!r}.",
                hint=f"Ask its owner, or allow it yourself: chmod -R u+rX {path.name!r}",
            )


def named(value: Any) -> Any:
    """Return the working folder by its path, as messages quote names; any other value as it is.

    Examples
    --------
    >>> named([Path("."), Path("a")]) == [Path.cwd(), Path("a")]
    True
    """
    if isinstance(value, list):
        return [named(item) for item in value]
    return absolute(value) if value == Path() else value


def person_name(name: str) -> str:
    """Return a person's name without surplus spaces or control characters.

    Raises
    ------
    UnusableInputError
        The name is empty.
    """
    cleaned = " ".join(plain(name).split())
    if not cleaned:
        raise UnusableInputError(
            "The reader's name is empty.",
            hint='Give it, such as "A. Reader".',
        )
    return cleaned
