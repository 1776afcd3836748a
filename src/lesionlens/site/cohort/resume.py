"""Resume a batch, and lock its output folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lesionlens.base.databases import database_errors, open_database
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.provenance import sha256_of
from lesionlens.results.review.reopen import is_result, read_run
from lesionlens.site.cohort.studies import StudyJob, listed, study_files
from lesionlens.site.database.describing import (
    other_findings_in,
    with_result,
    with_warning,
    without_warning,
)
from lesionlens.site.database.records import Status, StudyOutcome
from lesionlens.site.database.worklist_database import WorklistDatabase

LOCK = ".worklist.lock"
RESULT = ("findings.json", "findings.csv")
"""Files without which a result is incomplete."""


def complete(
    database: WorklistDatabase, job: StudyJob, fingerprint: str, engine: str
) -> StudyOutcome | None:
    """Return the outcome of a study that need not be analysed again.

    That is: its files and the engine are unchanged, and its result exists.
    """
    known = database.outcome(job.name, fingerprint)
    if known is None or known.status is not Status.ANALYSED or known.engine != engine:
        return None
    if not all((job.out / name).is_file() for name in RESULT):
        return None
    return replace(known, other_findings=other_findings_in(job.out))


def holds_analysed_files(job: StudyJob) -> bool:
    """Return whether a study has all files that its result was made of, by their content.

    Names, sizes and times of two patients' files may be equal (uncompressed, unpacked from an
    archive), which matters where the list knows the name from another folder.
    """
    if not is_result(job.out):
        return False
    analysed = {sha256 for _, sha256 in read_run(job.out).inputs}
    return analysed <= {sha256_of(path) for path in study_files(job.study)}


def store_outcome(
    database: WorklistDatabase, job: StudyJob, outcome: StudyOutcome, fingerprint: str
) -> None:
    """Store the outcome of a study, and the values that its list shows.

    After an analysis these are its own, without warnings of an earlier result. The location of a
    study that was moved is updated.
    """
    before = database.outcome(job.name)
    database.record(outcome, fingerprint)
    entry = database.entry(job.name)
    if entry is not None and before is not None and before.status is not Status.ANALYSED:
        entry = without_warning(entry, before.message)
    if entry is not None and outcome.status is Status.ANALYSED:
        here = entry if Path(entry.place).exists() else listed(job) or entry
        database.update(with_result(replace(entry, place=here.place, warnings=()), job.out))
    elif entry is not None:
        database.update(with_warning(entry, outcome.message))


@contextmanager
def locked_folder(out: Path, *, beside_shards: bool = False) -> Iterator[None]:
    """Lock an output folder against a second batch within the block.

    With `beside_shards` other shards may run there too, but no batch of all studies. The lock is
    SQLite's, which the system releases however the process ends.

    Raises
    ------
    UnusableInputError
        Another batch is running there.
    ResourceError
        The folder cannot be written.
    """
    connection = open_database(out, LOCK, 0.0)
    try:
        with database_errors(out, LOCK):
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
            found=f"another batch running in {out.name!r}",
            expected="one batch at a time per output folder",
            next_step="Wait until it ends, stop it, or choose another folder with --out",
        ) from error
