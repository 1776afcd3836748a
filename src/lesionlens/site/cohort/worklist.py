"""The worklist: one row a study in `worklist.sqlite`, so that a run goes on where it ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.databases import damage_named, open_database
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.provenance import utc_now
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.database.records import Status, StudyOutcome

NAME, LOCK = "worklist.sqlite", ".worklist.lock"
RESULT = ("findings.json", "findings.csv")
"""Without one of these a result is not there."""
_TABLE = """CREATE TABLE IF NOT EXISTS studies (
  name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status TEXT NOT NULL,
  exit_status INTEGER NOT NULL, message TEXT NOT NULL, seconds REAL NOT NULL,
  candidates INTEGER NOT NULL, engine TEXT NOT NULL, peak_memory_mib REAL NOT NULL,
  finished TEXT NOT NULL)"""
_PUT = "INSERT OR REPLACE INTO studies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GET = "SELECT status, exit_status, message, seconds, candidates, engine, peak_memory_mib"


@dataclass(frozen=True, slots=True)
class CohortWorklist:
    """What is known of the studies of one output folder; written by one process alone."""

    _connection: sqlite3.Connection
    _folder: Path

    def record(self, outcome: StudyOutcome, fingerprint: str) -> None:
        """Keep an outcome; it is on the disk when this returns."""
        row = (
            outcome.name,
            fingerprint,
            outcome.status.value,
            outcome.exit_status,
            outcome.message,
            outcome.seconds,
            outcome.candidates,
            outcome.engine,
            outcome.peak_memory_mib,
            utc_now(),
        )
        with damage_named(self._folder, NAME), self._connection:
            self._connection.execute(_PUT, row)

    def outcome(self, name: str) -> StudyOutcome | None:
        """Return what became of a study, None where nothing is known of it."""
        query = f"{_GET} FROM studies WHERE name = ?"
        with damage_named(self._folder, NAME):
            found = self._connection.execute(query, (name,)).fetchone()
            return None if found is None else StudyOutcome(name, Status(found[0]), *found[1:])

    def complete(self, job: StudyJob, fingerprint: str, engine: str) -> StudyOutcome | None:
        """Return the outcome of a study that need not be analysed again.

        Its files have not changed, the engine is the same, and its result is there.
        """
        query = "SELECT fingerprint FROM studies WHERE name = ?"
        with damage_named(self._folder, NAME):
            found = self._connection.execute(query, (job.name,)).fetchone()
        known = self.outcome(job.name)
        if found is None or known is None or known.status is not Status.ANALYSED:
            return None
        same = found[0] == fingerprint and known.engine == engine
        whole = all((job.out / name).is_file() for name in RESULT)
        return known if same and whole else None


@contextmanager
def alone_in(out: Path, *, beside_shards: bool = False) -> Iterator[None]:
    """Keep a second batch out of an output folder while the block runs.

    With `beside_shards` other shards may work there too, and no batch of all studies.

    A lock of SQLite, which the system drops with the process however that ends.

    Raises
    ------
    UnusableInputError
        Another batch is at work there.
    ResourceError
        The folder cannot be written.
    """
    connection = open_database(out, LOCK, 0.0)
    try:
        with damage_named(out, LOCK):
            _lock(connection, out, "BEGIN" if beside_shards else "BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()


def _lock(connection: sqlite3.Connection, out: Path, begin: str) -> None:
    try:
        connection.execute(begin)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # a reader's lock
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise UnusableInputError(
            found=f"another batch at work on {out.name!r}",
            expected="one at a time in an output folder",
            next_step="Wait until it has ended or stop it, or choose another folder with --out",
        ) from error


@contextmanager
def open_worklist(out: Path) -> Iterator[CohortWorklist]:
    """Open the worklist of an output folder; both are made where they are not there.

    Raises
    ------
    ReadError
        There is a file of its name that is none.
    ResourceError
        The folder cannot be written.
    """
    connection = open_database(out, NAME, 10.0)
    try:
        with damage_named(out, NAME):
            _make_table(connection)
        yield CohortWorklist(connection, out)
    finally:
        connection.close()


def _make_table(connection: sqlite3.Connection) -> None:
    known = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if known and "studies" not in known:
        raise sqlite3.DatabaseError("a database of another program")
    with connection:
        connection.execute(_TABLE)
