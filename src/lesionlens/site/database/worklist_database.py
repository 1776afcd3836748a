"""`studies.sqlite`: studies of a folder, outcomes of analyses, acts of readers.

A batch opens it without readers. An act is on disk when `add_acts` returns (write-ahead
log, synchronised at every commit); after a power failure or kill an incomplete transaction is
rolled back. Several processes may use a list at a time: one for reading, one for analysing ahead.
With readers the database must be on a local disk, not on a network share.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lesionlens.base.errors import LesionLensError, ReadError, ResourceError
from lesionlens.base.files import is_file, parse_json
from lesionlens.base.provenance import utc_now
from lesionlens.base.records.review import Outline, Review, ReviewEvent
from lesionlens.base.scan_limits import check_size
from lesionlens.base.sqlite import database_errors, open_database
from lesionlens.site.database.reads import ACT, read_of, reviews_of
from lesionlens.site.database.records import Arm, Read, ReadKey, Status, StudyEntry, StudyOutcome

NAME = "studies.sqlite"
_VERSION = 2
_TABLES = (
    """CREATE TABLE studies (
  position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, place TEXT NOT NULL,
  patient TEXT NOT NULL, date TEXT NOT NULL, sequences TEXT NOT NULL, study_uid TEXT NOT NULL,
  candidates INTEGER, highest REAL, warnings TEXT NOT NULL)""",
    """CREATE TABLE outcomes (
  name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status TEXT NOT NULL,
  exit_status INTEGER NOT NULL, message TEXT NOT NULL, seconds REAL NOT NULL,
  candidates INTEGER NOT NULL, engine TEXT NOT NULL, peak_memory_mib REAL NOT NULL,
  finished TEXT NOT NULL)""",
    """CREATE TABLE acts (
  number INTEGER PRIMARY KEY, study TEXT NOT NULL, reader TEXT NOT NULL, session INTEGER NOT NULL,
  arm TEXT NOT NULL, analysis TEXT NOT NULL, act TEXT NOT NULL)""",
    "CREATE INDEX acts_by_read ON acts (study, reader, session)",
    "CREATE INDEX acts_by_analysis ON acts (analysis)",
    """CREATE TABLE outlines (
  sha256 TEXT PRIMARY KEY, tracking_uid TEXT NOT NULL, corner TEXT NOT NULL, shape TEXT NOT NULL,
  labels BLOB NOT NULL)""",
    "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_ENTRY = "name, place, patient, date, sequences, study_uid, candidates, highest, warnings"
_READ = "study, reader, session, arm"
_OUTCOME = "name, status, exit_status, message, seconds, candidates, engine, peak_memory_mib"
_WRITE_NOTE = "INSERT OR REPLACE INTO notes VALUES (?, ?)"
_SEPARATOR = "\x1f"
_OF_ANALYSIS = "\x1e"
"""Prefix of a stored warning that comes from the analysis result."""
T = TypeVar("T")


def _with_error_messages(database_class: type[T]) -> type[T]:
    """Translate SQLite errors of all public methods and properties; see `database_errors`."""

    def translated(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def wrapper(database: WorklistDatabase, *args: Any, **kwargs: Any) -> Any:
            with database_errors(database.folder, NAME):
                return method(database, *args, **kwargs)

        return wrapper

    for name, member in list(vars(database_class).items()):
        if (getter := getattr(member, "fget", None)) is not None:
            setattr(database_class, name, property(translated(getter)))
        elif not name.startswith("_"):
            setattr(database_class, name, translated(member))
    return database_class


@_with_error_messages
class WorklistDatabase:
    """The content of `studies.sqlite`; from `open_worklist_database`."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection = connection
        self.folder = folder

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    @property
    def is_missing(self) -> bool:
        """Whether the file cannot be found: a removed folder, an unmounted disk, a stale share."""
        return not is_file(self.folder / NAME)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write within the block, in one transaction."""
        self.check_exists()
        with self._connection:
            yield

    def check_exists(self) -> None:
        """Raise if the file no longer exists.

        An open file that was removed still accepts writes, which are lost.

        Raises
        ------
        ResourceError
            The folder was removed or renamed, or its disk unmounted.
        """
        if self.is_missing:
            raise ResourceError(
                found=f"that the folder {self.folder.name!r} has vanished",
                expected="the folder in which decisions are kept",
                next_step="Restore the folder, then open the study again",
            )

    # --- studies --------------------------------------------------------------------------

    def entries(self) -> tuple[StudyEntry, ...]:
        """Return the studies in list order."""
        query = f"SELECT {_ENTRY} FROM studies ORDER BY position"  # noqa: S608  constants
        return tuple(_entry(row) for row in self._connection.execute(query))

    def entry(self, name: str) -> StudyEntry | None:
        """Return a study; None if there is none of that name."""
        query = f"SELECT {_ENTRY} FROM studies WHERE name = ?"  # noqa: S608  constants
        row = self._connection.execute(query, (name,)).fetchone()
        return None if row is None else _entry(row)

    def add_studies(
        self, entries: Iterable[StudyEntry], check: Callable[[], None] = lambda: None
    ) -> int:
        """Append the studies that are not in the list; return their number.

        Parameters
        ----------
        check : callable
            Called before they are committed, while no other process can write; if it raises, none
            is added.
        """
        before = self._connection.total_changes
        with self._writing():
            self._connection.executemany(
                f"INSERT OR IGNORE INTO studies ({_ENTRY}) "  # noqa: S608  constants
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_entry_row(entry) for entry in entries],
            )
            check()
        return self._connection.total_changes - before

    def update(self, entry: StudyEntry, notes: Mapping[str, Any] | None = None) -> None:
        """Update a study, and write notes in the same transaction; its position is kept."""
        columns = [name.strip() for name in _ENTRY.split(",")]
        assignments = ", ".join(f"{name} = ?" for name in columns)
        with self._writing():
            self._connection.execute(
                f"UPDATE studies SET {assignments} WHERE name = ?",  # noqa: S608  constants
                (*_entry_row(entry), entry.name),
            )
            self._connection.executemany(_WRITE_NOTE, map(_note_row, (notes or {}).items()))

    # --- outcomes of analyses -------------------------------------------------------------

    def store_outcome(self, outcome: StudyOutcome, fingerprint: str) -> None:
        """Store an outcome; it is on disk on return."""
        row = (
            outcome.name, outcome.status.value, outcome.exit_status, outcome.message,
            outcome.seconds, outcome.candidates, outcome.engine, outcome.peak_memory_mib,
            fingerprint, utc_now(),
        )  # fmt: skip
        with self._writing():
            self._connection.execute(
                f"INSERT OR REPLACE INTO outcomes ({_OUTCOME}, fingerprint, finished) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    def outcome(self, name: str, fingerprint: str | None = None) -> StudyOutcome | None:
        """Return the outcome of a study; None if unknown, or for other files."""
        query = f"SELECT {_OUTCOME}, fingerprint FROM outcomes WHERE name = ?"  # noqa: S608
        row = self._connection.execute(query, (name,)).fetchone()
        if row is None or fingerprint not in (None, row[-1]):
            return None
        return StudyOutcome(row[0], Status(row[1]), *row[2:-1])

    # --- acts -----------------------------------------------------------------------------

    def add_acts(
        self,
        key: ReadKey,
        acts: Sequence[ReviewEvent],
        analysis: str = "",
        outlines: Iterable[Outline] = (),
    ) -> None:
        """Append acts atomically; they are on disk on return.

        Parameters
        ----------
        analysis : str
            Key of the analysis decided on (`results.review.store.analysis_key`); empty for acts
            that concern no analysis, such as marks.
        """
        key_values = (key.study, key.reader, key.session, key.arm.value, analysis)
        with self._writing():
            self._connection.executemany(
                "INSERT OR IGNORE INTO outlines VALUES (?, ?, ?, ?, ?)",
                [_outline_row(outline) for outline in outlines],
            )
            self._connection.executemany(
                f"INSERT INTO acts ({_READ}, analysis, act) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                [(*key_values, ACT.dump_json(act, by_alias=True).decode()) for act in acts],
            )

    def name_reader(self, key: ReadKey, reader: str) -> ReadKey:
        """Copy the log of a read to another reader; return its key."""
        named_key = replace(key, reader=reader)
        with self._writing():
            self._connection.execute(
                f"INSERT INTO acts ({_READ}, analysis, act) "  # noqa: S608  constants
                "SELECT study, ?, session, arm, analysis, act FROM acts "
                "WHERE study = ? AND reader = ? AND session = ? AND arm = ? ORDER BY number",
                (reader, key.study, key.reader, key.session, key.arm.value),
            )
        return named_key

    def reads(self, study: str | None = None) -> tuple[Read, ...]:
        """Return every read, of one study or of all, in the order of their start.

        An unnamed read that was continued under a name (`name_reader`) is returned once, under
        that name.
        """
        acts_by_read = self._acts("" if study is None else "WHERE study = ?", study)
        named: dict[ReadKey, list[set[ReviewEvent]]] = {}
        for key, acts in acts_by_read.items():
            if key.reader:
                named.setdefault(replace(key, reader=""), []).append(set(acts))
        return tuple(
            read_of(key, acts)
            for key, acts in acts_by_read.items()
            if not any(more.issuperset(acts) for more in named.get(key, ()))
        )

    def reviews(self, analysis: str) -> Mapping[ReadKey, tuple[Review, ...]]:
        """Return the reviews of an analysis in each read, ordered by their end.

        The last review of a read is the valid one; see `reads.reviews_of`.
        """
        acts_by_read = self._acts("WHERE analysis = ?", analysis)
        names = {act.outline for acts in acts_by_read.values() for act in acts} - {None}
        query = "SELECT * FROM outlines WHERE sha256 = ?"
        rows = (self._connection.execute(query, (name,)).fetchone() for name in names)
        outlines = {outline.sha256: outline for outline in map(_outline, rows)}
        reviews = {key: reviews_of(acts, outlines) for key, acts in acts_by_read.items()}
        query = (
            f"SELECT {_READ} FROM acts WHERE analysis = ? "  # noqa: S608  constants
            f"GROUP BY {_READ} ORDER BY MAX(number)"  # not by a clock, which may be set back
        )
        ordered_keys = (_key(row) for row in self._connection.execute(query, (analysis,)))
        return {key: reviews[key] for key in ordered_keys if key in reviews}

    def _acts(self, where: str, value: str | None) -> dict[ReadKey, list[ReviewEvent]]:
        query = f"SELECT {_READ}, act FROM acts {where} ORDER BY number"  # noqa: S608  constants
        acts: dict[ReadKey, list[ReviewEvent]] = {}
        for *key_values, act in self._connection.execute(query, () if value is None else (value,)):
            acts.setdefault(_key(key_values), []).append(ACT.validate_json(act))
        return acts

    def read(self, key: ReadKey) -> Read:
        """Return one read; an empty one if not started."""
        acts_by_read = self._acts("WHERE study = ?", key.study)
        return read_of(key, acts_by_read[key]) if key in acts_by_read else Read(key)

    # --- notes ----------------------------------------------------------------------------

    def read_note(self, name: str) -> Any:
        """Return a note on the list itself; None if there is none."""
        query = "SELECT value FROM notes WHERE name = ?"
        row = self._connection.execute(query, (name,)).fetchone()
        return None if row is None else parse_json(row[0])

    def write_note(self, name: str, value: Any) -> None:
        """Store a note on the list itself, as JSON."""
        with self._writing():
            self._connection.execute(_WRITE_NOTE, _note_row((name, value)))

    @property
    def version(self) -> tuple[int, int]:
        """Return a pair that changes with every modification by any process."""
        row = self._connection.execute("PRAGMA data_version").fetchone()
        return int(row[0]), self._connection.total_changes


def open_worklist_database(
    folder: Path, *, readers: bool = True, reading: bool = False
) -> WorklistDatabase:
    """Open the database of a folder of studies; folder and file are created if missing.

    Parameters
    ----------
    folder : Path
        Folder of a list, or of a batch's results.
    readers : bool
        Whether readers use the database; if not, it may be on a network share.
    reading : bool
        Whether it is only read: an existing file is not changed, and need not be writable.

    Raises
    ------
    ReadError
        The file is no such database, or was written by a later release.
    ResourceError
        The folder cannot be written.
    """
    connection = open_database(folder, NAME, 10.0, reading=reading)
    try:
        with database_errors(folder, NAME):
            if readers and not reading:
                connection.execute("PRAGMA journal_mode = WAL")
                # Between two acts the file is complete by itself, so it can be copied without
                # the log.
                connection.execute("PRAGMA wal_autocheckpoint = 1")
            connection.execute("PRAGMA synchronous = FULL")
            _make_tables(connection, folder)
    except LesionLensError:
        connection.close()
        raise
    return WorklistDatabase(connection, folder)


def _make_tables(connection: sqlite3.Connection, folder: Path) -> None:
    if _version_of(connection) == _VERSION:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version = _version_of(connection)
        if version > _VERSION:
            raise ReadError(
                found=f"a {NAME} in {folder.name!r} of a later version of LesionLens ({version})",
                expected=f"one of this version ({_VERSION}) or an earlier one",
                next_step="Update LesionLens; the decisions are in the file unchanged",
            )
        if version not in (0, _VERSION):
            raise ValueError(f"version {version}; this release reads version {_VERSION}")
        if version == 0:
            if connection.execute("SELECT name FROM sqlite_master").fetchall():
                raise ValueError("a database of another program")
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")


def _version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_worklist_folder(folder: Path) -> bool:
    """Return whether a folder contains a worklist."""
    return is_file(folder / NAME)


@contextmanager
def existing_worklist_database(
    folder: Path, *, reading: bool = False
) -> Iterator[WorklistDatabase]:
    """Open an existing worklist's database, and close it afterwards.

    With `reading`, also of a folder that this user may not write.

    Raises
    ------
    ReadError
        The folder is not a worklist.
    """
    if not is_worklist_folder(folder):
        raise ReadError(
            found=f"no worklist in {folder.name!r}: it contains no {NAME}",
            expected="a folder written by `lesionlens worklist scan` or `lesionlens batch`",
            next_step="Create one: lesionlens worklist scan STUDIES --list DIR",
            in_window="Choose the folder of a list, or create one: List, New list",
        )
    with closing(open_worklist_database(folder, reading=reading)) as database:
        yield database


def _key(row: Sequence[Any]) -> ReadKey:
    return ReadKey(row[0], row[1], row[2], Arm(row[3]))


def without_findings(entry: StudyEntry) -> StudyEntry:
    """Return an entry without the network's findings and its result's warnings."""
    warnings = tuple(
        warning for warning in entry.warnings if warning not in entry.analysis_warnings
    )
    return replace(entry, candidates=None, highest=None, warnings=warnings, analysis_warnings=())


def _note_row(note: tuple[str, Any]) -> tuple[str, str]:
    name, value = note
    return name, json.dumps(value)


def _entry_row(entry: StudyEntry) -> tuple[Any, ...]:
    warnings = [
        f"{_OF_ANALYSIS}{warning}" if warning in entry.analysis_warnings else warning
        for warning in entry.warnings
    ]
    return (
        entry.name, entry.place, entry.patient, entry.date, " ".join(entry.sequences),
        entry.study_uid, entry.candidates, entry.highest, _SEPARATOR.join(warnings),
    )  # fmt: skip


def _entry(row: tuple[Any, ...]) -> StudyEntry:
    name, place, patient, date, sequences, uid, candidates, highest, joined = row
    stored = joined.split(_SEPARATOR) if joined else []
    warnings = tuple(text.removeprefix(_OF_ANALYSIS) for text in stored)
    analysis_warnings = tuple(text[1:] for text in stored if text.startswith(_OF_ANALYSIS))
    return StudyEntry(
        name, place, patient, date, tuple(sequences.split()), uid, candidates, highest, warnings,
        analysis_warnings,
    )  # fmt: skip


def _outline_row(outline: Outline) -> tuple[str, str, str, str, bytes]:
    labels = outline.labels
    packed = zlib.compress(np.ascontiguousarray(labels).tobytes())
    corner, shape = json.dumps(outline.corner), json.dumps(labels.shape)
    return outline.sha256, outline.tracking_uid, corner, shape, packed


def _outline(row: tuple[Any, ...] | None) -> Outline:
    if row is None:
        raise ValueError("an outline is missing")
    sha256, uid, corner, shape, packed = row
    i, j, k = parse_json(shape)
    check_size((i, j, k), NAME)
    raw = zlib.decompressobj().decompress(packed, i * j * k)
    x, y, z = parse_json(corner)
    outline = Outline(uid, (x, y, z), np.frombuffer(raw, np.uint8).reshape(i, j, k))
    if outline.sha256 != sha256:
        raise ValueError("an outline is damaged")
    return outline
