"""Read files that others may have changed: of a bounded size, and JSON that means one thing.

Whoever reads a file of a result reads it here: a pipe does not hang, a file of gigabytes does not
fill the memory, and what Python's JSON takes beyond the standard (NaN, infinity, a key twice,
nesting without end) is refused, so that no two readers understand a file in two ways.
"""

from __future__ import annotations

import csv
import json
import math
import os
import stat
import tomllib
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from lesionlens.base.errors import ReadError

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")
MIB = 2**20
JSON_BYTES = 32 * MIB
"""More than any JSON file of a result has."""
TOML_BYTES = MIB
MOST_DIGITS = 40
MOST_ROWS = 100_000
"""Of a table; a list of studies or of findings has far fewer."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read bytes; a pipe or a device does not hang.

    Raises
    ------
    ReadError
        It is no regular file; named without its folder.
    OSError
        It is missing or cannot be read.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    stream = os.fdopen(number, "rb")
    if stat.S_ISREG(os.fstat(number).st_mode):
        return stream
    stream.close()
    raise _refused(f"{path.name!r}, which is no regular file", "a file")


def read_file(path: Path, limit: int = JSON_BYTES) -> bytes:
    """Read a regular file whole.

    Parameters
    ----------
    path : Path
        The file; links are followed.
    limit : int
        Most bytes it may have.

    Raises
    ------
    ReadError
        It is larger, or no regular file; named without its folder.
    OSError
        It is missing or cannot be read.
    """
    with open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise _refused(f"more than {limit // MIB} MiB in {path.name!r}", "a file of a usual size")
    return content


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file; see `read_file` and `parse_json`, whose errors these are."""
    return parse_json(read_file(path, limit))


def read_object(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is none that can be read."""
    try:
        found = read_json(path, limit)
    except (OSError, ValueError, ReadError):
        return {}
    return found if isinstance(found, dict) else {}


def set_aside_damaged(path: Path, whole: Callable[[Any], bool]) -> Path | None:
    """Rename a damaged JSON file before another takes its place, so that nothing in it is lost.

    Parameters
    ----------
    path : Path
        About to be replaced.
    whole : callable
        Whether what the file holds is as we write it.

    Returns
    -------
    Path or None
        Its new name, that of no other file; None if the file is whole or not there.

    Raises
    ------
    OSError
        It cannot be read or renamed.
    """
    try:
        if whole(read_json(path)):
            return None
    except FileNotFoundError:
        return None
    except (ValueError, ReadError):
        pass
    names = (path.with_name(f"{path.stem}.damaged-{n}{path.suffix}") for n in count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    return path.rename(aside)


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a JSON file as a record; see `read_json`.

    Raises
    ------
    ReadError, OSError, ValueError
        As `read_json`; or it is no such record.
    """
    content = read_file(path)
    parse_json(content)
    return model.model_validate_json(content)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file that a person wrote; see `read_file`.

    Raises
    ------
    ValueError
        It is no TOML, nests without end, or holds NaN, infinity or a number beyond all bounds.
    """
    try:
        return tomllib.loads(read_text(path, TOML_BYTES), parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nesting without end") from error


def read_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a table with a line of headings; see `read_file`.

    Returns
    -------
    list of dict of str to str
        A row each; a column that a row has not is missing or None there.

    Raises
    ------
    ValueError
        It is no such table, or not UTF-8, or has more than `MOST_ROWS`.
    """
    lines = read_text(path).removeprefix("\ufeff").splitlines(keepends=True)
    try:
        rows = list(islice(csv.DictReader(lines, delimiter=delimiter, strict=True), MOST_ROWS + 1))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if len(rows) > MOST_ROWS:
        raise ValueError(f"more than {MOST_ROWS} rows")
    return rows


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """Read a UTF-8 file; see `read_file`.

    Raises
    ------
    ValueError
        It is not UTF-8.
    """
    return read_file(path, limit).decode("utf-8")


def parse_json(text: str | bytes, *, infinite: bool = False) -> Any:
    """Return what JSON holds.

    Parameters
    ----------
    text : str or bytes
        One value.
    infinite : bool
        Take NaN and infinity too, as messages between our own programs hold them.

    Raises
    ------
    ValueError
        It is no JSON, or holds what JSON has not: NaN, infinity, one key twice in an object; or
        nesting or digits without end.

    Examples
    --------
    >>> parse_json('{"a": 1}')
    {'a': 1}
    """
    try:
        return json.loads(
            text,
            parse_constant=float if infinite else _no_constant,
            parse_float=float if infinite else _finite,
            parse_int=_short,
            object_pairs_hook=_each_once,
        )
    except RecursionError as error:
        raise ValueError("nesting without end") from error


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is none, or beyond all bounds")
    return value


def _short(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError("a whole number beyond all bounds")
    return int(text)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("one key twice in an object")
    return found


def _refused(found: str, expected: str) -> ReadError:
    return ReadError(
        found=found,
        expected=expected,
        next_step="Restore it from a backup, or take it out of the folder",
    )
