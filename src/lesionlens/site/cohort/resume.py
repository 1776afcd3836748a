"""Resume a batch, and lock its output folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import exists
from lesionlens.base.sqlite import database_errors, locks_files, open_database
from lesionlens.site.cohort.studies import StudyJob, listed
from lesionlens.site.cohort.work import without_file_options
from lesionlens.site.database.descriptions import (
    Description,
    refresh_entry,
    with_counts,
    with_result,
    with_warning,
    without_warning,
)
from lesionlens.site.database.records import Status, StudyOutcome
from lesionlens.site.database.study_files import (
    analysis_key,
    fingerprint,
    holds_inputs_of,
    inputs_digest,
)
from lesionlens.site.database.worklist_database import WorklistDatabase

LOCK = ".worklist.lock"
RESULT = ("findings.json", "findings.csv", "run.json")
"""Files without which a result is incomplete."""
_INPUTS_NOTE = "inputs: "
"""Prefix of the notes with a digest of the files that each result was made of."""
_ANALYSIS_NOTE = "analysis: "
"""Prefix of the notes with the analysis of each result."""


def current(database: WorklistDatabase, job: StudyJob, *, is_new: bool = False) -> StudyJob:
    """Return a job with the fingerprint of its files, `is_new` too if its result was replaced."""
    job = replace(job, files=fingerprint(job.study))
    return replace(job, is_new=is_new or is_replaced(database, job))


def complete(
    database: WorklistDatabase, job: StudyJob, engine: str, *, any_files: bool = False
) -> StudyOutcome | None:
    """Return the outcome of a study that need not be analysed again.

    That is: its files and the engine are unchanged, and its result exists, is of these files and
    was written by the recorded analysis, not by a shard or `analyze` with other weights since.
    With `any_files` its export options may be others.
    """
    outcome = database.outcome(job.name, job.files)
    if outcome is None or outcome.status is not Status.ANALYSED:
        return None
    made_by = without_file_options(outcome.engine) if any_files else outcome.engine
    if made_by != engine or not all((job.out / name).is_file() for name in RESULT):
        return None
    if inputs_digest(job.out) is None or is_replaced(database, job):
        return None
    if database.read_note(f"{_ANALYSIS_NOTE}{job.name}") != analysis_key(job.out):
        return None
    return with_counts(outcome, job.out)


def is_replaced(database: WorklistDatabase, job: StudyJob) -> bool:
    """Return whether the result of a study was replaced by one of other files."""
    digest = inputs_digest(job.out)
    if digest is None:
        return False
    recorded = database.read_note(f"{_INPUTS_NOTE}{job.name}")
    if recorded is not None:
        return bool(recorded != digest)
    outcome = database.outcome(job.name, job.files)
    return outcome is not None and not holds_inputs_of(job.study, job.out)


def store_outcome(database: WorklistDatabase, job: StudyJob, outcome: StudyOutcome) -> None:
    """Store the outcome of a study, and the values that its list shows.

    After an analysis these are its own, without warnings of an earlier result but with those about
    the study's identity. The location of a study that was moved is updated.
    """
    previous = database.outcome(job.name)
    if outcome.status is Status.ANALYSED:
        database.write_note(f"{_INPUTS_NOTE}{job.name}", inputs_digest(job.out))
        database.write_note(f"{_ANALYSIS_NOTE}{job.name}", analysis_key(job.out))
    entry = database.entry(job.name)
    if entry is not None and previous is not None and previous.status is not Status.ANALYSED:
        entry = without_warning(entry, previous.message)
    if entry is not None and outcome.status is Status.ANALYSED:
        located = entry if exists(entry.place) else listed(job) or entry
        description = Description.of(database, job.name)
        if description is not None and description.files != job.files:
            entry = refresh_entry(database, replace(entry, place=located.place))
            description = Description.of(database, job.name)
        warnings = () if description is None else description.warnings
        database.update(
            with_result(replace(entry, place=located.place, warnings=warnings), job.out)
        )
    elif entry is not None:
        database.update(with_warning(entry, outcome.message))
    database.store_outcome(outcome, job.files)  # last: only then is nothing done again


class BusyFolderError(UnusableInputError):
    """An output folder that another process analyses studies into."""


@contextmanager
def locked_folder(out: Path, *, beside_shards: bool = False) -> Iterator[None]:
    """Lock an output folder against a second batch or analysis ahead within the block.

    With `beside_shards` other shards may run there too, but no batch of all studies. The lock is
    SQLite's, which the system releases however the process ends.

    Raises
    ------
    BusyFolderError
        Another batch or analysis ahead is running there.
    ResourceError
        The folder cannot be written, or its disk supports no file locks.
    """
    with closing(open_database(out, LOCK, 0.0)) as connection:
        with database_errors(out, LOCK):
            _lock(connection, out, "BEGIN" if beside_shards else "BEGIN EXCLUSIVE")
        yield


def _lock(connection: sqlite3.Connection, out: Path, begin: str) -> None:
    try:
        connection.execute(begin)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # a reader's lock
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not locks_files(out):
            raise
        raise BusyFolderError(
            found=f"another batch running in {out.name!r}, or its list being analysed ahead",
            expected="one analysis at a time per output folder",
            next_step="Wait until it ends, stop it, or choose another folder with --out",
        ) from error
