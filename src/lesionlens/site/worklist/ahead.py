"""Analyse the studies of a list in advance, nearest to the reader first."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from lesionlens.base.errors import CancelledError, LesionLensError, UnusableInputError
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.site.cohort.resume import (
    BusyFolderError,
    complete,
    is_replaced,
    locked_folder,
    store_outcome,
)
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.cohort.work import CohortChoice, analyse, identity
from lesionlens.site.database.describing import refreshed, with_result, with_warning
from lesionlens.site.database.records import Status, StudyEntry, StudyOutcome
from lesionlens.site.database.study_files import fingerprint
from lesionlens.site.database.worklist_database import WorklistDatabase
from lesionlens.site.pacs.server import Server
from lesionlens.site.worklist.sources import fetched

CURSOR, UNDER_WAY, ARCHIVE = "cursor", "under way", "archive"
"""Keys of notes: the study being read, the one being analysed, the source of studies."""
_WAIT_S = 0.5
_AWAY = "not at hand: "
"""Prefix of a temporary warning while the study is not available."""


def run_ahead(
    database: WorklistDatabase, choice: CohortChoice, *, context: RunContext = SILENT
) -> tuple[StudyOutcome, ...]:
    """Analyse every study of a list without a result of this engine.

    The order follows the reader: the study being read first, then the later ones, then the
    earlier ones. Results are those of `lesionlens batch`; each skips results of the other.

    Parameters
    ----------
    database : WorklistDatabase
        Database of the list; updated study by study.
    choice : CohortChoice
        Engine, preparation and export options. Contributions of the sequences and dismissed
        regions are always saved, so that a reader can view them without another analysis.
    context : RunContext
        Reports progress; after cancellation nothing of the unfinished study remains.

    Returns
    -------
    tuple of StudyOutcome
        Outcomes of the studies started here.

    Notes
    -----
    While another process analyses into this folder, it is waited for.
    """
    choice = replace(choice, files=replace(choice.files, evidence=True))
    engine = identity(choice)
    with ExitStack() as held:
        while not context.cancel.is_set():
            try:
                held.enter_context(locked_folder(database.folder))
            except BusyFolderError:
                context.progress("waiting for the other analysis of this list", 0.0)
                time.sleep(_WAIT_S)
                continue
            return _run_alone(database, choice, engine, context)
    return ()


def _run_alone(
    database: WorklistDatabase, choice: CohortChoice, engine: str, context: RunContext
) -> tuple[StudyOutcome, ...]:
    done: dict[str, StudyOutcome] = {}
    run = _AheadRun(database, choice, engine, context)
    left = {entry.name for entry in database.entries()}
    while not context.cancel.is_set():
        entry = next((e for e in from_cursor(database) if e.name in left), None)
        if entry is None:
            break
        left.discard(entry.name)
        found = run.analyse(entry)
        if found is not None:
            done[entry.name] = found
    database.write_note(UNDER_WAY, None)
    return tuple(done.values())


def from_cursor(database: WorklistDatabase) -> Iterator[StudyEntry]:
    """Yield the studies from the one being read to the end, then the earlier ones."""
    entries = database.entries()
    names = [entry.name for entry in entries]
    cursor = database.read_note(CURSOR)
    start = names.index(cursor) if cursor in names else 0
    yield from entries[start:]
    yield from entries[:start]


@dataclass(frozen=True, slots=True)
class _AheadRun:
    """Settings for analysing the studies of a list."""

    database: WorklistDatabase
    choice: CohortChoice
    engine: str
    """Identifier from `cohort.work.engine_identity`."""
    context: RunContext

    def analyse(self, entry: StudyEntry) -> StudyOutcome | None:
        """Analyse one study; None if done before, or stopped while it was fetched."""
        database = self.database
        try:
            entry = local_study(database, entry, self.context)
            place = Path(entry.place)
            job = StudyJob(entry.name, place, database.folder / entry.name)
            place.stat()  # raises if it is away
            mark = fingerprint(place)
            job = replace(job, new_here=is_replaced(database, job, mark))
        except CancelledError:
            return None
        except (LesionLensError, OSError) as error:
            words = error.found if isinstance(error, LesionLensError) else str(error.strerror)
            database.update(with_warning(_without_unavailable(entry), f"{_AWAY}{words}"))
            return StudyOutcome(entry.name, Status.FAILED, 2, words)
        if _without_unavailable(entry) is not entry:
            entry = _without_unavailable(entry)
            database.update(entry)
        if complete(database, job, mark, self.engine) is not None:
            if entry.candidates is None:
                database.update(with_result(entry, job.out))
            return None
        database.write_note(UNDER_WAY, entry.name)
        outcome = analyse(job, self.choice, self.context.part(0, 1, f"{entry.name}: {{}}"))
        if outcome.status is not Status.STOPPED:
            store_outcome(database, job, outcome, mark)
        return outcome


def _without_unavailable(entry: StudyEntry) -> StudyEntry:
    """Return an entry without the warning about a missing study."""
    held = tuple(one for one in entry.warnings if not one.startswith(_AWAY))
    return entry if held == entry.warnings else replace(entry, warnings=held)


def local_study(database: WorklistDatabase, entry: StudyEntry, context: RunContext) -> StudyEntry:
    """Return a study that is local and described, updating the list.

    A study that is only in the archive is fetched.

    Raises
    ------
    UnusableInputError
        The study has no folder, and the list no archive.
    """
    if not entry.place:
        archive = database.read_note(ARCHIVE)
        if archive is None:
            raise UnusableInputError(
                found=f"{entry.name} without a folder, in a list without an archive",
                expected="a study on this machine, or a list made from an archive",
                next_step="Make the list again from the archive: List ▾",
            )
        entry = fetched(entry, Server(**archive), database.folder, context=context)
        database.update(entry)
    now = refreshed(database, entry)
    if now != entry:
        database.update(now)
    return now


def lower_priority() -> None:
    """Lower this process's priority in favour of the reader's program, if possible."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.nice(10)
