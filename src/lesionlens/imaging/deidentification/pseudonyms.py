"""Pseudonyms derived from a secret key, with a mapping table that is kept separately."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files import access, user_folders
from lesionlens.base.files.atomic_file import write_atomically, write_error
from lesionlens.base.files.bounded_read import MIB, read_text
from lesionlens.base.files.folder_lock import folder_lock
from lesionlens.base.text import safe_cell
from lesionlens.base.uids import is_uid

_REGISTERED = "1.2.840.10008."
"""Root of UIDs registered by DICOM itself, which identify no patient data."""
_MAX_SHIFT_DAYS = 3650
_MAX_MAP_BYTES = 256 * MIB
_COLUMNS = ("kind", "original", "replacement")


def home() -> Path:
    """Return the folder of this user's key and mapping table."""
    return user_folders.data() / "deidentification"


def read_or_create_key(path: Path) -> bytes:
    """Return the secret key in a file; a missing file is created with a new key, owner only.

    Raises
    ------
    UnusableInputError
        The file contains no key.
    """
    if not os.path.lexists(path):
        access.make_folder(path.parent)
        with folder_lock(path.parent):
            if not os.path.lexists(path):  # no other process has created one meanwhile
                write_atomically(path, secrets.token_hex(32) + "\n")
                access.change_mode(path, 0o600)  # regardless of LESIONLENS_UMASK
    try:
        key = bytes.fromhex(read_text(path, MIB).strip())
    except ValueError:
        key = b""
    if len(key) < 16:
        raise UnusableInputError(
            found=f"no key in {path.name!r}",
            expected="at least 32 hexadecimal digits",
            next_step="Name another file with --key; one that does not exist is created",
        )
    return key


def check_map(path: Path) -> None:
    """Check a mapping table; a missing one is accepted.

    Raises
    ------
    UnusableInputError
        The file is not such a table.
    """
    _parse_rows(_text_of(path), path)


def create_or_check_map(path: Path) -> None:
    """Create a mapping table if it is missing, so that a run fails early if it is not writable.

    A table that others could read becomes the owner's alone.

    Raises
    ------
    UnusableInputError
        The file is not such a table.
    """
    access.make_folder(path.parent)
    check_map(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    with suppress(PermissionError):  # owned by another user, who shares it
        access.restrict(path)


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """New UIDs, names and date shifts: keyed digests (HMAC, RFC 2104) of the originals."""

    key: bytes = field(repr=False)
    """Secret: only with the key can the replacement be repeated."""
    _replacements: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def uid(self, original: str) -> str:
        """Return the replacement UID (PS3.5 B.2, root 2.25); UIDs registered by DICOM are kept."""
        if not original or (original.startswith(_REGISTERED) and is_uid(original)):
            return original
        return self._remember("uid", original, f"2.25.{self._keyed_number('uid', original)}")

    def patient(self, original: str) -> str:
        """Return the pseudonym for a patient, used as name and identifier."""
        number = self._keyed_number("patient", original) % 16**12
        return self._remember("patient", original, f"LL-{number:012X}")

    def date_shift_days(self, patient: str) -> int:
        """Return the number of days by which a patient's dates are shifted back, 1 to 3650."""
        days = 1 + self._keyed_number("days", patient) % _MAX_SHIFT_DAYS
        self._remember("days", patient, str(-days))
        return days

    def write_map(self, path: Path) -> None:
        """Append new mappings to a CSV file that only its owner may read.

        Raises
        ------
        UnusableInputError
            The existing file is not such a table.
        ResourceError
            The disk is full; the file is unchanged.
        """
        create_or_check_map(path)
        with folder_lock(path.parent):
            text = _text_of(path)
            existing_rows = _parse_rows(text, path)
            rows = [
                (kind, safe_cell(original), replacement)
                for (kind, original), replacement in self._replacements.items()
            ]
            lines = [_line(row) for row in (_COLUMNS, *rows) if row not in existing_rows]
            addition = _continuation(text.rpartition("\n")[2], lines)
            size = path.stat().st_size
            try:
                with path.open("a", encoding="utf-8", newline="") as file:
                    file.write(addition)
            except OSError as error:
                os.truncate(path, size)
                raise write_error("a table of pseudonyms", path, error) from error

    def _remember(self, kind: str, original: str, replacement: str) -> str:
        return self._replacements.setdefault((kind, original), replacement)

    def _keyed_number(self, kind: str, original: str) -> int:
        digest = hmac.new(self.key, f"{kind}\0{original}".encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:16], "big")


def _text_of(path: Path) -> str:
    """Return the content of a mapping table; empty if it is missing."""
    try:
        return read_text(path, _MAX_MAP_BYTES) if path.exists() else ""
    except (ValueError, ReadError) as error:
        raise _not_a_table(path) from error


def _line(row: tuple[str, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row)
    return buffer.getvalue()


def _continuation(unfinished: str, lines: list[str]) -> str:
    """Return the text that appends lines to a table whose last line may be unfinished.

    A row that a killed process left unfinished is completed by one of the lines if possible:
    otherwise its truncated replacement would look like a second one.
    """
    begun = next((line for line in lines if unfinished and line.startswith(unfinished)), None)
    if begun is None:
        return "".join([*("\n" if unfinished and lines else ""), *lines])
    return "".join([begun[len(unfinished) :], *(line for line in lines if line is not begun)])


def _parse_rows(text: str, path: Path) -> set[tuple[str, ...]]:
    reader, rows, line = csv.reader(io.StringIO(text, newline=""), strict=True), [], 1
    try:
        for row in reader:
            rows.append(tuple(row))
            line = reader.line_num + 1
    except csv.Error as error:
        has_header = rows[:1] == [_COLUMNS]
        raise (
            _damaged_row_error(path, line, error) if has_header else _not_a_table(path)
        ) from error
    if rows and rows[0] != _COLUMNS:
        raise _not_a_table(path)
    return set(rows)


def _damaged_row_error(path: Path, line: int, error: csv.Error) -> UnusableInputError:
    return UnusableInputError(
        found=f"line {line} of {path.name!r}, which is cut off or damaged ({error})",
        expected="rows as LesionLens writes them: kind, original, replacement",
        next_step=f"Delete line {line} in a text editor. No pseudonym changes: all follow from the "
        "key, and the row is written again when it is needed",
    )


def _not_a_table(path: Path) -> UnusableInputError:
    return UnusableInputError(
        found=f"{path.name!r}, which is not a table of pseudonyms, or is damaged",
        expected=f"the one that LesionLens wrote, of at most {_MAX_MAP_BYTES // MIB} MiB",
        next_step="Name another file with --map, or move it away: the same key gives the same "
        "pseudonyms",
    )
