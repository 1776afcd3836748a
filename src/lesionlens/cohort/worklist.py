"""The worklist: one row a study in `worklist.sqlite`, so that a run goes on where it ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.base.provenance import utc_now
from lesionlens.cohort.studies import StudyJob
from lesionlens.cohort.work import Status, StudyOutcome

NAME = "worklist.sqlite"
RESULT = "findings.json"
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
        with self._connection:
            self._connection.execute(_PUT, row)

    def outcome(self, name: str) -> StudyOutcome | None:
        """Return what became of a study, None where nothing is known of it."""
        query = f"{_GET} FROM studies WHERE name = ?"
        found = self._connection.execute(query, (name,)).fetchone()
        return None if found is None else StudyOutcome(name, Status(found[0]), *found[1:])

    def complete(self, job: StudyJob, fingerprint: str, engine: str) -> StudyOutcome | None:
        """Return the outcome of a study that need not be analysed again.

        Its files have not changed, the engine is the same, and its result is there.
        """
        query = "SELECT fingerprint FROM studies WHERE name = ?"
        found = self._connection.execute(query, (job.name,)).fetchone()
        known = self.outcome(job.name)
        if found is None or known is None or known.status is not Status.ANALYSED:
            return None
        same = found[0] == fingerprint and known.engine == engine
        return known if same and (job.out / RESULT).is_file() else None


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
    try:
        out.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(out / NAME, timeout=10.0)
    except (OSError, sqlite3.OperationalError) as error:
        raise _unwritable(out, error) from error
    try:
        with connection:
            connection.execute(_TABLE)
        yield CohortWorklist(connection)
    except sqlite3.OperationalError as error:
        raise _unwritable(out, error) from error
    except sqlite3.DatabaseError as error:
        raise ReadError(
            found=f"a {NAME} in {out.name!r} that cannot be read ({error})",
            expected="the one that LesionLens wrote",
            next_step="Move it away, or choose another folder with --out",
        ) from error
    finally:
        connection.close()


def _unwritable(out: Path, error: Exception) -> ResourceError:
    return ResourceError(
        found=f"that {out.name!r} cannot be written ({error})",
        expected="a folder with room that you may write",
        next_step="Free some space or choose another folder with --out",
    )
