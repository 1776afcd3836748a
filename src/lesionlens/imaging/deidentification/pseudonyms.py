"""New names for old ones: the same everywhere, by a secret key, with a map that is kept apart."""

from __future__ import annotations

import csv
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from lesionlens.base import user_folders
from lesionlens.base.bounded_read import MIB, read_text
from lesionlens.base.errors import ReadError, UnusableInputError

_REGISTERED = "1.2.840.10008."
"""The root of UIDs that DICOM itself registers: they name no object of a person."""
_DAYS = 3650
_MAP_BYTES = 256 * MIB
_COLUMNS = ("kind", "original", "replacement")


def home() -> Path:
    """Return where key and map of this user lie, apart from all that is handed on."""
    return user_folders.data() / "deidentification"


def key_at(path: Path) -> bytes:
    """Return the secret key of a file; a new one is made, for its owner alone, if there is none.

    Raises
    ------
    UnusableInputError
        The file holds no key.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
    try:
        key = bytes.fromhex(read_text(path, MIB).strip())
    except ValueError:
        key = b""
    if len(key) < 16:
        raise UnusableInputError(
            found=f"no key in {path.name!r}",
            expected="at least 32 hexadecimal digits",
            next_step="Name another file with --key; one that is not there is made",
        )
    return key


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """New UIDs, patients and days, each by a keyed digest (HMAC, RFC 2104) of the original."""

    key: bytes = field(repr=False)
    """Whoever has it can repeat the replacement, and nobody else."""
    _known: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def uid(self, original: str) -> str:
        """Return the new UID (PS3.5 B.2, root 2.25); one that DICOM registers stays."""
        if not original or original.startswith(_REGISTERED):
            return original
        return self._remember("uid", original, f"2.25.{self._number('uid', original)}")

    def patient(self, original: str) -> str:
        """Return the new name and identifier of a patient."""
        number = self._number("patient", original) % 16**12
        return self._remember("patient", original, f"LL-{number:012X}")

    def days(self, patient: str) -> int:
        """Return how many days a patient's dates move back: 1 to 3650."""
        days = 1 + self._number("days", patient) % _DAYS
        self._remember("days", patient, str(-days))
        return days

    def write_map(self, path: Path) -> None:
        """Add what is missing yet to a CSV file that its owner alone may read.

        Raises
        ------
        UnusableInputError
            There is a file of this name that is no such table.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        there: set[tuple[str, ...]] = set()
        if path.exists():
            there = _rows_of(path)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(made, "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            rows = [(kind, original, new) for (kind, original), new in self._known.items()]
            writer.writerows(row for row in (_COLUMNS, *rows) if row not in there)

    def _remember(self, kind: str, original: str, new: str) -> str:
        return self._known.setdefault((kind, original), new)

    def _number(self, kind: str, original: str) -> int:
        digest = hmac.new(self.key, f"{kind}\0{original}".encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:16], "big")


def _rows_of(path: Path) -> set[tuple[str, ...]]:
    try:
        lines = read_text(path, _MAP_BYTES).splitlines(keepends=True)
        return {tuple(row) for row in csv.reader(lines, strict=True)}
    except (ValueError, csv.Error, ReadError) as error:
        raise UnusableInputError(
            found=f"a table of pseudonyms that cannot be read: {path.name}",
            expected=f"the one that LesionLens wrote, of at most {_MAP_BYTES // MIB} MiB",
            next_step="Move it away and start again: the same key gives the same names",
        ) from error
