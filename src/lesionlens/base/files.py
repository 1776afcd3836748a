"""Files that a person or another program made, and the user's own folders.

JSON, TOML and tables are read with a limit in bytes and without ambiguity: NaN, a key that occurs
twice or nesting without end is a ValueError, a pipe or device a `ReadError`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import stat
import sys
import tomllib
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import platformdirs

from lesionlens.base.errors import ReadError, ResourceError, UnusableInputError

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")
JSON_BYTES = 32 * 2**20
"""Upper limit; no JSON file of a result comes near it."""
MAX_ROWS = 100_000
NIFTI_SUFFIXES = (".nii.gz", ".nii")
_VOLUME = re.compile(r"\.(nii(\.(gz|bz2|zst))?|nrrd|mha|mhd|mgz)$", re.IGNORECASE)
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are reserved for devices on Windows, with any extension."""
FileState = tuple[int, int]
"""Size in bytes and time of modification in ns, by which a replacement is noticed."""
exists, is_dir, is_file = os.path.exists, os.path.isdir, os.path.isfile
"""False in a forbidden folder or on a stale share, where the methods of `Path` raise."""


def file_state(path: Path) -> FileState:
    """Return the state of a file; OSError if the system refuses it."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def is_nifti_name(name: str) -> bool:
    """Return whether a file name ends as that of a NIfTI file as LesionLens writes it."""
    return name.lower().endswith(NIFTI_SUFFIXES)


def is_volume_name(name: str) -> bool:
    """Return whether a file name ends as that of a volume that can be read, in any case.

    Examples
    --------
    >>> [is_volume_name(name) for name in ("t1.nii.bz2", "T1.NRRD", "t1.img")]
    [True, True, False]
    """
    return bool(_VOLUME.search(name))


def without_volume_suffix(name: str) -> str:
    """Return a file name without the suffix of a volume's format.

    Examples
    --------
    >>> without_volume_suffix("sub-01_T1w.NII.gz"), without_volume_suffix("lesion.seg.nrrd")
    ('sub-01_T1w', 'lesion.seg')
    """
    return _VOLUME.sub("", name)


def resolved(path: Path) -> Path:
    """Return the absolute path with every link followed, except circular ones."""
    return Path(os.path.realpath(path))


def absolute(path: Path) -> Path:
    """Return the absolute path without `.` and `..`; links keep their names."""
    return Path(os.path.abspath(path))  # noqa: PTH100  (`Path.absolute` keeps `..`)


def check_outside(study: Path, out: Path) -> None:
    """Refuse an output folder within a study, which is never written to."""
    target = resolved(out)
    if study.is_dir() and resolved(study) in (target, *target.parents):
        raise UnusableInputError(
            "The output folder is within the study, which is never written to.",
            hint="Choose another output folder.",
        )


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes, without blocking on a pipe or device.

    Raises
    ------
    ReadError, OSError
        Neither a regular file nor a folder; missing, unreadable or a folder.
    """

    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    stream = open(path, "rb", opener=at_once)  # noqa: SIM115  (`Path` takes none)
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise ReadError(f"{path.name!r} is not a regular file.")


def read_file(path: Path, limit: int = JSON_BYTES) -> bytes:
    """Read a whole regular file of at most `limit` bytes; raises as `open_regular`."""
    with open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ReadError(f"{path.name!r} is larger than {limit // 2**20} MiB.")
    return content


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """Read a UTF-8 file, without the byte order mark that some editors add; see `read_file`."""
    return read_file(path, limit).decode("utf-8-sig")


def parse_json(text: str | bytes, *, infinite: bool = False) -> Any:
    """Parse one JSON value; ValueError for NaN or infinity (unless `infinite`) or a repeated key.

    Examples
    --------
    >>> parse_json('{"a": 1}')
    {'a': 1}
    """
    number = float if infinite else _finite
    try:
        return json.loads(
            text, parse_constant=number, parse_float=number, object_pairs_hook=_unique_keys
        )
    except RecursionError as error:
        raise ValueError("nesting too deep") from error


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a duplicate key in an object")
    return result


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file; raises as `read_file` and `parse_json`."""
    return parse_json(read_file(path, limit))


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if the file is missing or unreadable."""
    try:
        content = read_json(path)
    except (OSError, ValueError, ReadError):
        return {}
    return content if isinstance(content, dict) else {}


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a JSON file and validate it as a record; raises as `read_json`."""
    content = read_file(path)
    parse_json(content)
    return model.model_validate_json(content)


def quarantine_damaged(path: Path, whole: Callable[[Any], bool]) -> Path | None:
    """Rename a JSON file that is about to be replaced unless `whole` accepts its content.

    Returns
    -------
    Path or None
        The new, unused name; None if the file is valid or missing.
    """
    with suppress(ValueError, ReadError):
        if not os.path.lexists(path) or whole(read_json(path)):
            return None
    names = (path.with_name(f"{path.stem}.damaged-{n}{path.suffix}") for n in count(1))
    return path.rename(next(name for name in names if not os.path.lexists(name)))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of a person; ValueError if it is none, or holds NaN or infinity."""
    try:
        return tomllib.loads(read_text(path, 2**20), parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nesting too deep") from error


def read_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a table with a header line: a dict for each row that is not blank; see `read_file`.

    Keys are the headings in lower case without spaces around them; a missing cell is absent or
    None.

    Raises
    ------
    ValueError
        Not such a table, not UTF-8, more than `MAX_ROWS` rows, a heading twice, or more cells in a
        row than headings.
    """
    text = read_text(path)
    if "\0" in text:
        raise ValueError("a NUL character")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        headings = [name.strip().lower() for name in reader.fieldnames or ()]
        for name in filter(None, headings):
            if headings.count(name) > 1:
                raise ValueError(f"two columns {name!r}")
        reader.fieldnames = headings
        for row in reader:
            if any(cell.strip() for cell in row.pop(None, ())):
                raise ValueError(f"more cells in line {reader.line_num} than headings")
            if any(cell and cell.strip() for cell in row.values()):
                rows.append(row)
            if len(rows) > MAX_ROWS:
                raise ValueError(f"more than {MAX_ROWS} rows")
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return rows


def user_data() -> Path:
    """Return the folder of permanent data: reviews and decisions.

    Raises
    ------
    ResourceError
        It may not be read: earlier decisions would be missing without a message.
    """
    folder = _folder(platformdirs.user_data_dir)
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.scandir(folder).close()
    except OSError as error:
        raise _unusable(folder, f"read: {error.strerror}") from error
    return folder


def user_settings() -> Path:
    """Return the folder of the user's settings."""
    return _folder(platformdirs.user_config_dir)


def site_settings() -> Path:
    """Return the folder of an administrator's settings, which no variable of a reader moves."""
    if sys.platform == "win32":
        return Path(platformdirs.site_config_dir("lesionlens", appauthor=False))
    above = "/Library/Application Support" if sys.platform == "darwin" else "/etc/xdg"
    return Path(above, "lesionlens")


def check_writable(name: str) -> None:
    """Refuse if another program cannot write its own cache and settings."""
    for kind in (platformdirs.user_cache_dir, platformdirs.user_config_dir):
        folder = _folder(kind, name)
        nearest = next(path for path in (folder, *folder.parents) if exists(path))
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise _unusable(folder, f"written, and {name} needs it")


def _folder(kind: Callable[..., str], name: str = "lesionlens") -> Path:
    """Return a user's folder; for a user without a home nothing is there or can be written."""
    with suppress(RuntimeError):
        folder = Path(kind(name, appauthor=False))
        if folder.is_absolute():
            return folder
    return Path(os.devnull, name)


def _unusable(folder: Path, why: str) -> ResourceError:
    return ResourceError(
        f"{folder} cannot be {why}.",
        hint="Set HOME to this user's home (sudo -H does), or name another folder by "
        "XDG_DATA_HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME.",
    )
