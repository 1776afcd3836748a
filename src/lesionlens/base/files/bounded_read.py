"""Read untrusted files: bounded in size, and JSON and TOML without ambiguity.

All files of a result are read through this module. A pipe does not block, a huge file does not fill
the memory, and what Python's JSON parser accepts beyond the standard (NaN, infinity, duplicate
keys, unlimited nesting) is refused, so that every program reads the same values.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import stat
import tomllib
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from lesionlens.base.errors import ReadError

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")
MIB = 2**20
JSON_BYTES = 32 * MIB
"""Upper limit in bytes; no JSON file of a result comes near it."""
TOML_BYTES = MIB
MAX_DIGITS = 40
MAX_ROWS = 100_000
"""Upper limit of rows in a table."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes, without blocking on a pipe or device.

    Raises
    ------
    ReadError
        Neither a regular file nor a folder; the message omits its folder.
    OSError
        Missing, unreadable or a folder.
    """
    stream = open(path, "rb", opener=_opened_at_once)  # noqa: SIM115  (`Path` takes none)
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise _refused(f"{path.name!r}, which is not a regular file", "a file")


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_file(path: Path, limit: int = JSON_BYTES) -> bytes:
    """Read a whole regular file as bytes.

    Parameters
    ----------
    path : Path
        The file; links are followed.
    limit : int
        Maximum size in bytes.

    Raises
    ------
    ReadError
        Larger than `limit`, or not a regular file; the message omits its folder.
    OSError
        It is missing or cannot be read.
    """
    with open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise _refused(f"more than {limit // MIB} MiB in {path.name!r}", "a file of the usual size")
    return content


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file; raises what `read_file` and `parse_json` raise."""
    return parse_json(read_file(path, limit))


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if the file is missing or unreadable."""
    try:
        content = read_json(path)
    except (OSError, ValueError, ReadError):
        return {}
    return content if isinstance(content, dict) else {}


def quarantine_damaged(path: Path, whole: Callable[[Any], bool]) -> Path | None:
    """Rename a damaged JSON file that is about to be replaced, so that its content is not lost.

    Parameters
    ----------
    whole : callable
        Returns whether the parsed content is valid.

    Returns
    -------
    Path or None
        The new, unused name; None if the file is valid or missing.

    Raises
    ------
    OSError
        The file cannot be read or renamed.
    """
    try:
        if whole(read_json(path)):
            return None
    except FileNotFoundError:
        return None
    except (ValueError, ReadError):
        pass
    names = (path.with_name(f"{path.stem}.damaged-{n}{path.suffix}") for n in count(1))
    backup = next(name for name in names if not os.path.lexists(name))
    return path.rename(backup)


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a JSON file and validate it as a record; see `read_json`.

    Raises
    ------
    ReadError, OSError, ValueError
        As `read_json`, or the content does not validate.
    """
    content = read_file(path)
    parse_json(content)
    return model.model_validate_json(content)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file written by a person; see `read_file`.

    Raises
    ------
    ValueError
        Not TOML, nested too deeply, or with NaN, infinity or an oversized number.
    """
    try:
        return tomllib.loads(read_text(path, TOML_BYTES), parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nesting too deep") from error


def read_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a table with a header line; see `read_file`.

    Returns
    -------
    list of dict of str to str
        One per row that is not blank, by the headings in lower case without spaces around them; a
        missing cell is absent or None.

    Raises
    ------
    ValueError
        Not such a table, not UTF-8, or more than `MAX_ROWS` rows; or cells that could be of
        several columns: a heading that occurs twice, or more cells in a row than headings.
    """
    text = read_text(path)
    if "\0" in text:
        raise ValueError("a NUL character")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        reader.fieldnames = _headings(reader.fieldnames or ())
        rows = list(islice(_nonblank_rows(reader), MAX_ROWS + 1))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if len(rows) > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} rows")
    return rows


def _nonblank_rows(reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    """Yield the rows that are not blank, as spreadsheets leave some at the end."""
    for row in reader:
        if any(cell.strip() for cell in row.pop(None, ())):
            raise ValueError(f"more cells in line {reader.line_num} than headings")
        if any(cell and cell.strip() for cell in row.values()):
            yield row


def _headings(names: Sequence[str]) -> list[str]:
    headings = [name.strip().lower() for name in names]
    duplicate = next((name for name in headings if name and headings.count(name) > 1), None)
    if duplicate is not None:
        raise ValueError(f"two columns {duplicate!r}")
    return headings


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """Read a UTF-8 file, without the byte order mark that some editors add; see `read_file`.

    Raises
    ------
    ValueError
        Not UTF-8.
    """
    return read_file(path, limit).decode("utf-8-sig")


def parse_json(text: str | bytes, *, infinite: bool = False) -> Any:
    """Parse one JSON value strictly.

    Parameters
    ----------
    infinite : bool
        Accept NaN and infinity too, which messages between LesionLens processes contain.

    Raises
    ------
    ValueError
        Not JSON; NaN, infinity or a duplicate key; nested too deeply, or a number with too many
        digits.

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
            parse_int=_bounded_int,
            object_pairs_hook=_unique_keys,
        )
    except RecursionError as error:
        raise ValueError("nesting too deep") from error


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a valid JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number too large to represent")
    return value


def _bounded_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("an integer with too many digits")
    return int(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a duplicate key in an object")
    return result


def _refused(found: str, expected: str) -> ReadError:
    return ReadError(
        found=found,
        expected=expected,
        next_step="Restore it from a backup, or remove it from the folder",
    )
